"""The configuration: one frozen tree, read from `skep.toml` and the environment, checked once, handed out in slices."""

from __future__ import annotations

import os
import re
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
#: What the URL of a store on Redis begins with.
REDIS = ("redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://", "redis+cluster://", "rediss+cluster://", "unix://")
#: Settings of the store that variables of the environment name, for machines without a file of their own.
_STORE = {"url": "SKEP_STORE_URL", "blobs": "SKEP_STORE_BLOBS", "remote": "SKEP_STORE_REMOTE"}
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
#: Where recordings lie in the state folder.
TRANSCRIPTS = "transcripts"


class PlacementConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How agents are ranked. `profile`: balanced or routing. `weights`: replace the profile's, by factor."""

    profile: Literal["balanced", "routing"] = "balanced"
    weights: dict[str, float] = {}


class EnvironmentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """`allow`: names or patterns of the owner's environment variables that attempts get besides the built-in allow-list. `send`:
    names or patterns of those that a node may have, sealed for it, when it runs a task that names them under `secrets`.
    """

    allow: tuple[str, ...] = ()
    send: tuple[str, ...] = ("*",)


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
    """`url`: empty = SQLite in the state folder; `redis://...` = a Redis; `memory:` = nothing is kept (for tests).

    `replicas`: of the Redis, that must have what was written before it counts. `key`: file with the key that seals what is in
    it, the same on all machines; empty = `key` in the state folder. `invite`: file with an invitation, for a node without the
    key. `blobs`: a place that all machines share, for what is larger than `small` bytes: a folder, or a URL that fsspec knows;
    empty = all lies in the Redis. `bundle`: bytes of what is sent at once of a repository to machines that share the store.
    `recording`: bytes of what an attempt prints that other machines can see once it is over, beginning and end if it is more;
    0 = nothing of it leaves its machine. `keep`: for how long sessions that ended stay, such as 30d, an hour at least; then they
    go into an archive, where backups lie; empty = for ever. `remote`: URL of a git repository that all machines can push to and
    fetch from, for commits; empty = they travel as bundles beside the blobs.
    """

    url: str = ""
    replicas: int = 0
    key: str = ""
    invite: str = ""
    blobs: str = ""
    small: int = 1 << 20
    bundle: int = 64 << 20
    recording: int = 1 << 20
    keep: str = ""
    remote: str = ""


class BackupConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Backups of all sessions while some are carried out here.

    `every`: such as 1h or 1d, a minute at least; empty = none are made. `keep`: of each session. `to`: a folder, from the
    workspace; empty = `backups` in the state folder.
    """

    every: str = ""
    keep: int = 24
    to: str = ""


class PublishConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What others can see of sessions over a Redis: ids, states, numbers and digests, no texts.

    `channels`: messages on public channels. `state`: keys that show how sessions, agents and tasks stand. `url`: of the Redis;
    empty = that of the store. `keep`: seconds for which what is finished can be read.
    """

    channels: bool = False
    state: bool = False
    url: str = ""
    keep: float = 86_400.0


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


class EmbeddingsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A service that tells what texts mean, for `embedder = "provider"`.

    `url`: up to `/v1`, of whatever answers `/embeddings` as OpenAI does. `model`: as the service names it. `key`: the variable of
    the environment that has the key; empty = none is sent. `size`: numbers of a vector, 0 = as the model has it.
    """

    url: str = ""
    model: str = ""
    key: str = "OPENAI_API_KEY"
    size: int = 0


class MemoryConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What agents and people keep for later.

    `store`: sqlite, markdown, redis (all machines use one memory there) or sqlite+redis (each has its own, and they keep each
    other up to date); empty = sqlite, or sqlite+redis where the store is a Redis. `folder`: where Markdown files lie, one of
    their own outside of the repository; empty = `memory/notes` in the state folder. `embedder`: who tells what means much the
    same: hashed, minilm, or provider, which is the service of `embeddings`. `cache`: bytes of entries in memory. `read`,
    `write`: namespaces that sessions may read and write besides their own. `prompt`: tokens of a task's prompt that may tell
    what is remembered; 0 = none.
    """

    store: Literal["", "sqlite", "markdown", "redis", "sqlite+redis"] = ""
    folder: str = ""
    embedder: str = "hashed"
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    cache: int = 64 << 20
    read: tuple[str, ...] = ("project",)
    write: tuple[str, ...] = ()
    prompt: int = 1_500


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
    backup: BackupConfig = BackupConfig()
    publish: PublishConfig = PublishConfig()
    planner: PlannerConfig = PlannerConfig()
    memory: MemoryConfig = MemoryConfig()
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
    """Reads `skep.toml` of a workspace, if there is one, then SKEP_AGENTS, SKEP_STORE_*, SKEP_SANDBOX of
    the environment.

    Raises:
        Invalid: no TOML, an unknown setting, a value of the wrong kind; the message names file and setting.
    """
    path = folder / FILE
    tree = _file(path)
    if "SKEP_AGENTS" in env:
        tree["agents"] = _whole("SKEP_AGENTS", env["SKEP_AGENTS"])
    for name, variable in _STORE.items():
        if variable in env:
            tree["store"] = {**_table(tree, "store"), name: env[variable]}
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
    variables = {"agents": "SKEP_AGENTS", "sandbox.mode": "SKEP_SANDBOX"}
    variables |= {f"store.{name}": variable for name, variable in _STORE.items()}
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
                shown = redacted(value) if name in ("store.url", "store.remote", "publish.url") else msgspec.to_builtins(value)
                found.append(Setting(name, shown, source))
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
    if config.backup.every and seconds(config.backup.every) < 60:
        raise Invalid(f"{path}: backup.every is '{config.backup.every[:40]}'", "Write such as 30m, 1h or 1d; a minute at least.")
    if not 1 <= config.backup.keep <= 10_000:
        raise Invalid(f"{path}: backup.keep is {config.backup.keep}", "Use 1 to 10000.")
    if "redis" in config.memory.store and not config.store.url.startswith(REDIS):
        fix = "Name a Redis in `url` of [store], or leave memory.store out."
        raise Invalid(f"{path}: memory.store is '{config.memory.store}', and the store is no Redis", fix)
    if not 0 <= config.memory.cache <= 1 << 40:
        raise Invalid(f"{path}: memory.cache is {config.memory.cache}", "Use 0 (none) to 1099511627776 bytes.")
    if not 0 <= config.memory.prompt <= 100_000:
        raise Invalid(f"{path}: memory.prompt is {config.memory.prompt}", "Use 0 (none) to 100000 tokens.")
    return _checked_store(config, path)


def _checked_store(config: Config, path: Path) -> Config:
    store = config.store
    if store.url not in ("", "memory:") and not store.url.startswith(REDIS):
        raise Invalid(
            f"store.url is '{redacted(store.url)}'", "Leave it empty for SQLite in the workspace, or begin it with redis://."
        )
    if store.key and store.invite:
        raise Invalid(f"{path}: [store] names a key and an invitation", "Keep one: on a node without the key the invitation.")
    if not 0 <= store.replicas <= 100:
        raise Invalid(f"{path}: store.replicas is {store.replicas}", "Use 0 to 100.")
    if "://" in store.blobs and ("?" in store.blobs or ":" in store.blobs.partition("://")[2].rpartition("@")[0]):
        fix = "Leave credentials to the storage's own client: its variables, its profile, or the machine's role."
        raise Invalid(f"store.blobs is '{redacted(store.blobs)}': a URL without password and options is wanted", fix)
    if store.blobs and not store.url.startswith(REDIS):
        fix = "Name the Redis (store.url, SKEP_STORE_URL, --redis), or take store.blobs out."
        raise Invalid(
            "store.blobs is a place that machines share, but no Redis is named: everything lies in the state folder", fix
        )
    if store.remote.startswith("-") or "::" in store.remote or re.match(r"[a-z+]+://[^/@]*:[^/@]*@", store.remote):
        fix = "Leave logging in to git: an SSH key, or a credential helper of yours."
        raise Invalid(f"store.remote is '{redacted(store.remote)}': a URL without password is wanted", fix)
    if store.remote and not store.url.startswith(REDIS):
        fix = "Name the Redis (store.url, SKEP_STORE_URL, --redis), or take store.remote out."
        raise Invalid("store.remote is for machines that share a store, but no Redis is named", fix)
    if not 0 <= store.small <= 64 << 20:
        raise Invalid(f"{path}: store.small is {store.small}", "Use 0 to 67108864 bytes.")
    if store.recording and not 64 << 10 <= store.recording <= 32 << 20:
        raise Invalid(f"{path}: store.recording is {store.recording}", "Use 0, or 65536 to 33554432 bytes.")
    if store.keep and seconds(store.keep) < 3_600:
        raise Invalid(f"{path}: store.keep is '{store.keep[:40]}'", "Write such as 30d; an hour at least.")
    return _checked_publish(config, path)


def _checked_publish(config: Config, path: Path) -> Config:
    publish = config.publish
    if publish.url and not publish.url.startswith(REDIS):
        raise Invalid(f"publish.url is '{redacted(publish.url)}'", "Begin it with redis://.")
    if (publish.channels or publish.state) and not (publish.url or config.store.url.startswith(REDIS)):
        raise Invalid(f"{path}: there is no Redis to publish to", "Name one: `url` in [publish], or in [store].")
    if not 1 <= publish.keep <= 31_536_000:
        raise Invalid(f"{path}: publish.keep is {publish.keep:g}", "Use 1 to 31536000 seconds.")
    return config


def seconds(text: str) -> int:
    """How long a setting such as `30m` or `1d` is; 0 for what is none."""
    number, unit = text[:-1], text[-1:]
    known = unit in _UNITS and number.isascii() and number.isdecimal() and len(number) < 7
    return int(number) * _UNITS[unit] if known else 0


def redacted(url: str) -> str:
    """A URL without its password and its options, however malformed it is: fit for messages and lists of settings."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "***" if "@" in url else url
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{place.partition('?')[0]}"
