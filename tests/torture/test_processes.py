"""Programs that do not want to end, that multiply, that print for ever, that are many: what they hold returns when they go."""

from __future__ import annotations

import os
import resource
import signal
import sys

import skep
from skep.terminals.transcript import HEAD, TAIL, recordings
from tests.runtime.actors import actor
from tests.runtime.traces import left_behind
from tests.torture.amounts import amount, dice, is_long
from tests.workspace.repository import Repository

#: Multiplies: sessions of their own, deaf to what asks them to end, children that lose their parents.
BOMB = """
grow() {
  trap '' TERM HUP INT
  if [ "$1" -gt 0 ]; then
    (setsid bash -c "$(declare -f grow); grow $(($1 - 1))" </dev/null >/dev/null 2>&1 &)
    (grow $(($1 - 1)) </dev/null >/dev/null 2>&1 &)
  fi
  read -r _ <> "$PIPE"
}
mkfifo "$SKEP_OUT/pipe"; export PIPE="$SKEP_OUT/pipe"
(grow 5 &)
until [ "$(pgrep -fc 'grow' || true)" -gt 30 ]; do :; done
echo grown
"""
#: Becomes a daemon, as the books say.
DAEMON = "import os, time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(300)"


async def test_a_bomb_is_ended_to_the_last_process_before_anybody_else_gets_its_lock(repo: Repository) -> None:
    die = dice("bombs")
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        for number in range(amount("bombs")):
            bomb = await session.submit(skep.Task(run=BOMB, mode="none", locks=("one",), timeout=60.0))
            look = f"grep -lz '^SKEP_TASK={bomb.id}$' /proc/[0-9]*/environ 2>/dev/null | wc -l || true"
            after = await session.submit(skep.Task(run=look, mode="none", locks=("one",)))
            if die.random() < 0.3 and number:
                await session.cancel(bomb.id)
                assert (await bomb.result()).state == "cancelled"
            else:
                assert (await bomb.result()).value == "grown"
            assert (await after.result()).value == "0"
    assert left_behind(repo.top) == []


async def test_output_without_end_is_bounded_everywhere(repo: Repository) -> None:
    size, line, noise = (amount(name) << 20 for name in ("output-mb", "line-mb", "noise-mb"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kinds = {
        "lines": f"yes 'all work and no play' | head -c {size}",
        "one-line": f"head -c {line} /dev/zero | tr '\\0' x",
        "noise": f"head -c {noise} /dev/urandom",
        "escapes": f"yes \"$(printf '\\033]52;c;AAAA\\007\\033P1$r\\033\\\\\\302\\233 31m\\033[2J')\" | head -c {noise}",
        # Each character comes in two writes, and the last one never whole.
        "split": "for _ in {1..2000}; do printf '\\342\\202'; printf '\\254\\360'; done",
    }
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        for name, run in kinds.items():
            handle = await session.submit(skep.Task(id=name, run=f"{run} || true; echo; echo the end; exit 3", mode="none"))
            result = await handle.result()
            assert (result.exit_code, result.detail) == (3, "exit code 3: the end")
            assert "\x1b" not in repr((await handle.view()).detail)
        assert (await session.status()).seq < 100
    state = repo.top / ".skep"
    for name in kinds:
        assert recordings(state / "transcripts", "bench", name) == [(1, "")]
    for path in (state / "transcripts").rglob("*.cast"):
        # JSON takes up to six bytes for one.
        assert path.stat().st_size <= 6 * (HEAD + 2 * TAIL + (4 << 20)), path
        with path.open("rb") as file:
            file.seek(-4096, os.SEEK_END)
            assert b"the end" in file.read()
    assert (state / "skep.db").stat().st_size < 4 << 20
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 150, f"{grown} MB more memory"


async def test_very_many_agents_that_mostly_wait(repo: Repository) -> None:
    count = amount("sleepers")
    seconds = 10 if is_long("sleepers") else 1
    code = f"""
        import resource, time
        session = await hive.start(skep.Plan(name="many", limits=skep.Limits(agents={count})))
        begun = time.monotonic()
        handles = await session.submit_many(skep.Task(run=("sleep", "{seconds}"), mode="none") for _ in range({count}))
        results = await session.gather(handles)
        say("states", sorted({{result.state for result in results}}))
        say("took", time.monotonic() - begun)
        say("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
    """
    async with actor(repo.top, code) as owner:
        assert await owner.said("states") == ["done"]
        took, memory = await owner.said("took"), await owner.said("memory")
        print(f"{count} agents that sleep {seconds} s: {took:.1f} s, {memory} MB")
        if is_long("sleepers"):
            assert (took < 20, memory < 250) == (True, True)
        assert await owner.ended() == 0
    assert left_behind(repo.top) == []


async def test_what_a_program_closes_or_redirects_does_not_matter(repo: Repository) -> None:
    odd = [
        "exec </dev/null >/dev/null 2>&1; setsid true",
        "exec 0<&- 1>&- 2>&-; true",
        "(sleep 300 >/dev/null 2>&1 &) ; true",
        "sleep 300 & disown; true",
        "nohup sleep 300 >/dev/null 2>&1 & true",
        f"{sys.executable} -c '{DAEMON}'",
        "tty; stty -a > /dev/null; kill -STOP $$ & wait; true",
    ]
    async with skep.open(repo.top) as hive:
        session = await hive.session("bench")
        handles = await session.submit_many(skep.Task(run=run, mode="none", timeout=5.0) for run in odd)
        states = [result.state for result in await session.gather(handles)]
        assert states[:-1] == ["done"] * (len(odd) - 1)
        assert [line for line in left_behind(repo.top) if "keeper" not in line] == []


async def test_a_stopped_owner_goes_on_where_it_was(repo: Repository) -> None:
    die = dice("pauses")
    code = """
        session = await hive.session("bench")
        handles = await session.submit_many(skep.Task(run="echo $SKEP_ATTEMPT", id=f"n{n}", mode="none") for n in range(60))
        following = asyncio.ensure_future(session.gather(handles))
        async for number, _ in session.follow():
            say("event", number)
            if (await session.status(tasks=False)).counts.get("done") == 60:
                break
        say("values", sorted({result.value for result in await following}))
    """
    for _ in range(amount("pauses")):
        again = Repository(repo.top.parent / f"again-{die.random()}")
        again.commit({"a": "b"})
        async with actor(again.top, code) as owner:
            for _ in range(3):
                for _ in range(die.randrange(1, 30)):
                    await owner.said("event")
                owner.send(signal.SIGSTOP)
                owner.send(signal.SIGCONT)
            assert await owner.said("values") == ["1"]
            assert await owner.ended() == 0
