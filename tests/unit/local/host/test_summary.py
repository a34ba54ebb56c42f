"""What a run says of itself once it is up."""

from pathlib import Path

from local.host.summary import summary

HTTP, LAMBDA = "http://127.0.0.1:1", "http://127.0.0.1:3"


def test_it_names_every_page_and_address() -> None:
    urls = {"http": HTTP, "websocket": "ws://127.0.0.1:2/live", "lambda": LAMBDA, "redis": "redis://:secret@x"}
    said = summary(1.25, ["/", "/results"], urls, Path("/state/run.json"))
    assert said.splitlines() == [
        "",
        "Up after 1.2 s. Ctrl-C stops it.",
        f"  HTTP        {HTTP}/",
        f"  HTTP        {HTTP}/results",
        "  WebSocket   ws://127.0.0.1:2/live",
        f"  Lambda      {LAMBDA}",
        "  Stores      their addresses with passwords are in /state/run.json",
    ]


def test_a_file_below_the_working_directory_is_named_from_there() -> None:
    said = summary(1.0, [], {"http": HTTP, "lambda": LAMBDA}, Path.cwd() / ".local" / "run.json")
    assert "are in .local/run.json" in said
    assert "WebSocket" not in said
