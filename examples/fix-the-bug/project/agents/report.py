"""Says how the tests were before and how they are now, having run them on what was merged."""

import json
import os
import sys
from pathlib import Path

import suite


def before() -> str:
    """What `reproduce` counted."""
    needs = json.loads(Path(os.environ["SKEP_NEEDS"]).read_text())
    output = needs["reproduce"]["outputs"].get("before")
    if output is None:
        return "Tests before: not known, reproduce did not end well"
    told = json.loads(output)
    return f"Tests before: {told['tests']} run, {len(told['failed'])} failed ({', '.join(told['failed'])})"


count, failed = suite.run()
text = f"{before()}\nTests after:  {count} run, {len(failed)} failed{''.join(f' ({name})' for name in failed)}\n"
Path(os.environ["SKEP_OUT"], "report.txt").write_text(text)
print(text, end="")
sys.exit(bool(failed or suite.known()))
