# A deadline closes what is not finished; sent round again by a person, the task has none.

open limit=1
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work deadline=60
  two run=work deadline=60 needs=one
----
= one two
tasks.submitted tasks=one,two
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
one new -> running
two new -> waiting
owes start one 1

wait 30
----
(nothing)

wait 31
----
attempt.ending one n=1 why=deadline
task.closed one state=failed cause=deadline detail="its deadline has passed"
task.closed two state=failed cause=deadline detail="its deadline has passed"
done with start one 1
owes end one 1

gone one
----
attempt.gone one n=1
done with end one 1

retry one
----
task.retried one
task.assigned one n=2 agent=shell-1 node=here slot=0 base=root
owes start one 2

wait 100
----
(nothing)

ok one
----
attempt.ended one n=2 outcome=ok then=done
done with start one 2

reload
----
(nothing)
