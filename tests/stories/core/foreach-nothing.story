# An empty list is done at once; what is no list fails.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  plan run=list
  none run=work needs=plan foreach={"in":"needs.plan.outputs.none"}
  bad run=work needs=plan foreach={"in":"needs.plan.outputs.bad"}
  lost run=work needs=plan foreach={"in":"needs.plan.outputs.lost"}
----
= plan none bad lost
tasks.submitted tasks=plan,none,bad,lost
task.assigned plan n=1 agent=shell-1 node=here slot=0 base=root
plan new -> running
none new -> waiting
bad new -> waiting
lost new -> waiting
owes start plan 1

ok plan outputs={"none":[],"bad":{"no":"list"}}
----
attempt.ended plan n=1 outcome=ok then=done
task.expanded none children=
task.expanded bad children=bad[%7B%22no%22%3A%22list%22%7D]
task.closed lost state=failed cause=error detail="needs.plan.outputs.lost is not there"
task.closed none state=done
task.assigned bad[%7B%22no%22%3A%22list%22%7D] n=1 agent=shell-1 node=here slot=0 base=root
bad[%7B%22no%22%3A%22list%22%7D] new -> running
done with start plan 1
owes start bad[%7B%22no%22%3A%22list%22%7D] 1

look bad lost
----
bad is expanded 
lost is failed cause=error
