"""What every `Leases` does. A backend passes when `class TestX(LeasesContract): home = XHome` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from skep.errors import Exhausted, Invalid
from skep.store import Lease, Leases, letters

#: Longer than any test, ms.
LONG = 3_600_000


class LeasesHome(Protocol):
    """A shared store with a clock, which any number of processes open."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self) -> Leases: ...

    async def elapse(self, ms: int) -> None:
        """Returns when so much time has passed by the clock of the store."""

    async def close(self) -> None:
        """Ends all that was opened."""


async def holders(leases: Leases, kind: str) -> dict[str, str]:
    return {name: lease.holder for name, lease in (await leases.held(kind)).items()}


class LeasesContract:
    """Subclass it with `home`."""

    home: type[LeasesHome]

    @pytest.fixture
    async def place(self, tmp_path: Path) -> AsyncIterator[LeasesHome]:
        home = self.home(tmp_path / "home")
        yield home
        await home.close()

    @pytest.fixture
    async def leases(self, place: LeasesHome) -> Leases:
        return await place.open()

    async def test_one_holds_what_nobody_holds(self, leases: Leases, place: LeasesHome) -> None:
        assert await leases.held("node") == {}
        assert await leases.hold("node/ü/{1}", "a", LONG, '{"note": "ü"}')
        (found,) = (await (await place.open()).held("node")).items()
        name, lease = found
        assert (name, lease.holder, lease.note) == ("ü/{1}", "a", '{"note": "ü"}')
        assert 0 < lease.left <= LONG

    async def test_what_somebody_holds_nobody_else_takes(self, leases: Leases) -> None:
        assert await leases.hold("node/1", "a", LONG, "of a")
        assert not await leases.hold("node/1", "b", LONG, "of b")
        assert {name: (lease.holder, lease.note) for name, lease in (await leases.held("node")).items()} == {"1": ("a", "of a")}

    async def test_of_many_at_once_one_gets_it(self, place: LeasesHome) -> None:
        there = [await place.open() for _ in range(3)]
        got = await asyncio.gather(*(there[n % 3].hold("owner/x", f"p{n}", LONG) for n in range(30)))
        assert sum(got) == 1
        assert await holders(there[0], "owner") == {"x": f"p{got.index(True)}"}

    async def test_the_holder_renews_it_and_changes_its_note(self, leases: Leases) -> None:
        short = LONG // 10
        for ttl, note in ((short, "first"), (LONG, "second"), (short, "")):
            assert await leases.hold("node/1", "a", ttl, note)
            lease = (await leases.held("node"))["1"]
            assert lease == Lease("a", lease.left, note)
            assert (lease.left > short) == (ttl > short)

    async def test_it_is_over_when_its_time_is(self, leases: Leases, place: LeasesHome) -> None:
        assert await leases.hold("node/short", "a", 20)
        assert await leases.hold("node/long", "a", LONG)
        await place.elapse(21)
        assert await holders(leases, "node") == {"long": "a"}
        assert await leases.hold("node/short", "b", LONG)
        assert not await leases.hold("node/short", "a", LONG)
        assert await holders(leases, "node") == {"long": "a", "short": "b"}

    async def test_one_that_is_over_is_held_again_by_who_comes_first(self, leases: Leases, place: LeasesHome) -> None:
        assert await leases.hold("node/1", "a", 20)
        await place.elapse(21)
        assert await leases.hold("node/1", "a", LONG)
        assert not await leases.hold("node/1", "b", LONG)

    async def test_renewing_counts_from_now(self, leases: Leases, place: LeasesHome) -> None:
        assert await leases.hold("node/1", "a", 20)
        assert await leases.hold("node/1", "a", LONG)
        await place.elapse(21)
        assert not await leases.hold("node/1", "b", LONG)

    async def test_the_holder_gives_it_up_and_nobody_else_does(self, leases: Leases) -> None:
        await leases.hold("node/1", "a", LONG)
        await leases.release("node/1", "b")
        await leases.release("node/2", "a")
        assert await holders(leases, "node") == {"1": "a"}
        await leases.release("node/1", "a")
        await leases.release("node/1", "a")
        assert await leases.held("node") == {}
        assert await leases.hold("node/1", "b", LONG)

    async def test_who_held_it_before_does_not_give_up_anothers(self, leases: Leases, place: LeasesHome) -> None:
        await leases.hold("node/1", "a", 20)
        await place.elapse(21)
        await leases.hold("node/1", "b", LONG)
        await leases.release("node/1", "a")
        assert await holders(leases, "node") == {"1": "b"}

    async def test_leases_are_listed_by_kind_in_the_order_of_their_names(self, leases: Leases) -> None:
        for name in ("node/b", "node/a/c", "nodes/x", "owner/a", "node/10", "node/9"):
            await leases.hold(name, "me", LONG)
        assert list(await leases.held("node")) == ["10", "9", "a/c", "b"]
        assert list(await leases.held("owner")) == ["a"]
        assert await leases.held("nod") == {}

    async def test_leases_outlive_those_who_opened_the_store(self, leases: Leases, place: LeasesHome) -> None:
        await leases.hold("node/1", "a", LONG)
        await place.close()
        again = await place.open()
        assert await holders(again, "node") == {"1": "a"}
        assert not await again.hold("node/1", "b", LONG)

    @pytest.mark.parametrize("name", ["", "node", "node/", "/1", "node/a\nb", "node/" + "x" * 200])
    async def test_a_bad_name_is_refused(self, leases: Leases, name: str) -> None:
        with pytest.raises(Invalid, match="cannot name a lease"):
            await leases.hold(name, "a", LONG)
        with pytest.raises(Invalid, match="cannot name a lease"):
            await leases.release(name, "a")

    @pytest.mark.parametrize(
        ("holder", "ttl", "note"),
        [
            ("", 1, ""),
            ("a\0", 1, ""),
            ("x" * 201, 1, ""),
            ("a", 0, ""),
            ("a", letters.LONGEST_LEASE + 1, ""),
            ("a", 1, "ü" * 2049),
        ],
    )
    async def test_what_no_lease_can_have_is_refused(self, leases: Leases, holder: str, ttl: int, note: str) -> None:
        with pytest.raises(Invalid):
            await leases.hold("node/1", holder, ttl, note)
        assert await leases.held("node") == {}

    async def test_there_are_so_many_of_a_kind(self, leases: Leases, place: LeasesHome, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(letters, "MAX_LEASES", 3)
        for n in range(3):
            assert await leases.hold(f"node/{n}", "a", LONG)
        with pytest.raises(Exhausted, match="3 leases of the kind node"):
            await leases.hold("node/3", "a", LONG)
        assert await leases.hold("owner/3", "a", LONG)
        assert not await leases.hold("node/0", "b", LONG)
        for n in (1, 2):
            assert await leases.hold(f"node/{n}", "a", 20)
        await place.elapse(21)
        assert await leases.hold("node/3", "a", LONG)
        assert await holders(leases, "node") == {"0": "a", "3": "a"}
