# Before: nothing starts without a yes. After: the result counts only with one. No means the work goes round, with the comment.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  first run=work approve=before
  second run=work approve=after
  third run=work approve=before
----
= first second third
tasks.submitted tasks=first,second,third
task.needs-you first question="approve before"
task.needs-you third question="approve before"
task.assigned second n=1 agent=shell-1 node=here slot=0 base=root
first new -> needs-you
second new -> running
third new -> needs-you
owes start second 1

answer first approve
----
task.answered first answer=approve then=waiting
task.ready first
task.assigned first n=1 agent=shell-2 node=here slot=1 base=root
owes start first 1

answer third reject comment="not now"
----
task.closed third state=cancelled cause=rejected detail="not now"

ok second commit=c1
----
attempt.ended second n=1 outcome=ok then=needs-you commit=c1 question=approve
done with start second 1

answer second reject comment="no tabs"
----
task.retried second comment="no tabs"
task.assigned second n=2 agent=shell-1 node=here slot=0 base=root
owes start second 2

look second
----
second is running attempts=2 feedback="no tabs"

ok second commit=c2
----
attempt.ended second n=2 outcome=ok then=needs-you commit=c2 question=approve
done with start second 2

answer second approve
----
task.answered second answer=approve then=merging
merge.started base=root second=c2
owes merge second 2

merged m1
----
task.merged second commit=m1
done with merge second 2
