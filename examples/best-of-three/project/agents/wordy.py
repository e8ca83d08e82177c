"""Stands in for an agent that is right, and long about it."""

from pathlib import Path

Path("slug.py").write_text(
    """def slug(title):
    result = []
    pending = False
    for character in title.lower():
        if character.isascii() and character.isalnum():
            if pending and result:
                result.append("-")
            pending = False
            result.append(character)
        else:
            pending = True
    return "".join(result)
"""
)
