# A phase opens when the gate before it is passed. A gate that fails shuts what follows, and a retry of it takes that along.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  design run=work phase=one
  gate:one gate=true phase=one merge=never run=check
  build run=work phase=two if=always()
  gate:two gate=true phase=two merge=never approve=after
----
= design gate:one build gate:two
tasks.submitted tasks=design,gate:one,build,gate:two
phase.opened phase=one channel=phase:one:coordination base=root
task.assigned design n=1 agent=shell-1 node=here slot=0 base=root
design new -> running
gate:one new -> waiting
build new -> waiting
gate:two new -> waiting
owes start design 1

ok design commit=c1
----
attempt.ended design n=1 outcome=ok then=merging commit=c1
merge.started base=root design=c1
done with start design 1
owes merge design 1

merged m1
----
task.merged design commit=m1
task.ready gate:one
task.assigned gate:one n=1 agent=shell-1 node=here slot=0 base=m1
done with merge design 1
owes start gate:one 1

failed gate:one
----
attempt.ended gate:one n=1 outcome=failed then=failed cause=exit
task.closed build state=skipped cause=needs detail="the gate of phase one was not passed: exit"
task.closed gate:two state=skipped cause=needs detail="the gate of phase one was not passed: exit"
phase.ended phase=one state=failed why="the gate of phase one was not passed: exit"
phase.ended phase=two state=closed why="the gate of phase one was not passed: exit"
done with start gate:one 1

retry gate:one
----
task.retried gate:one
task.retried build
task.retried gate:two
task.ready gate:one
phase.opened phase=one channel=phase:one:coordination base=m1
phase.ended phase=two state=waiting
task.assigned gate:one n=2 agent=shell-1 node=here slot=0 base=m1
owes start gate:one 2

submit
  late run=work phase=one
----
! Conflict: task 'late': the gate of phase 'one' is being judged (Name a later phase, or none.)

ok gate:one
----
attempt.ended gate:one n=2 outcome=ok then=done
task.ready build
phase.ended phase=one state=passed
phase.opened phase=two channel=phase:two:coordination base=m1
task.assigned build n=1 agent=shell-1 node=here slot=0 base=m1
done with start gate:one 2
owes start build 1

ok build
----
attempt.ended build n=1 outcome=ok then=done
task.expanded gate:two children=
task.needs-you gate:two question=gate
done with start build 1

retry design
----
task.retried design
task.retried gate:one
task.retried gate:two
phase.opened phase=one channel=phase:one:coordination base=m1
phase.ended phase=two state=waiting
task.assigned design n=2 agent=shell-2 node=here slot=0 base=m1
owes start design 2

answer gate:two reject comment="not like this"
----
! Conflict: task 'gate:two' is waiting and asks nothing (`skep status` shows what asks.)

ok design commit=c2
----
attempt.ended design n=2 outcome=ok then=merging commit=c2
merge.started base=m1 design=c2
done with start design 2
owes merge design 2

merged m2
----
task.merged design commit=m2
task.ready gate:one
task.assigned gate:one n=3 agent=shell-2 node=here slot=0 base=m2
done with merge design 2
owes start gate:one 3

ok gate:one
----
attempt.ended gate:one n=3 outcome=ok then=done
task.expanded gate:two children=
task.needs-you gate:two question=gate
phase.ended phase=one state=passed
phase.opened phase=two channel=phase:two:coordination base=m2
done with start gate:one 3

answer gate:two reject comment="not like this"
----
task.closed gate:two state=failed cause=rejected detail="not like this"
phase.ended phase=two state=failed why="the gate of phase two was not passed: not like this"
