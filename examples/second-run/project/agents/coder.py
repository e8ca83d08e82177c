"""Stands in for a coding agent: tries one way after the other, but none of which it is told that it is a dead end."""

import os
import subprocess
import sys
from pathlib import Path

WAYS = {
    "split": '''def rows(text):
    """A list for each line."""
    return [line.split(",") for line in text.splitlines()]
''',
    "csv": '''import csv


def rows(text):
    """A list for each line; quoted values may hold commas."""
    return list(csv.reader(text.splitlines()))
''',
}
TESTS = [sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."]


def skep(*words):
    """What a command prints; nothing where there is no memory."""
    return subprocess.run(["skep", "memory", *words], capture_output=True, text=True).stdout


def main():
    told = {"the prompt": Path(os.environ["SKEP_PROMPT"]).read_text(), "a search": skep("search", "dead end for rows", "--wait")}
    for way, code in WAYS.items():
        source = next((where for where, text in told.items() if f"dead-end/{way}" in text), "")
        if source:
            print(f"not {way}: {source} says that it is a dead end")
            continue
        print(f"trying {way}")
        Path("rows.py").write_text(code)
        tests = subprocess.run(TESTS, capture_output=True, text=True)
        if tests.returncode == 0:
            print(f"{way} passes the tests")
            return 0
        why = f"A dead end for rows: {way} does not pass the tests, as quoted values may hold commas."
        skep("store", f"dead-end/{way}", why, "-n", "lessons", "--tag", "dead-end")
        print(why)
        return 1
    return 1


sys.exit(main())
