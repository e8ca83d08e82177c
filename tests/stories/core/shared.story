# Tasks of mode shared work in the session's own worktree, one after the other.

open
----
session.opened session=story-1 base=root kind=git
node.joined node=here boot=1 slots=8

submit
  one run=work mode=shared
  two run=work mode=shared
  three run=work
----
= one two three
tasks.submitted tasks=one,two,three
task.assigned one n=1 agent=shell-1 node=here slot=0 base=root
task.assigned three n=1 agent=shell-2 node=here slot=1 base=root
one new -> running
two new -> ready
three new -> running
owes start one 1
owes start three 1

ok three
----
attempt.ended three n=1 outcome=ok then=done
done with start three 1

ok one
----
attempt.ended one n=1 outcome=ok then=done
task.assigned two n=1 agent=shell-1 node=here slot=0 base=root
done with start one 1
owes start two 1

ok two
----
attempt.ended two n=1 outcome=ok then=done
done with start two 1
