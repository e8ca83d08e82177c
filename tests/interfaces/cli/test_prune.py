"""`prune`, as somebody at a shell sees it."""

from __future__ import annotations

from pathlib import Path

from tests.interfaces.cli.conftest import Skep
from tests.interfaces.cli.terminal import User

WORKFLOW = """
version: 1
name: two
tasks:
  a: {run: echo a > a.out}
"""


def test_what_ended_goes_into_an_archive_once_it_is_merged(user: User, skep: Skep) -> None:
    user.write("wf.yaml", WORKFLOW)
    assert skep("run", "wf.yaml").code == 0
    refused = skep("prune")
    assert (refused.code, "nothing says how long sessions stay" in refused.err) == (2, True)
    assert skep("prune", "--older", "30d").out == "no session ended that long ago\n"
    while not (told := skep("prune", "--older", "1s", "--dry-run", "--json").json["sessions"]):
        pass  # it ended less than a second ago
    assert "nothing else holds its work: main" in told[0]["kept"]
    ran = skep("prune", "--older", "1s")
    assert (ran.code, "two-1  ended " in ran.out, "stays: nothing else holds" in ran.out) == (0, True, True)
    assert skep("merge").code == 0
    while not (told := skep("prune", "--older", "1s", "--dry-run", "--json").json["sessions"]):
        pass
    assert (told[0]["kept"], told[0]["gone"]) == ("", False)
    backups = user.repo.top / ".skep" / "backups"
    (user.repo.top / ".skep" / "backups").write_text("in the way")
    failed = skep("prune", "--older", "1s")
    assert (failed.code, "still here: " in failed.out) == (1, True)
    backups.unlink()
    gone = skep("prune", "--older", "1s")
    assert (gone.code, "gone; " in gone.out) == (0, True)
    assert skep("session", "list", "--json").json["sessions"] == []
    (archive,) = backups.glob("*/*-archive.skep")
    (listed,) = skep("backup", "list", "--json").json["backups"]
    assert (Path(listed["path"]), listed["trouble"]) == (archive, "")
    assert skep("restore", "two-1").out == "two-1 goes on from its backup; next: skep resume two-1\n"


def test_how_long_sessions_stay_is_checked(user: User, skep: Skep) -> None:
    user.write("skep.toml", '[store]\nkeep = "30 days"\n')
    refused = skep("config")
    assert (refused.code, "store.keep is '30 days'" in refused.err) == (2, True)
    user.write("skep.toml", '[store]\nkeep = "30d"\n')
    findings = skep("doctor", "--json").json["findings"]
    told = next((one["state"], one["text"]) for one in findings if one["name"] == "retention")
    assert told == ("ok", "sessions stay for 30d; not looked at yet: that begins with a session")
