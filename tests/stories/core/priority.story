# Higher priority first, then who came first.

open limit=1
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  a run=work priority=low
  b run=work
  c run=work priority=high
  d run=work
  e run=work priority=critical
----
= a b c d e
tasks.submitted tasks=a,b,c,d,e
task.assigned e n=1 agent=shell-1 node=here slot=0 base=root
a new -> ready
b new -> ready
c new -> ready
d new -> ready
e new -> running
owes start e 1

ok e
----
attempt.ended e n=1 outcome=ok then=done
task.assigned c n=1 agent=shell-1 node=here slot=0 base=root
done with start e 1
owes start c 1

ok c
----
attempt.ended c n=1 outcome=ok then=done
task.assigned b n=1 agent=shell-1 node=here slot=0 base=root
done with start c 1
owes start b 1

submit
  f run=work priority=critical
----
= f
tasks.submitted tasks=f
f new -> ready

ok b
----
attempt.ended b n=1 outcome=ok then=done
task.assigned f n=1 agent=shell-1 node=here slot=0 base=root
done with start b 1
owes start f 1

ok f
----
attempt.ended f n=1 outcome=ok then=done
task.assigned d n=1 agent=shell-1 node=here slot=0 base=root
done with start f 1
owes start d 1

ok d
----
attempt.ended d n=1 outcome=ok then=done
task.assigned a n=1 agent=shell-1 node=here slot=0 base=root
done with start d 1
owes start a 1

ok a
----
attempt.ended a n=1 outcome=ok then=done
done with start a 1
