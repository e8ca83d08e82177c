# With fail_fast: false the others go on, and the whole fails at the end.

open limit=8
  shell runtime=shell count=0
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=list
  each run=work needs=plan foreach={"in":"needs.plan.outputs.list","fail_fast":false}
  after run=tell needs=each
----
= plan each after
tasks.submitted tasks=plan,each,after
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
plan new -> running
each new -> waiting
after new -> waiting
owes start plan 1

ok plan outputs={"list":["a","b","c"]}
----
attempt.ended plan n=1 outcome=ok then=done
task.expanded each children=each[a],each[b],each[c]
task.assigned each[a] n=1 agent=shell-1 node=here slot=0 base=root
task.assigned each[b] n=1 agent=shell-2 node=here slot=1 base=root
task.assigned each[c] n=1 agent=shell-3 node=here slot=2 base=root
each[a] new -> running
each[b] new -> running
each[c] new -> running
done with start plan 1
owes start each[a] 1
owes start each[b] 1
owes start each[c] 1

failed each[b]
----
attempt.ended each[b] n=1 outcome=failed then=failed cause=exit
done with start each[b] 1

ok each[a]
----
attempt.ended each[a] n=1 outcome=ok then=done
done with start each[a] 1

ok each[c]
----
attempt.ended each[c] n=1 outcome=ok then=done
task.closed each state=failed cause=needs detail="1 of 3 items failed: each[b]"
task.closed after state=skipped cause=needs detail="each is failed"
done with start each[c] 1

retry each[b]
----
task.retried each
task.retried each[b]
task.retried after
task.assigned each[b] n=2 agent=shell-1 node=here slot=0 base=root
owes start each[b] 2

ok each[b]
----
attempt.ended each[b] n=2 outcome=ok then=done
task.closed each state=done
task.assigned after n=1 agent=shell-1 node=here slot=0 base=root
done with start each[b] 2
owes start after 1
