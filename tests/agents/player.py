"""Plays a recorded client: `player.py FILE CODE` says what it said, waits for a line where it was told one, exits with CODE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    message = json.loads(line)
    if "us" in message:
        if not sys.stdin.readline():
            break
    else:
        print(json.dumps(message.get("it", message)), flush=True)
sys.exit(int(sys.argv[2]))
