# An item stays only with the foreach that made it. (Found by the simulator.)

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

change keep=plan,each[a]
----
! Invalid: task 'each[a]' cannot stay without 'each', which made it (Keep an item only with its foreach.)

change keep=plan,each
----
= 
session.plan-changed
