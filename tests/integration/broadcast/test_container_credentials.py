"""The role's credentials where Lambda serves them on a local address."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.management_api import ManagementApi
from voting.broadcast.container_credentials import ContainerCredentials, NoCredentials, role_credentials
from voting.broadcast.poster import Poster
from voting.broadcast.sigv4 import Credentials


class Lambda(HTTPServer):
    """Serves credentials to those who know the token, each time others."""

    valid_for = timedelta(hours=6)
    body: bytes | None = None
    served = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/2021-12-01/credentials"


class Handler(BaseHTTPRequestHandler):
    server: Lambda

    def do_GET(self) -> None:
        known = self.headers["authorization"] == "the-token" and self.path == "/2021-12-01/credentials"
        self.server.served += 1
        expiration = (datetime.now(UTC) + self.server.valid_for).strftime("%Y-%m-%dT%H:%M:%SZ")
        keys = {"AccessKeyId": f"AKID{self.server.served}", "SecretAccessKey": "s", "Token": "t"}
        self.send_response(200 if known else 403)
        self.end_headers()
        whole = json.dumps(keys | {"Expiration": expiration}).encode()
        self.wfile.write((whole if self.server.body is None else self.server.body) if known else b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Lambda]:
    with Lambda() as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def test_they_are_fetched_once_and_again_before_they_expire(server: Lambda) -> None:
    credentials = ContainerCredentials(server.url, "the-token")
    assert [credentials.current() for _ in range(2)] == [Credentials("AKID1", "s", "t")] * 2
    server.valid_for = timedelta(minutes=5)
    short = ContainerCredentials(server.url, "the-token")
    assert [short.current().access_key for _ in range(2)] == ["AKID2", "AKID3"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"AccessKeyId": "a"}', b"not json"])
def test_an_answer_without_credentials_is_said(server: Lambda, body: bytes) -> None:
    server.body = body
    with pytest.raises(NoCredentials):
        ContainerCredentials(server.url, "the-token").current()


def test_a_refusal_and_a_server_that_is_away_are_said(server: Lambda) -> None:
    with pytest.raises(NoCredentials, match="KeyError"):
        ContainerCredentials(server.url, "another").current()
    with pytest.raises(NoCredentials, match="ConnectionRefusedError"):
        ContainerCredentials("http://127.0.0.1:9/x", "the-token").current()


def test_the_environment_says_where_they_are(server: Lambda) -> None:
    served = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the-token"}
    keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s"}
    assert role_credentials(served).current() == Credentials("AKID1", "s", "t")
    assert role_credentials(keys).current() == Credentials("AKID", "s")
    assert role_credentials(served | keys).current() == Credentials("AKID", "s")


def test_frames_are_signed_with_them(server: Lambda, api: ManagementApi) -> None:
    credentials = ContainerCredentials(server.url, "the-token")
    poster = Poster(f"ws://127.0.0.1:{api.port}/live", "eu-central-1", credentials)
    assert poster.post(["c="], b"{}").sent
    assert server.served == 1
    poster.close()
