import unittest

try:
    from rows import rows
except ModuleNotFoundError:
    rows = None


class Rows(unittest.TestCase):
    def test_values_are_parted_by_commas(self):
        self.assertEqual(rows("a,b\nc,d"), [["a", "b"], ["c", "d"]])

    def test_quoted_values_may_hold_commas(self):
        self.assertEqual(rows('"Bee, honey",3'), [["Bee, honey", "3"]])
