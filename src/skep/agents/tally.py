"""What Claude Code has cost: tokens as each call of a model ends, dollars with the totals that it tells at the end of a turn."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import msgspec

from skep.agents import Host, Spent
from skep.agents.client import inner, tail, whole
from skep.agents.lines import Message

#: Replies under way at once: its own, and those of agents that it starts itself.
MAX_REPLIES = 1_000
_TOKENS = ("input", "cached", "output")


class Tally:
    """Reports each token once, though the client tells it twice: with its call and in the totals.

    Args:
        host: what is reported to.
        model: the one that was asked for, for totals that name none.
        thread: file of the thread that is gone on with; None = there is none. The client adds what it cost to what it tells.
    """

    def __init__(self, host: Host, model: str, thread: Path | None) -> None:
        self._host, self._model = host, model
        #: Model -> its last total.
        self._totals = _before(thread)
        #: Which agent of the client's own -> the model and the usage of the reply that it is getting.
        self._replies: dict[str, tuple[str, Message]] = {}
        #: Tokens of calls that no total has had yet, and the models of these.
        self._ahead: Counter[str] = Counter()
        self._called: set[str] = set()

    def stream(self, message: Message) -> None:
        """A piece of a reply: its beginning tells what was read, one of its last pieces what was written."""
        event, whose = message.get("event"), str(message.get("parent_tool_use_id") or "")
        kind = inner(event, "type")
        if kind == "message_start" and len(self._replies) < MAX_REPLIES:
            usage = inner(event, "message", "usage")
            self._replies[whose] = str(inner(event, "message", "model") or ""), dict(usage) if isinstance(usage, dict) else {}
        elif kind == "message_delta" and whose in self._replies and isinstance(usage := inner(event, "usage"), dict):
            self._replies[whose][1].update({name: count for name, count in usage.items() if count})
        elif kind == "message_stop" and whose in self._replies:
            self._called_for(*self._replies.pop(whose))

    def result(self, result: Message) -> None:
        """The end of a turn: totals of the process, by model. Those of the turn alone lack the call that ended it."""
        found = result.get("modelUsage")
        models = found if isinstance(found, dict) else {}
        # First those whose calls were told: what is ahead is theirs, even if a total calls one of them by another name.
        for model in sorted(models, key=lambda model: model not in self._called):
            self._total(_of(str(model), models[model]))
        if not models:
            before, turn = self._totals.get(self._model, Spent()), _turn("", result.get("usage"))
            read, cached, written = (getattr(before, name) + getattr(turn, name) for name in _TOKENS)
            usd = _dollars(result.get("total_cost_usd"))
            self._total(Spent(model=self._model, input=read, cached=cached, output=written, usd=usd))

    def _called_for(self, model: str, usage: Message) -> None:
        call = _turn(model, usage)
        self._called.add(model)
        self._ahead.update({name: getattr(call, name) for name in _TOKENS})
        self._host.report(call)

    def _total(self, now: Spent) -> None:
        """Reports what is new in what a model has cost so far."""
        before = self._totals.get(now.model, Spent())
        self._totals[now.model] = now
        if now == before:
            return
        fresh = {name: max(0, getattr(now, name) - getattr(before, name)) for name in _TOKENS}
        told = {name: min(count, self._ahead[name]) for name, count in fresh.items()}
        self._ahead.subtract(told)
        read, cached, written = (fresh[name] - told[name] for name in _TOKENS)
        usd = None if now.usd is None else max(0.0, now.usd - (before.usd or 0.0))
        self._host.report(Spent(model=now.model, input=read, cached=cached, output=written, usd=usd))


def _before(thread: Path | None) -> dict[str, Spent]:
    """What each model had cost in a thread that is gone on with. Its file says it."""
    for line in tail(thread):
        if b'"cost-state"' not in line:
            continue
        with contextlib.suppress(msgspec.DecodeError):
            state = msgspec.json.decode(line)
            if inner(state, "type") == "cost-state" and isinstance(models := inner(state, "modelUsage"), dict):
                return {str(model): _of(str(model), used) for model, used in models.items()}
    return {}


def _of(model: str, used: object) -> Spent:
    """A total as `modelUsage` has it."""
    read = _tokens(used, "inputTokens", "cacheCreationInputTokens")
    cached, written = _tokens(used, "cacheReadInputTokens"), _tokens(used, "outputTokens")
    return Spent(model=model, input=read, cached=cached, output=written, usd=_dollars(inner(used, "costUSD")))


def _turn(model: str, used: object) -> Spent:
    """Tokens as the provider has them, whose price is told later."""
    read = _tokens(used, "input_tokens", "cache_creation_input_tokens")
    cached, written = _tokens(used, "cache_read_input_tokens"), _tokens(used, "output_tokens")
    return Spent(model=model, input=read, cached=cached, output=written, usd=0.0, owing=True)


def _tokens(used: object, *names: str) -> int:
    return sum(whole(inner(used, name)) for name in names)


def _dollars(told: object) -> float | None:
    """Dollars, if that is what was told."""
    known = isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < 1e9
    return float(told) if known and isinstance(told, int | float) else None
