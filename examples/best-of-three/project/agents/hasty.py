"""Stands in for an agent that is done too soon."""

from pathlib import Path

Path("slug.py").write_text(
    '''def slug(title):
    """The title in small letters, with dashes."""
    return title.lower().replace(" ", "-")
'''
)
