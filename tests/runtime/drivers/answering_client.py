"""A coding client that speaks as Claude Code does and says what it knows, its login too. Asked after its end it waits.

What it was started with is in the environment: `GATE` (a folder with pipes), and `ANTHROPIC_API_KEY`, its login.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

THREAD = "thread"


def main() -> None:
    """One turn of a conversation."""
    sys.stdin.readline()
    print(json.dumps({"type": "system", "subtype": "init", "session_id": THREAD}), flush=True)
    if "--fork-session" in sys.argv:
        with open(f"{os.environ['GATE']}/begun", "w", encoding="utf-8") as begun:
            begun.write("asked\n")
        with open(f"{os.environ['GATE']}/go", encoding="utf-8") as go:
            go.readline()
    else:
        place = Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", re.sub(r"[^a-zA-Z0-9]", "-", os.getcwd()), f"{THREAD}.jsonl")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}\n")
        Path("made.txt").write_text("made\n")
    said = f"my key is {os.environ['ANTHROPIC_API_KEY']}"
    result = {"type": "result", "subtype": "success", "result": said, "permission_denials": [], "total_cost_usd": 0.25}
    print(json.dumps({**result, "usage": {"input_tokens": 1, "output_tokens": 1}}), flush=True)
    print(said, file=sys.stderr, flush=True)
    sys.stdin.read()


main()
