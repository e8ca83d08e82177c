# A stop interrupts what runs and counts for nothing; a verification goes on.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work
  two run=work verify=check
  three run=work
----
= one two three
tasks.submitted tasks=one,two,three
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned two n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
two new -> running
three new -> ready
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

pause stop=true
----
session.paused stop=True
attempt.ending one n=1 why=stopped
done with start one 1
owes end one 1

gone one wip=w1
----
attempt.ended one n=1 outcome=interrupted then=ready cause=interrupted detail=stopped commit=w1
done with end one 1

ok two
----
attempt.ended two n=1 outcome=ok then=merging commit=c2
done with verify two 1

resume
----
session.resumed
merge.started base=root two=c2
task.assigned one n=2 agent=shell-2 node=here slot=0 base=root
task.assigned three n=1 agent=shell-1 node=here slot=1 base=root
owes merge two 1
owes start one 2
owes start three 1

look one
----
one is running attempts=2 cause=interrupted
