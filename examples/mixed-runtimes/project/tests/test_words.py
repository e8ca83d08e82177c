import unittest

from words import words


class Words(unittest.TestCase):
    def test_words_are_counted(self):
        self.assertEqual(words("one two  three"), 3)
