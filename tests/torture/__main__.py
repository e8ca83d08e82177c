"""`python -m tests.torture [--seed N] [--kills N] ... [TEST ...]`: the long form of everything here, or as much as is asked."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

from tests.torture.amounts import AMOUNTS, LONG, variable

HERE = Path(__file__).parent


def main() -> int:
    """Runs pytest on the torture tests; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Tortures Skep, for as long as is asked.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="repeats a run")
    parser.add_argument("--short", action="store_true", help="the amounts of every change where nothing else is said")
    for name, (short, long) in AMOUNTS.items():
        parser.add_argument(f"--{name}", type=int, help=f"default: {long}; on every change {short}")
    parser.add_argument("tests", nargs="*", help="files or words; default: all")
    asked = parser.parse_args()
    env = {**os.environ, LONG: "0" if asked.short else "1", "SKEP_TORTURE_SEED": str(asked.seed)}
    for name in AMOUNTS:
        if (given := getattr(asked, name.replace("-", "_"))) is not None:
            env[variable(name)] = str(given)
    print(f"seed {asked.seed}", flush=True)
    files = [test for test in asked.tests if Path(test).exists()]
    words = [test for test in asked.tests if not Path(test).exists()]
    where = files or [str(HERE), str(HERE.parent / "store" / "test_crash.py")]
    command = [sys.executable, "-m", "pytest", "--timeout", "86400", "-v", "-s", *where]
    code = subprocess.run([*command, "-k", " or ".join(words)] if words else command, env=env, check=False).returncode
    missing = HERE.parents[1] / ".pytest_cache" / "v" / "skep" / "not-run"
    count = missing.read_text() if missing.exists() else "unknown"
    print(
        f"torture: {'all passed' if code == 0 else f'failed with {code}'}, seed {asked.seed}; not run here: {count}", flush=True
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
