import unittest

from slug import slug


class Slugs(unittest.TestCase):
    def test_words_are_parted_by_single_dashes(self):
        self.assertEqual(slug("Best  of, three"), "best-of-three")

    def test_there_are_none_at_the_ends(self):
        self.assertEqual(slug("(Really?)"), "really")
