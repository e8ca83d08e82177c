# Three candidates, one of which fails; three voters, two of whom decide. The winner fails on the merged tip, and the other one takes its place.

open limit=8
  shell runtime=shell count=0
  judge runtime=x count=3
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  best run=work candidates=shell,shell,shell vote={"by":"judge","otherwise":"fail"}
----
= best
tasks.submitted tasks=best
task.expanded best children=best[1],best[2],best[3]
task.assigned best[1] n=1 agent=shell-1 node=here slot=0 base=root
task.assigned best[2] n=1 agent=shell-2 node=here slot=1 base=root
task.assigned best[3] n=1 agent=shell-3 node=here slot=2 base=root
best new -> expanded
best[1] new -> running
best[2] new -> running
best[3] new -> running
owes start best[1] 1
owes start best[2] 1
owes start best[3] 1

ok best[1] commit=c1
----
attempt.ended best[1] n=1 outcome=ok then=done commit=c1
done with start best[1] 1

failed best[2] cause=verify-failed
----
attempt.ended best[2] n=1 outcome=failed then=failed cause=verify-failed
done with start best[2] 1

ok best[3] commit=c3
----
attempt.ended best[3] n=1 outcome=ok then=done commit=c3
ballot.opened best id=best electors=["judge-1","judge-2","judge-3"] options=["A","B"] options={"A":"best[3]","B":"best[1]"} voters=best[judge-1],best[judge-2],best[judge-3]
task.assigned best[judge-1] n=1 agent=judge-1 node=here slot=0 base=root
task.assigned best[judge-2] n=1 agent=judge-2 node=here slot=1 base=root
task.assigned best[judge-3] n=1 agent=judge-3 node=here slot=2 base=root
best[judge-1] new -> running
best[judge-2] new -> running
best[judge-3] new -> running
done with start best[3] 1
owes start best[judge-1] 1
owes start best[judge-2] 1
owes start best[judge-3] 1

ok best[judge-1] outputs={"vote":{"vote":"A","reason":"shorter"}}
----
attempt.ended best[judge-1] n=1 outcome=ok then=done
vote.cast best ballot=best elector=judge-1 choice=A reason=shorter
done with start best[judge-1] 1

ok best[judge-2] outputs={"vote":{"vote":"A","reason":"clearer"}}
----
attempt.ended best[judge-2] n=1 outcome=ok then=done
vote.cast best ballot=best elector=judge-2 choice=A reason=clearer
ballot.closed best ballot=best rule=quorum reached=True choice=A counts={"A":2,"B":0} weights={"A":2,"B":0} threshold=2/3 total=3 silent=1
attempt.ending best[judge-3] n=1 why=cancelled
task.closed best[judge-3] state=skipped detail="the ballot was decided without it"
task.closed best[2] state=skipped cause=verify-failed
candidate.chosen best candidate=best[3] then=merging
merge.started base=root best=c3
done with start best[judge-2] 1
done with start best[judge-3] 1
owes end best[judge-3] 1
owes merge best 1

refused verify-failed
----
merge.failed best cause=verify-failed detail=no then=expanded
candidate.chosen best candidate=best[1] then=merging why="the only candidate that is left"
merge.started base=root best=c1
done with merge best 1
owes merge best 2

merged m1
----
task.merged best commit=m1
done with merge best 2
