# A foreach that is approved is expanded, never run itself. (Found by the simulator.)

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=list
  each run=work needs=plan approve=before foreach={"in":"needs.plan.outputs.list"}
----
= plan each
tasks.submitted tasks=plan,each
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
plan new -> running
each new -> waiting
owes start plan 1

ok plan outputs={"list":["a"]}
----
attempt.ended plan n=1 outcome=ok then=done
task.needs-you each question="approve before"
done with start plan 1

answer each approve
----
task.answered each answer=approve then=waiting
task.expanded each children=each[a]
task.assigned each[a] n=1 agent=shell-1 node=here slot=0 base=root
each[a] new -> running
owes start each[a] 1

ok each[a]
----
attempt.ended each[a] n=1 outcome=ok then=done
task.closed each state=done
done with start each[a] 1
