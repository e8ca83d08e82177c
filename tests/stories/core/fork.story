# A fork voids attempts, locks and approvals, and goes on from there. (That it asks again was found by the simulator.)

open limit=1
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  busy run=work locks=db
  wants run=work approve=before
  later run=work needs=busy
----
= busy wants later
tasks.submitted tasks=busy,wants,later
task.needs-you wants question="approve before"
task.assigned busy n=1 agent=shell-1 node=here slot=0 base=root
busy new -> running
wants new -> needs-you
later new -> waiting
owes start busy 1

spawned busy
----
attempt.spawned busy n=1 pid=100

answer wants approve
----
task.answered wants answer=approve then=waiting
task.ready wants

fork other
----
session.forked session=other origin=story-1 seq=8
node.joined node=here boot=2 slots=8
task.ready busy
task.needs-you wants question="approve before"
task.assigned busy n=2 agent=shell-1 node=here slot=0 base=root
done with start busy 1
owes start busy 2

answer wants approve
----
task.answered wants answer=approve then=waiting
task.ready wants

ok busy commit=c1
----
attempt.ended busy n=2 outcome=ok then=merging commit=c1
merge.started base=root busy=c1
task.assigned wants n=1 agent=shell-1 node=here slot=0 base=root
done with start busy 2
owes merge busy 2
owes start wants 1

merged m1
----
task.merged busy commit=m1
later waiting -> ready
done with merge busy 2

ok wants
----
attempt.ended wants n=1 outcome=ok then=done
task.assigned later n=1 agent=shell-1 node=here slot=0 base=m1
done with start wants 1
owes start later 1

reload
----
(nothing)
