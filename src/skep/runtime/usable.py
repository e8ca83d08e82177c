"""Which runtimes can be used here: whether their programs are there and in which version, and what is known of their logins.

Nobody is called but the programs themselves, for their versions. A login that is found is unproven until a call was made.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from skep.agents import Runtime
from skep.agents.logins import LOGINS, Login
from skep.config import Config
from skep.core.model import Cost
from skep.runtime.checkup import Finding
from skep.runtime.confined import Wards
from skep.runtime.prices import Prices
from skep.runtime.proving import Proof, prove

#: Seconds in which a program says its version.
PATIENCE = 30
#: Proofs at once: each is a client of some hundred megabytes.
AT_ONCE = 2


async def usable(runtimes: Mapping[str, Runtime]) -> list[Finding]:
    """A finding for each runtime, from what lies here."""
    return list(await asyncio.gather(*(asyncio.to_thread(_found, runtime) for runtime in runtimes.values())))


async def proven(
    findings: list[Finding], runtimes: Mapping[str, Runtime], wards: Wards, config: Config, only: str
) -> list[Finding]:
    """The findings with the logins tried by a call each, two at a time.

    Args:
        only: the runtime whose login is tried; empty = all that are installed.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def tried(finding: Finding) -> Finding:
        name = finding.name.removeprefix("runtime ")
        if name not in LOGINS or runtimes[name].check() or only not in ("", name):
            return finding
        planner = config.planner
        mine = planner.runtime == name
        if not mine and not LOGINS[name].program:
            text = f"{finding.text}; its login cannot be tried: only a workflow file names its agents"
            fix = f'Name one of them under [planner] in skep.toml (runtime = "{name}"), if it is to be tried.'
            return replace(finding, state="warning", text=text, fix=fix, facts={**finding.facts, "login": "unknown"})
        async with turn:
            model, options = (planner.model, planner.options) if mine else ("", {})
            return _told(finding, await prove(runtimes[name], wards, config, Prices(config.prices), model, options), LOGINS[name])

    return list(await asyncio.gather(*map(tried, findings)))


def _found(runtime: Runtime) -> Finding:
    name, login = f"runtime {runtime.name}", LOGINS.get(runtime.name)
    if lack := runtime.check():
        what, _, how = lack.partition("; install it: ")
        return Finding(name, "warning", what, f"Install it: {how}" if how else "Install what it lacks.")
    if login is None:
        return Finding(name, "ok", "can be used")
    facts: dict[str, object] = {}
    version = ""
    if login.program:
        path = shutil.which(login.program) or ""
        version = _version(path)
        facts = {"program": path, "version": version, "tested": login.tested}
        if not version:
            fix = f"Run `{login.program} --version`, and mend or install it anew."
            return Finding(name, "warning", f"{path} does not say its version", fix, {**facts, "login": "unknown"})
    what = f"{version} ({facts['program']})" if version else "can be used"
    if version and version != login.tested:
        what += f", not the version that Skep was tested with, {login.tested}"
    return _login(Finding(name, "ok", what, "", facts), login)


def _login(finding: Finding, login: Login) -> Finding:
    """What lies here of a login."""
    home = Path(os.path.expanduser("~"))
    found, own = login.found(home, os.environ), login.own(home)
    if found:
        text, said = f"a login is there, unproven: {', '.join(found)}", "unproven"
    elif own:
        text, said = f"no login of its own; whether a provider in {own} needs one is unknown", "unknown"
    elif not login.program:
        text, said = "what login it needs depends on the agent", "unknown"
    else:
        fix = f"To use it, {login.how}."
        return replace(
            finding,
            state="warning",
            text=f"{finding.text}; no login was found",
            fix=fix,
            facts={**finding.facts, "login": "none"},
        )
    return replace(finding, text=f"{finding.text}; {text}", facts={**finding.facts, "login": said})


def _told(finding: Finding, proof: Proof, login: Login) -> Finding:
    """The finding with what a call showed."""
    what = finding.text.partition("; ")[0]
    price = _price(proof.cost)
    facts = {**finding.facts, "login": proof.login}
    if proof.cost is not None:
        facts["cost"] = proof.cost
    if proof.login == "proven":
        return replace(finding, state="ok", text=f"{what}; logged in, proven by a call ({price})", fix="", facts=facts)
    if proof.login == "refused":
        return replace(
            finding, state="error", text=f"{what}; not logged in: {proof.detail}", fix=f"{_upper(login.how)}.", facts=facts
        )
    text = f"{what}; whether it is logged in is unknown ({price}): {proof.detail}"
    return replace(finding, state="warning", text=text, fix="Mend what it names, then try again.", facts=facts)


def _price(cost: Cost | None) -> str:
    """What a call cost, as far as the client told it."""
    if cost is None:
        return "it told no cost"
    tokens = f"{cost.tokens:,} tokens"
    return f"{tokens}, price unknown" if cost.unpriced else f"{tokens}, ${cost.usd:.4f}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _version(program: str) -> str:
    """What a program says is its version; empty if it says none. In a HOME of its own: asked for no more, it writes nothing."""
    with tempfile.TemporaryDirectory(prefix="skep-version-", ignore_cleanup_errors=True) as home:
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "LANG": "C.UTF-8", "DISABLE_AUTOUPDATER": "1"}
        try:
            ran = subprocess.run(
                [program, "--version"],
                env=env, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=PATIENCE, check=False,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return ""
    found = re.search(r"\d+(\.\d+)+[\w.+-]*", ran.stdout)
    return found[0] if found and ran.returncode == 0 else ""
