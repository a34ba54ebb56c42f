"""The command line of `python -m local` as far as it needs no run: usage, exit codes and messages."""

import pytest

from local.command_line import main
from local.host.state_dir import StateDir


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--http-port", "99999"], "65535"),
        (["--websocket-port", "-1"], "65535"),
        (["--lambda-port", "http"], "65535"),
        (["--also", "x='a"], "No closing quotation"),
        (["--also", "x"], "NAME=COMMAND"),
        (["--environments", "many"], "at least 1"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, word, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert word in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("verb", [["--down"], ["--reset"], ["--stop-store", "redis"]])
def test_a_state_directory_that_is_a_file_is_told(verb, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--state-dir", str(tmp_path / "file"), *verb]) == 1
    assert capsys.readouterr().err.startswith("local: ")


@pytest.mark.parametrize("verb", ["--down", "--reset"])
def test_where_nothing_runs_or_is_kept_the_line_says_so(verb, tmp_path, capsys):
    folder = tmp_path / "none"
    assert main(["--state-dir", str(folder), verb]) == 0
    assert capsys.readouterr().out == f"Nothing was running in {folder}.\n"


def test_reset_says_what_it_deleted_where_nothing_ran(tmp_path, capsys):
    state = StateDir(tmp_path / "state")
    state.open()
    state.close()
    assert main(["--state-dir", str(state.path), "--down"]) == 0
    assert capsys.readouterr().out == f"Nothing was running in {state.path}.\n"
    assert main(["--state-dir", str(state.path), "--reset"]) == 0
    assert (
        capsys.readouterr().out
        == f"Nothing was running in {state.path}. Deleted its votes, passwords and cookie keys.\n"
    )
