# What waits when a merge begins is merged with it, one on the other. Of a stack that fails only the culprit goes back: what lies
# below it is merged, what lies above it is stacked anew, and nothing is counted against it.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work
  two run=work
  three run=work retries=1
  four run=work
  five run=work
----
= one two three four five
tasks.submitted tasks=one,two,three,four,five
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned two n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
two new -> running
three new -> ready
four new -> ready
five new -> ready
owes start one 1
owes start two 1

ok one commit=c1
----
attempt.ended one n=1 outcome=ok then=merging commit=c1
merge.started base=root one=c1
task.assigned three n=1 agent=shell-1 node=here slot=0 base=root
done with start one 1
owes merge one 1
owes start three 1

ok two commit=c2
----
attempt.ended two n=1 outcome=ok then=merging commit=c2
task.assigned four n=1 agent=shell-2 node=here slot=1 base=root
done with start two 1
owes start four 1

ok three commit=c3
----
attempt.ended three n=1 outcome=ok then=merging commit=c3
task.assigned five n=1 agent=shell-1 node=here slot=0 base=root
done with start three 1
owes start five 1

ok four commit=c4
----
attempt.ended four n=1 outcome=ok then=merging commit=c4
done with start four 1

ok five commit=c5
----
attempt.ended five n=1 outcome=ok then=merging commit=c5
done with start five 1

merged m1
----
task.merged one commit=m1
merge.started base=m1 two=c2 three=c3 four=c4 five=c5
done with merge one 1
owes merge two 1

cancel four
----
! Conflict: task 'four' is being merged (Try again in a moment.)

refused verify-failed m2 feedback="with three it fails"
----
task.merged two commit=m2
merge.failed three cause=verify-failed detail=no then=ready feedback="with three it fails"
merge.started base=m2 four=c4 five=c5
task.assigned three n=2 agent=shell-1 node=here slot=0 base=m2
done with merge two 1
owes merge four 1
owes start three 2

look three four
----
three is running attempts=2 failures=1 cause=verify-failed feedback="with three it fails"
four is merging attempts=1

ok three commit=c6
----
attempt.ended three n=2 outcome=ok then=merging commit=c6
done with start three 2

restart
----
node.joined node=here boot=2 slots=8

merged m4
----
task.merged four commit=m4
merge.started base=m4 five=c5 three=c6
done with merge four 1
owes merge five 1

look four
----
four is done attempts=1 merged=m4

cancel three
----
! Conflict: task 'three' is being merged (Try again in a moment.)

merged m5 m6
----
task.merged five commit=m5
task.merged three commit=m6
done with merge five 1

look five three
----
five is done attempts=1 merged=m5
three is done attempts=2 failures=1 merged=m6
