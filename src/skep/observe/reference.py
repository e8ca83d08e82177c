"""The reference of public channels and readable keys, and their JSON Schemas, from the tables."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

import msgspec
from msgspec import Struct

from skep.core.model import Cost
from skep.observe import catalogue, keys, messages, records
from skep.observe.catalogue import ROWS, Row

_START = f"""# Channels and keys

What `[publish]` in `skep.toml` shows of sessions to people and other programs over a Redis; how to switch it on is in
[Watching over Redis](../manual/publishing.md). All of it is JSON, and fields are only ever added within a version. The
schemas are in `channels.schema.json` beside this page. There are ids, names, numbers, states and digests (SHA-256, in hex) in
it: no prompts, commands, answers, outputs or messages. `{{id}}` stands for an id, without the braces; of a task or an agent
it is `SESSION/ID`. In ids everything but letters, digits and `_-~/[].,@+` is percent-encoded.

## Messages

Every message on every channel is one object. %s

%s

`PUBLISH` reaches whoever listens at that moment. Who was away sees from the keys how things stand. They are written before
the messages of the same events. After a crash messages may come again with the same `id`: `SESSION:EVENT:NUMBER`. On one
channel those of a session come in the order of EVENT and NUMBER (both count up), so drop what is not after the last one.

A message that could only be published {messages.TTL // 1000} seconds after it happened is dropped and counted (`expired` in
`swarm:{{id}}:published`); a reader drops what is older than `ttl` when it looks. Skep reads none of these channels: nothing
that somebody else publishes on them has any effect, well-formed or not. Whoever reads must expect both.
"""


#: What the values of keys are made of.
_PARTS: tuple[type[Struct], ...] = (records.Performance, records.Counts, records.Crew, records.Stamp, Cost)


def page() -> str:
    """The page."""
    parts = [_START % (_about(messages.Notice), _table(messages.Notice)), "### metadata", "", _about(messages.Metadata), ""]
    parts += [_table(messages.Metadata), "", "## Channels", ""]
    parts += ["| channel | type | told of the event |", "|---|---|---|"]
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in ROWS:
        by_kind[row.channel, row.kind].append(row)
    for (channel, kind), rows in by_kind.items():
        parts.append(f"| `{channel}` | [{kind}](#{kind}) | {', '.join(f'`{_tag(row.event)}`' for row in rows)} |")
    parts += [f"| `{channel}` | not available yet | {why} |" for channel, why in catalogue.MISSING.items()]
    told = "; ".join(f"`{_tag(event)}` ({why})" for event, why in catalogue.UNTOLD.items())
    parts += ["", "The events are those of [Events](events.md). " + f"Nothing is told of {told}.", "", "## Types", ""]
    for kind, payload in _payloads().items():
        parts += [f"### {kind}", "", _about(payload), "", _table(payload), ""]
    return "\n".join([*parts, *_keys()]) + "\n"


def _keys() -> list[str]:
    parts = [
        "## Keys",
        "",
        "`redis-cli GET swarm:SESSION:state` shows how a session stands. `sequence` in each says after which event.",
        "",
    ]
    parts += ["| key | type in Redis | what |", "|---|---|---|"]
    for key in keys.KEYS:
        shown = f"[{key.record.__name__}](#{key.record.__name__.lower()})" if key.record is not None else ""
        parts.append(f"| `{key.name}` | {key.kind} | {', '.join(filter(None, (shown, key.about)))} |")
    parts += [f"| `{name}` | | not available yet: {why}, not there yet |" for name, why in keys.MISSING.items()]
    parts += ["", "Costs leave out what is 0.", ""]
    for record in [*_records().values(), *_PARTS]:
        parts += [f"### {record.__name__}", "", _about(record), "", _table(record), ""]
    return parts


def schemas() -> str:
    """The JSON Schemas: of the message, of payloads by type, of values by the name of their key."""
    kinds, records = _payloads(), _records()
    made, parts = msgspec.json.schema_components(
        (messages.Notice, *kinds.values(), *records.values()), ref_template="#/$defs/{name}"
    )
    refs = iter(made)
    message = next(refs)
    tree: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **message}
    tree["payloads"] = {kind: next(refs) for kind in kinds}
    tree["keys"] = {key.name: {"$ref": f"#/$defs/{key.record.__name__}"} for key in keys.KEYS if key.record is not None}
    tree["$defs"] = parts
    return msgspec.json.format(msgspec.json.encode(tree), indent=1).decode() + "\n"


def _payloads() -> dict[str, type[Struct]]:
    return {row.kind: row.payload for row in ROWS}


def _records() -> dict[str, type[Struct]]:
    return {key.name: key.record for key in keys.KEYS if key.record is not None}


def _tag(event: type[Struct]) -> str:
    return str(event.__struct_config__.tag)


def _about(thing: type[Struct]) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


def _table(record: type[Struct]) -> str:
    rows = ["| field | JSON Schema |", "|---|---|"]
    found = msgspec.json.schema_components((record,), ref_template="{name}")[1][record.__name__]["properties"]
    for name, schema in found.items():
        rows.append(f"| `{name}` | {_shown(schema)} |")
    return "\n".join(rows)


def _shown(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return f"[{schema['$ref']}](#{schema['$ref'].lower()})"
    if "enum" in schema:
        return " ".join(f"`{value or '(empty)'}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_shown(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {_shown(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return f"object: name -> {_shown(schema.get('additionalProperties', {}))}"
    return str(schema.get("type", "any"))
