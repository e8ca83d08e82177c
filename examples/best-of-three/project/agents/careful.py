"""Stands in for an agent that is right, and brief."""

from pathlib import Path

Path("slug.py").write_text(
    '''import re


def slug(title):
    """The title's small letters and digits, its words parted by single dashes."""
    return "-".join(re.findall("[a-z0-9]+", title.lower()))
'''
)
