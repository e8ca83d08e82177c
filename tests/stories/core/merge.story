# Merges are made one at a time, each from an intent in the log. merge: ask waits for a yes, merge: never is done without.

open limit=8
  shell runtime=shell count=0
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work
  two run=work
  ask run=work merge=ask
  never run=work merge=never
  child run=work needs=one
----
= one two ask never child
tasks.submitted tasks=one,two,ask,never,child
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned two n=1 agent=shell-2 node=here slot=1 base=root
task.assigned ask n=1 agent=shell-3 node=here slot=2 base=root
task.assigned never n=1 agent=shell-4 node=here slot=3 base=root
one new -> running
two new -> running
ask new -> running
never new -> running
child new -> waiting
owes start one 1
owes start two 1
owes start ask 1
owes start never 1

ok one commit=c1
----
attempt.ended one n=1 outcome=ok then=merging commit=c1
merge.started base=root one=c1
done with start one 1
owes merge one 1

ok two commit=c2
----
attempt.ended two n=1 outcome=ok then=merging commit=c2
done with start two 1

ok ask commit=c3
----
attempt.ended ask n=1 outcome=ok then=needs-you commit=c3 question=merge
done with start ask 1

ok never commit=c4
----
attempt.ended never n=1 outcome=ok then=done commit=c4
done with start never 1

merged m1
----
task.merged one commit=m1
merge.started base=m1 two=c2
task.assigned child n=1 agent=shell-1 node=here slot=0 base=m1
done with merge one 1
owes merge two 1
owes start child 1

answer ask merge
----
task.answered ask answer=merge then=merging

merged m2
----
task.merged two commit=m2
merge.started base=m2 ask=c3
done with merge two 1
owes merge ask 1

merged m3
----
task.merged ask commit=m3
done with merge ask 1
