# The session's time is used up: it is paused, and goes on only with more.

open time=60
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work
----
= one
tasks.submitted tasks=one
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
one new -> running
owes start one 1

spawned one
----
attempt.spawned one n=1 pid=100

wait 61
----
session.paused stop=True why="time limit reached"
attempt.ending one n=1 why=stopped
done with start one 1
owes end one 1

gone one
----
attempt.ended one n=1 outcome=interrupted then=ready cause=interrupted detail=stopped
done with end one 1

resume
----
! Exhausted: session story-1 has used up its 60 seconds (Raise limits.time in the workflow file, then `skep resume --file`.)
