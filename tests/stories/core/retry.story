# A task that fails is tried again, and told why the last attempt failed; then it is a dead letter, which a person sends round again.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  build run=make retries=1
----
= build
tasks.submitted tasks=build
task.assigned build n=1 agent=shell-1 node=here slot=0 base=root
build new -> running
owes start build 1

spawned build
----
attempt.spawned build n=1 pid=100

failed build feedback="test_a failed"
----
attempt.ended build n=1 outcome=failed then=ready cause=exit feedback="test_a failed"
task.assigned build n=2 agent=shell-2 node=here slot=0 base=root
done with start build 1
owes start build 2

look build
----
build is running attempts=2 failures=1 cause=exit feedback="test_a failed"

spawned build
----
attempt.spawned build n=2 pid=100

failed build/1
----
! Conflict: attempt 1 of task 'build' is not the current one; its report is refused

failed build feedback="test_a failed again"
----
attempt.ended build n=2 outcome=failed then=failed cause=exit feedback="test_a failed again"
done with start build 2

retry build comment="mind the tabs"
----
task.retried build comment="mind the tabs"
task.assigned build n=3 agent=shell-1 node=here slot=0 base=root
owes start build 3

look build
----
build is running attempts=3 feedback="mind the tabs"

ok build
----
attempt.ended build n=3 outcome=ok then=done
done with start build 3
