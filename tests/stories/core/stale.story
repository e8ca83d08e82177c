# Reports of attempts that are not the current one are refused, and so is a second result.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work retries=3
----
= one
tasks.submitted tasks=one
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
one new -> running
owes start one 1

failed one
----
attempt.ended one n=1 outcome=failed then=ready cause=exit
task.assigned one n=2 agent=shell-2 node=here slot=0 base=root
done with start one 1
owes start one 2

ok one/1
----
! Conflict: attempt 1 of task 'one' is not the current one; its report is refused

spawned one/1
----
! Conflict: attempt 1 of task 'one' is not the current one; its report is refused

ok one gone=false
----
attempt.ended one n=2 outcome=ok then=done gone=False
done with start one 2
owes end one 2

ok one gone=false
----
(nothing)

failed one
----
attempt.gone one n=2
done with end one 2

gone one
----
! Conflict: attempt 1 of task 'one' is not the current one; its report is refused

gone one
----
! Conflict: attempt 1 of task 'one' is not the current one; its report is refused
