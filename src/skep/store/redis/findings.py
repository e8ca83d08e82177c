"""What is right and wrong with the servers of a store, one finding for each setting. Pure: from what `facts` gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from skep.store.redis.facts import ADMIN, ADMIN_USER, FOREIGN, Facts, Server

State = Literal["ok", "warning", "error", "unknown"]
#: The oldest Redis that the scripts run on, and the first whose replicas can say what they have on disk.
OLDEST, WAITAOF = (7, 0), (7, 2)
#: Share of maxmemory beyond which room is to be made.
NEARLY_FULL = 0.9
#: Seconds that a replica may be behind.
LAG = 2
#: Milliseconds after which Sentinels must call a primary that is silent down: what is left of the 10 s in which somebody leads
#: again is for their vote and the promotion. They try again only after twice the failover-timeout, if a vote was split or the
#: replica that they chose died too; beyond this many that is said.
DOWN_AFTER, FAILOVER_TIMEOUT = 5_000, 10_000
#: What the user of Skep is to be.
USER = "ACL SETUSER skep on >PASSWORD ~skep:* &skep:* +@all -@admin -@dangerous +info"
_CUT_OFF = ("min-replicas-to-write", "min-replicas-max-lag")
_WITH_ADMIN = f"Give a user that may read settings: {ADMIN_USER} and {ADMIN}, or {ADMIN}_FILE."


class Finding(Struct, frozen=True):
    """What one setting is. `error`: some promise does not hold with it. `fix` says what to do; empty if it is fine."""

    name: str
    state: State
    text: str
    fix: str = ""


def findings(facts: Facts, replicas: int) -> list[Finding]:
    """Every finding, in the order in which they are shown.

    Args:
        replicas: how many must have what was written before it counts, as Skep is configured.
    """
    found = [_admin(facts), _answering(facts), _version(facts), _role(facts), _trial(facts)]
    found += [check(facts) for check in _SETTINGS]
    found += [_maxmemory(facts), _files(facts), *_replication(facts, replicas), *_many(facts)]
    return [*found, _password(facts), _rights(facts), _keys(facts), _tls(facts)]


def _admin(facts: Facts) -> Finding:
    if facts.admin:
        return Finding("admin", "error", facts.admin, f"Correct {ADMIN_USER} and {ADMIN}.")
    if any(server.config is None and not server.why for server in facts.servers):
        return Finding("admin", "unknown", "the settings cannot be read by this user, and that is right", _WITH_ADMIN)
    return Finding("admin", "ok", "the settings can be read")


def _answering(facts: Facts) -> Finding:
    silent = [server for server in facts.servers if server.why]
    if not silent:
        return Finding("servers", "ok", ", ".join(server.place for server in facts.servers))
    text = "; ".join(f"{server.place}: {server.why}" for server in silent)
    return Finding("servers", "error", f"no answer from {text}", "Start it, or have it reached from here.")


def _number(version: str) -> tuple[int, int]:
    parts = [int(part) if part.isdecimal() else 0 for part in (*version.split("."), "0")]
    return parts[0], parts[1]


def _version(facts: Facts) -> Finding:
    servers = [server for server in facts.servers if "redis_version" in server.info]
    if not servers:
        return Finding("version", "unknown", "the server does not say", "Allow its user INFO: +info.")
    oldest = min(servers, key=lambda server: _number(server.info["redis_version"]))
    number, valkey = _number(oldest.info["redis_version"]), oldest.info.get("valkey_version")
    text = f"Valkey {valkey}" if valkey else f"Redis {oldest.info['redis_version']}"
    if number < OLDEST:
        return Finding("version", "error", f"{text} at {oldest.place}", "Use Redis 7.0 or newer, or Valkey.")
    if number >= WAITAOF:
        return Finding("version", "ok", text)
    if len(facts.servers) == 1:
        return Finding("version", "ok", f"{text}; it lacks WAITAOF, which only replicas need")
    text += ": it lacks WAITAOF, so replicas confirm what they have in memory, not on disk"
    return Finding("version", "warning", text, "Use Redis 7.2 or newer, or Valkey, if all machines may lose power at once.")


def _role(facts: Facts) -> Finding:
    roles = {server.place: server.info.get("role", "") for server in facts.servers[: facts.primaries]}
    wrong = [place for place, role in roles.items() if role == "slave"]
    if wrong:
        return Finding("role", "error", f"{', '.join(wrong)} is a replica: it takes no writes", "Name its primary in the URL.")
    if not all(roles.values()):
        return Finding("role", "unknown", "the server does not say", "Allow its user INFO: +info.")
    return Finding("role", "ok", "primary" if facts.primaries == 1 else f"{facts.primaries} primaries")


def _trial(facts: Facts) -> Finding:
    if facts.trial:
        return Finding("trial", "error", facts.trial, facts.fix or f"Give its user the rights: {USER}")
    return Finding("trial", "ok", "appended, read and heard of it with a key of its own, which is gone again")


def _setting(
    name: str, good: Callable[[str], bool], fix: str, why: dict[str, str], by_info: Callable[[Server], str | None]
) -> Callable[[Facts], Finding]:
    """A check of one setting at each server: the worst of them counts.

    Args:
        why: value -> what it means.
        by_info: what INFO says of it, for who may not read settings.
    """

    def check(facts: Facts) -> Finding:
        values: dict[str, list[str]] = {}
        for server in facts.servers:
            value = (server.config or {}).get(name) or by_info(server)
            values.setdefault(value or "", []).append(server.place)
        bad = {value: places for value, places in values.items() if value and not good(value)}
        if bad:
            told = (f"{value}{_where(facts, places)}{why.get(value, '')}" for value, places in bad.items())
            return Finding(name, "error", "; ".join(told), f"{fix}; write it into the server's file too.")
        if "" in values:
            return Finding(name, "unknown", f"cannot be read{_where(facts, values[''])}", _WITH_ADMIN)
        return Finding(name, "ok", ", ".join(values))

    return check


def _where(facts: Facts, places: list[str]) -> str:
    return f" at {', '.join(places)}" if len(facts.servers) > 1 else ""


_SETTINGS = (
    _setting(
        "appendonly",
        lambda value: value == "yes",
        "CONFIG SET appendonly yes",
        {"no": ": what was acknowledged is gone when the server ends"},
        lambda server: {"1": "yes", "0": "no"}.get(server.info.get("aof_enabled", "")),
    ),
    _setting(
        "appendfsync",
        lambda value: value == "always",
        "CONFIG SET appendfsync always",
        {
            "everysec": ": lossy, a power cut takes what was acknowledged in the last second or two",
            "no": ": lossy, a power cut takes what was acknowledged in the last half minute or so",
        },
        lambda server: None,
    ),
    _setting(
        "no-appendfsync-on-rewrite",
        lambda value: value == "no",
        "CONFIG SET no-appendfsync-on-rewrite no",
        {"yes": ": lossy, while the file is rewritten nothing is synced"},
        lambda server: None,
    ),
    _setting(
        "maxmemory-policy",
        lambda value: value == "noeviction",
        "CONFIG SET maxmemory-policy noeviction",
        {},
        lambda server: server.info.get("maxmemory_policy"),
    ),
)


def _maxmemory(facts: Facts) -> Finding:
    for server in facts.servers:
        most, used = server.info.get("maxmemory", ""), server.info.get("used_memory", "")
        if not most.isdecimal() or not used.isdecimal():
            return Finding(
                "maxmemory", "unknown", f"cannot be read{_where(facts, [server.place])}", "Allow its user INFO: +info."
            )
        if most == "0":
            text = f"no limit{_where(facts, [server.place])}: the system may kill the server when memory runs out"
            return Finding("maxmemory", "warning", text, "CONFIG SET maxmemory to what the machine can give; then it refuses.")
        if int(used) > NEARLY_FULL * int(most):
            text = f"{int(used) >> 20} of {int(most) >> 20} MiB used{_where(facts, [server.place])}"
            return Finding(
                "maxmemory", "warning", text, "Give it more, or drop sessions: when it is full all writes are refused."
            )
    sizes = dict.fromkeys(f"{int(server.info['maxmemory']) >> 20} MiB" for server in facts.servers)
    return Finding("maxmemory", "ok", ", ".join(sizes))


def _files(facts: Facts) -> Finding:
    """Whether the last write and the last rewrite of the append-only file went well."""
    known = ("aof_last_write_status", "aof_last_bgrewrite_status")
    for server in facts.servers:
        if bad := [name for name in known if server.info.get(name, "ok") != "ok"]:
            text = f"{', '.join(bad)}: {server.info[bad[0]]}{_where(facts, [server.place])}"
            return Finding("append-only file", "error", text, "See the server's log: its disk may be full or broken.")
        if known[0] not in server.info:
            return Finding("append-only file", "unknown", f"{server.place} does not say", "Allow its user INFO: +info.")
    return Finding("append-only file", "ok", "the last write and the last rewrite went well")


def _replication(facts: Facts, wanted: int) -> list[Finding]:
    """Whether what counts is on every replica that may be promoted, and a primary that lost them takes no writes."""
    primaries = facts.servers[: facts.primaries]
    if not all(server.info for server in primaries):
        fix = "Allow its user INFO: +info."
        text = "the server does not say who follows it"
        return [Finding(name, "unknown", text, fix) for name in ("replicas", *_CUT_OFF)]
    here = [server.replicas for server in primaries]
    text = f"{min(here)} follow, Skep waits for {wanted}"
    if min(here) < wanted:
        replicas = Finding(
            "replicas", "error", f"{text}: nothing is acknowledged", "Bring the replicas back, or lower `replicas`."
        )
    elif max(here) > wanted:
        text = f"{max(here)} follow, Skep waits for {wanted}: one that lacks the last writes may be promoted"
        replicas = Finding("replicas", "error", text, f"Set `replicas = {max(here)}` in [store] of skep.toml.")
    else:
        replicas = Finding("replicas", "ok", text if wanted else "none")
    if not max(here):
        return [replicas, *(Finding(name, "ok", "not needed: nobody follows") for name in _CUT_OFF)]
    fix = "CONFIG SET min-replicas-to-write 1"
    cut_off = ": a primary that is cut off goes on taking writes"
    to_write = _setting("min-replicas-to-write", lambda value: value != "0", fix, {"0": cut_off}, lambda server: None)
    fix = f"CONFIG SET min-replicas-max-lag {LAG}"
    lag = _setting("min-replicas-max-lag", lambda value: 0 < int(value) <= LAG, fix, {"0": cut_off}, lambda server: None)
    return [replicas, to_write(facts), lag(facts)]


def _many(facts: Facts) -> list[Finding]:
    """What only a Cluster or Sentinels have."""
    if facts.address.kind == "cluster":
        return [_cluster(facts)]
    return [_sentinels(facts), _down_after(facts), _failover_timeout(facts)] if facts.watch else []


def _cluster(facts: Facts) -> Finding:
    if facts.slots is None:
        return Finding(
            "cluster", "unknown", "it does not tell its slots", "Allow its user CLUSTER: +cluster|slots +cluster|info."
        )
    if facts.slots < 16384 or facts.cluster not in ("ok", ""):
        text = f"{facts.slots} of 16384 slots are served, its state is {facts.cluster or 'unknown'}"
        return Finding("cluster", "error", text, "Bring the missing nodes back, or give their slots to others (--cluster fix).")
    text = f"all 16384 slots, {facts.primaries} primaries"
    if alone := [server.place for server in facts.servers[: facts.primaries] if server.info and not server.replicas]:
        text += f"; nobody takes over from {', '.join(alone)}"
        return Finding("cluster", "warning", text, "Give each primary a replica.")
    return Finding("cluster", "ok", text)


def _sentinels(facts: Facts) -> Finding:
    watch = facts.watch
    if watch is None or not watch.states:
        return Finding("sentinels", "error", "none of them knows the service", "Start them, or correct the URL.")
    if watch.quorum:
        return Finding("sentinels", "error", watch.quorum, "Bring Sentinels back: a failover needs most of them.")
    quorums = {state.get("quorum", "?") for state in watch.states}
    known = min(int(state.get("num-other-sentinels", "0")) + 1 for state in watch.states)
    replicas = min(int(state.get("num-slaves", "0")) for state in watch.states)
    text = f"{known} with a quorum of {', '.join(sorted(quorums))}, {replicas} replicas known"
    if not replicas:
        return Finding(
            "sentinels", "error", f"{text}: nobody can be promoted", "Start replicas; SENTINEL RESET forgets old ones."
        )
    if known < 3:
        return Finding("sentinels", "error", f"{text}: with one gone there is no majority", "Run three, on three machines.")
    if len(watch.states) < watch.asked:
        text += f"; {watch.asked - len(watch.states)} of {watch.asked} in the URL do not answer"
        return Finding("sentinels", "warning", text, "Start them, or correct the URL.")
    return Finding("sentinels", "ok", text)


def _down_after(facts: Facts) -> Finding:
    """Whether a primary that is gone is missed soon. Each Sentinel has a setting of its own: the slowest counts."""
    said = _slowest(facts, "down-after-milliseconds")
    if said is None:
        return _untold("down-after-milliseconds")
    if said > DOWN_AFTER:
        text = f"{said}: for {said / 1000:g} s nobody misses a primary that is gone, and nothing is written"
        return Finding("down-after-milliseconds", "error", text, _on_each(facts, "down-after-milliseconds", DOWN_AFTER))
    return Finding("down-after-milliseconds", "ok", str(said))


def _failover_timeout(facts: Facts) -> Finding:
    """Whether a failover that failed is tried again soon."""
    said = _slowest(facts, "failover-timeout")
    if said is None:
        return _untold("failover-timeout")
    if said > FAILOVER_TIMEOUT:
        text = f"{said}: a failover that fails, as when their vote was split, is tried again after {said / 500:g} s"
        return Finding("failover-timeout", "warning", text, _on_each(facts, "failover-timeout", FAILOVER_TIMEOUT))
    return Finding("failover-timeout", "ok", str(said))


def _slowest(facts: Facts, name: str) -> int | None:
    """The largest value of a setting among the Sentinels. None: none of them tells it."""
    said = [state.get(name, "") for state in (facts.watch.states if facts.watch else [])]
    return max((int(value) for value in said if value.isdecimal()), default=None)


def _untold(name: str) -> Finding:
    return Finding(name, "unknown", "no Sentinel tells it", "Start them, or correct the URL.")


def _on_each(facts: Facts, name: str, most: int) -> str:
    return f"SENTINEL SET {facts.address.service} {name} {most} at each Sentinel; it writes its own file."


def _password(facts: Facts) -> Finding:
    if facts.open is None:
        return Finding("password", "unknown", "it cannot be tried", "See that `default` is off: ACL SETUSER default off.")
    if not facts.open:
        return Finding("password", "ok", "nobody is let in without one")
    fix = f"{USER}; then ACL SETUSER default off"
    if facts.address.kind == "socket":
        return Finding("password", "warning", "whoever may open the socket needs none", fix)
    if not facts.loopback:
        return Finding("password", "error", "whoever can reach the server needs none", fix)
    configs = [server.config for server in facts.servers if not server.why]
    if None in configs:
        text = "none is needed on this machine; whether other machines are let in cannot be read"
        return Finding("password", "unknown", text, fix)
    # `bind` is empty or * for all addresses; protected mode then refuses who comes from elsewhere.
    if any(config and config.get("protected-mode") == "no" and not _bound_here(config.get("bind", "")) for config in configs):
        return Finding("password", "error", "none is needed, protected mode is off, and other machines are let in", fix)
    return Finding("password", "warning", "everybody on this machine is let in without one", fix)


def _bound_here(bind: str) -> bool:
    places = [place.lstrip("-") for place in bind.split()]
    return bool(places) and all(place.startswith("127.") or place in ("::1", "localhost") for place in places)


def _rights(facts: Facts) -> Finding:
    if facts.allowed is None:
        return Finding("rights", "unknown", "they cannot be tried", f"{USER}")
    if much := sorted(facts.allowed - {FOREIGN[0]}):
        text = f"the user of Skep may {', '.join(much)}: with its password all can be changed or removed"
        return Finding("rights", "error", text, USER)
    return Finding("rights", "ok", "the user of Skep may not ACL, CONFIG, DEBUG, FLUSHALL, FLUSHDB, KEYS, MODULE")


def _keys(facts: Facts) -> Finding:
    if facts.allowed is None:
        return Finding("keys", "unknown", "it cannot be tried", USER)
    if FOREIGN[0] in facts.allowed:
        return Finding("keys", "warning", "the user of Skep may read and change keys that are not Skep's", USER)
    return Finding("keys", "ok", "the user of Skep sees its own keys only")


def _tls(facts: Facts) -> Finding:
    if facts.loopback:
        return Finding("tls", "ok", "not needed: all of it is on this machine")
    if not facts.address.tls:
        text = "password and data cross the network as they are"
        return Finding("tls", "error", text, "Give the server a certificate (tls-port), and write rediss:// in the URL.")
    plain = [s.place for s in facts.servers if s.config is not None and s.config.get("tls-replication") == "no"]
    if len(facts.servers) > 1 and plain:
        text = f"from here, but what {', '.join(plain)} sends to replicas crosses the network as it is"
        return Finding("tls", "error", text, "CONFIG SET tls-replication yes")
    return Finding("tls", "ok", "rediss://")
