import unittest
from decimal import Decimal

from receipts.parser import Item, parse


class Parser(unittest.TestCase):
    def test_reads_an_item(self) -> None:
        self.assertEqual(parse("2 x Coffee @ 3.50"), [Item(2, "Coffee", Decimal("3.50"))])

    def test_reads_many_and_skips_empty_lines(self) -> None:
        self.assertEqual(len(parse("1 x Tea @ 2.80\n\n3 x Scone @ 1.95\n")), 2)

    def test_reads_thousands(self) -> None:
        self.assertEqual(parse("1 x Espresso machine @ 1,250.00")[0].price, Decimal("1250.00"))

    def test_refuses_what_is_no_item(self) -> None:
        with self.assertRaises(ValueError):
            parse("Thank you for your visit")
