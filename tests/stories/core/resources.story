# Nothing starts that does not fit; what could never fit is refused at once.

open limit=8
  shell runtime=shell count=0
  heavy runtime=codex strict=true resources={"cpu":3.0}
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  small run=work resources={"cpu":1.5}
  large run=work resources={"cpu":3.0}
  other run=work resources={"cpu":1.5}
  strict prompt=think agent=heavy
----
= small large other strict
tasks.submitted tasks=small,large,other,strict
task.assigned small n=1 agent=shell-1 node=here slot=0 base=root reserved=Resources(cpu=1.5, memory=0, storage=0)
task.assigned other n=1 agent=shell-2 node=here slot=1 base=root reserved=Resources(cpu=1.5, memory=0, storage=0)
small new -> running
large new -> ready
other new -> running
strict new -> ready
owes start small 1
owes start other 1

submit
  huge run=work resources={"cpu":64}
----
! Invalid: task 'huge' could never run here: it asks for more than any node has (the largest: 4 cpu, 8589934592 bytes memory, 1099511627776 bytes storage) (Change what it asks for, or declare such an agent.)

ok small
----
attempt.ended small n=1 outcome=ok then=done
done with start small 1

ok other
----
attempt.ended other n=1 outcome=ok then=done
task.assigned large n=1 agent=shell-1 node=here slot=0 base=root reserved=Resources(cpu=3.0, memory=0, storage=0)
done with start other 1
owes start large 1

ok large
----
attempt.ended large n=1 outcome=ok then=done
task.assigned strict n=1 agent=heavy-1 node=here slot=0 base=root reserved=Resources(cpu=3.0, memory=0, storage=0)
done with start large 1
owes start strict 1

ok strict
----
attempt.ended strict n=1 outcome=ok then=done
done with start strict 1
