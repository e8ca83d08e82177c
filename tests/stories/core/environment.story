# What the environment did is no failure: it is tried again a little later, with a limit of its own. A provider's own time is kept.

open
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

interrupted one cause=infrastructure
----
attempt.ended one n=1 outcome=interrupted then=parked cause=infrastructure detail="its process vanished" until=+1s
done with start one 1

wait 2
----
task.ready one
task.assigned one n=2 agent=shell-1 node=here slot=0 base=root
owes start one 2

interrupted one until=600
----
attempt.ended one n=2 outcome=interrupted then=parked cause=interrupted detail="its process vanished" until=+600s
done with start one 2

look one
----
one is parked attempts=2 interruptions=1 cause=interrupted

wait 599
----
(nothing)

wait 2
----
task.ready one
task.assigned one n=3 agent=shell-1 node=here slot=0 base=root
owes start one 3
