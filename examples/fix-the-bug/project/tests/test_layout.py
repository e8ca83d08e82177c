import unittest

from receipts.layout import layout
from receipts.parser import parse


class Layout(unittest.TestCase):
    def test_has_a_line_for_each_item_and_two_sums(self) -> None:
        self.assertEqual(len(layout(parse("2 x Coffee @ 3.50\n1 x Tea @ 2.80"), 19).splitlines()), 4)

    def test_prices_are_at_the_right(self) -> None:
        self.assertTrue(layout(parse("1 x Tea @ 2.80"), 0).endswith("      2.80"))
