"""boto3's clients where one of a service's addresses leads nowhere."""

import json
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, SSLError

from tests import certificate
from tests.aws_endpoint import AwsEndpoint, serving
from tests.management_api import ManagementApi
from tests.resolver import Answer, black_hole, ipv4, ipv6, resolve_to
from voting.aws import race_connections
from voting.clients import Clients
from voting.database.credentials import fetch_database_user
from voting.database.session import SecretUnreadable
from voting.settings import Settings

ARN = "arn:aws:secretsmanager:eu-central-1:1:secret:x"
LOGIN = {"username": "voting", "password": "of the database"}
DUAL_STACK = {"AWS_USE_DUALSTACK_ENDPOINT": "true"}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The clients of other tests race no addresses."""
    yield
    AWSHTTPConnectionPool.ConnectionCls = AWSHTTPConnection
    AWSHTTPSConnectionPool.ConnectionCls = AWSHTTPSConnection


@pytest.fixture
def hole() -> Iterator[int]:
    with black_hole() as port:
        yield port


@pytest.fixture
def secrets_manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEndpoint]:
    secret = json.dumps({"SecretString": json.dumps(LOGIN)}).encode()
    with serving(monkeypatch, "SECRETS_MANAGER", lambda: (200, secret)) as endpoint:
        yield endpoint


def invoke(client: Any) -> None:
    answer = client.invoke(FunctionName="ws_broadcast", InvocationType="Event", Payload=b"{}")
    answer["Payload"].read()


@pytest.mark.parametrize(("dead", "alive"), [(ipv4, ipv6), (ipv6, ipv4), (ipv4, ipv4)])
@pytest.mark.parametrize("prefers_ipv6", [True, False])
def test_a_secret_is_read_though_the_first_address_leads_nowhere(
    secrets_manager: AwsEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    hole: int,
    dead: Callable[[int], Answer],
    alive: Callable[[int], Answer],
    *,
    prefers_ipv6: bool,
) -> None:
    resolve_to(monkeypatch, dead(hole), alive(secrets_manager.server_port))
    user = fetch_database_user(ARN, prefers_ipv6=prefers_ipv6)
    assert user == {"user": LOGIN["username"], "password": LOGIN["password"]}


def test_a_function_is_invoked_though_the_first_address_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, hole: int
) -> None:
    with serving(monkeypatch, "LAMBDA", lambda: (202, b"")) as endpoint:
        resolve_to(monkeypatch, ipv4(hole), ipv6(endpoint.server_port))
        client = Clients(Settings({})).lambda_()
        for _ in range(2):
            invoke(client)
        assert endpoint.requests == [b"{}", b"{}"]
        assert endpoint.connections == 1


def test_an_address_that_leads_nowhere_is_not_waited_for_whatever_the_timeout(
    monkeypatch: pytest.MonkeyPatch, hole: int
) -> None:
    race_connections(prefers_ipv6=False)
    with serving(monkeypatch, "LAMBDA", lambda: (202, b"")) as endpoint, ThreadPoolExecutor() as threads:
        resolve_to(monkeypatch, ipv4(hole), ipv4(hole), ipv6(endpoint.server_port))
        client = boto3.client("lambda", config=Config(connect_timeout=3600))
        threads.submit(invoke, client).result(
            60
        )  # one address after the other, the kernel alone takes two minutes each
        assert endpoint.connections == 1


def test_with_dual_stack_endpoints_ipv4_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        unwanted, wanted = (stack.enter_context(serving(monkeypatch, "LAMBDA", lambda: (202, b""))) for _ in range(2))
        resolve_to(monkeypatch, ipv4(unwanted.server_port), ipv6(wanted.server_port))
        invoke(Clients(Settings(DUAL_STACK)).lambda_())
        assert (unwanted.connections, wanted.connections) == (0, 1)


@pytest.mark.parametrize("dead", [ipv4, ipv6])
def test_a_service_of_which_no_address_answers_is_unreachable_with_a_reason(
    secrets_manager: AwsEndpoint, monkeypatch: pytest.MonkeyPatch, hole: int, dead: Callable[[int], Answer]
) -> None:
    resolve_to(monkeypatch, dead(hole), dead(hole))
    with pytest.raises(SecretUnreadable, match="ConnectTimeoutError"):
        fetch_database_user(ARN, prefers_ipv6=True)
    resolve_to(monkeypatch, dead(1), dead(1))
    with pytest.raises(SecretUnreadable, match="EndpointConnectionError"):
        fetch_database_user(ARN, prefers_ipv6=True)
    assert not secrets_manager.requests


def test_a_name_without_an_address_is_told_as_boto3_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(monkeypatch, "LAMBDA", lambda: (202, b"")):
        resolve_to(monkeypatch)
        with pytest.raises(EndpointConnectionError):
            invoke(Clients(Settings({})).lambda_())


def test_certificates_are_checked_on_the_address_that_won(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hole: int
) -> None:
    pem = certificate.write(tmp_path / "loopback.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    with serving(monkeypatch, "LAMBDA", lambda: (202, b"")), closing(ManagementApi(lambda *_: 200, tls)) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"https://127.0.0.1:{service.port}")
        resolve_to(monkeypatch, ipv4(hole), ipv6(service.port))
        with pytest.raises(SSLError):
            invoke(Clients(Settings({})).lambda_())
        monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
        invoke(Clients(Settings({})).lambda_())
        assert service.posts.total() == 1
