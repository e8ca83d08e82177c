# A foreach that is sent round again takes its items along.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=list
  each run=work needs=plan foreach={"in":"needs.plan.outputs.list"}
----
= plan each
tasks.submitted tasks=plan,each
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
plan new -> running
each new -> waiting
owes start plan 1

ok plan outputs={"list":["a","b"]}
----
attempt.ended plan n=1 outcome=ok then=done
task.expanded each children=each[a],each[b]
task.assigned each[a] n=1 agent=shell-1 node=here slot=0 base=root
task.assigned each[b] n=1 agent=shell-2 node=here slot=1 base=root
each[a] new -> running
each[b] new -> running
done with start plan 1
owes start each[a] 1
owes start each[b] 1

cancel each
----
= each each[a] each[b]
attempt.ending each[b] n=1 why=cancelled
task.closed each[b] state=cancelled cause=needs detail="needs each, which was cancelled"
attempt.ending each[a] n=1 why=cancelled
task.closed each[a] state=cancelled cause=needs detail="needs each, which was cancelled"
task.closed each state=cancelled cause=cancelled detail=cancelled
done with start each[a] 1
done with start each[b] 1
owes end each[b] 1
owes end each[a] 1

gone each[a]
----
attempt.gone each[a] n=1
done with end each[a] 1

gone each[b]
----
attempt.gone each[b] n=1
done with end each[b] 1

retry each
----
task.retried each
task.retried each[a]
task.retried each[b]
task.assigned each[a] n=2 agent=shell-1 node=here slot=0 base=root
task.assigned each[b] n=2 agent=shell-2 node=here slot=1 base=root
owes start each[a] 2
owes start each[b] 2

ok each[a]
----
attempt.ended each[a] n=2 outcome=ok then=done
done with start each[a] 2

ok each[b]
----
attempt.ended each[b] n=2 outcome=ok then=done
task.closed each state=done
done with start each[b] 2
