"""A state directory whose name could confuse a configuration file or a shell: covers state_dir with both stores."""

import os
import subprocess

import pytest
from redis import Redis

from local.host.state_dir import StateDir, StateError
from tests.integration.local.project import ROOT, Project

NAMES = [
    'a "quote" and it\'s #1',
    "back\\slash \\x41\\n",
    " $HOME `id` %s ünïcode € ",
    os.fsdecode(b"tab\tand\x1b[0m, no UTF-8 \xff"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_state_directory_of_any_name_keeps_its_data(project: Project, name: str) -> None:
    project.state = project.folder / name
    run = project.up()
    with Redis.from_url(run["redis"]) as redis:
        redis.lpush("votes", "kept")
    assert project.do("--down").returncode == 0
    assert (project.state / "valkey" / "appendonlydir").is_dir()
    with Redis.from_url(project.up()["redis"]) as redis:
        assert redis.lrange("votes", 0, -1) == [b"kept"]
    assert project.do("--reset").returncode == 0
    assert not project.state.exists()


@pytest.mark.parametrize("name", ["a 'b' \"c\" \\d #e $f", os.fsdecode(b"\xff")])
def test_postgres_starts_there_too(project: Project, name: str) -> None:
    project.state = project.folder / name
    project.up(postgres=True)
    assert project.do("--down").returncode == 0


@pytest.mark.parametrize("name", ["two\nlines", "a\rreturn", "two\nlines/below"])
def test_a_line_break_is_refused_in_a_sentence(project: Project, name: str) -> None:
    project.state = project.folder / name
    refused = project.do()
    assert refused.returncode == 1
    assert refused.stderr.startswith("local: ")
    assert "line break" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not project.state.exists()


def test_a_name_that_is_too_long_is_refused_in_a_sentence(tmp_path) -> None:
    with pytest.raises(StateError, match="too long"):
        StateDir(tmp_path / ("x" * 300)).open()


@pytest.mark.parametrize("name", ["a space", "it's", 'a "quote" #1', "back\\slash"])
def test_make_hands_the_name_on_as_it_is(tmp_path, name: str) -> None:
    """`make down` alone: it names what it was given if that cannot be a state directory."""
    (tmp_path / name).write_text("a file", encoding="utf-8")
    command = ["make", "--silent", "down", f"STATE_DIR={tmp_path / name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"the state directory {tmp_path / name} cannot be used" in done.stderr
