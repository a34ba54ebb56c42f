import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.state import AlreadyRunning, StateDir, StateError


@pytest.fixture
def state(tmp_path: Path):
    state = StateDir(tmp_path / "state")
    state.open()
    yield state
    state.close()


def test_secrets_are_made_up_once_and_are_the_owners_alone(state):
    first = state.secret("key", 40)
    assert len(first) >= 40
    assert StateDir(state.path).secret("key", 40) == first
    assert (state.path / "secrets.json").stat().st_mode & 0o777 == 0o600


OLDER = {"CookieKeys": "o" * 32, "valkey": "v" * 32, "postgres": "p" * 32}


def write_secrets(state: StateDir, known: dict[str, str]) -> None:
    (state.path / "secrets.json").write_text(json.dumps(known), encoding="utf-8")


def test_a_secret_of_an_earlier_version_stays_under_its_new_name(state):
    write_secrets(state, OLDER)
    for _ in range(2):  # it is shorter than one made up now
        assert state.secret("CookieSecret", 64, "CookieKeys") == OLDER["CookieKeys"]
    assert state.secret("valkey") == OLDER["valkey"]


def test_a_secret_that_has_replaced_an_earlier_one_stays(state):
    write_secrets(state, OLDER | {"CookieSecret": "n" * 64})
    assert state.secret("CookieSecret", 64, "CookieKeys") == "n" * 64


@pytest.mark.parametrize("known", [{}, {"CookieKeys": ""}, {"CookieSecret": "short"}])
def test_a_secret_without_an_earlier_one_is_made_up(state, known):
    write_secrets(state, known)
    first = state.secret("CookieSecret", 64, "CookieKeys")
    assert len(first) == 64
    assert state.secret("CookieSecret", 64, "CookieKeys") == first


def test_a_second_run_is_refused_and_told_about_the_first(state):
    state.announce({"http": "http://127.0.0.1:1", "pid": 1})
    with pytest.raises(AlreadyRunning, match=r"http://127\.0\.0\.1:1"):
        StateDir(state.path).open()


def test_run_json_is_private_and_gone_at_the_end(state):
    state.announce({"http": "x"})
    assert state.run_file.stat().st_mode & 0o777 == 0o600
    state.close()
    assert not state.run_file.exists()
    assert state.holder() is None


def test_what_a_killed_run_left_does_not_hold_the_next_one(tmp_path):
    code = "import sys,os,pathlib; from local.state import StateDir\n"
    code += "s = StateDir(pathlib.Path(sys.argv[1])); s.open(); s.announce({'http': 'x'}); os.kill(os.getpid(), 9)"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "state")], cwd=root, check=False)
    state = StateDir(tmp_path / "state")
    assert state.run()
    state.open()
    assert not state.run()
    state.close()


def test_a_folder_with_other_files_is_neither_used_nor_deleted(tmp_path):
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    state = StateDir(tmp_path)
    with pytest.raises(StateError, match="--state-dir"):
        state.open()
    with pytest.raises(StateError, match="left alone"):
        state.forget()
    assert (tmp_path / "thesis.txt").exists()


def test_forgetting_what_is_not_there_is_fine(tmp_path):
    StateDir(tmp_path / "none").forget()


def test_ports_are_remembered(state):
    assert state.port("redis") is None
    state.keep_port("redis", 4711)
    assert StateDir(state.path).port("redis") == 4711


def test_a_file_is_no_state_directory(tmp_path):
    (tmp_path / "file").touch()
    state = StateDir(tmp_path / "file")
    for use in (state.open, state.holder, state.run, state.forget):
        with pytest.raises(StateError, match="file"):
            use()
    assert (tmp_path / "file").is_file()


def test_a_directory_that_may_not_be_used_is_told(state):
    (state.path / "lock").unlink()
    (state.path / "lock").mkdir()  # also refused to root, who may run this
    with pytest.raises(StateError, match="cannot be used"):
        state.holder()


def test_a_link_is_not_forgotten_in_place_of_what_it_points_at(state, tmp_path):
    (tmp_path / "link").symlink_to(state.path)
    with pytest.raises(StateError, match="symbolic link"):
        StateDir(tmp_path / "link").forget()
    assert state.is_ours()


@pytest.mark.parametrize("written", ["", '{"http": ', "\udcff"])
def test_a_half_written_file_is_told_with_its_name(state, written):
    state.run_file.write_text(written, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(StateError, match=r"run\.json"):
        state.run()
