# A task whose owner dies again and again gives up after five interruptions, which count as no failure.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  poison run=kill
----
= poison
tasks.submitted tasks=poison
task.assigned poison n=1 agent=shell-1 node=here slot=0 base=root
poison new -> running
owes start poison 1

spawned poison
----
attempt.spawned poison n=1 pid=100

restart
----
node.joined node=here boot=2 slots=8
attempt.ending poison n=1 why=lost
done with start poison 1
owes end poison 1

gone poison
----
attempt.ended poison n=1 outcome=interrupted then=ready cause=interrupted detail="its owner or node died"
task.assigned poison n=2 agent=shell-1 node=here slot=0 base=root
done with end poison 1
owes start poison 2

restart
----
node.joined node=here boot=3 slots=8
attempt.ending poison n=2 why=lost
done with start poison 2
owes end poison 2

gone poison
----
attempt.ended poison n=2 outcome=interrupted then=ready cause=interrupted detail="its owner or node died"
task.assigned poison n=3 agent=shell-1 node=here slot=0 base=root
done with end poison 2
owes start poison 3

restart
----
node.joined node=here boot=4 slots=8
attempt.ending poison n=3 why=lost
done with start poison 3
owes end poison 3

gone poison
----
attempt.ended poison n=3 outcome=interrupted then=ready cause=interrupted detail="its owner or node died"
task.assigned poison n=4 agent=shell-1 node=here slot=0 base=root
done with end poison 3
owes start poison 4

restart
----
node.joined node=here boot=5 slots=8
attempt.ending poison n=4 why=lost
done with start poison 4
owes end poison 4

gone poison
----
attempt.ended poison n=4 outcome=interrupted then=ready cause=interrupted detail="its owner or node died"
task.assigned poison n=5 agent=shell-1 node=here slot=0 base=root
done with end poison 4
owes start poison 5

look poison
----
poison is running attempts=5 interruptions=4 cause=interrupted

restart
----
node.joined node=here boot=6 slots=8
attempt.ending poison n=5 why=lost
done with start poison 5
owes end poison 5

gone poison
----
attempt.ended poison n=5 outcome=interrupted then=gave-up cause=interrupted detail="its owner or node died"
done with end poison 5

look poison
----
poison is gave-up attempts=5 interruptions=5 cause=interrupted

retry poison
----
task.retried poison
task.assigned poison n=6 agent=shell-1 node=here slot=0 base=root
owes start poison 6

look poison
----
poison is running attempts=6
