import unittest
from decimal import Decimal

from receipts.parser import parse
from receipts.totals import gross, net, tax


class Totals(unittest.TestCase):
    def test_adds_up(self) -> None:
        self.assertEqual(net(parse("2 x Coffee @ 3.50\n1 x Tea @ 2.80")), Decimal("9.80"))

    def test_tax_that_comes_out_even(self) -> None:
        self.assertEqual(tax(Decimal("10.00"), 19), Decimal("1.90"))

    def test_tax_below_half_a_cent_is_rounded_down(self) -> None:
        self.assertEqual(tax(Decimal("1.04"), 5), Decimal("0.05"))

    def test_tax_of_half_a_cent_is_rounded_up(self) -> None:
        self.assertEqual(tax(Decimal("2.50"), 5), Decimal("0.13"))

    def test_sum_with_tax(self) -> None:
        self.assertEqual(gross(parse("2 x Coffee @ 5.00"), 19), Decimal("11.90"))
