"""`run --dry-run`: the graph by levels, who would do what, and why. `run --show-prompts`: what they would be told."""

from __future__ import annotations

import os
from pathlib import Path

from skep.agents.declared import left_out
from skep.app import foretold, preview, prompts
from skep.core.estimates import Estimate
from skep.core.model import Plan
from skep.interfaces.cli.out import Out, document
from skep.interfaces.cli.words import count, one_line, price

#: Runtimes that are handed the servers of `.mcp.json`.
WITH_SERVERS = ("claude", "codex", "gemini", "opencode", "acp", "llm")


def show(plan: Plan, folder: Path, out: Out, as_json: bool, cost: Estimate) -> None:
    """Prints what a plan would begin with in a workspace, and what it may cost. Raises what `preview` raises."""
    steps, confinement = preview(plan, folder), foretold(plan, folder)
    left = left_out(
        str(folder), os.environ, dict.fromkeys(agent.runtime for agent in plan.agents if agent.runtime in WITH_SERVERS)
    )
    if as_json:
        told = {"name": plan.name, "workspace": str(folder), "confinement": confinement}
        out.json(document(**told, estimate=cost if cost.tasks else None, tasks=steps, left_out=left))
        return
    out.line((plan.name, "bold"), f"  {count(len(steps), 'task')}, nothing is started  {confinement}")
    if cost.tasks:
        out.line(price(cost, plan.limits.cost_usd))
    for words in left:
        out.line((one_line(words), "yellow"))
    out.line(("who would do each, as if it were the first: nothing is taken by the others", "dim"))
    names = min(28, max((len(one_line(step.task, 28)) for step in steps), default=0))
    level = 0
    for step in steps:
        if step.level != level:
            level = step.level
            out.line((f"level {level}", "dim"))
        needs = f"  needs {', '.join(one_line(need, 40) for need in step.needs)}" if step.needs else ""
        out.line("  ", (f"{one_line(step.task, 28):{names}}", "bold"), f"  {step.mode}{needs}")
        for number, said in enumerate(step.candidates or (step.explanation,), 1):
            if said is not None:
                what = f"candidate {number}: " if step.candidates else ""
                why = "; ".join(one_line(reason) for reason in said.reasons)
                out.line(f"  {'':{names}}  -> {what}{said.target}  score {said.score:.2f}: {why}")
        if step.voters:
            out.line(f"  {'':{names}}  voted on by {', '.join(step.voters)}")


def show_prompts(plan: Plan, folder: Path, out: Out, as_json: bool) -> None:
    """Prints what the agent of each prompt would be told. Raises what `prompts` raises."""
    found = prompts(plan, folder)
    if as_json:
        out.json(document(name=plan.name, prompts=found))
        return
    for task, text in found.items():
        out.line((f"==== {one_line(task, 60)}", "bold"))
        for line in text.splitlines():
            out.line(line)
    if not found:
        out.line("No task of it has a prompt.")
