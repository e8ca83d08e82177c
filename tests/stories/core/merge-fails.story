# A merged commit that fails the session's verification is a failure of the task; a branch that a stranger moved asks a person.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work retries=1
----
= one
tasks.submitted tasks=one
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
one new -> running
owes start one 1

ok one commit=c1
----
attempt.ended one n=1 outcome=ok then=merging commit=c1
merge.started base=root one=c1
done with start one 1
owes merge one 1

refused verify-failed feedback="together it fails"
----
merge.failed one cause=verify-failed detail=no then=ready feedback="together it fails"
task.assigned one n=2 agent=shell-1 node=here slot=0 base=root
done with merge one 1
owes start one 2

look one
----
one is running attempts=2 failures=1 cause=verify-failed feedback="together it fails"

ok one commit=c2
----
attempt.ended one n=2 outcome=ok then=merging commit=c2
merge.started base=root one=c2
done with start one 2
owes merge one 2

refused infrastructure
----
merge.failed one cause=infrastructure detail=no then=needs-you question=merge
done with merge one 2

answer one merge
----
task.answered one answer=merge then=merging
merge.started base=root one=c2
owes merge one 2

merged m1
----
task.merged one commit=m1
done with merge one 2
