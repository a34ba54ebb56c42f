"""The state directory, and who may own it: covers state_dir and ownership."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local.host.ownership import Foreign, open_own
from local.host.state_dir import AlreadyRunning, StateDir, StateError

ROOT = Path(__file__).parents[4]


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
    write(state.path / "secrets.json", json.dumps(known))


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.touch()
    path.chmod(mode)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


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
    code = "import sys,os,pathlib; from local.host.state_dir import StateDir\n"
    code += "s = StateDir(pathlib.Path(sys.argv[1])); s.open(); s.announce({'http': 'x'}); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "state")], cwd=ROOT, check=False)
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
    write(state.run_file, written)
    with pytest.raises(StateError, match=r"run\.json"):
        state.run()


# ---------------------------------------------------------------- a directory that another user has prepared


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A state directory as an earlier run left it."""
    state = StateDir(tmp_path / "state")
    state.open()
    state.secret("valkey")
    state.keep_port("redis", 4711)
    state.close()
    return state.path


KEPT = ["lock", "run.json", "secrets.json", "ports.json"]


def refused(path: Path, words: str) -> None:
    with pytest.raises(StateError, match=words) as caught:
        StateDir(path).open()
    assert "\n" not in str(caught.value)
    assert "--state-dir" in str(caught.value) or "--reset" in str(caught.value)


@pytest.mark.parametrize("name", KEPT)
def test_a_link_in_place_of_a_file_is_refused_and_what_it_points_at_stays(prepared: Path, tmp_path: Path, name) -> None:
    victim = tmp_path / "victim"
    write(victim, '{"valkey": "of the victim"}')
    (prepared / name).unlink(missing_ok=True)
    (prepared / name).symlink_to(victim)
    refused(prepared, f"{name} is a symbolic link")
    assert victim.read_text() == '{"valkey": "of the victim"}'


@pytest.mark.parametrize("name", KEPT)
def test_a_link_to_nothing_makes_no_file(prepared: Path, tmp_path: Path, name) -> None:
    (prepared / name).unlink(missing_ok=True)
    (prepared / name).symlink_to(tmp_path / "made")
    refused(prepared, "symbolic link")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", KEPT)
def test_a_second_name_of_a_victims_file_is_refused(prepared: Path, tmp_path: Path, name) -> None:
    write(tmp_path / "victim", "years")
    (prepared / name).unlink(missing_ok=True)
    (prepared / name).hardlink_to(tmp_path / "victim")
    refused(prepared, "hard link")
    assert (tmp_path / "victim").read_text() == "years"


@pytest.mark.parametrize("name", KEPT)
def test_a_fifo_in_place_of_a_file_is_refused_and_not_waited_for(prepared: Path, name) -> None:
    (prepared / name).unlink(missing_ok=True)
    os.mkfifo(prepared / name, 0o600)
    refused(prepared, "not a plain file")


def test_a_socket_in_place_of_a_file_is_refused(prepared: Path, monkeypatch) -> None:
    monkeypatch.chdir(prepared)  # a socket's path may have 108 bytes
    (prepared / "secrets.json").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("secrets.json")
        refused(prepared, "not a plain file")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
@pytest.mark.parametrize("name", ["secrets.json", "run.json"])
def test_secrets_that_others_can_read_are_refused(prepared: Path, mode, name) -> None:
    write(prepared / name, '{"CookieKeys": "known to its author"}', mode)
    refused(prepared, "can read")


@pytest.mark.parametrize("mode", [0o620, 0o602])
@pytest.mark.parametrize("name", KEPT)
def test_a_file_that_others_can_write_to_is_refused(prepared: Path, mode, name) -> None:
    write(prepared / name, "{}", mode)
    refused(prepared, "can write")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o757])
def test_a_folder_that_others_can_write_to_is_refused_by_every_use(prepared: Path, mode) -> None:
    prepared.chmod(mode)
    state = StateDir(prepared)
    for use in (state.open, state.holder, state.forget):
        with pytest.raises(StateError, match="can write"):
            use()
    assert (prepared / "secrets.json").exists()


def test_an_empty_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    refused(tmp_path / "shared", "can write")
    assert not any((tmp_path / "shared").iterdir())


@pytest.mark.parametrize("below", [".", "a", "a/b"])
def test_a_folder_that_every_user_can_replace_is_refused(tmp_path: Path, below) -> None:
    shared = tmp_path / "shared"
    (shared / below).mkdir(parents=True)
    shared.chmod(0o777)
    refused(shared / below / "state", "every user can replace")
    shared.chmod(0o1777)  # as /tmp
    state = StateDir(shared / below / "state")
    state.open()
    state.close()


def of_another_user(tmp_path: Path, *, folder: bool) -> Path:
    if os.geteuid() != 0:  # who cannot give anything away finds something that is root's
        return Path("/usr" if folder else "/etc/passwd")
    path = tmp_path / "theirs"
    path.mkdir(0o755) if folder else write(path, "{}")
    os.chown(path, 65534, 65534)
    return path


def test_a_folder_of_another_user_is_refused_by_every_use(tmp_path: Path) -> None:
    path = of_another_user(tmp_path, folder=True)
    refused(path, "belongs to another user")
    with pytest.raises(StateError, match="belongs to another user"):
        StateDir(path).holder()  # by whose lock --down would end a process


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Foreign, match="belongs to another user"):
        open_own(of_another_user(tmp_path, folder=False), os.O_RDONLY)


@pytest.mark.parametrize("text", ["-1", "0", "1", "none", "", "12 34", "\udcff", "٤٢"])
def test_a_lock_that_names_no_process_ends_none(prepared: Path, text) -> None:
    write(prepared / "lock", text)
    with (prepared / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert StateDir(prepared).holder() == 0


@pytest.mark.parametrize("name", ["valkey", "postgres"])
def test_a_link_in_place_of_a_stores_folder_is_refused(prepared: Path, tmp_path: Path, name) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    (prepared / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="symbolic link"):
        StateDir(prepared).folder(name, 0o700)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_the_command_says_so_in_one_line(prepared: Path, tmp_path: Path) -> None:
    (prepared / "lock").unlink()
    (prepared / "lock").symlink_to(tmp_path / "victim")
    command = [sys.executable, "-m", "local", "--state-dir", str(prepared)]
    for verb in ([], ["--down"], ["--reset"], ["--stop-store", "redis"]):
        done = subprocess.run([*command, *verb], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert done.stderr.startswith(f"local: {prepared / 'lock'} is a symbolic link")
    assert not (tmp_path / "victim").exists()
