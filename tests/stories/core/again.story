# A need goes round again: what has not started waits for it, what runs goes on. (Found by the simulator.)

open limit=2
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=plan
  build run=make needs=plan
  test run=pytest needs=plan
  lint run=ruff needs=plan
----
= plan build test lint
tasks.submitted tasks=plan,build,test,lint
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
plan new -> running
build new -> waiting
test new -> waiting
lint new -> waiting
owes start plan 1

ok plan
----
attempt.ended plan n=1 outcome=ok then=done
task.assigned build n=1 agent=shell-1 node=here slot=0 base=root
task.assigned test n=1 agent=shell-2 node=here slot=1 base=root
lint waiting -> ready
done with start plan 1
owes start build 1
owes start test 1

failed build
----
attempt.ended build n=1 outcome=failed then=failed cause=exit
task.assigned lint n=1 agent=shell-1 node=here slot=0 base=root
done with start build 1
owes start lint 1

retry plan
----
task.retried plan

ok test
----
attempt.ended test n=1 outcome=ok then=done
task.assigned plan n=2 agent=shell-2 node=here slot=1 base=root
done with start test 1
owes start plan 2

ok plan
----
attempt.ended plan n=2 outcome=ok then=done
done with start plan 2

retry build
----
task.retried build
task.assigned build n=2 agent=shell-2 node=here slot=1 base=root
owes start build 2

ok lint
----
attempt.ended lint n=1 outcome=ok then=done
done with start lint 1

ok build
----
attempt.ended build n=2 outcome=ok then=done
done with start build 2
