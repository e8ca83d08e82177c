# First in the log wins: a result that comes before the cancellation counts, one that comes after it does not.

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

spawned one
----
attempt.spawned one n=1 pid=100

spawned two
----
attempt.spawned two n=1 pid=100

ok one
----
attempt.ended one n=1 outcome=ok then=done
done with start one 1

cancel one
----
! Conflict: task 'one' is done already (There is nothing left to cancel.)

cancel two
----
= two
attempt.ending two n=1 why=cancelled
task.closed two state=cancelled cause=cancelled detail=cancelled
done with start two 1
owes end two 1

ok two gone=false
----
(nothing)

gone two
----
attempt.gone two n=1
done with end two 1

look one two
----
one is done attempts=1
two is cancelled attempts=1 cause=cancelled
