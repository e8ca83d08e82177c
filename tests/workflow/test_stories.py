"""What a person reads who wrote a file wrong. Each `tests/stories/workflow/NAME.yaml` is told in `NAME.txt` beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from skep.errors import Invalid, NotFound
from skep.workflow import Known, parse

STORIES = Path(__file__).parent.parent / "stories" / "workflow"
KNOWN = Known(types=("coder", "tester", "reviewer"))


def read(path: Path) -> bytes:
    try:
        return (STORIES / path).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None


def told(name: str) -> str:
    with pytest.raises(Invalid) as caught:
        parse(
            read(Path(f"{name}.yaml")), f"{name}.yaml", {"isue": "7"} if name == "inputs" else {}, now=0, read=read, known=KNOWN
        )
    return caught.value.message + "\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in STORIES.glob("*.yaml")))
def test_what_is_wrong_is_told_in_full(name: str) -> None:
    assert told(name) == (STORIES / f"{name}.txt").read_text(encoding="utf-8")


def test_no_story_is_left_without_its_file() -> None:
    assert {path.stem for path in STORIES.glob("*.txt")} == {path.stem for path in STORIES.glob("*.yaml")}
