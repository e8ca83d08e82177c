# An owner dies. The next one ends what is left of its attempts before it starts anything; a verification is begun again.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work
  two run=work verify=check
  three run=work needs=one
----
= one two three
tasks.submitted tasks=one,two,three
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned two n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
two new -> running
three new -> waiting
owes start one 1
owes start two 1

spawned one
----
attempt.spawned one n=1 pid=100

spawned two
----
attempt.spawned two n=1 pid=100

worked two commit=c2
----
attempt.worked two n=1 commit=c2
done with start two 1
owes verify two 1

restart
----
node.joined node=here boot=2 slots=8
attempt.ending one n=1 why=lost
done with start one 1
owes end one 1

ok one
----
attempt.ended one n=1 outcome=interrupted then=ready cause=interrupted detail="its owner or node died"
task.assigned one n=2 agent=shell-1 node=here slot=0 base=root
done with end one 1
owes start one 2

gone one/1 wip=w1
----
! Conflict: attempt 1 of task 'one' is not the current one; its report is refused

look one
----
one is running attempts=2 interruptions=1 cause=interrupted

spawned one
----
attempt.spawned one n=2 pid=100

ok two
----
attempt.ended two n=1 outcome=ok then=merging commit=c2
merge.started base=root two=c2
done with verify two 1
owes merge two 1

merged m2
----
task.merged two commit=m2
done with merge two 1

ok one
----
attempt.ended one n=2 outcome=ok then=done
task.assigned three n=1 agent=shell-1 node=here slot=0 base=m2
done with start one 2
owes start three 1

reload
----
(nothing)
