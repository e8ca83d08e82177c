# With on_conflict: task an agent resolves the conflict; its commit is what is merged. What conflicts again is asked about.

open
  shell runtime=shell count=2
  coder runtime=claude
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work on_conflict=task
  two run=work on_conflict=task
----
= one two
tasks.submitted tasks=one,two
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned two n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
two new -> running
owes start one 1
owes start two 1

ok one commit=c1
----
attempt.ended one n=1 outcome=ok then=merging commit=c1
merge.started base=root one=c1
done with start one 1
owes merge one 1

ok two commit=c2
----
attempt.ended two n=1 outcome=ok then=merging commit=c2
done with start two 1

refused conflict
----
merge.failed one cause=conflict detail=no then=expanded resolver=one[conflict]
merge.started base=root two=c2
task.assigned one[conflict] n=1 agent=coder-1 node=here slot=0 base=root
one[conflict] new -> running
done with merge one 1
owes merge two 1
owes start one[conflict] 1

look one
----
one is expanded attempts=1 cause=conflict

reload
----
(nothing)

ok one[conflict] commit=c3
----
attempt.ended one[conflict] n=1 outcome=ok then=done commit=c3
conflict.resolved one resolver=one[conflict] then=merging
done with start one[conflict] 1

merged m2
----
task.merged two commit=m2
merge.started base=m2 one=c3
done with merge two 1
owes merge one 2

refused conflict
----
merge.failed one cause=conflict detail=no then=needs-you question=conflict
done with merge one 2

answer one merge
----
task.answered one answer=merge then=merging
merge.started base=m2 one=c3
owes merge one 2

merged m1
----
task.merged one commit=m1
done with merge one 2
