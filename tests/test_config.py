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
        ("[store]\nurl = 'http://u:p@localhost'", "store.url is 'http://u:***@localhost'"),
        ("[store]\nreplicas = -1", "store.replicas is -1"),
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


def test_no_list_of_settings_shows_the_password_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "skep.toml").write_text("[store]\nreplicas = 2\n")
    found = config.settings(tmp_path, {"SKEP_STORE_URL": "redis://u:secret@h/1"})
    assert {one.name: one.value for one in found if one.name in ("store.url", "store.replicas")} == {
        "store.url": "redis://u:***@h/1",
        "store.replicas": 2,
    }


def test_the_place_of_large_blobs_is_named_without_credentials(tmp_path: Path) -> None:
    shared = {"SKEP_STORE_URL": "redis://h", "SKEP_STORE_BLOBS": "sftp://skep@host/blobs"}
    assert config.load(tmp_path, shared).store.blobs == "sftp://skep@host/blobs"
    with pytest.raises(Invalid, match="no Redis is named"):
        config.load(tmp_path, shared | {"SKEP_STORE_URL": ""})
    for wrong in ("sftp://skep:hidden@host/blobs", "s3://bucket?key=hidden"):
        with pytest.raises(Invalid, match="without password") as caught:
            config.load(tmp_path, shared | {"SKEP_STORE_BLOBS": wrong})
        assert "hidden" not in str(caught.value)
    (tmp_path / "skep.toml").write_text("[store]\nsmall = 67108865\n")
    with pytest.raises(Invalid, match=r"store\.small"):
        config.load(tmp_path, {})


async def test_a_workspace_can_be_held_in_memory_alone(tmp_path: Path) -> None:
    memory = config.Config(store=config.StoreConfig(url="memory:"))
    async with skep.open(tmp_path, memory) as hive:
        session = await hive.session("bench")
        result = await (await session.submit(skep.Task(run="echo x > $SKEP_OUT/o", outputs={"o": "o"}, mode="none"))).result()
        assert result.outputs["o"].text == "x\n"
    assert not (tmp_path / ".skep" / "skep.db").exists()
    async with skep.open(tmp_path, memory) as hive:
        assert await hive.sessions() == []


@pytest.mark.parametrize("remote", ["https://ada:secret@git.example/x.git", "--upload-pack=touch", "ext::sh -c touch"])
def test_a_shared_repository_is_named_without_a_password_or_a_program(tmp_path: Path, remote: str) -> None:
    (tmp_path / "skep.toml").write_text(f'[store]\nurl = "redis://"\nremote = "{remote}"\n')
    with pytest.raises(Invalid) as caught:
        config.load(tmp_path, {})
    assert "store.remote" in caught.value.message
    assert "secret" not in caught.value.message
    (tmp_path / "skep.toml").write_text('[store]\nremote = "git@git.example:x.git"\n')
    with pytest.raises(Invalid, match="no Redis is named"):
        config.load(tmp_path, {})
    assert config.load(tmp_path, {"SKEP_STORE_URL": "redis://"}).store.remote == "git@git.example:x.git"
