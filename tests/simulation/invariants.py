"""What holds in every state between two turns, computed the long way round from the bare state."""

from __future__ import annotations

from collections import Counter

from skep.core import due, placement, resources
from skep.core.model import PRIORITY_RANK, TERMINAL, Cost, Entry, Resources
from skep.core.state import State


def broken(state: State, settled: bool) -> list[str]:
    """Every rule that a live state breaks, in words; empty if all hold.

    Args:
        settled: whether a turn has just ended, so that nothing may be left that follows without anybody saying so.
    """
    found = [*_ledger(state), *_graph(state), *_owed(state)]
    return [*found, *_judged(state), *_queue(state)] if settled else found


def _attempts(state: State) -> list[Entry]:
    return [entry for entry in state.entries.values() if entry.attempt is not None]


def _ledger(state: State) -> list[str]:
    """Slots, load, resources and locks are those of the attempts under way, and within their bounds."""
    found: list[str] = []
    held = _attempts(state)
    loads = Counter(entry.attempt.agent for entry in held if entry.attempt)
    if state.running != len(held):
        found.append(f"{len(held)} attempts are under way, {state.running} are counted")
    for agent in state.agents.values():
        if agent.load != loads[agent.id] or (agent.spec in state.specs and agent.load > agent.max_load):
            found.append(f"agent {agent.id} carries {loads[agent.id]} of {agent.max_load}, {agent.load} are booked")
    for node in state.nodes.values():
        here = [entry.attempt for entry in held if entry.attempt and entry.attempt.node == node.id]
        takes = [attempt.reserved or Resources() for attempt in here]
        sums = (len(here), sum(r.memory for r in takes), sum(r.storage for r in takes))
        if sums != (node.used_slots, node.used_memory, node.used_storage) or node.used_slots > node.slots:
            found.append(f"node {node.id} books {node.used_slots} of {node.slots} slots, {len(here)} are in use: {sums}")
        cpu = sum(r.cpu for r in takes)
        if abs(cpu - node.used_cpu) > 1e-6 or cpu > node.capacity.cpu + 1e-6:
            found.append(f"node {node.id} books {node.used_cpu} cpu, {cpu} are in use")
    slots = Counter(entry.attempt.slot for entry in held if entry.attempt)
    found += [f"slot {slot} is given {count} times" for slot, count in slots.items() if count > 1]
    return found + _locks(state, held)


def _locks(state: State, held: list[Entry]) -> list[str]:
    found: list[str] = []
    holders: dict[str, list[str]] = {}
    for entry in held:
        most = resources.locks_of(state, entry)
        for name in entry.attempt.locks if entry.attempt else ():
            holders.setdefault(name, []).append(entry.task.id)
            # A foreach that was replaced while an item of it still ends bounds nobody any more.
            if len(holders[name]) > most.get(name, 1_000):
                found.append(f"lock {name} has {len(holders[name])} holders, {most[name]} at most")
    if {name: sorted(tasks) for name, tasks in state.locks.items()} != {name: sorted(tasks) for name, tasks in holders.items()}:
        found.append(f"locks are booked as {state.locks}, held as {holders}")
    return found


def _graph(state: State) -> list[str]:
    """Counters of needs, of items and of states are what they count."""
    found: list[str] = []
    counts: Counter[str] = Counter()
    for entry in state.entries.values():
        task = entry.task
        open_needs = sum(need in state.entries and state.entries[need].state not in TERMINAL for need in task.needs)
        if entry.state == "waiting" and entry.unmet != open_needs:
            found.append(f"task {task.id} waits for {open_needs} tasks, {entry.unmet} are counted")
        if entry.state == "ready" and open_needs:
            found.append(f"task {task.id} is ready and needs {open_needs} that are open")
        open_items = sum(name in state.entries and state.entries[name].state not in TERMINAL for name in entry.children)
        if entry.open_children != open_items:
            found.append(f"foreach {task.id} has {open_items} open items, {entry.open_children} are counted")
        if entry.state == "needs-you" and not entry.question:
            found.append(f"task {task.id} needs somebody and asks nothing")
        if entry.state == "running" and entry.attempt is None:
            found.append(f"task {task.id} is running without an attempt")
        counts[entry.state] += 1
    if state.open_tasks != sum(count for name, count in counts.items() if name not in TERMINAL):
        found.append(f"{state.open_tasks} tasks are open by the books, by count {dict(counts)}")
    merging = {name for name, entry in state.entries.items() if entry.state == "merging"}
    if sorted(state.merge_queue) != sorted(merging):
        found.append(f"tasks {sorted(merging)} are merging, {state.merge_queue} are queued")
    stack = [candidate.task for candidate in state.intent.stack] if state.intent else []
    if state.merge_queue[: len(stack)] != stack:
        found.append(f"{stack} are stacked, and {state.merge_queue} are queued")
    return found


def _owed(state: State) -> list[str]:
    """What is owed incrementally is what is owed; nobody waits for a time without a timer."""
    found: list[str] = []
    full = due.full(state)
    if set(full) != set(state.due.owed) or len(full) != len(set(full)):
        found.append(f"owed is {sorted(state.due.owed)}, by recomputation {sorted(full)}")
    timers = {(at, name) for at, _, name in state.due.timers}
    for name, entry in state.entries.items():
        if entry.state == "parked" and (entry.until, name) not in timers:
            found.append(f"task {name} is parked until {entry.until}, and no timer wakes it")
    return found


def _judged(state: State) -> list[str]:
    """No task waits for what is known."""
    found = [f"task {name} is left unjudged" for name in state.due.pending]
    for name, entry in state.entries.items():
        if entry.state == "waiting" and entry.unmet == 0:
            found.append(f"task {name} waits for nothing")
        if entry.state == "expanded" and entry.open_children == 0:
            found.append(f"foreach {name} waits for no item")
    return found


def _free(state: State, entry: Entry) -> bool:
    """Whether no lock that the task wants is held, nor wanted by an earlier task that waits for several."""
    wanted = resources.locks_of(state, entry)
    if any(len(state.locks.get(name, ())) >= most for name, most in wanted.items()):
        return False
    order = (-PRIORITY_RANK[entry.task.priority], entry.seq)
    for other in state.entries.values() if wanted else ():
        if other.state == "ready" and (-PRIORITY_RANK[other.task.priority], other.seq) < order:
            locks = resources.locks_of(state, other)
            if len(locks) > 1 and not locks.keys().isdisjoint(wanted):
                return False
    return True


def _spent_or_held(state: State) -> bool:
    """Whether nothing is left of the money that the session, or a kind of agent, may spend."""
    total = state.plan.limits.cost_usd
    if total and state.cost.usd + state.held > total - 1e-5:
        return True
    for spec in state.specs.values():
        held = sum(agent.held for agent in state.agents.values() if agent.spec == spec.name)
        taken = held + state.kinds.get(spec.name, Cost()).usd
        if spec.budget is not None and 0 < spec.budget.usd < taken + 1e-5:
            return True
    return False


def _queue(state: State) -> list[str]:
    """Whatever could be placed now has been placed."""
    if state.paused or state.closed or state.running >= state.limit:
        return []
    if _spent_or_held(state):
        return []  # who is next waits for what is held, and the others behind it
    idle = []
    for entry in state.entries.values():
        if entry.state == "ready" and entry.attempt is None and _free(state, entry):
            need = placement.need_of(state, entry)
            for agent in state.agents.values():
                spec = state.specs.get(agent.spec)
                if spec is None or agent.load >= agent.max_load or not placement.may_do(spec, need):
                    continue
                node = state.nodes[agent.node]
                asked = resources.reservation(entry.task.resources, spec, node)
                if placement.on_node(node, need) and resources.fits(node, asked) and not state.queue.kept_for(entry, node, asked):
                    idle.append(f"task {entry.task.id} is ready, {agent.id} is free, and they are kept apart")
    return idle[:1]
