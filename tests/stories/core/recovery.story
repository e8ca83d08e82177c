# A task that must not run twice asks after a crash, but only if it had been let go.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=pay recovery=ask
  two run=pay recovery=ask
----
= one two
tasks.submitted tasks=one,two
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned two n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
two new -> running
owes start one 1
owes start two 1

spawned one
----
attempt.spawned one n=1 pid=100

restart
----
node.joined node=here boot=2 slots=8
attempt.ending one n=1 why=lost
attempt.ending two n=1 why=lost
done with start one 1
done with start two 1
owes end one 1
owes end two 1

gone one
----
attempt.ended one n=1 outcome=interrupted then=needs-you cause=interrupted detail="its owner or node died" question=rerun
done with end one 1

gone two
----
attempt.ended two n=1 outcome=interrupted then=ready cause=interrupted detail="its owner or node died"
task.assigned two n=2 agent=shell-1 node=here slot=0 base=root
done with end two 1
owes start two 2

answer one skip
----
task.answered one answer=skip then=skipped

look one two
----
one is skipped attempts=1 interruptions=1 cause=interrupted
two is running attempts=2 interruptions=1 cause=interrupted
