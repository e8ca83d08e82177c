"""A coding client that speaks as Claude Code does: it asks leave for every command of its prompt, one by one, and runs it then.

The prompt's lines that begin with `$ ` are the commands; what the answers were is told in `answers.txt`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def say(message: dict[str, Any]) -> None:
    """A message to whoever started it."""
    print(json.dumps(message), flush=True)


def hear() -> dict[str, Any]:
    """The next message from there."""
    found: dict[str, Any] = json.loads(sys.stdin.readline())
    return found


def main() -> None:
    """One conversation."""
    prompt = hear()["message"]["content"]
    commands = [line[2:] for line in prompt.splitlines() if line.startswith("$ ")]
    say({"type": "system", "subtype": "init", "session_id": "thread"})
    denials = []
    for number, command in enumerate(commands):
        given = {"command": command, "description": "harmless"}
        request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": given}
        say({"type": "control_request", "request_id": f"r{number}", "request": request})
        answer = hear()["response"]["response"]
        with open("answers.txt", "a", encoding="utf-8") as file:
            file.write(f"{answer['behavior']} {answer.get('message', '')}\n")
        if answer["behavior"] == "allow":
            subprocess.run(["bash", "-c", answer["updatedInput"]["command"]], check=False)
        elif "--stubborn" not in sys.argv:
            denials.append({"tool_name": "Bash"})
    result = {"type": "result", "subtype": "success", "result": "done", "permission_denials": denials, "total_cost_usd": 0.01}
    say({**result, "usage": {"input_tokens": 1, "output_tokens": 1}})
    sys.stdin.read()


main()
