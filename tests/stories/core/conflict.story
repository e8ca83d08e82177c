# What does not merge is run again once, on the new tip; the second time a person is asked.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work
  two run=work
----
= one two
tasks.submitted tasks=one,two
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned two n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
two new -> running
owes start one 1
owes start two 1

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

merged m1
----
task.merged one commit=m1
merge.started base=m1 two=c2
done with merge one 1
owes merge two 1

refused conflict
----
merge.failed two cause=conflict detail=no then=ready
task.assigned two n=2 agent=shell-1 node=here slot=0 base=m1
done with merge two 1
owes start two 2

ok two commit=c3
----
attempt.ended two n=2 outcome=ok then=merging commit=c3
merge.started base=m1 two=c3
done with start two 2
owes merge two 2

refused conflict
----
merge.failed two cause=conflict detail=no then=needs-you question=conflict
done with merge two 2

answer two approve
----
! Invalid: 'approve' does not answer 'conflict' of task 'two' (Say rerun or reject or skip or merge.)

answer two rerun
----
task.answered two answer=rerun then=ready
task.assigned two n=3 agent=shell-1 node=here slot=0 base=m1
owes start two 3

ok two commit=c4
----
attempt.ended two n=3 outcome=ok then=merging commit=c4
merge.started base=m1 two=c4
done with start two 3
owes merge two 3

merged m2
----
task.merged two commit=m2
done with merge two 3
