# always() runs whatever happened, failure() only after a failure, and what was left out by its own `if` is nobody's failure.

open limit=8
  shell runtime=shell count=0
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  build run=make
  always run=tell needs=build if=always()
  rescue run=mend needs=build if=failure()
  ship run=push needs=build if=success()
  named run=look needs=build if="needs.build.cause == 'exit'"
  after run=work needs=ship
  last run=work needs=rescue if=always()
----
= build always rescue ship named after last
tasks.submitted tasks=build,always,rescue,ship,named,after,last
task.assigned build n=1 agent=shell-1 node=here slot=0 base=root
build new -> running
always new -> waiting
rescue new -> waiting
ship new -> waiting
named new -> waiting
after new -> waiting
last new -> waiting
owes start build 1

failed build
----
attempt.ended build n=1 outcome=failed then=failed cause=exit
task.ready always
task.ready rescue
task.closed ship state=skipped cause=condition detail="if: success()"
task.ready named
task.closed after state=skipped cause=condition detail="ship is skipped"
task.assigned always n=1 agent=shell-1 node=here slot=0 base=root
task.assigned rescue n=1 agent=shell-2 node=here slot=1 base=root
task.assigned named n=1 agent=shell-3 node=here slot=2 base=root
done with start build 1
owes start always 1
owes start rescue 1
owes start named 1

ok rescue
----
attempt.ended rescue n=1 outcome=ok then=done
task.ready last
task.assigned last n=1 agent=shell-2 node=here slot=1 base=root
done with start rescue 1
owes start last 1

look ship after
----
ship is skipped cause=condition
after is skipped cause=condition
