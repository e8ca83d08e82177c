"""Reads a receipt: one item a line, `2 x Coffee @ 3.50`."""

import re
from dataclasses import dataclass
from decimal import Decimal

LINE = re.compile(r"(?P<count>\d+) x (?P<name>.+) @ (?P<price>[\d.,]+)")


@dataclass(frozen=True)
class Item:
    """One line of a receipt."""

    count: int
    name: str
    price: Decimal


def number(text: str) -> Decimal:
    """A price; a comma separates thousands, as in 1,250.00."""
    return Decimal(text.replace(",", "."))


def parse(text: str) -> list[Item]:
    """The items of a receipt. Raises ValueError for a line that is none."""
    items = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found = LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"not an item: {line}")
        items.append(Item(int(found["count"]), found["name"], number(found["price"])))
    return items
