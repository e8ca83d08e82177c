"""What tokens cost, where a client tells no dollars: by the table in the configuration, or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from skep.agents import Spent
from skep.config import PriceConfig
from skep.core.model import Cost

#: Runtimes whose clients tell neither dollars nor their model: the price is that of the model that the plan names.
SILENT = frozenset({"codex"})


class Prices:
    """The table. A model's own name goes before a pattern, a longer pattern before a shorter one.

    Args:
        table: model or pattern -> dollars for a million tokens.
    """

    def __init__(self, table: Mapping[str, PriceConfig]) -> None:
        self._table = sorted(table.items(), key=lambda item: (any(c in item[0] for c in "*?["), -len(item[0])))

    def of(self, model: str) -> PriceConfig | None:
        """What the table says of a model."""
        return next((price for pattern, price in self._table if fnmatchcase(model, pattern)), None)

    def knows(self, runtime: str, model: str) -> bool:
        """Whether what an agent spends may have a price, as far as that can be known before it has told anything.

        Args:
            model: the agent's, as its plan names it, or empty.
        """
        if runtime == "gemini":  # says at its beginning which model it uses, under whatever name
            return bool(self._table)
        return runtime not in SILENT or self.of(model) is not None

    def dollars(self, model: str, input: int, cached: int, output: int) -> float | None:
        """What tokens of a model come to; None if the table does not know it."""
        price = self.of(model)
        if price is None:
            return None
        return (
            input * price.input + cached * (price.input if price.cached is None else price.cached) + output * price.output
        ) / 1e6

    def __call__(self, spent: Spent) -> Cost:
        """What a report comes to; `unpriced` if nobody knows the price."""
        usd = spent.usd
        if usd is None:
            usd = self.dollars(spent.model, spent.input, spent.cached, spent.output)
        return Cost(input=spent.input, cached=spent.cached, output=spent.output, usd=usd or 0.0, unpriced=int(usd is None))
