# One holder at a time, in order of priority and age. Who waits for two locks keeps younger ones from both.

open limit=8
  shell runtime=shell count=0
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  a run=work locks=db
----
= a
tasks.submitted tasks=a
task.assigned a n=1 agent=shell-1 node=here slot=0 base=root
a new -> running
owes start a 1

submit
  both run=work locks=db,port
  c run=work locks=port
  d run=work locks=db priority=high
  free run=work
----
= both c d free
tasks.submitted tasks=both,c,d,free
task.assigned free n=1 agent=shell-2 node=here slot=1 base=root
both new -> ready
c new -> ready
d new -> ready
free new -> running
owes start free 1

ok a gone=false
----
attempt.ended a n=1 outcome=ok then=done gone=False
done with start a 1
owes end a 1

gone a
----
attempt.gone a n=1
task.assigned d n=1 agent=shell-1 node=here slot=0 base=root
done with end a 1
owes start d 1

ok d
----
attempt.ended d n=1 outcome=ok then=done
task.assigned both n=1 agent=shell-1 node=here slot=0 base=root
done with start d 1
owes start both 1

ok both
----
attempt.ended both n=1 outcome=ok then=done
task.assigned c n=1 agent=shell-1 node=here slot=0 base=root
done with start both 1
owes start c 1

ok c
----
attempt.ended c n=1 outcome=ok then=done
done with start c 1
