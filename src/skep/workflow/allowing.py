"""The part of the table of the workflow file that says what agents may do: rules, the sandbox, the memory bank."""

from __future__ import annotations

from skep.workflow.kinds import Choice, Either, ListOf, Number, Size, Text
from skep.workflow.record import Field, Record
from skep.workflow.words import HOST, NAME, NAMESPACE, WORDS

RULE = Record(
    "Rule",
    "What is done when an agent wants to use a tool. It fits if everything that is given here does; the first that fits decides.",
    {
        "do": Field(Choice(("always", "ask", "never")), "Let it, ask a person each time, or refuse it.", required=True),
        "tool": Field(Text("a tool's name; * is any text", most=200), "The tool, as the agent's client calls it."),
        "command": Field(
            Text("words of a command; * is any text", pattern=r"\S.*", most=1000),
            "A shell command, word by word, such as `npm install *`. A `*` at the end stands for any further words.",
        ),
        "path": Field(
            Text("a pattern of files such as src/**", most=1000), "Files that it names, in the worktree, or from / or ~/."
        ),
        "host": Field(Text("a host; * is any text", most=255), "A host that it addresses."),
    },
)
RULES = ListOf(RULE, most=200, distinct=False)
SANDBOX = Record(
    "Sandbox",
    "How programs are confined, on top of what `skep.toml` says; lists add up. See the manual's page on the sandbox.",
    {
        "mode": Field(
            Choice(("on", "off")),
            "Confined, or in so many words not: then they can do whatever you can.",
            "what `skep.toml` says, else `on`",
        ),
        "network": Field(
            ListOf(HOST, most=100),
            "Hosts that may be reached, by Skep's proxy: `host` (ports 80 and 443), `host:port`, `*.host`, `*`. Private "
            "addresses only where `host:port` names one.",
            "no network, but for the models of coding clients",
        ),
        "read": Field(
            ListOf(WORDS, most=100), "Further folders and files to read; relative ones from the workspace, `~` is your home."
        ),
        "write": Field(ListOf(WORDS, most=100), "Further folders and files to change."),
        "credentials": Field(ListOf(NAME, most=20), "Clients whose credentials are shared, not copied: `claude`, `codex`, ..."),
        "require": Field(ListOf(NAME, most=20), "Properties without which nothing is started: `skep doctor` lists them."),
        "cpu": Field(Number(0, 100_000, whole=False), "Cores, for all processes of an attempt together."),
        "memory": Field(Size(), "Main memory, together.", "three quarters of the machine's"),
        "processes": Field(Number(0, 1_000_000), "Processes and threads at once.", "4096"),
        "disk": Field(Size(), "Size of one file.", "16 GiB"),
        "disk_total": Field(
            Size(),
            "What an attempt may add to its worktree, its own folder and its HOME, together; looked at now and then.",
            "20 GiB",
        ),
    },
)
CONFINED = Either("`on`, `off` or a mapping (sandbox)", Choice(("on", "off")), mapping=SANDBOX)

MEMORY = Record(
    "Memory",
    "What agents may read and write of the memory bank, beside their session's own namespace, `session/NAME`, and reading "
    "`project`. See the manual's page on the memory bank.",
    {
        "mode": Field(Choice(("on", "off")), "`off`: nothing at all, and nothing of it in their prompts.", "`on`"),
        "read": Field(ListOf(NAMESPACE, most=100), "Namespaces that may be read; `session/*` are those of all sessions."),
        "write": Field(
            ListOf(NAMESPACE, most=100),
            "Namespaces that may be written, and read. What attempts did is noted down in the first one without `*`.",
            "the session's own alone",
        ),
        "prompt": Field(
            Number(0, 100_000),
            "Tokens of a prompt, at four characters each, that are for what is remembered; 0 = none.",
            "1500",
        ),
    },
)
REMEMBERING = Either("`on`, `off` or a mapping (memory)", Choice(("on", "off")), mapping=MEMORY)
