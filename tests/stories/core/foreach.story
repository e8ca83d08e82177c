# One task per item. No more at once than max_parallel; the first that fails ends the others if fail_fast says so.

open limit=8
  shell runtime=shell count=0
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=list
  each run=work needs=plan foreach={"in":"needs.plan.outputs.list","max_parallel":2}
  after run=tell needs=each
----
= plan each after
tasks.submitted tasks=plan,each,after
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
plan new -> running
each new -> waiting
after new -> waiting
owes start plan 1

ok plan outputs={"list":["a","b","c","d"]}
----
attempt.ended plan n=1 outcome=ok then=done
task.expanded each children=each[a],each[b],each[c],each[d]
task.assigned each[a] n=1 agent=shell-1 node=here slot=0 base=root
task.assigned each[b] n=1 agent=shell-2 node=here slot=1 base=root
each[a] new -> running
each[b] new -> running
each[c] new -> ready
each[d] new -> ready
done with start plan 1
owes start each[a] 1
owes start each[b] 1

ok each[a]
----
attempt.ended each[a] n=1 outcome=ok then=done
task.assigned each[c] n=1 agent=shell-1 node=here slot=0 base=root
done with start each[a] 1
owes start each[c] 1

ok each[c]
----
attempt.ended each[c] n=1 outcome=ok then=done
task.assigned each[d] n=1 agent=shell-1 node=here slot=0 base=root
done with start each[c] 1
owes start each[d] 1

failed each[b]
----
attempt.ended each[b] n=1 outcome=failed then=failed cause=exit
attempt.ending each[d] n=1 why=cancelled
task.closed each[d] state=cancelled cause=cancelled detail="each[b] failed and fail_fast is set"
task.closed each state=failed cause=needs detail="2 of 4 items failed: each[b], each[d]"
task.closed after state=skipped cause=needs detail="each is failed"
done with start each[b] 1
done with start each[d] 1
owes end each[d] 1

retry each[b]
----
task.retried each
task.retried each[b]
task.retried after
task.retried each[d]
task.assigned each[b] n=2 agent=shell-3 node=here slot=1 base=root
owes start each[b] 2

ok each[b]
----
attempt.ended each[b] n=2 outcome=ok then=done
done with start each[b] 2

ok each[d]
----
attempt.gone each[d] n=1
task.assigned each[d] n=2 agent=shell-1 node=here slot=0 base=root
done with end each[d] 1
owes start each[d] 2
