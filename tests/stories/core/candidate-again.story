# A candidate is sent round again while it is voted on: the votes were for other work, so they are void and it is voted anew.

open limit=8
  shell runtime=shell count=0
  judge runtime=x count=1
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  best run=work candidates=shell,shell vote={"by":"judge","otherwise":"fail"}
----
= best
tasks.submitted tasks=best
task.expanded best children=best[1],best[2]
task.assigned best[1] n=1 agent=shell-1 node=here slot=0 base=root
task.assigned best[2] n=1 agent=shell-2 node=here slot=1 base=root
best new -> expanded
best[1] new -> running
best[2] new -> running
owes start best[1] 1
owes start best[2] 1

ok best[1] commit=c1
----
attempt.ended best[1] n=1 outcome=ok then=done commit=c1
done with start best[1] 1

ok best[2] commit=c2
----
attempt.ended best[2] n=1 outcome=ok then=done commit=c2
ballot.opened best id=best electors=["judge-1"] options=["A","B"] options={"A":"best[2]","B":"best[1]"} voters=best[judge-1]
task.assigned best[judge-1] n=1 agent=judge-1 node=here slot=0 base=root
best[judge-1] new -> running
done with start best[2] 1
owes start best[judge-1] 1

retry best[1]
----
task.retried best[1]
task.assigned best[1] n=2 agent=shell-1 node=here slot=1 base=root
owes start best[1] 2

ok best[judge-1] outputs={"vote":{"vote":"A","reason":"shorter"}}
----
attempt.ended best[judge-1] n=1 outcome=ok then=done
done with start best[judge-1] 1

ok best[1] commit=c3
----
attempt.ended best[1] n=2 outcome=ok then=done commit=c3
ballot.opened best id=best.2 electors=["judge-1"] options=["A","B"] options={"A":"best[2]","B":"best[1]"} voters=best[judge-1.2]
task.assigned best[judge-1.2] n=1 agent=judge-1 node=here slot=0 base=root
best[judge-1.2] new -> running
done with start best[1] 2
owes start best[judge-1.2] 1

ok best[judge-1.2] outputs={"vote":{"vote":"A","reason":"shorter"}}
----
attempt.ended best[judge-1.2] n=1 outcome=ok then=done
vote.cast best ballot=best.2 elector=judge-1 choice=A reason=shorter
ballot.closed best ballot=best.2 rule=quorum reached=True choice=A counts={"A":1,"B":0} weights={"A":1,"B":0} threshold=2/3 total=1
candidate.chosen best candidate=best[2] then=merging
merge.started base=root best=c2
done with start best[judge-1.2] 1
owes merge best 1
