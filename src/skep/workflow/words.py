"""What the small values of a workflow file look like: names, files, hosts, commands."""

from __future__ import annotations

from skep.workflow.kinds import Anything, Either, ListOf, MapOf, Text

_INSIDE = r"(?!/)(?!!)(?!(?:.*/)?\.\.(?:/|$))(?!(?:.*/)?\.?$)[^\n]+"
TASK_ID = Text(
    "a name of letters, digits, - and _, not t1, t2, ... (Skep gives those)", r"(?!t[0-9]+$)[A-Za-z0-9_][A-Za-z0-9_-]{0,99}"
)
NEED = Text("the id of a task", r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
NAME = Text("a name of letters, digits, - and _", r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
LABEL = Text("a name of letters, digits and . _ - : /", r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,99}")
ABILITY = Text("a capability such as code-review", r"[a-z][a-z0-9-]{0,62}")
VARIABLE = Text("the name of an environment variable that does not begin with SKEP_", r"(?!SKEP_)[A-Za-z_][A-Za-z0-9_]{0,254}")
FILE = Text("the relative path of a file that stays inside", _INSIDE, most=1000)
GLOB = Text("a relative pattern of files that stays inside, such as tests/**", _INSIDE, most=1000)
HOST = Text(
    "a host such as api.example.com, *.example.com or localhost:11434",
    r"(\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?",
    most=260,
)
NAMESPACE = Text(
    "a namespace of the memory bank, such as lessons, or session/* for all that begin so",
    r"[^\s@*](?:[^@*\n\r\t]*[^\s@*])?\*?",
    most=300,
)
CALLABLE = Text("a callable, module:function", r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*", most=500)
WORDS = Text("text", most=10_000)
COMMAND = Either(
    "a command, or a list of arguments",
    Text("a command"),
    ListOf(Text("an argument", empty=True), least=1, distinct=False),
)
COMMANDS = Either(
    "a command, or a list of commands, each text or a list of arguments",
    Text("a command"),
    ListOf(COMMAND, least=1, most=100, distinct=False),
)
BAG = MapOf(Text("text", most=200), Anything())
