# With on_conflict: ask a person is asked at once, and may have the merge tried again after helping by hand.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work on_conflict=ask
----
= one
tasks.submitted tasks=one
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
one new -> running
owes start one 1

ok one commit=c1
----
attempt.ended one n=1 outcome=ok then=merging commit=c1
merge.started base=root one=c1
done with start one 1
owes merge one 1

refused conflict
----
merge.failed one cause=conflict detail=no then=needs-you question=conflict
done with merge one 1

answer one merge
----
task.answered one answer=merge then=merging
merge.started base=root one=c1
owes merge one 1

merged m1
----
task.merged one commit=m1
done with merge one 1
