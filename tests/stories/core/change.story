# Another version of the plan: what is kept stays, what is not is replaced, also while it runs; an id may come again.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=plan
  build run=make needs=plan
  test run=pytest needs=build
----
= plan build test
tasks.submitted tasks=plan,build,test
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
plan new -> running
build new -> waiting
test new -> waiting
owes start plan 1

ok plan
----
attempt.ended plan n=1 outcome=ok then=done
task.assigned build n=1 agent=shell-1 node=here slot=0 base=root
done with start plan 1
owes start build 1

change keep=plan
  build run=ninja needs=plan
----
= build
task.closed test state=replaced cause=replaced detail="the plan was changed"
attempt.ending build n=1 why=replaced
task.closed build state=replaced cause=replaced detail="the plan was changed"
session.plan-changed
tasks.submitted tasks=build
done with start build 1
owes end build 1

gone build
----
attempt.gone build n=1
task.assigned build n=2 agent=shell-1 node=here slot=0 base=root
done with end build 1
owes start build 2

ok build
----
attempt.ended build n=2 outcome=ok then=done
done with start build 2

change keep=build
----
! Invalid: task 'build' cannot stay: it needs 'plan', which is replaced (Keep a task only with its needs.)

look build plan
----
build is done attempts=2
plan is done attempts=1
