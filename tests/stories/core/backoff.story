# Between attempts time passes, each time twice as much and up to a quarter more; a restart keeps the time.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work retries={"max":3,"backoff":4}
----
= one
tasks.submitted tasks=one
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
one new -> running
owes start one 1

failed one
----
attempt.ended one n=1 outcome=failed then=parked cause=exit until=+4.47s
done with start one 1

wait 3
----
(nothing)

wait 3
----
task.ready one
task.assigned one n=2 agent=shell-2 node=here slot=0 base=root
owes start one 2

failed one
----
attempt.ended one n=2 outcome=failed then=parked cause=exit until=+9.075s
done with start one 2

reload
----
(nothing)

wait 7
----
(nothing)

wait 4
----
task.ready one
task.assigned one n=3 agent=shell-1 node=here slot=0 base=root
owes start one 3
