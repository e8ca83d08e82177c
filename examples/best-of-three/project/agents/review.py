"""Stands in for a reviewer: reads the candidates in its prompt and votes for one. Each of the three looks at something else."""

import json
import os
import re
from pathlib import Path

prompt = Path(os.environ["SKEP_PROMPT"]).read_text()
parts = re.split(r"^# Candidate (.)$", prompt, flags=re.MULTILINE)[1:]
added = {
    letter: [line[1:] for line in text.splitlines() if line.startswith("+") and not line.startswith("+++")]
    for letter, text in zip(parts[::2], parts[1::2], strict=True)
}
ASPECTS = {
    "1": ("it is the shortest", lambda lines: -len(lines)),
    "2": ("it says what it does", lambda lines: sum('"""' in line for line in lines)),
    "3": ("it imports nothing", lambda lines: -sum(line.startswith("import") for line in lines)),
}
seat = re.search(r"reviewer-(\d)", os.environ["SKEP_TASK"]).group(1)
reason, better = ASPECTS[seat]
vote = max(added, key=lambda letter: better(added[letter]))
print(f"{vote}: {reason}")
Path(os.environ["SKEP_OUT"], "vote.json").write_text(json.dumps({"vote": vote, "reason": reason}))
