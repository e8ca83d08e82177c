"""What every `Listing` does. A backend passes when `class TestX(ListingContract): home = XHome` does."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from skep.store import Listing, Packed

COMMIT, OTHER = "1" * 40, "2" * 40
PACKED = Packed("d" * 64, (OTHER, "3" * 40), 7)


class ListingHome(Protocol):
    """Where a backend keeps its listings."""

    def __init__(self, folder: Path) -> None: ...

    async def open(self) -> Listing:
        """As another process would."""


class ListingContract:
    """Subclass it with `home`."""

    home: type[ListingHome]

    @pytest.fixture
    async def place(self, tmp_path: Path) -> ListingHome:
        return self.home(tmp_path / "home")

    @pytest.fixture
    async def listing(self, place: ListingHome) -> Listing:
        return await place.open()

    async def test_what_one_lists_another_finds_whole(self, place: ListingHome, listing: Listing) -> None:
        assert await listing.put("s", COMMIT, PACKED) == PACKED
        assert await listing.put("s", OTHER, Packed("")) == Packed("")
        other = await place.open()
        assert await other.get("s", COMMIT) == PACKED
        assert await other.all("s") == {COMMIT: PACKED, OTHER: Packed("")}

    async def test_the_first_stays(self, place: ListingHome, listing: Listing) -> None:
        await listing.put("s", COMMIT, PACKED)
        assert await listing.put("s", COMMIT, Packed("e" * 64)) == PACKED
        assert await listing.get("s", COMMIT) == PACKED

    @pytest.mark.parametrize("session", ["s-1", "each[x]/y", "ü {x} *", "n" * 400])
    async def test_sessions_of_any_name_are_apart(self, place: ListingHome, listing: Listing, session: str) -> None:
        await listing.put(session, COMMIT, PACKED)
        await listing.put("s", COMMIT, Packed("e" * 64))
        assert await listing.get(session, COMMIT) == PACKED
        assert await listing.get(session, OTHER) is None
        await listing.drop(session)
        await listing.drop(session)
        assert await listing.all(session) == {}
        assert await listing.get("s", COMMIT) == Packed("e" * 64)
