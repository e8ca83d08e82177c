"""A coding client that speaks as Claude Code does, hears while it works, and ends when it has heard of something but its task.

`GATE` names a folder with pipes: into `begun` goes a word when it is at work.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def hear() -> str:
    """The next message of a person or an agent."""
    found: dict[str, Any] = json.loads(sys.stdin.readline())
    return str(found["message"]["content"])


def main() -> None:
    """One turn that lasts until something is said."""
    hear()
    print(json.dumps({"type": "system", "subtype": "init", "session_id": "thread"}), flush=True)
    Path(os.environ["GATE"], "begun").write_text("at work\n", encoding="utf-8")
    said = hear()
    Path("heard.txt").write_text(said, encoding="utf-8")
    result = {"type": "result", "subtype": "success", "result": said, "permission_denials": [], "total_cost_usd": 0.01}
    print(json.dumps({**result, "usage": {"input_tokens": 1, "output_tokens": 1}}), flush=True)
    sys.stdin.read()


main()
