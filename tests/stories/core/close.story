# A closed session starts nothing more, and what was open is cancelled.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work
  two run=work needs=one
----
= one two
tasks.submitted tasks=one,two
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
one new -> running
two new -> waiting
owes start one 1

spawned one
----
attempt.spawned one n=1 pid=100

close
----
task.closed two state=cancelled cause=cancelled detail="the session was closed"
attempt.ending one n=1 why=cancelled
task.closed one state=cancelled cause=cancelled detail="the session was closed"
session.closed
done with start one 1
owes end one 1

gone one
----
attempt.gone one n=1
done with end one 1

submit
  three run=work
----
! Conflict: session story-1 is closed (Open a new session.)

retry one
----
! Conflict: session story-1 is closed (Fork it to go on from where it ended.)
