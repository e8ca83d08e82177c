"""What somebody wants to be kept, before it is: checked here, whoever it comes from."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from skep.errors import Invalid
from skep.memory import RULES, Entry, Kind
from skep.memory.limits import MAX_VECTOR, RUN, check_key, check_metadata, check_namespace, check_tags, measured
from skep.memory.records import identity
from skep.memory.trust import Author

#: Seconds that an entry may be given to live: a hundred years.
MAX_TTL = 3_153_600_000


class Draft(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be kept under a key of a namespace.

    `ttl`: seconds after which it is gone; 0 = never. `rule`: what is to happen with values that are written elsewhere at the
    same time (`memory.RULES`, or a registered one). `vector`: of what it means, float32 little-endian, for kind `vector`.
    """

    namespace: str
    key: str
    value: Any = None
    kind: Kind = "semantic"
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    ttl: float = 0.0
    rule: str = "siblings"
    vector: bytes = b""

    def check(self, rules: tuple[str, ...] = RULES) -> bytes:
        """The value as it is kept. Raises Invalid for what cannot be.

        Args:
            rules: those that there are.
        """
        check_namespace(self.namespace)
        check_key(self.key)
        check_tags(self.tags)
        check_metadata(self.metadata)
        if self.rule not in rules:
            raise Invalid(f"there is no rule '{self.rule[:80]}'", f"There are {', '.join(dict.fromkeys(rules))}.")
        if self.rule == "counter" and (isinstance(self.value, bool) or not isinstance(self.value, int | float)):
            raise Invalid(f"'{self.key}' is a counter, and the value no number", "Store a number, or leave the rule out.")
        if not 0 <= self.ttl <= MAX_TTL:
            raise Invalid(f"the time to live is {self.ttl} seconds", f"Use 0 (for ever) to {MAX_TTL}.")
        if len(self.vector) % 4 or len(self.vector) > 4 * MAX_VECTOR:
            raise Invalid(f"a vector of {len(self.vector)} bytes", f"Give 1 to {MAX_VECTOR} numbers as float32.")
        if self.kind == "vector" and not self.vector and not isinstance(self.value, str):
            fix = "Give a text, or a vector."
            raise Invalid(f"'{self.key}' is to be found by meaning, but there is neither a text nor a vector", fix)
        return measured(self.value, f"the value of '{self.key}'")

    def entry(self, by: Author, now: int) -> Entry:
        """The entry that it is to become, as far as that does not hang on what is there. `now`: wall-clock ms."""
        return Entry(
            id=identity(self.namespace, self.key),
            namespace=self.namespace,
            key=self.key,
            value=self.value,
            kind=self.kind,
            agent=by.agent,
            session=by.session,
            task=by.task,
            tags=tuple(dict.fromkeys(self.tags)),
            metadata={name: value for name, value in self.metadata.items() if name != RUN},
            trust=by.trust,
            updated=now,
            expires=now + int(self.ttl * 1000) if self.ttl else 0,
            rule=self.rule,
            vector=self.vector,
        )
