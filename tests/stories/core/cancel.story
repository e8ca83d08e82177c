# Cancelling takes along what cannot go on without it. Whose own `if` decides stays, unless the whole subtree is meant.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  build run=make
  test run=pytest needs=build
  lint run=ruff needs=build
  report run=tell needs=test if=always()
  ship run=push needs=test,lint
----
= build test lint report ship
tasks.submitted tasks=build,test,lint,report,ship
task.assigned build n=1 agent=shell-1 node=here slot=0 base=root
build new -> running
test new -> waiting
lint new -> waiting
report new -> waiting
ship new -> waiting
owes start build 1

spawned build
----
attempt.spawned build n=1 pid=100

cancel build
----
= build test lint ship
task.closed ship state=cancelled cause=needs detail="needs test, which was cancelled"
task.closed lint state=cancelled cause=needs detail="needs build, which was cancelled"
task.closed test state=cancelled cause=needs detail="needs build, which was cancelled"
attempt.ending build n=1 why=cancelled
task.closed build state=cancelled cause=cancelled detail=cancelled
task.ready report
task.assigned report n=1 agent=shell-2 node=here slot=1 base=root
done with start build 1
owes end build 1
owes start report 1

gone build
----
attempt.gone build n=1
done with end build 1

retry build
----
task.retried build
task.retried test
task.retried lint
task.retried ship
task.assigned build n=2 agent=shell-1 node=here slot=0 base=root
owes start build 2

cancel build subtree=true
----
= build test lint report ship
task.closed ship state=cancelled cause=needs detail="needs test, which was cancelled"
attempt.ending report n=1 why=cancelled
task.closed report state=cancelled cause=needs detail="needs test, which was cancelled"
task.closed lint state=cancelled cause=needs detail="needs build, which was cancelled"
task.closed test state=cancelled cause=needs detail="needs build, which was cancelled"
attempt.ending build n=2 why=cancelled
task.closed build state=cancelled cause=cancelled detail=cancelled
done with start report 1
done with start build 2
owes end report 1
owes end build 2

cancel build
----
! Conflict: task 'build' is cancelled already (There is nothing left to cancel.)
