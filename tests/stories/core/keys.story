# The same key is the same submission; an id that is taken is refused, and nothing of such a submission stays.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit key=k1
  one run=work
  - run=work
----
= one t2
tasks.submitted tasks=one,t2 key=k1
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned t2 n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
t2 new -> running
owes start one 1
owes start t2 1

submit key=k1
  one run=work
  - run=work
----
= one t2

submit key=k2
  three run=work
  one run=work
----
! Conflict: there is a task 'one' already (Give the task another id, or none.)

submit
  circle run=work needs=round
  round run=work needs=circle
----
! Invalid: tasks need each other in a circle: circle -> round -> circle (Remove one of these needs.)

submit
  four run=work needs=nobody
----
! Invalid: task 'four' needs 'nobody', which does not exist (Name a task of this session.)

submit
  five run=work prompt=both
----
! Invalid: task 'five' must have exactly one of run, call, prompt (Say what it does in one of them.)

look one
----
one is running attempts=1
