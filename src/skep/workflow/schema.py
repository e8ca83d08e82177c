"""The table of the workflow file: every key, what it takes, what it is for. Checker, JSON Schema and manual come from it."""

from __future__ import annotations

from typing import Any

from skep.core.candidates import MAX_CANDIDATES
from skep.core.model import PRIORITY_RANK
from skep.core.phase import MAX_PHASES
from skep.workflow.allowing import CONFINED, REMEMBERING, RULES
from skep.workflow.deciding import PHASE, VOTE
from skep.workflow.kinds import (
    Anything,
    Choice,
    Duration,
    Either,
    Flag,
    Later,
    ListOf,
    MapOf,
    Moment,
    Number,
    Size,
    Text,
)
from skep.workflow.record import Field, Record, records
from skep.workflow.words import (
    ABILITY,
    BAG,
    CALLABLE,
    COMMAND,
    COMMANDS,
    FILE,
    GLOB,
    LABEL,
    NAME,
    NEED,
    TASK_ID,
    VARIABLE,
    WORDS,
)

#: Tasks in one file.
MAX_TASKS = 10_000

RESOURCES = Record(
    "Resources",
    "What an attempt reserves on its node while it runs.",
    {
        "cpu": Field(Number(0, 100_000, whole=False), "Cores, also parts of one."),
        "memory": Field(Size(), "Main memory."),
        "storage": Field(Size(), "Disk."),
    },
)

INPUT = Record(
    "Input",
    "A value that the user gives with `--input name=value`. It is always text.",
    {
        "required": Field(Flag(), "Whether a run without it is refused.", "`false`"),
        "default": Field(Text(empty=True), "What it is when not given.", "empty text"),
        "description": Field(WORDS, "What it is for; shown when it is missing."),
    },
)

BUDGET = Record(
    "Budget",
    "What may be spent: money and tokens as the agents' clients report them, time by Skep's own clock.",
    {
        "usd": Field(Number(0, 1_000_000, whole=False), "Dollars.", "no bound"),
        "tokens": Field(Number(0, 10**15), "Tokens read and written.", "no bound"),
        "time": Field(
            Duration(),
            "Time at work, of all attempts together: not while a person is asked, nor parked, verified or merged.",
            "no bound",
        ),
    },
)

LIMITS = Record(
    "Limits",
    "Bounds of the whole session.",
    {
        "agents": Field(Number(1, 100_000), "How many agents work at once.", "twice the cores"),
        "time": Field(Duration(), "Wall time of the session.", "none"),
        "cost_usd": Field(Number(0, 1_000_000, whole=False), "Dollars that all agents together may spend.", "none"),
        "tokens": Field(Number(0, 10**15), "Tokens that all agents together may read and write.", "none"),
        "reserve_usd": Field(
            Number(0, 1_000_000, whole=False), "Dollars that must be left of `cost_usd` for an attempt to begin.", "0.25"
        ),
        "answer_within": Field(Duration(), "After this, nobody's answer to what an agent asks is a no.", "10m"),
    },
)

SERVICE = Record(
    "Service",
    "Runs beside the tasks, and is started again if it ends. It listens on 127.0.0.1, on the port in `$SKEP_PORT_NAME`.",
    {
        "run": Field(COMMAND, "The command.", required=True),
        "ready": Field(COMMAND, "A command that succeeds once it can be used.", "its port takes connections"),
        "timeout": Field(Duration(), "After this it must be ready.", "1m"),
    },
)

ENVIRONMENT = Record(
    "Environment",
    "Prepares every worktree. What fails here is the environment's failure, never an agent's, and counts as no attempt.",
    {
        "setup": Field(COMMANDS, "Commands, one after the other, before anything else happens in a worktree."),
        "services": Field(
            MapOf(Text("a name: small letters, digits, -", pattern="[a-z][a-z0-9-]{0,30}"), SERVICE, least=1, most=20),
            "Processes that run beside the tasks, by name: started before the first task, ended with the run.",
        ),
    },
)

AGENT = Record(
    "Agent",
    "A kind of agent that this session may use.",
    {
        "runtime": Field(Text("the name of a runtime", most=50), "What carries its tasks out: `shell`, `python`.", required=True),
        "type": Field(
            Text("the name of an agent type", most=62), "An agent type that gives what is not said here: `coder`, `tester`, ..."
        ),
        "model": Field(WORDS, "The model, for runtimes that have one."),
        "capabilities": Field(ListOf(ABILITY, most=50), "What it can do.", "what its type says, else anything"),
        "count": Field(
            Number(0, 1000),
            "How many of it may work at once; 0 = as many as `limits.agents`. Each has one vote.",
            "0; 1 if it votes",
        ),
        "max_load": Field(Number(1, 1000), "Tasks that one of it carries at a time.", "1"),
        "resources": Field(RESOURCES, "Its weight in placement, and a ceiling."),
        "strict": Field(Flag(), "Whether its resources are reserved in full.", "`false`"),
        "reliability": Field(Number(0, 1, whole=False), "How often it succeeds, before anything is known.", "0.9"),
        "cost": Field(Number(0, 1_000_000, whole=False), "Relative price of a task.", "0"),
        "budget": Field(BUDGET, "What all its attempts together may cost in a session; then the session is paused."),
        "rules": Field(RULES, "What it may do, asks about, may not do; looked at before those of the session."),
        "sandbox": Field(
            CONFINED, "How what it starts is confined: `off` says in so many words that it is not.", "as the session's"
        ),
        "memory": Field(
            REMEMBERING, "What it may read and write of the memory bank, in place of the session's.", "the session's"
        ),
        "with": Field(
            BAG,
            "What only its runtime knows. A shell agent with `run` takes prompts: the command reads the file $SKEP_PROMPT.",
        ),
        "environment": Field(
            Later("use `setup` of the task, or the top-level `environment`"), "As the top-level one, for its tasks."
        ),
    },
)

RETRIES = Record(
    "Retries",
    "How often a failed task is tried again. An interruption is no failure and does not count.",
    {
        "max": Field(Number(0, 100), "Attempts after the first: 2 means three attempts.", "0"),
        "backoff": Field(Duration(), "Wait before the second attempt; doubles each time, at most 5 minutes.", "0"),
        "feedback": Field(Flag(), "Whether the next attempt is told why the last one failed.", "`true`"),
        "from": Field(
            Choice(("fresh", "last")),
            "Whether it starts from the session's branch or from what the last attempt left.",
            "`fresh`",
        ),
    },
)

FOREACH = Record(
    "Foreach",
    "Makes one task per item of a list that is known only when an earlier task is done. They are called `id[key]`.",
    {
        "in": Field(
            Text("a path such as needs.plan.outputs.list", most=1000, looked_up=True),
            "The list: a JSON list, or text with one item a line.",
            required=True,
        ),
        "key": Field(WORDS, "The field of an item that names its task.", "the item itself, or its number"),
        "max_items": Field(Number(1, MAX_TASKS), "More items than this fail the task.", "100"),
        "max_parallel": Field(Number(0, MAX_TASKS), "Items under way at once; 0 = no bound of its own.", "0"),
        "fail_fast": Field(Flag(), "Whether one failed item cancels the others.", "`true`"),
    },
)

PROMPT_FILE = Record(
    "Prompt file",
    "A prompt that is kept in a file of its own.",
    {"file": Field(WORDS, "Its path, from the workflow file.", required=True)},
)

PROPOSALS = Record(
    "Proposals",
    "What may come of the file `$SKEP_OUT/propose.yaml` that a task leaves: further tasks. A foreach counts as its `max_items`.",
    {
        "rule": Field(
            Choice(("ask", "auto", "never")), "A person is asked, all within the bounds are taken, or none are.", "`ask`"
        ),
        "max_tasks": Field(Number(1, 1000), "Tasks in one proposal.", "20"),
        "most": Field(Number(1, MAX_TASKS), "Tasks that are taken in the session in all.", "100"),
        "depth": Field(Number(1, 10), "How often what was proposed may propose: 1 = never.", "2"),
        "length": Field(Number(1, 1000), "Tasks of one proposal that come one after the other.", "10"),
    },
)

NOTIFY = Record(
    "Notify",
    "A command that is run when something happens, with JSON on its standard input.",
    {
        "on": Field(
            ListOf(
                Choice(("failed", "needs-you", "done")),
                least=1,
                single=True,
            ),
            "A task failed for good, a person must say something, or the session is done.",
            required=True,
        ),
        "run": Field(COMMAND, "The command.", required=True),
        "after": Field(Duration(), "How long a needs-you must have waited for an answer.", "at once"),
        "answers": Field(Flag(), "Whether it may answer what is asked, while its files stay as they are.", "`false`"),
    },
)

TASK = Record(
    "Task",
    "One piece of work. Exactly one of `run`, `call` and `prompt` says what to do.",
    {
        "run": Field(
            COMMAND,
            "A command. Text runs as `bash -euo pipefail -c`, a list as it is. Nothing is looked up in it; it finds $SKEP_ITEM, "
            "$SKEP_NEEDS, $SKEP_INPUTS, $SKEP_OUT, $SKEP_SLOT, $SKEP_FEEDBACK and $SKEP_TASK_KEY in its environment.",
        ),
        "call": Field(CALLABLE, "A Python callable, run in a process of its own."),
        "args": Field(BAG, "Keyword arguments of `call`."),
        "prompt": Field(
            Either("text, or `{file: PATH}`", Text("a prompt", looked_up=True), mapping=PROMPT_FILE),
            "What an agent is told. `${{ needs.plan.outputs.plan }}`, `${{ inputs.issue }}` and `${{ item.name }}` are looked "
            "up, nothing is computed; `$${{` stays as `${{`.",
        ),
        "objective": Field(WORDS, "A title for people."),
        "type": Field(
            NAME,
            "What sort of task it is, for the statistics.",
            "inferred from the words of objective, prompt or run",
            shared=True,
        ),
        "complexity": Field(
            Choice(("low", "medium", "high")),
            "How hard it is.",
            "inferred from the length and the words",
            shared=True,
        ),
        "agent": Field(
            NAME,
            "Which agent of `agents` carries it out. In `defaults` it speaks of prompts alone.",
            "the best that fits",
            shared=True,
        ),
        "priority": Field(Choice(tuple(PRIORITY_RANK)), "Who comes first among the waiting.", "`normal`", shared=True),
        "needs": Field(ListOf(NEED, single=True), "Tasks that come first: done, and merged where they change files."),
        "phase": Field(NAME, "The phase of `phases` it belongs to."),
        "if": Field(
            Text("a condition such as needs.build.state == 'failed'", most=1000, looked_up=True),
            "Whether it runs, judged when its needs have ended: paths, literals, `== != && || !`, `success()`, `failure()`, "
            "`always()`.",
            "`success()`",
        ),
        "foreach": Field(FOREACH, "Makes one task per item of a list."),
        "capabilities": Field(
            ListOf(ABILITY, most=50), "What its agent must be able to do.", "inferred, as a wish, for prompts", shared=True
        ),
        "constraints": Field(
            MapOf(LABEL, Text(most=200)), "Labels that its node must carry, with their values.", shared=True, merged=True
        ),
        "resources": Field(RESOURCES, "Reserved on the node while it runs.", shared=True, merged=True),
        "budget": Field(BUDGET, "What all its attempts together may cost; then it fails with the cause `limit`.", shared=True),
        "locks": Field(ListOf(LABEL, most=50), "Names that only one task holds at a time while it runs.", shared=True),
        "deadline": Field(Moment(), "After this, counted from the submission, it is not worth finishing.", "none", shared=True),
        "timeout": Field(Duration(), "How long one attempt may take; 0 = no limit.", "0", shared=True),
        "retries": Field(
            Either("a whole number from 0 to 100, or a mapping (retries)", Number(0, 100), mapping=RETRIES),
            "How often it is tried again; a number is `max`.",
            "0",
            shared=True,
        ),
        "exit_codes": Field(
            ListOf(Number(0, 255), least=1, most=256, single=True),
            "Exit codes of `run` that are a success.",
            "`[0]`",
            shared=True,
        ),
        "mode": Field(
            Choice(("isolated", "shared", "none")),
            "Where it works: a worktree of its own, the session's worktree under a lock, or none at all.",
            "`isolated` for run and prompt, `none` for call",
            shared=True,
        ),
        "setup": Field(COMMANDS, "Commands that prepare its worktree, after those of `environment`.", shared=True),
        "env": Field(MapOf(VARIABLE, Text(empty=True)), "Environment variables.", shared=True, merged=True),
        "secrets": Field(
            ListOf(VARIABLE, most=100),
            "Environment variables of Skep that reach this task only, on other machines too.",
            shared=True,
        ),
        "verify": Field(COMMAND, "Must succeed in a clean checkout of its commit; if not, the attempt failed.", shared=True),
        "protect": Field(ListOf(GLOB), "Paths that it must not change: a change fails the attempt.", shared=True),
        "outputs": Field(MapOf(NAME, FILE, most=100), "Name -> file below $SKEP_OUT: kept as artifacts, never committed."),
        "merge": Field(
            Choice(("auto", "never", "ask")),
            "Whether its commit goes to the session's branch: by itself, never, or after a person's yes.",
            "`auto`",
            shared=True,
        ),
        "on_conflict": Field(
            Choice(("rerun", "task", "ask")),
            "If its commit does not merge: once more on the new tip, or an agent resolves it, and then ask; or ask at once.",
            "`rerun`",
            shared=True,
        ),
        "approve": Field(
            Choice(("before", "after")),
            "A person's yes is needed before it starts, or before its result counts.",
            "never",
            shared=True,
        ),
        "recovery": Field(
            Choice(("rerun", "ask")),
            "After a crash that left its outcome unknown: run it again, or ask a person.",
            "`rerun`",
            shared=True,
        ),
        "with": Field(BAG, "What only its runtime knows."),
        "metadata": Field(
            MapOf(Text("text", most=200), Anything(free=True)), "Carried along, never interpreted.", shared=True, merged=True
        ),
        "candidates": Field(
            Either(
                f"a number from 2 to {MAX_CANDIDATES}, or a list of agents",
                Number(2, MAX_CANDIDATES),
                ListOf(NAME, least=2, most=MAX_CANDIDATES, distinct=False),
            ),
            "How many agents work on it, or which: each apart from the others, as `id[1]`, `id[2]`, ... One result is merged, "
            "the others stay to be looked at.",
        ),
        "vote": Field(
            VOTE,
            "How one of several results is chosen, after `verify` has left several.",
            "the first that is done, in the order of `candidates`",
        ),
    },
    exactly_one=("run", "call", "prompt"),
)

DEFAULTS = Record(
    "Defaults",
    "What holds for every task that does not say otherwise and that it can apply to. `constraints`, `resources`, `env` and "
    "`metadata` are put together by key.",
    {key: Field(field.kind, field.about) for key, field in TASK.fields.items() if field.shared},
)

KINDS = ("mesh", "hierarchical", "star", "ring")
TOPOLOGY = Record(
    "Topology",
    "Who may talk to whom. Agents of the type `coordinator` coordinate; without any the first ones do.",
    {
        "kind": Field(Choice(KINDS), "Its shape.", "`mesh` for up to 7 agents, `hierarchical` for more"),
        "depth": Field(Number(1, 100), "Levels that work is handed down, and votes are passed up, at most.", "3"),
        "escalation": Field(
            Choice(("automatic", "manual")),
            "Whether what an agent cannot decide goes to who is above it, or to you at once.",
            "`automatic`",
        ),
    },
)

WORKFLOW = Record(
    "Workflow file",
    "Paths resolve from the file's own folder. Keys that begin with `x-` are ignored: a place for anchors.",
    {
        "version": Field(Number(1, 1), "The format: 1.", required=True),
        "name": Field(NAME, "Sessions are called after it: `name-7`.", "the file's name"),
        "objective": Field(WORDS, "What it is all for, for people."),
        "workspace": Field(WORDS, "The folder to work in.", "the folder where Skep is started"),
        "inputs": Field(MapOf(NAME, INPUT, most=100), "Values that the user gives."),
        "limits": Field(LIMITS, "Bounds of the whole session."),
        "defaults": Field(DEFAULTS, "What holds for every task that does not say otherwise."),
        "environment": Field(ENVIRONMENT, "Prepares every worktree."),
        "agents": Field(MapOf(NAME, AGENT, most=200), "Kinds of agents. `shell` and `python` are always there."),
        "sandbox": Field(CONFINED, "How everything that is started is confined.", "what `skep.toml` says, else `on`"),
        "topology": Field(
            Either("mesh, hierarchical, star, ring, or a mapping (topology)", Choice(KINDS), mapping=TOPOLOGY),
            "Who may talk to whom: everyone with everyone, up and down a tree of coordinators, through a centre, or with two "
            "neighbours.",
            "`mesh` for up to 7 agents, `hierarchical` for more",
        ),
        "phases": Field(
            MapOf(NAME, PHASE, least=1, most=MAX_PHASES),
            "Ordered parts: the tasks of one begin when the gate of the one before was passed. Then every task has a `phase`.",
        ),
        "verify": Field(COMMAND, "Must succeed on the merged commit before the session's branch moves to it."),
        "rules": Field(RULES, "What agents may do, ask about, may not do; those of `skep.toml` come last."),
        "proposals": Field(
            Either("`ask`, `auto`, `never`, or a mapping (proposals)", Choice(("ask", "auto", "never")), mapping=PROPOSALS),
            "Whether tasks may propose further tasks.",
            "`ask`",
        ),
        "memory": Field(REMEMBERING, "What agents may read and write of the memory bank.", "what `skep.toml` says"),
        "notify": Field(ListOf(NOTIFY, most=50, distinct=False), "Commands to run when something happens."),
        "tasks": Field(MapOf(TASK_ID, TASK, least=1, most=MAX_TASKS), "The tasks by id.", required=True),
    },
    ignored="x-",
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a workflow file, for editors and other programs."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Skep workflow file",
        "description": WORKFLOW.about,
        **{key: value for key, value in WORKFLOW.schema().items() if key != "title"},
    }


def reference() -> str:
    """The manual's reference of the workflow file, in Markdown."""
    sections: dict[str, Record] = {}
    for record in records(WORKFLOW):
        sections.setdefault(record.title, record)
    lines = ["# Workflow file reference", "", "Made from the same table as the checker and `skep schema`."]
    for record in sections.values():
        lines += [
            "",
            f"## {record.title}",
            "",
            record.about,
            "",
            "| key | takes | what it is for | when not given |",
            "|---|---|---|---|",
        ]
        for key, field in record.fields.items():
            later = isinstance(field.kind, Later)
            about = (
                f"{field.about} **Not available yet:** {field.kind.missing}." if isinstance(field.kind, Later) else field.about
            )
            default = "**required**" if field.required else field.default
            cells = (f"`{key}`", "" if later else field.kind.words, about, default)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
