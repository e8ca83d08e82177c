"""How a node asks for secrets that it lacks, and what it makes of answers, of others' words, and of none."""

from __future__ import annotations

import asyncio
import os

import msgspec
import pytest

from skep.core.commands import StartAttempt
from skep.core.model import Task
from skep.errors import Denied, Invalid, Unavailable
from skep.runtime import sealed_secrets
from skep.runtime.sealed_secrets import KIND, STAYS, AskedSecrets, Request
from skep.security.sealing import seal
from skep.store.ephemeral import EphemeralDisk, EphemeralLog
from skep.store.ephemeral_shared import EphemeralHandoffs, EphemeralLeases

NAME, CANARY = "SKEP_TEST_DEPLOY_TOKEN", f"canary-{os.urandom(8).hex()}"


class East:
    """A node that asks, and what it asks over."""

    def __init__(self, own: dict[str, str]) -> None:
        disk = EphemeralDisk(b"k" * 32)
        self.log, self.leases = EphemeralLog(disk), EphemeralLeases(disk, lambda: 0)
        self.handoffs = EphemeralHandoffs(disk, lambda: 0)
        self.secrets = AskedSecrets(self.log, self.leases, self.handoffs, "east", "me", own)

    async def of(self, *names: str) -> dict[str, str]:
        task = Task(id="deploy", run="true", secrets=names)
        command = StartAttempt(task, 1, "5" * 32, "shell-1", "shell", "east", 0, "", "", "")
        return await self.secrets.of("s", command)

    async def request(self, *but: Request) -> Request:
        """Another request than these, once there is one."""
        while True:
            for lease in (await self.leases.held(KIND)).values():
                asked = msgspec.json.decode(lease.note, type=Request)
                if asked not in but:
                    return asked
            await asyncio.sleep(0)

    async def give(self, asked: Request, value: bytes) -> None:
        sealed = seal(bytes.fromhex(asked.public), asked.secret(self.log), asked.about, value)
        await self.handoffs.put(asked.mark, sealed, STAYS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_secrets, "LOOK", 0.001)


async def test_what_is_set_on_the_node_itself_is_asked_of_nobody() -> None:
    east = East({NAME: "its own", "PATH": "/bin"})
    assert await east.of(NAME) == {NAME: "its own"}
    assert await east.of() == {}
    assert await east.leases.held(KIND) == {}


async def test_the_others_are_asked_for_each_with_a_key_of_its_own(quick: None) -> None:
    east = East({"HERE": "its own"})
    found = asyncio.create_task(east.of("A", "HERE", "B"))
    first = await east.request()
    second = await east.request(first)
    assert first.public != second.public
    for asked in (first, second):
        assert asked.sealed == asked.seal(east.log)
        await east.give(asked, f"{asked.name} \udcff".encode(errors="surrogateescape"))
    assert await found == {"A": "A \udcff", "HERE": "its own", "B": "B \udcff"}
    assert await east.leases.held(KIND) == {}


async def test_what_somebody_else_laid_down_is_thrown_away_and_it_asks_again(quick: None) -> None:
    east = East({})
    found = asyncio.create_task(east.of(NAME))
    first = await east.request()
    forged = seal(bytes.fromhex(first.public), b"guess" * 6, first.about, b"of another")
    await east.handoffs.put(first.mark, forged, STAYS)
    second = await east.request(first)
    assert second.public != first.public
    await east.give(second, CANARY.encode())
    assert await found == {NAME: CANARY}


async def test_if_nobody_gives_it_the_message_says_what_and_where_and_what_to_do(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_secrets, "PATIENCE", 0.01)
    east = East({})
    with pytest.raises(Invalid, match=f"the secret {NAME} is not set on node 'east', and nobody") as refused:
        await east.of(NAME)
    assert "skep run" in refused.value.fix
    assert "skep retry" in refused.value.fix
    assert await east.leases.held(KIND) == {}


async def test_a_store_that_refuses_is_told_as_what_it_is_and_nothing_is_asked_any_more(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_secrets, "PATIENCE", 0.01)
    east = East({})

    async def refused(name: str) -> bytes:
        raise Denied("the store does not allow it: GETDEL")

    monkeypatch.setattr(east.handoffs, "take", refused)
    with pytest.raises(Denied, match="GETDEL"):
        await east.of(NAME, "ANOTHER")
    assert await east.leases.held(KIND) == {}


async def test_a_store_that_does_not_answer_is_no_secret_that_nobody_has(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_secrets, "PATIENCE", 0.01)
    east = East({})

    async def hangs(name: str) -> bytes:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr(east.handoffs, "take", hangs)
    with pytest.raises(Unavailable, match=NAME):
        await east.of(NAME)


async def test_a_node_that_waits_is_told_of_its_answer_and_asks_the_store_for_nothing_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealed_secrets, "LOOK", 1_000.0)
    monkeypatch.setattr(sealed_secrets, "PATIENCE", 10_000.0)
    east = East({})
    asks, hold = list[str](), east.leases.hold

    async def counted(name: str, holder: str, ttl: int, note: str = "") -> bool:
        asks.append(name)
        return await hold(name, holder, ttl, note)

    monkeypatch.setattr(east.leases, "hold", counted)
    found = asyncio.create_task(east.of(NAME))
    asked = await east.request()
    for _ in range(100):
        await asyncio.sleep(0)
    await east.give(asked, CANARY.encode())
    assert await found == {NAME: CANARY}
    assert len(asks) == 1


async def test_who_is_interrupted_asks_no_longer(quick: None) -> None:
    east = East({})
    found = asyncio.create_task(east.of(NAME))
    await east.request()
    found.cancel()
    await asyncio.gather(found, return_exceptions=True)
    assert await east.leases.held(KIND) == {}
