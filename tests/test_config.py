"""The configuration: what is wrong in it is named with file and setting, and nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest

import skep
from skep import config
from skep.errors import Invalid


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("agent = 3", "agent"),
        ("agents = 'many'", "agents"),
        ("agents = -1", "agents is -1"),
        ("agents = 10001", "agents is 10001"),
        ("agents = true", "agents"),
        ("[placement]\nprofile = 'fast'", "placement.profile"),
        ("[placement]\nweights = {luck = 1.0}", "no factor 'luck' in placement.weights"),
        ("[placement]\nweights = {cost = -1.0}", "placement.weights must not be negative"),
        ("[placement]\nweights = {cost = 'x'}", "placement.weights"),
        ("placement = 3", "placement"),
        ("[environment]\nallow = 'PATH'", "environment.allow"),
        ("[environment]\nallow = [1]", "environment.allow"),
        ("[terminals]\npool = 0", "terminals.pool is 0"),
        ("[terminals]\nsize = 3", "terminals"),
        ("[store]\nurl = 'redis://localhost'", "store.url is 'redis://localhost'"),
        ("agents = ", "skep.toml"),
        ("agents = 1\nagents = 2", "skep.toml"),
    ],
)
async def test_a_mistake_is_named_with_file_and_setting_and_nothing_is_started(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "skep.toml").write_text(text)
    with pytest.raises(Invalid) as caught:
        async with skep.open(tmp_path):
            pass
    assert "skep.toml" in caught.value.message or says.startswith("store")
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / ".skep").exists()


def test_a_file_that_is_no_text_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "skep.toml").write_bytes(b"agents = \xff\xfe")
    with pytest.raises(Invalid, match=r"skep\.toml"):
        config.load(tmp_path, {})


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", " 3", "99999"])
def test_a_variable_that_is_no_number_is_named(tmp_path: Path, value: str) -> None:
    with pytest.raises(Invalid, match=r"SKEP_AGENTS|agents is"):
        config.load(tmp_path, {"SKEP_AGENTS": value})


def test_the_environment_comes_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    assert config.load(tmp_path, {}) == config.Config()
    (tmp_path / "skep.toml").write_text(
        "agents = 3\n[placement]\nprofile = 'routing'\nweights = {cost = 1}\n[terminals]\npool = 9\n"
    )
    found = config.load(tmp_path, {"SKEP_AGENTS": "5", "SKEP_STORE_URL": "memory:"})
    assert (found.agents, found.store.url, found.terminals.pool) == (5, "memory:", 9)
    assert (found.placement.profile, found.placement.weights) == ("routing", {"cost": 1.0})
    assert config.load(tmp_path, {}).agents == 3


async def test_a_workspace_can_be_held_in_memory_alone(tmp_path: Path) -> None:
    memory = config.Config(store=config.StoreConfig(url="memory:"))
    async with skep.open(tmp_path, memory) as hive:
        session = await hive.session("bench")
        result = await (await session.submit(skep.Task(run="echo x > $SKEP_OUT/o", outputs={"o": "o"}, mode="none"))).result()
        assert result.outputs["o"].text == "x\n"
    assert not (tmp_path / ".skep" / "skep.db").exists()
    async with skep.open(tmp_path, memory) as hive:
        assert await hive.sessions() == []
