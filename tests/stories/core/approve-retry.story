# A parked task whose condition must be looked at again can be sent round at once. (Once an illegal move.)

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  build run=make if=always() retries={"max":2,"backoff":60}
----
= build
tasks.submitted tasks=build
task.ready build
task.assigned build n=1 agent=shell-1 node=here slot=0 base=root
build new -> running
owes start build 1

failed build
----
attempt.ended build n=1 outcome=failed then=parked cause=exit until=+64.035s
done with start build 1

retry build
----
task.retried build
task.ready build
task.assigned build n=2 agent=shell-2 node=here slot=0 base=root
owes start build 2

look build
----
build is running attempts=2
