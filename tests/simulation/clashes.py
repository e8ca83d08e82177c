"""A small world for conflicts that tasks resolve: the owner of `decisions` that crashes around its appends, a repository, agents
that resolve conflicts well or leave marks, and a checker that knows what each of them made. It judges the branch and the log.
"""

from __future__ import annotations

from skep.core import events as ev
from skep.core import inputs as inp
from skep.core.model import TERMINAL, Entry, Task
from tests.simulation.decisions import Small
from tests.simulation.git import Commit, Git

NAMES = ("a", "b", "c")
FILE, MARK = "file", "<<<<<<<"


class Clashes(Small):
    """One session of one seed, in which every task writes the same file."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.git = Git()
        self.git.commits["c0"] = Commit("c0", {FILE: "root"}, frozenset({"c0"}))
        self.git.ref = "c0"
        #: What each attempt reports and each merge came to: the same again, however often it is asked for.
        self.reports: dict[tuple[str, int], inp.Ended] = {}
        self.merges: dict[object, inp.MergeEnded] = {}

    def go(self) -> None:
        """Until nothing is open; then the checker."""
        retries = self.random.choice((0, 1))
        tasks = tuple(Task(id=name, prompt="do", agent="coder", on_conflict="task", retries=retries) for name in NAMES)
        self.insist(inp.Submit(at=0, tasks=tasks, key="k"))
        while open_ones := [entry for entry in self.state.entries.values() if entry.state not in TERMINAL]:
            entry = self.random.choice(open_ones)
            if entry.attempt is not None and entry.state == "running":
                self.say(self._report(entry))
            elif entry.state == "needs-you":
                self.say(inp.Say(at=0, task=entry.task.id, answer=self.random.choice(("rerun", "skip", "merge"))))
            elif self.state.intent is not None:
                self.say(self._merge())
            else:
                self.say(inp.Tick(at=0))
        self._judge_log()

    def _report(self, entry: Entry) -> inp.Ended:
        """What the current attempt came to. Marks that are left fail it, and what it made is kept."""
        attempt, task = entry.attempt, entry.task
        assert attempt is not None
        key = (task.id, attempt.n)
        if key not in self.reports:
            text, outcome = f"{task.id}/{attempt.n}", "ok"
            if task.resolves:
                luck = self.random.random()
                text, outcome = (f"{text} of both", "ok") if luck < 0.6 else (f"{MARK} {text}", "failed")
            commit = self.git.commit((attempt.base,), {**self.git.commits[attempt.base].tree, FILE: text}, task.id)
            self.reports[key] = inp.Ended(
                at=0,
                task=task.id,
                n=attempt.n,
                nonce=attempt.nonce,
                outcome="ok" if outcome == "ok" else "failed",
                cause="" if outcome == "ok" else "conflict",
                commit=commit,
            )
        return self.reports[key]

    def _merge(self) -> inp.MergeEnded:
        intent = self.state.intent
        assert intent is not None
        if intent not in self.merges:
            commits: list[str] = []
            cause = ""
            for candidate in intent.stack:
                made = self.git.merge(commits[-1] if commits else intent.base, candidate.commit, candidate.task)
                if made is None:
                    cause = "conflict"
                    break
                commits.append(made)
            if commits:
                self.check(self.git.move(intent.base, commits[-1]), "the branch was not where the log says")
            self.check(MARK not in self.git.commits[self.git.ref].tree[FILE], "conflict markers are on the branch")
            self.merges[intent] = inp.MergeEnded(
                at=0, intent=intent, commits=tuple(commits), cause="conflict" if cause else "", detail="both changed it"
            )
        return self.merges[intent]

    def _judge_log(self) -> None:
        """A resolution is a task that ended well, and its commit is what goes to the merge; one chance for each run of a task."""
        well = {event.task: event.commit for event in self.log if isinstance(event, ev.AttemptEnded) and event.outcome == "ok"}
        stands: dict[str, str] = {}
        for event in self.log:
            if isinstance(event, ev.ConflictResolved):
                self.check(event.resolver in well, f"{event.task} takes what {event.resolver} did not resolve")
                stands[event.task] = well.get(event.resolver, "")
            elif isinstance(event, ev.TaskAssigned):
                stands.pop(event.task, None)
            elif isinstance(event, ev.MergeStarted):
                for one in event.intent.stack:
                    self.check(one.commit == stands.get(one.task, one.commit), f"{one.task} is not merged as it was resolved")
            elif isinstance(event, ev.MergeFailed) and event.cause == "conflict":
                self.check(event.resolver is None or event.task not in stands, f"{event.task} has a second chance")
            elif isinstance(event, ev.Merged) and event.task in stands:
                self.check(self.git.contains(event.commit, stands[event.task]), f"{event.task} is merged without its resolution")
        self.check(all(entry.state in ("done", "skipped") for entry in self.state.entries.values()), "somebody has failed")
