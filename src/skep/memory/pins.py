"""What was in a namespace at a checkpoint, and namespaces that go on from there. No store needs to know of it.

Before a key is changed for the first time after a pin, what it was is kept beside it, in the same commit. So a pin costs as much
as was changed since. A namespace that goes on from a pin of another one reads through to it, and has only what it changed itself.

Pins are of the machine that made them: copies are not sent to others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from skep.errors import Conflict, Exhausted, NotFound
from skep.memory import Change, MemoryStore, Record
from skep.memory.clocks import Hybrid
from skep.memory.gate import Gate
from skep.memory.limits import check_key, check_namespace
from skep.memory.lineage import KEY, Lineage, copied, copies, home, lineage_of, merged, moved, noted
from skep.memory.records import digest

#: Names of pins that a namespace may have. All of their places are read where a fork reads a key for the first time.
MAX_PINS = 1_000
#: Namespaces whose lineage is kept in memory.
KNOWN = 10_000
#: How often a lineage is written again that another process writes at the same time.
TRIES = 20
#: Records that are moved at a time.
PAGE = 500
#: Before the name of a namespace, in the pin that it goes on from. No user's pin is called so.
USER = "fork: "


class Pins:
    """The earlier states of all namespaces of a store.

    Args:
        store: where they lie.
        now: wall-clock ms.
    """

    def __init__(self, store: MemoryStore, now: Callable[[], int]) -> None:
        self._store, self._now = store, now
        self._clock = Hybrid()
        #: Others change a shared store: what hangs on its namespaces is read each time, and a change checks that it still holds.
        self._shared = "private" in store.lacks
        self._known: dict[str, Lineage] = {}
        self._rewritten = 0
        self._gate, self._clearing = Gate(), Gate()

    # Pins

    async def names(self, namespace: str) -> dict[str, int]:
        """The pins of a namespace, oldest first, each with its place: those of one place are of one state."""
        return dict(sorted((await self._of(namespace)).pins.items(), key=lambda pin: (pin[1], pin[0])))

    async def place(self, namespace: str, name: str) -> int:
        """The place of a pin. Raises NotFound."""
        pins = await self.names(namespace)
        if name not in pins:
            raise no_pin(namespace, name, pins)
        return pins[name]

    async def pin(self, namespace: str, name: str) -> int:
        """Keeps what a namespace holds now under a name; a pin that is there stays as it is. Returns its place.

        Raises:
            Invalid: no pin or no namespace is called so; Exhausted: there are too many.
        """
        check_namespace(namespace)
        check_key(name)
        return await self._pinned(namespace, name, 0)

    async def unpin(self, namespace: str, name: str) -> None:
        """Forgets a pin, and what was copied for nobody but it. Raises NotFound."""

        def without(lineage: Lineage) -> Lineage:
            if name not in lineage.pins:
                raise no_pin(namespace, name, lineage.pins)
            return lineage.without(name)

        async with self._gate.alone(namespace):
            await self._rewrite(namespace, without)
        await self._clear(namespace)

    async def fork(self, origin: str, name: str, to: str) -> None:
        """Lets a new namespace go on from a pin of another one; `name` empty: from what it holds now.

        Raises:
            NotFound: no such pin; Conflict: the new namespace is not new; Invalid: it is no namespace.
        """
        check_namespace(origin)
        check_namespace(to)
        if to == origin or await self._of(to) != Lineage() or await self._store.page(to, limit=1):
            raise Conflict(f"namespace '{to}' is there already", "Choose another name.")
        place = await self.place(origin, name) if name else 0
        with suppress(NotFound):  # of one of that name that was never made to its end
            await self.unpin(origin, USER + to)
        place = await self._pinned(origin, USER + to, place)
        async with self._gate.alone(to):
            await self._rewrite(to, lambda lineage: replace(lineage, base=(origin, place)))

    async def adopt(self, namespace: str, lineage: Lineage) -> None:
        """Takes over what is known of the pins of a new namespace, whose copies were brought here. Raises Conflict."""
        if await self._of(namespace) != Lineage():
            raise Conflict(f"namespace '{namespace}' is there already", "Choose another name.")
        self._clock.hear(max(lineage.places, default=0))
        async with self._gate.alone(namespace):
            await self._rewrite(namespace, lambda _: lineage)

    async def lineage(self, namespace: str) -> Lineage:
        """What hangs on earlier states of a namespace."""
        return await self._of(namespace)

    async def base(self, namespace: str) -> str:
        """The namespace that this one goes on from; empty for one that began with nothing."""
        found = (await self._of(namespace)).base
        return found[0] if found else ""

    # What was there

    async def read(self, namespace: str, key: str) -> Record | None:
        """A key's record as it is now, also where it still is as another namespace's was."""
        found = await self._store.get(namespace, key)
        if found is None and (base := (await self._of(namespace)).base) is not None:
            found = await self.read_at(*base, key)
        return moved(found, namespace) if found is not None else None

    async def read_at(self, namespace: str, place: int, key: str) -> Record | None:
        """A key's record as it was at a place; one without values may stand for none."""
        # What it is now comes first, then the newer copies: as a change keeps its copy with it, none slips through in between.
        found = await self.read(namespace, key)
        for one in reversed((await self._of(namespace)).places):
            if one >= place:
                found = await self._store.get(copies(namespace, one), key) or found
        return moved(found, namespace) if found is not None else None

    async def page(self, namespace: str, after: str = "", limit: int = 1000) -> list[Record]:
        """Records behind key `after` as they are now, deleted ones too; fewer than `limit` only if none follow."""
        base = (await self._of(namespace)).base
        own = await self._store.page(namespace, after, limit)
        return own if base is None else merged([await self.page_at(*base, after, limit), own], namespace, limit)

    async def page_at(self, namespace: str, place: int, after: str = "", limit: int = 1000) -> list[Record]:
        """Records behind key `after` as they were at a place; fewer than `limit` only if none follow."""
        pages = [await self.page(namespace, after, limit)]  # in the order of `read_at`
        for one in reversed((await self._of(namespace)).places):
            if one >= place:
                pages.append(await self._store.page(copies(namespace, one), after, limit))
        return merged(pages, namespace, limit)

    # Changes

    async def enter(self, namespace: str) -> None:
        """A change begins: until `leave` no pin of the namespace is made."""
        await self._gate.enter(namespace)

    def leave(self, namespace: str) -> None:
        """The change is over."""
        self._gate.leave(namespace)

    async def change(self, *pairs: tuple[Record | None, Record]) -> list[Change]:
        """What to commit so that records of one namespace take the place of what `read` gave, and what was pinned stays.

        Raises Conflict if that is not there any more.
        """
        namespace = pairs[0][1].namespace
        lineage = self._known.get(namespace) or await self._of(namespace)
        changes = [Change(made, digest(record)) for record, made in pairs]
        if not self._shared and not lineage.pins and lineage.base is None:
            return changes
        if lineage.base is not None:
            own = [await self._store.get(namespace, made.key) for _, made in pairs]
            # What is only read through to stays as it is.
            changes = [change if there else Change(change.record) for change, there in zip(changes, own, strict=True)]
        for record, made in pairs if (place := lineage.last) else ():
            if await self._store.get(where := copies(namespace, place), made.key) is None:
                # Copies of a pin that is going may still stand for this one.
                was = await self.read_at(namespace, place, made.key) if lineage.going else record
                changes.append(Change(copied(was, made.key, where)))
        if self._shared:
            changes.append(await self._unchanged(namespace, lineage))
        return changes

    async def let_go(self, namespace: str, drop: Callable[[], Awaitable[None]]) -> None:
        """Drops a namespace with its pins; what namespaces still read that go on from it stays, for them alone.

        Args:
            drop: drops what is in the namespace itself.
        """
        async with self._gate.alone(namespace):
            lineage = await self._of(namespace)
            kept = {name: place for name, place in lineage.pins.items() if name.startswith(USER)}
            if kept:
                await self._stand_alone(namespace, max(kept.values()))
            if lineage.base is not None:
                with suppress(NotFound):
                    await self.unpin(lineage.base[0], USER + namespace)

            def left(lineage: Lineage) -> Lineage:
                return Lineage(pins=kept, going=tuple(sorted(set(lineage.places) - set(kept.values()))))

            await self._rewrite(namespace, left)
            await drop()
        await self._clear(namespace)

    async def _stand_alone(self, namespace: str, place: int) -> None:
        """Copies all that was at a place, so that nothing else is needed to read it; what was deleted there, too."""
        lineage, after = await self._of(namespace), ""
        while page := await self.page_at(namespace, place, after, PAGE):
            await self._keep(page, namespace, place, lineage)
            after = page[-1].key

    async def _keep(self, records: Sequence[Record], namespace: str, place: int, lineage: Lineage) -> None:
        """Copies records to a place, unless there are copies of them. Raises Conflict if the lineage is not this any more."""
        while True:
            there = [await self._store.get(copies(namespace, place), record.key) for record in records]
            missing = [record for record, found in zip(records, there, strict=True) if found is None]
            new = [copied(record, record.key, copies(namespace, place)) for record in missing]
            guard = [await self._unchanged(namespace, lineage)] if self._shared else []
            with suppress(Conflict):  # somebody changed one of these keys, and copied the same: it is there now
                await self._store.commit([*(Change(record) for record in new), *guard])
                return

    async def _pinned(self, namespace: str, name: str, place: int) -> int:
        """Gives a place a name; 0 = the place of what is there now."""

        def named(lineage: Lineage) -> Lineage:
            if name in lineage.pins:
                return lineage
            if len(lineage.pins) >= MAX_PINS:
                raise Exhausted(f"namespace '{namespace}' has {MAX_PINS} pins", "Unpin some of them.")
            if place and place not in lineage.pins.values():
                raise NotFound(f"what '{namespace}' was at that pin was forgotten meanwhile", "Choose another pin.")
            self._clock.hear(max(lineage.places, default=0))
            return replace(lineage, pins={**lineage.pins, name: place or self._clock.tick(self._now())})

        async with self._gate.alone(namespace):
            return (await self._rewrite(namespace, named)).pins[name]

    async def _clear(self, namespace: str) -> None:
        """Moves the copies of places that are going to the pin before, which they stand for too; without one they go."""
        async with self._clearing.alone(namespace):
            for _ in range(TRIES):
                with suppress(Conflict):
                    while (lineage := await self._of(namespace)).going:
                        await self._clear_place(namespace, lineage)
                    break
            if lineage == Lineage() and not self._shared:
                async with self._gate.alone(namespace):
                    if await self._of(namespace) == Lineage():
                        await self._store.drop(home(namespace))

    async def _clear_place(self, namespace: str, lineage: Lineage) -> None:
        """The oldest of those that are going."""
        place, after = lineage.going[0], ""
        before = [one for one in lineage.pins.values() if one < place]
        while before and (page := await self._store.page(copies(namespace, place), after, PAGE)):
            await self._keep(page, namespace, max(before), lineage)
            after = page[-1].key
        await self._store.drop(copies(namespace, place))
        async with self._gate.alone(namespace):
            await self._rewrite(namespace, lambda now: now.moved_from(place))

    # Lineages

    async def _of(self, namespace: str) -> Lineage:
        if (known := self._known.get(namespace)) is not None:
            return known
        before = self._rewritten
        found = lineage_of(await self._store.get(home(namespace), KEY))
        if not self._shared and before == self._rewritten:
            self._know(namespace, found)
        return found

    def _know(self, namespace: str, lineage: Lineage) -> None:
        while len(self._known) >= KNOWN:
            del self._known[next(iter(self._known))]
        self._known[namespace] = lineage

    async def _rewrite(self, namespace: str, change: Callable[[Lineage], Lineage]) -> Lineage:
        """Writes what hangs on a namespace anew, once more if another process was faster. Returns it."""
        for _ in range(TRIES):
            record = await self._store.get(home(namespace), KEY)
            old = lineage_of(record)
            made = change(old)
            if made == old:
                return old
            try:
                await self._store.commit([Change(self._noted(record, namespace, made), digest(record))])
            except Conflict:
                continue
            finally:
                self._rewritten += 1
                self._known.pop(namespace, None)
            if not self._shared:
                self._know(namespace, made)
            return made
        raise Conflict(f"the pins of '{namespace}' are changed all the time by others", "Try again.")

    async def _unchanged(self, namespace: str, lineage: Lineage) -> Change:
        """Commits only if this is still what hangs on the namespace."""
        record = await self._store.get(home(namespace), KEY)
        if lineage_of(record) != lineage:
            raise Conflict(f"'{namespace}' was pinned meanwhile", "Try again.")
        return Change(record or self._noted(None, namespace, lineage), digest(record))

    def _noted(self, record: Record | None, namespace: str, lineage: Lineage) -> Record:
        for stamp in record.clock.values() if record else ():
            self._clock.hear(stamp)
        return noted(record, namespace, lineage, self._store.writer, self._clock.tick(self._now()))


def no_pin(namespace: str, name: str, pins: Iterable[str]) -> NotFound:
    """What to raise for a pin that is not there."""
    there = ", ".join(other for other in pins if not other.startswith(USER)) or "none"
    return NotFound(f"namespace '{namespace[:80]}' has no pin '{name[:80]}'", f"There are: {there[:500]}.")
