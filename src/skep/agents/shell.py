"""Runtime `shell`: a command in a terminal. It also stands in for a coding client: an agent with `run` gets prompts as a file."""

from __future__ import annotations

import shutil
from typing import Literal

from skep.agents import Ability, Ending, Host, Job
from skep.agents.process import carry_out
from skep.core.terms import Command
from skep.errors import Invalid
from skep.terminals import Profile, Tail, Terminals

#: Lines and bytes of output that become the result.
RESULT_LINES = 50
RESULT_SIZE = 4_096
#: Characters of the last line that stand for a failure.
DETAIL_SIZE = 500


class ShellRuntime:
    """Runs `run` tasks as they are, and `prompt` tasks by the command in the agent's `with: {run: ...}`.

    That command finds the prompt in the file $SKEP_PROMPT. With `with: {tty: true}` the command's standard input is the
    terminal, otherwise there is nothing to read.

    Args:
        terminals: where processes come from.
    """

    name = "shell"
    can: frozenset[Ability] = frozenset({"prompts"})
    wants: tuple[str, ...] = ()

    def __init__(self, terminals: Terminals) -> None:
        self._terminals = terminals

    def check(self) -> str:
        """Nothing is needed but bash, and that only for commands that are one string."""
        return "" if shutil.which("bash") else "bash is not on the PATH: install it, or write commands as lists"

    async def run(self, job: Job, host: Host) -> Ending:
        """See the port."""
        try:
            argv = _command(job)
        except Invalid as error:
            return Ending(ok=False, cause="error", detail=error.message)
        tail = Tail(RESULT_LINES)

        def heard(data: bytes) -> None:
            tail.feed(data)
            host.output(data)

        stdin: Literal["null", "tty"] = "tty" if job.options.get("tty") else "null"
        profile = Profile(name=job.agent, argv=argv, cwd=job.cwd, env=job.env, nonce=job.nonce, stdin=stdin)
        ended = await carry_out(self._terminals, profile, host, job.task.timeout, heard)
        if isinstance(ended, Ending):
            return ended
        lines = tail.lines()
        if ended.code in job.task.exit_codes:
            result = "\n".join(lines).encode(errors="replace")[-RESULT_SIZE:].decode(errors="ignore")
            return Ending(ok=True, result=result, exit_code=ended.code)
        how = f"exit code {ended.code}" if ended.code is not None else f"ended by signal {ended.signal}"
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        detail = f"{how}: {last[-DETAIL_SIZE:]}" if last else how
        return Ending(ok=False, cause="exit", detail=detail, exit_code=ended.code)

    async def close(self) -> None:
        """Nothing is kept."""


def _command(job: Job) -> tuple[str, ...]:
    """What to run for a job, as an argument list."""
    command: Command | None = job.options.get("run") if job.task.run is None else job.task.run
    if job.task.run is None and job.task.prompt is None:
        raise Invalid(f"The shell agent {job.agent} carries out `run` and `prompt`, no `call`.")
    if not command:
        raise Invalid(f"The shell agent {job.agent} has no command for prompts: give it `with: {{run: COMMAND}}`.")
    if isinstance(command, str):
        return ("bash", "-euo", "pipefail", "-c", command)
    if not isinstance(command, list | tuple) or not all(isinstance(word, str) for word in command):
        raise Invalid(f"The `run` of the shell agent {job.agent} is neither a line nor a list of words.")
    return tuple(command)
