"""What an owner does without: extras are imported when they are used, in processes of their own."""

from __future__ import annotations

import subprocess
import sys


def test_the_owner_imports_no_extra() -> None:
    code = "import sys, skep.app; print([m for m in ('pydantic', 'pydantic_ai', 'mcp', 'redis', 'httpx') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
