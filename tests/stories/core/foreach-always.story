# Whether the items may run was decided for all of them together: a need that failed does not skip them one by one.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=list
  lint run=ruff
  each run=work needs=plan,lint if=always() foreach={"in":"needs.plan.outputs.list"}
----
= plan lint each
tasks.submitted tasks=plan,lint,each
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
task.assigned lint n=1 agent=shell-2 node=here slot=1 base=root
plan new -> running
lint new -> running
each new -> waiting
owes start plan 1
owes start lint 1

failed lint
----
attempt.ended lint n=1 outcome=failed then=failed cause=exit
done with start lint 1

ok plan outputs={"list":["a","b"]}
----
attempt.ended plan n=1 outcome=ok then=done
task.expanded each children=each[a],each[b]
task.ready each[a]
task.ready each[b]
task.assigned each[a] n=1 agent=shell-1 node=here slot=0 base=root
task.assigned each[b] n=1 agent=shell-2 node=here slot=1 base=root
each[a] new -> running
each[b] new -> running
done with start plan 1
owes start each[a] 1
owes start each[b] 1

ok each[a]
----
attempt.ended each[a] n=1 outcome=ok then=done
done with start each[a] 1

ok each[b]
----
attempt.ended each[b] n=1 outcome=ok then=done
task.closed each state=done
done with start each[b] 1
