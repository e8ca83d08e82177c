"""Prints a receipt."""

from receipts.parser import Item
from receipts.totals import gross, net


def layout(items: list[Item], percent: int, width: int = 32) -> str:
    """The receipt as text, prices at the right."""
    rows = [(f"{item.count} x {item.name}", item.count * item.price) for item in items]
    rows += [("net", net(items)), (f"with {percent}% tax", gross(items, percent))]
    return "\n".join(f"{name:<{width - 10}}{amount:>10.2f}" for name, amount in rows)
