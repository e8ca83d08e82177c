"""Follows a session from outside: `python read_along.py redis://localhost/0 SESSION`. It needs redis-py, and nothing of Skep.

All that it knows is in docs/reference/channels.md. It prints what happens until no task of the session is open.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import redis

CHANNELS = ("swarm:*", "tasks:*", "agents:*", "performance:*", "fleet:*", "recovery:*", "persistence:*", "phase:*", "memory:*")
FIELDS = {"id", "type", "source", "target", "payload", "timestamp", "priority", "metadata"}


class Reader:
    """What was read so far. `dropped` counts what was not taken: `malformed`, `expired`, `again`."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.last: dict[str, tuple[int, int]] = {}
        self.dropped = {"malformed": 0, "expired": 0, "again": 0}

    def take(self, channel: str, data: bytes) -> dict[str, Any] | None:
        """A message that counts: of this session, well-formed, in time, not seen before."""
        try:
            message = json.loads(data)
            if not message.keys() >= FIELDS:
                raise ValueError("a field is missing")
            about = message["metadata"]
            if about["session"] != self.session:
                return None
            _, event, number = message["id"].rsplit(":", 2)
            place = int(event), int(number)
            late = message["timestamp"] + about["ttl"] < time.time() * 1000
        except (ValueError, KeyError, TypeError, AttributeError):
            self.dropped["malformed"] += 1
            return None
        if late or place <= self.last.get(channel, (0, 0)):
            self.dropped["expired" if late else "again"] += 1
            return None
        self.last[channel] = place
        return dict(message)


def main(url: str, session: str) -> int:
    """Reads until no task is open. Returns 0, or 1 if the session failed."""
    server = redis.Redis.from_url(url)
    reader, listening = Reader(session), server.pubsub()
    listening.psubscribe(*CHANNELS)
    for _ in CHANNELS:
        listening.get_message(timeout=10)
    print("listening", flush=True)
    while True:
        heard = listening.get_message(timeout=1)
        if heard is not None:
            message = reader.take(heard["channel"].decode(), heard["data"])
            if message is not None:
                print(heard["channel"].decode(), message["type"], json.dumps(message["payload"]), flush=True)
        elif (state := server.get(f"swarm:{session}:state")) and json.loads(state)["status"] in ("completed", "failed", "closed"):
            found = json.loads(state)
            print(f"{found['status']}: {found['tasks']['finished']}; dropped: {reader.dropped}")
            return 0 if found["status"] != "failed" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
