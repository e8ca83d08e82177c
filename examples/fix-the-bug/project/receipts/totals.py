"""Adds a receipt up."""

from decimal import ROUND_DOWN, Decimal

from receipts.parser import Item

CENT = Decimal("0.01")


def net(items: list[Item]) -> Decimal:
    """The sum without tax."""
    return sum((item.count * item.price for item in items), Decimal(0))


def tax(amount: Decimal, percent: int) -> Decimal:
    """The tax on an amount, in whole cents."""
    return (amount * percent / 100).quantize(CENT, rounding=ROUND_DOWN)


def gross(items: list[Item], percent: int) -> Decimal:
    """The sum with tax."""
    amount = net(items)
    return amount + tax(amount, percent)
