"""From an objective to the session that plans it: one task, a planner's, whose plan becomes the rest when a person says so."""

from __future__ import annotations

import msgspec

from skep.config import PlannerConfig
from skep.core.model import AgentSpec, Limits, Plan, Task
from skep.core.proposals import MAX_RETRIES
from skep.core.terms import Proposals
from skep.errors import Invalid
from skep.workflow.plans import name_of
from skep.workflow.proposal import PLAN, TASK_KEYS

#: Id of the task, and name of the agent, that plan.
TASK, PLANNER = "plan", "planner"
#: Words of the objective that a session is called after.
NAME_WORDS = 4

_PROMPT = """{objective}

Plan this; do not carry it out, and change no file of the project. Write the plan, a workflow file of tasks that agents carry
out in parallel, to the file {file} in the folder $SKEP_OUT:

```yaml
version: 1
tasks:
  model:                      # an id: letters, digits, - and _
    prompt: What the agent is to do, complete: it sees neither this text nor the other tasks.
    agent: {agent}
    verify: make test         # a command that must succeed on the result
  docs:
    needs: [model]            # it cannot begin before that is done and merged
    prompt: Document it.
    agent: {agent}
```

- At most {max_tasks} tasks (a foreach counts as its max_items), at most {length} one after the other, {retries} retries each.
- Prompts go to: {agents}.
- `phases: {{first: {{gate: {{verify: COMMAND}}}}, second: {{}}}}` at the top, only where the work needs it, puts the tasks into
  parts, in this order: each task names its `phase`; a phase begins when all of the one before is done and its gate's command
  succeeds.
- `run: COMMAND` instead of `prompt` is for what needs no agent. A person sees every command before it starts.
- Keys that a task may have: {keys}. `verify` at the top judges every merge.
- Tasks that run at the same time and change the same files conflict: put them in order, or make them one.
"""


def planning(objective: str, config: PlannerConfig) -> Plan:
    """The session for an objective. It knows the planner and the agents that the configuration allows, and no others.

    Raises:
        Invalid: no planner is configured, or what is configured is not right.
    """
    if not config.runtime:
        raise Invalid("no planner is configured", "Set `runtime` under [planner] in skep.toml.")
    if not objective.strip():
        raise Invalid("the objective is empty", "Say what is to be done.")
    planner = AgentSpec(name=PLANNER, runtime=config.runtime, model=config.model, options=config.options)
    workers = config.agents or {"worker": {"runtime": config.runtime, "model": config.model, "with": config.options, "count": 0}}
    try:
        agents = tuple(msgspec.convert({**spec, "name": name}, AgentSpec) for name, spec in workers.items())
    except msgspec.ValidationError as error:
        raise Invalid(f"planner.agents in skep.toml: {error}", "Write them as `agents` of a workflow file.") from None
    names = tuple(spec.name for spec in agents)
    if PLANNER in names:
        raise Invalid("planner.agents in skep.toml: the name 'planner' is taken", "Give that agent another name.")
    prompt = _PROMPT.format(
        objective=objective,
        file=PLAN,
        agent=names[0],
        max_tasks=config.max_tasks,
        length=config.length,
        retries=MAX_RETRIES,
        agents=", ".join(
            f"{spec.name} ({spec.type or spec.runtime}{f', {spec.model}' if spec.model else ''})" for spec in agents
        ),
        keys=", ".join(TASK_KEYS),
    )
    task = Task(
        id=TASK,
        prompt=prompt.replace("${{", "$${{"),
        objective="plan the objective",
        agent=PLANNER,
        type="planning",
        outputs={"plan": PLAN},
        merge="never",
        plans=True,
        retries=config.attempts - 1,
    )
    return Plan(
        name=name_of(" ".join(objective.split()[:NAME_WORDS]).lower()),
        objective=objective,
        limits=Limits(cost_usd=config.cost_usd),
        agents=(planner, *agents),
        tasks=(task,),
        proposals=Proposals(rule=config.proposals, max_tasks=config.max_tasks, length=config.length, agents=names),
    )
