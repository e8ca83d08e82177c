"""The configuration: one frozen tree, read from `skep.toml` and the environment, checked once, handed out in slices."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from skep.errors import Invalid

#: Read from the workspace folder.
FILE = "skep.toml"
#: The state folder in the workspace.
STATE = ".skep"
#: Where recordings lie in the state folder.
TRANSCRIPTS = "transcripts"


class PlacementConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How agents are ranked. `profile`: balanced or routing. `weights`: replace the profile's, by factor."""

    profile: Literal["balanced", "routing"] = "balanced"
    weights: dict[str, float] = {}


class EnvironmentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`allow`: names or patterns of the owner's environment variables that attempts get besides the built-in allow-list."""

    allow: tuple[str, ...] = ()


class SandboxConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How programs of agents are confined where a workflow file does not say more.

    `mode`: on, or off: then agents can do whatever you can. `network`: hosts that may be reached. `read`, `write`: further
    folders and files. `credentials`: clients whose credentials are shared. `require`: properties without which nothing runs.
    `cpu`: cores. `memory`: bytes, 0 = three quarters of what the machine has. `processes`: how many at once. `disk`: bytes of
    one file. `disk_total`: bytes that an attempt may add to its own folders. All limits are per attempt.
    """

    mode: Literal["on", "off"] = "on"
    network: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    cpu: float = 0.0
    memory: int = 0
    processes: int = 4_096
    disk: int = 16 << 30
    disk_total: int = 20 << 30


class TerminalsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`pool`: terminals open at once; more wait."""

    pool: int = 1_100


class PromptsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`folder`: where files of your own (`worker.md`, `reviewer.md`, ...) replace what agents are told; from the workspace."""

    folder: str = ""


class StoreConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`url`: empty = SQLite in the state folder; `memory:` = nothing is kept (for tests)."""

    url: str = ""


class PriceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Dollars for a million tokens, for clients that tell no dollars: `input`, `cached` (read from a cache), `output`."""

    input: float
    output: float
    cached: float | None = None


class RuleConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What is done when an agent wants to use a tool: `do` is always, ask or never. The rest are patterns."""

    do: Literal["always", "ask", "never"]
    tool: str = ""
    command: str = ""
    path: str = ""
    host: str = ""


class PlannerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Who plans an objective, and the bounds of plans.

    `runtime` (empty = nobody), `model`, `with`: of the planner. `agents`: whom a plan may use, written as in a workflow file;
    without any, the planner's own runtime and model. `max_tasks`, `length`: of a plan; `length` counts tasks one after the other.
    `cost_usd`: of the planning and all that comes of it, 0 = no bound. `attempts`: at a plan that is accepted.
    `proposals`: ask, auto or never, for what tasks of the plan propose in their turn.
    """

    runtime: str = ""
    model: str = ""
    options: dict[str, Any] = field(default_factory=dict, name="with")
    max_tasks: int = 20
    length: int = 8
    cost_usd: float = 0.0
    attempts: int = 3
    proposals: Literal["ask", "auto", "never"] = "ask"
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings.

    `agents`: attempts at once where a session does not say (0 = twice the cores). `prices`: by model, or a pattern of names.
    `rules`: what agents may do where neither their agent nor the session says it.
    """

    agents: int = 0
    placement: PlacementConfig = PlacementConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    sandbox: SandboxConfig = SandboxConfig()
    terminals: TerminalsConfig = TerminalsConfig()
    prompts: PromptsConfig = PromptsConfig()
    store: StoreConfig = StoreConfig()
    planner: PlannerConfig = PlannerConfig()
    types: dict[str, dict[str, Any]] = field(default_factory=dict)
    prices: dict[str, PriceConfig] = field(default_factory=dict)
    rules: tuple[RuleConfig, ...] = ()


class Setting(Struct, frozen=True):
    """One setting as it is in force. `source`: default, the file, or the variable that it comes from."""

    name: str
    value: Any
    source: str


def workspace_of(start: Path) -> Path:
    """The workspace that a folder belongs to: the nearest folder, it or above, with a state folder or a git repository.

    A state folder of somebody else's does not count, and a repository is not left upwards. Without any it is the folder itself.
    """
    for folder in (start, *start.parents):
        state = folder / STATE
        if state.is_dir() and state.stat().st_uid == os.getuid():
            return folder
        if (folder / ".git").exists():
            return folder
    return start


def load(folder: Path, env: Mapping[str, str] = os.environ) -> Config:
    """Reads `skep.toml` of a workspace, if there is one, then SKEP_AGENTS, SKEP_STORE_URL and SKEP_SANDBOX of the environment.

    Raises:
        Invalid: no TOML, an unknown setting, a value of the wrong kind; the message names file and setting.
    """
    path = folder / FILE
    tree = _file(path)
    if "SKEP_AGENTS" in env:
        tree["agents"] = _whole("SKEP_AGENTS", env["SKEP_AGENTS"])
    if "SKEP_STORE_URL" in env:
        tree["store"] = {"url": env["SKEP_STORE_URL"]}
    if "SKEP_SANDBOX" in env:
        if env["SKEP_SANDBOX"] not in ("on", "off"):
            raise Invalid(f"SKEP_SANDBOX is '{env['SKEP_SANDBOX']}'", "Set it to on or off.")
        tree["sandbox"] = {**_table(tree, "sandbox"), "mode": env["SKEP_SANDBOX"]}
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise Invalid(f"{path}: {error}", "`skep config` shows every setting.") from None
    return _checked(config, path)


def settings(folder: Path, env: Mapping[str, str] = os.environ) -> list[Setting]:
    """Every setting in force, with where it comes from. Raises Invalid as `load` does."""
    variables = {"agents": "SKEP_AGENTS", "store.url": "SKEP_STORE_URL", "sandbox.mode": "SKEP_SANDBOX"}
    path = folder / FILE
    tree = _file(path)

    def walk(part: Struct, prefix: str, written: Any) -> list[Setting]:
        found: list[Setting] = []
        for one in msgspec.structs.fields(type(part)):
            name, value = prefix + one.encode_name, getattr(part, one.name)
            here = written.get(one.encode_name) if isinstance(written, dict) else None
            if isinstance(value, Struct):
                found += walk(value, f"{name}.", here)
            else:
                variable = variables.get(name, "")
                source = variable if variable in env else FILE if here is not None else "default"
                found.append(Setting(name, msgspec.to_builtins(value), source))
        return found

    return walk(load(folder, env), "", tree)


def _file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}", "Mend the file, or remove it.") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", "Mend the file's permissions.") from None


def _table(tree: dict[str, Any], name: str) -> dict[str, Any]:
    found = tree.get(name, {})
    return found if isinstance(found, dict) else {}


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise Invalid(f"{name} is '{text}'", "Set it to a whole number.")
    return int(text)


def _checked(config: Config, path: Path) -> Config:
    known = ("availability", "expertise", "workload", "performance", "affinity", "cost", "history")
    strange = [name for name in config.placement.weights if name not in known]
    if strange:
        raise Invalid(f"{path}: no factor '{strange[0]}' in placement.weights", f"Known are {', '.join(known)}.")
    if any(weight < 0 for weight in config.placement.weights.values()):
        raise Invalid(f"{path}: placement.weights must not be negative")
    if not 0 <= config.agents <= 10_000:
        raise Invalid(f"{path}: agents is {config.agents}", "Use 0 (twice the cores) to 10000.")
    if not 1 <= config.terminals.pool <= 10_000:
        raise Invalid(f"{path}: terminals.pool is {config.terminals.pool}", "Use 1 to 10000.")
    box = config.sandbox
    if min(box.cpu, box.memory, box.processes, box.disk, box.disk_total) < 0:
        raise Invalid(f"{path}: limits of [sandbox] must not be negative", "Use 0 where there is to be none.")
    planner = config.planner
    if not (1 <= planner.max_tasks <= 1000 and 1 <= planner.length <= 1000 and 1 <= planner.attempts <= 10):
        raise Invalid(f"{path}: planner takes max_tasks and length from 1 to 1000, attempts from 1 to 10")
    if not 0 <= planner.cost_usd < float("inf"):
        raise Invalid(f"{path}: planner.cost_usd is {planner.cost_usd}", "Use a number that is not negative.")
    if config.store.url not in ("", "memory:"):
        raise Invalid(
            f"store.url is '{config.store.url}'", "Redis is not available yet; leave it empty for SQLite in the workspace."
        )
    return config
