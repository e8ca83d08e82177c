"""What Skep may weigh: installed, and in memory while it works."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

from tests.interfaces.cli.terminal import User
from tests.runtime.traces import left_behind
from tests.workspace.repository import Repository

ROOT = Path(__file__).parents[1]
#: Bytes that the base may take once it is installed, and kB of memory that the owner and its keeper may take.
INSTALLED, MEMORY = 60_000_000, 80_000


def test_the_base_installs_in_little_room() -> None:
    lock = (ROOT / "requirements" / "base.txt").read_text()
    sizes = {"skep": sum(path.stat().st_size for path in (ROOT / "src").rglob("*") if path.is_file())}
    for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE):
        found = (Path(str(file.locate())) for file in distribution(name).files or ())
        sizes[name] = sum(path.stat().st_size for path in found if path.is_file())
    assert len(sizes) > 5
    assert sum(sizes.values()) < INSTALLED, sizes


def test_the_control_plane_works_in_little_memory(tmp_path: Path) -> None:
    repo = Repository(tmp_path / "work")
    repo.commit({"a.txt": "one\n"})
    user = User(repo, tmp_path)
    gate = user.gate("gate")
    tasks = "".join(f"  n{n}: {{run: seq 10000; echo {n} > f{n}, verify: test -s f{n}}}\n" for n in range(30))
    last = (
        f"  last: {{needs: [{', '.join(f'n{n}' for n in range(30))}], run: echo at the gate; read -r x < {gate}, mode: none}}\n"
    )
    user.write("w.yaml", f"version: 1\nname: w\ntasks:\n{tasks}{last}")
    try:
        live = user.start("run", "w.yaml")
        live.until("last")
        keepers = [int(line.split(":")[0]) for line in left_behind(repo.top) if "keeper" in line]
        assert keepers
        most = {pid: peak(pid) for pid in (live.process.pid, *keepers)}
        assert sum(most.values()) < MEMORY, most
        user.open(gate)
        assert live.end().code == 0
    finally:
        user.close()


def peak(pid: int) -> int:
    """The most memory that a process had, in kB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])
