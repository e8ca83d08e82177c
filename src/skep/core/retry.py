"""How often and when a task is tried again."""

from __future__ import annotations

from skep.core.model import Retries, Task

#: Interruptions that were nobody's doing (crashes, lost nodes) before a task gives up: a task that kills its owner ends, too.
MAX_INTERRUPTIONS = 5
#: Why an attempt ends that a person interrupts alone: its task waits for their word.
HELD = "interrupted by a person"
#: Longest wait between two attempts, seconds.
MAX_BACKOFF = 300.0

#: Wait after a provider's refusal that did not say when to come back, and the longest such wait, seconds.
FIRST_PAUSE, LAST_PAUSE = 60.0, 1_800.0


def retries_of(task: Task) -> Retries:
    """The retry policy; a bare number is its `max`."""
    return task.retries if isinstance(task.retries, Retries) else Retries(max=task.retries)


def wait(policy: Retries, failures: int, nonce: str) -> int:
    """Milliseconds until the next attempt: exponential from `backoff`, with up to a quarter of jitter taken from the nonce.

    Full jitter would make short waits meaningless; a quarter is enough to spread a herd (compare AWS, "Exponential Backoff
    And Jitter").
    """
    if policy.backoff <= 0:
        return 0
    base = min(policy.backoff * 2.0 ** min(failures - 1, 30), MAX_BACKOFF)
    return int(base * (1.0 + 0.25 * int(nonce[:4], 16) / 0xFFFF) * 1000)


def pause(refusals: int, nonce: str) -> int:
    """Milliseconds until a provider is asked again that did not say when: a minute, twice as long after each refusal in a row, at
    most half an hour; and up to a quarter more by chance, as others wait for it too.
    """
    base = min(FIRST_PAUSE * 2.0 ** min(refusals, 30), LAST_PAUSE)
    return int(base * (1.0 + 0.25 * int(nonce[:4], 16) / 0xFFFF) * 1000)
