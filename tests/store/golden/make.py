"""Writes the golden log of the present format: `python -m tests.store.golden.make NAME`, from the project's root.

A golden log is never written again once it was released; events and fields that come later go into one of another name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skep.store import codec
from tests.store.shapes import by_name, samples

if __name__ == "__main__":
    target = Path(__file__).with_name(f"format-{codec.FORMAT}-{sys.argv[1]}.blob")
    with target.open("xb") as file:
        file.write(codec.encode(samples()))
    target.with_suffix(".json").write_text(
        json.dumps([by_name(event) for event in samples()], indent=1, ensure_ascii=False) + "\n"
    )
