"""Runtime `python`: a callable in a process of its own, as workflow files get it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from skep.agents import Ability, Ending, Host, Job, left, worker
from skep.agents.callables import kept
from skep.agents.process import carry_out
from skep.terminals import Profile, Terminals

#: Bytes of a result that is looked at; the log takes less.
MAX_RESULT = 64 << 20


class PythonRuntime:
    """Runs `call` tasks, each in a fresh interpreter (see `skep.agents.worker`).

    Args:
        terminals: where processes come from.
    """

    name = "python"
    can: frozenset[Ability] = frozenset()
    wants: tuple[str, ...] = ()

    def __init__(self, terminals: Terminals) -> None:
        self._terminals = terminals

    def check(self) -> str:
        """The interpreter that runs Skep is there."""
        return ""

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port."""
        if not job.task.call:
            return Ending(ok=False, cause="error", detail=f"The python agent {job.agent} carries out `call` tasks only.")
        answer = Path(job.out) / ".skep-result.json"
        answer.unlink(missing_ok=True)
        profile = Profile(
            name=job.agent,
            argv=(sys.executable, "-P", str(worker.__file__)),
            cwd=job.cwd,
            env={**job.env, "SKEP_RESULT": str(answer)},
            nonce=job.nonce,
            stdin=msgspec.json.encode({"call": job.task.call, "args": job.task.args}),
        )
        ended = await carry_out(self._terminals, profile, host, job.task.timeout, host.output)
        if isinstance(ended, Ending):
            return ended
        try:
            said = left.read(answer.parent.parent, f"{answer.parent.name}/{answer.name}", MAX_RESULT)
            found: dict[str, Any] = msgspec.json.decode(said, type=dict[str, Any])
        except (OSError, msgspec.MsgspecError):
            how = f"exit code {ended.code}" if ended.code is not None else f"signal {ended.signal}"
            return Ending(ok=False, cause="exit", detail=f"the process ended without a result: {how}", exit_code=ended.code)
        if not found.get("ok"):
            return Ending(ok=False, cause="error", detail=str(found.get("error")), exit_code=ended.code)
        return msgspec.structs.replace(kept(found.get("result")), exit_code=ended.code)

    async def close(self) -> None:
        """Nothing is kept."""
