"""Bubblewrap keeps what the port promises; so it does for a user without rights."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from skep.security import Bounds, Sandbox
from skep.security.limits import missing
from skep.security.sandbox import choose
from skep.terminals import Profile
from tests.contracts.sandbox import SandboxContract

#: A user and group that own nothing.
NOBODY = 65534


def bubblewrap(folder: Path) -> Sandbox:
    """The sandbox; skips the test where it cannot be had."""
    found = choose(folder, missing())
    if isinstance(found, str):
        pytest.skip(found)
    return found


class TestBubblewrap(SandboxContract):
    def open(self, folder: Path) -> Sandbox:
        return bubblewrap(folder)

    @pytest.mark.root
    def test_a_user_without_rights_is_confined_as_well(self, tmp_path: Path) -> None:
        if os.getuid():
            pytest.skip("needs root to become another user: the other tests ran as a user without rights instead")
        for folder in (tmp_path, *tmp_path.parents[:3]):
            folder.chmod(0o755)
        work = tmp_path / "work"
        work.mkdir()
        os.chown(work, NOBODY, NOBODY)
        (tmp_path / "diary").write_text("a secret")
        line = "id -u; cat ../diary; touch made ../made; ls /proc | grep -c '^[0-9]'"
        profile = Profile(name="nobody", argv=("sh", "-c", line), cwd=str(work), env={"PATH": os.defpath}, nonce="")
        profile = bubblewrap(tmp_path / "sandbox").confine(profile, Bounds(write=(str(work),)))
        ran = subprocess.run(
            profile.argv, cwd=work, env=profile.env, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True
        )
        uid, processes = ran.stdout.split()
        assert (uid, int(processes) < 8, os.listdir(work)) == (str(NOBODY), True, ["made"]), ran
        assert "No such file" in ran.stderr
