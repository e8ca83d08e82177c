"""What replicas have is committed: all may read it, listeners are told, and the answers that waited for it are left."""

from __future__ import annotations

from collections.abc import Iterable

from skep.errors import Unavailable
from skep.redis.connect import Link
from skep.store.redis.keys import decoded, of_session
from skep.store.redis.script import load

_COMMIT = load("letters", "log", "commit")
#: How often it is asked whose answers wait: those of others may be added meanwhile.
TRIES = 16


async def commit(link: Link, session: str, seq: int, hash_there: bytes, senders: Iterable[str] = ()) -> bool:
    """Commits a log up to an append that enough replicas have. It may be repeated.

    Args:
        link: the way to the store.
        session: whose log.
        seq: the append's last event.
        hash_there: its hash.
        senders: whose answers are known to wait for it. Those of others that wait too cost a round trip more.

    Returns:
        Whether the log has that append: a server that was promoted may lack it.

    Raises:
        SkepError: as `Link` does.
        Unavailable: there were answers of others each time.
    """
    keys = [of_session(session, part) for part in ("head", "log", "pending", "senders")]
    named = dict.fromkeys(senders)
    for _ in range(TRIES):
        answers = [of_session(session, "answers", sender) for sender in named]
        outcome = (await link.run(_COMMIT, [*keys, *answers], [seq, hash_there]))[0]
        if isinstance(outcome, int):
            return outcome == 1
        named |= dict.fromkeys(map(decoded, outcome))
    raise Unavailable(f"session {session}: answers to ever more senders wait to be committed", fix="Repeat it.")
