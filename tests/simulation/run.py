"""One seed: a world, its troubles, its healing, sometimes a fork of its session, and what must be true at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from random import Random

from msgspec import Struct

from skep.core import state as core_state
from skep.runtime import copies, followers
from skep.runtime import loop as runtime_loop
from skep.store import chain
from skep.store.ephemeral import EphemeralLog
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.scene import Scene
from tests.simulation.virtual import VirtualLoop
from tests.simulation.workload import make_plan
from tests.simulation.world import Violated, World

#: Bounds that a world of minutes would never reach, and values so low that it does.
BOUNDS: tuple[tuple[object, str, tuple[int, ...]], ...] = (
    (core_state, "KEEP_FINISHED", (3, 10, 10_000)),
    (core_state, "LEAVE_TOGETHER", (2, 64)),
    (core_state, "KEEP_KEYS", (60, 65_536)),
    (followers, "RING", (4, 20_000)),
    (runtime_loop, "MAX_BATCH", (1, 3, 512)),
    (chain, "LARGEST_APPEND", (400_000, 64 * 2**20)),
)


class Outcome(Struct):
    """What a seed came to: a digest of its log and of all that the world saw, how often each fault struck and each kind of event
    was told.
    """

    digest: str
    faults: Counter[str]
    kinds: Counter[str]
    events: int
    seconds: float


def simulate(seed: int, calm: bool = False) -> Outcome:
    """Runs one seed.

    Args:
        calm: without any fault.

    Raises:
        Violated: a promise was broken; the message says which, and how to see it again.
    """
    return Run(seed, calm).go()


#: Steps of a world: those in which nothing is broken take 9,000 at most (seeds 0 to 59).
MOST_STEPS = 200_000


class Run:
    """One seed and its parts."""

    def __init__(self, seed: int, calm: bool = False) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.loop = VirtualLoop(most=MOST_STEPS)
        self.plan = make_plan(random)
        self.slots = random.choice((2, 3, 8))
        self.scene = self._scene(World("sim-1", self.loop, random, Faults(random, calm), self.plan, self.slots))
        #: How often each kind of event was told, in forks too.
        self.kinds = self.scene.world.kinds
        self.scene.world.unmergeable = random.choice((0.0, 0.2, 0.4))
        self.scene.world.checking = random.choice((2.0, 60.0))

    def _scene(self, world: World) -> Scene:
        users, every = self.random.choice((1, 2, 3)), self.random.choice((5, 20, 100))
        return Scene(world, Disk(world), self.plan, users, every)

    def go(self) -> Outcome:
        """Runs it to its end. Raises Violated."""
        objections = self.scene.world.objections
        try:
            with self._small_bounds():
                self.loop.complete(self._main())
        except Exception as error:
            if not objections:
                objections.append(f"at {self.loop.time():.3f} s: {type(error).__name__}: {error}")
                raise Violated(self._story()) from error
        finally:
            self.loop.close()
        if objections:
            raise Violated(self._story())
        return self._outcome()

    @contextmanager
    def _small_bounds(self) -> Iterator[None]:
        kept = [getattr(module, name) for module, name, _ in BOUNDS]
        try:
            for module, name, values in BOUNDS:
                setattr(module, name, self.random.choice(values))
            yield
        finally:
            for (module, name, _), value in zip(BOUNDS, kept, strict=True):
                setattr(module, name, value)

    async def _main(self) -> None:
        await self.scene.suffer()
        await self.scene.rest()
        await self.scene.end()
        if self.random.random() < 0.3:
            await (await self._fork()).rest()

    async def _fork(self) -> Scene:
        """The session as it stood at some event, going on as another one, in a world without faults."""
        former = self.scene.world
        seq = self.random.randrange(2, len(former.chronicle.events) + 1)
        log = EphemeralLog(self.scene.disk.kept)
        await log.create("fork-1", former.now())
        events = await copies.events_until(log, former.session, str(seq))
        state = await copies.fork(log, former.session, "fork-1", events, former.now(), "somebody")
        world = World("fork-1", self.loop, self.random, Faults(self.random, calm=True), self.plan, self.slots, former)
        world.objections, world.kinds = former.objections, former.kinds
        world.chronicle.told = former.chronicle.told
        world.git = former.git.fork(state.tip)
        world.chronicle.acquired(1)
        disk = Disk(world, self.scene.disk.kept)
        world.chronicle.copied = True
        disk.watch()
        world.chronicle.copied = False
        world.begun_at = len(world.chronicle.events)
        scene = Scene(world, disk, self.plan, 1, 50)
        world.run(scene.owners.succeed_each_other())
        return scene

    def _story(self) -> str:
        """What went wrong, and how to see it again."""
        return f"seed {self.seed}: {self.scene.world.objections[0]}\nsee: python -m tests.simulation --seed {self.seed}"

    def _outcome(self) -> Outcome:
        """The digest covers the log as it lies on the disk and what the world saw of processes, refs and calls."""
        world, digest = self.scene.world, blake2b(digest_size=16)
        for append in self.scene.disk.kept.sessions[world.session].log:
            digest.update(append.hash)
        seen = [(process.pid, process.nonce, process.outcome, process.released) for process in world.processes]
        calls = [(call.status, repr(call.answer)) for call in self.scene.calls]
        digest.update(repr((seen, world.git.moves, calls)).encode())
        return Outcome(digest.hexdigest(), world.faults.counts, self.kinds, len(world.chronicle.events), self.loop.time())
