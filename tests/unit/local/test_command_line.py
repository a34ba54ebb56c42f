"""The command line of `python -m local` as far as it needs no run: usage, exit codes and messages."""

import pytest

from local.command_line import main


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
