import pytest

from local.command_line import main
from local.hosts import Hosts, is_name


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:3000",
        "127.0.0.1",
        "localhost:3000",
        "LocalHost",
        "localhost.",
        "[::1]:3000",
        "[::1]",
        "127.8.9.10",
        "[::ffff:127.0.0.1]:3000",
    ],
)
def test_loopback_names_are_always_served(host: str) -> None:
    assert Hosts().admits(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:3000",
        "evil.example",
        "127.0.0.1.evil.example:3000",
        "localhost.evil.example",
        "evil-localhost",
        "evil.localhost.example:3000",
        "0.0.0.0:3000",
        "[::]:3000",
        "[::ffff:10.0.0.1]:3000",
        "[::1%25lo]:3000",
        "192.168.1.7:3000",
        "128.0.0.1",
        "127.1",
        "2130706433",
        "localhost:evil.example",
        "localhost:3000@evil.example",
        "evil.example@localhost",
        "localhost, evil.example",
        "localhost/evil.example",
        "localhost\x00",
        "localhost\n",
        "[::1].evil.example",
        "[127.0.0.1].evil.example",
        "١٢٧.0.0.1",
        "",
    ],
)
def test_a_name_that_a_page_can_point_here_is_not(host: str) -> None:
    assert not Hosts(["vote.example"]).admits(host)


@pytest.mark.parametrize("host", ["vote.example", "Vote.Example:443", "vote.example.", "192.168.1.7:8080"])
def test_a_listed_name_is_served_with_any_port(host: str) -> None:
    assert Hosts(["VOTE.example.", "192.168.1.7"]).admits(host)


@pytest.mark.parametrize("text", ["http://vote.example", "vote.example:3000", "", "*", "a b", "vote.example/"])
def test_only_a_name_is_listed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_name(text)
    with pytest.raises(SystemExit):
        main(["--allow-host", text])
    assert "without scheme and port" in capsys.readouterr().err
