"""The hook of CodeDeploy: the function smoke tries new versions by Lambda's API, and gives its verdict.

Covers smoke, lifecycle_hook and dry_post. The versions are the real handlers on real stores, or those of a whole local
run; moto has no verdicts, so CodeDeploy is an endpoint of ours.
"""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from awslambdaric.lambda_context import LambdaContext
from redis import Redis

from tests import aws_endpoint
from tests.aws_endpoint import AwsEndpoint
from tests.conftest import Handler, event
from tests.deployment import answering
from tests.management_api import CLOSE, ManagementApi
from tests.redis_server import free_port, serving
from tests.stack import Stack
from voting.ops import smoke

HOOK = event("codedeploy-hook")
VERSIONS = {
    "VOTE_VERSION": "arn:aws:lambda:eu-central-1:123456789012:function:VoteFunction:7",
    "RESULT_VERSION": "arn:aws:lambda:eu-central-1:123456789012:function:ResultFunction:7",
    "BROADCAST_FUNCTION": "WsBroadcastFunction",
}
LIVE_VERSIONS = {"WS_CONNECT_VERSION": "arn:aws:lambda:eu-central-1:123456789012:function:WsConnectFunction:7"}
FOLDERS = {
    "VoteFunction": "vote",
    "ResultFunction": "result",
    "WsBroadcastFunction": "ws_broadcast",
    "WsConnectFunction": "ws_connect",
}


@dataclass
class Versions:
    """Lambda's API, with the handlers of the functions behind it."""

    handler: Callable[[str], Handler]
    context: LambdaContext
    env: Mapping[str, str] = field(default_factory=dict)  # of the new versions, where it differs from the tests'
    refusals: int = 0  # so many invocations are refused before the role's right is known everywhere
    invoked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    loaded: dict[str, Handler] = field(default_factory=dict)  # an execution environment of each

    def invoke(self, path: str, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        name = unquote(path).removeprefix("/2015-03-31/functions/").removesuffix("/invocations")
        asked = json.loads(body)
        self.invoked.append((name, asked))
        if self.refusals:
            self.refusals -= 1
            return 403, b'{"Message": "no"}', {"X-Amzn-ErrorType": "AccessDeniedException"}
        folder = FOLDERS[name.partition("function:")[2].partition(":")[0] or name]
        with pytest.MonkeyPatch.context() as patch:
            for setting, value in self.env.items():
                patch.setenv(setting, value)
            try:
                handle = self.loaded.setdefault(folder, self.handler(folder))
                return 200, json.dumps(handle(asked, self.context)).encode(), {}
            except Exception as error:  # noqa: BLE001 - as Lambda does
                said = {"errorType": type(error).__name__, "errorMessage": "postgresql://u:a-secret@x"}
                return 200, json.dumps(said).encode(), {"X-Amz-Function-Error": "Unhandled"}

    def close(self) -> None:
        for handle in self.loaded.values():
            made = getattr(handle, "__wrapped__", handle).__globals__
            for opened in (made.get("clients"), made.get("environment")):
                if opened is not None and opened.cache_info().currsize:
                    parts = opened()
                    for part in parts if isinstance(parts, tuple) else (parts,):
                        part.close()


@pytest.fixture
def codedeploy(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEndpoint]:
    with aws_endpoint.serving(monkeypatch, "CODEDEPLOY", lambda: (200, b"{}")) as endpoint:
        yield endpoint


@pytest.fixture
def nobody() -> Iterator[ManagementApi]:
    """API Gateway's management API, where nobody is connected."""
    api = ManagementApi(lambda _id, _posts: 410)
    yield api
    api.close()


@pytest.fixture
def versions(
    handler: Callable[[str], Handler], context: LambdaContext, nobody: ManagementApi, monkeypatch, redis: Redis
) -> Iterator[Versions]:
    made = Versions(handler, context, {"WEBSOCKET_URL": f"ws://127.0.0.1:{nobody.port}/live"})
    monkeypatch.setattr(smoke, "TRY_AGAIN_FOR_S", 0.0)
    monkeypatch.setattr(smoke, "PAUSE_S", 0.0)
    with ExitStack() as closing:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", closing.enter_context(answering(made.invoke)))
        yield made
    made.close()


@pytest.fixture
def verdict(
    handler: Callable[[str], Handler], codedeploy: AwsEndpoint, context: LambdaContext, monkeypatch
) -> Callable[..., str]:
    """Call the hook that has *env*, and return the verdict that CodeDeploy was given."""
    hook = handler("smoke")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it keeps the credentials of the tests before

    def verdict(env: Mapping[str, str]) -> str:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        answer = hook(HOOK, context)
        given = json.loads(codedeploy.requests[-1])
        assert given == {
            "deploymentId": HOOK["DeploymentId"],
            "lifecycleEventHookExecutionId": HOOK["LifecycleEventHookExecutionId"],
            "status": answer["status"],
        }
        return str(given["status"])

    return verdict


@pytest.mark.parametrize("names", [VERSIONS, LIVE_VERSIONS], ids=["of vote and result", "of ws_connect"])
def test_sound_versions_get_traffic(verdict, versions: Versions, redis: Redis, database, names) -> None:
    assert verdict(names) == "Succeeded"
    assert {name for name, _ in versions.invoked} == set(names.values())
    assert redis.keys("*") == []


def test_a_whole_system_is_tried_and_stores_nothing(verdict, fresh: Stack, monkeypatch) -> None:
    monkeypatch.setattr(smoke, "TRY_AGAIN_FOR_S", 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", fresh.lambda_)
    for name in ("aws_access_key_id", "aws_secret_access_key"):
        monkeypatch.setenv(name.upper(), fresh.run[name])
    monkeypatch.setenv("AWS_DEFAULT_REGION", fresh.run["aws_region"])
    with Redis.from_url(fresh.redis) as redis:
        before = {key for key in redis.keys("*") if b"subscribers" in key or b"frames" in key}
        for names in (VERSIONS, LIVE_VERSIONS):
            assert verdict(names) == "Succeeded"
        assert redis.llen("votes") == 0
        assert {key for key in redis.keys("*") if b"subscribers" in key or b"frames" in key} == before
    assert fresh.results()["total"] == 0


@pytest.fixture
def broken(request: pytest.FixtureRequest, versions: Versions, nobody: ManagementApi, monkeypatch) -> Iterator[str]:
    """New versions with the fault that the test names."""
    with ExitStack() as closing:
        match request.param:
            case "the page raises":
                versions.env = {**versions.env, "COOKIE_KEYS": "short"}
            case "the results raise":
                versions.env = {**versions.env, "WEBSOCKET_URL": "none"}
            case "Redis takes no such password":
                url = closing.enter_context(serving("valkey"))
                with Redis.from_url(url) as redis:
                    redis.config_set("requirepass", "another")
                versions.env = {**versions.env, "REDIS_URL": url.replace("redis://", "redis://:old@")}
            case "Redis is full":
                url = closing.enter_context(serving("valkey", "--maxmemory 1"))
                versions.env = {**versions.env, "REDIS_URL": url}
            case "Postgres is away":
                versions.env = {**versions.env, "DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/x"}
            case "the role may not post":
                nobody.behaviour = lambda _id, _posts: 403
            case "there is no way out":
                versions.env = {**versions.env, "WEBSOCKET_URL": f"ws://127.0.0.1:{free_port()}/live"}
            case "the gateway hangs up":
                nobody.behaviour = lambda _id, _posts: CLOSE
            case "another server answers":
                nobody.behaviour = lambda _id, _posts: 200
        yield request.param


def reason(caplog: pytest.LogCaptureFixture) -> str:
    """What the log says of the refusal."""
    (record,) = [record for record in caplog.records if record.message == "the new version is refused"]
    return str(vars(record)["reason"])


OF_POSTS = ["the role may not post", "there is no way out", "the gateway hangs up", "another server answers"]
SEEN_BY = {
    "the page raises": "_page",
    "the results raise": "_page",
    "Redis takes no such password": "_health",
    "Redis is full": "_health",
    "Postgres is away": "_health",
    **dict.fromkeys(OF_POSTS, "_post"),
}
ALSO_SEEN_BY = {"the results raise": {"_post"}, "Postgres is away": {"_page"}}  # an address; results without a snapshot


@pytest.mark.parametrize(("broken", "check"), SEEN_BY.items(), indirect=["broken"])
def test_a_broken_version_gets_no_traffic(
    verdict, versions: Versions, broken: str, check: str, database, caplog, monkeypatch
) -> None:
    """And each fault is seen by one check alone, or by those that need the same."""
    assert verdict(VERSIONS) == "Failed"
    assert reason(caplog).endswith(".")
    assert "secret" not in reason(caplog)
    for name in {check, *ALSO_SEEN_BY.get(broken, set())}:
        monkeypatch.setattr(smoke, name, lambda *_: None)
    assert verdict(VERSIONS) == "Succeeded"


@pytest.mark.parametrize("broken", OF_POSTS[:2], indirect=True)
def test_a_ws_connect_that_cannot_post_gets_none_either(verdict, broken: str) -> None:
    assert verdict(LIVE_VERSIONS) == "Failed"


def test_an_id_that_the_gateway_finds_invalid_proves_as_much(verdict, versions, nobody: ManagementApi) -> None:
    nobody.behaviour = lambda _id, _posts: 400
    assert verdict(LIVE_VERSIONS) == "Succeeded"


def test_a_right_that_takes_effect_late_is_waited_for(verdict, versions: Versions, database, monkeypatch) -> None:
    monkeypatch.setattr(smoke, "TRY_AGAIN_FOR_S", 60.0)
    versions.refusals = 2
    assert verdict(VERSIONS) == "Succeeded"


def test_a_right_that_never_does_is_not(verdict, versions: Versions, caplog) -> None:
    versions.refusals = 9
    assert verdict(LIVE_VERSIONS) == "Failed"
    assert reason(caplog) == "AWS does not let ws_connect be invoked (AccessDeniedException)."


def test_a_version_that_hangs_is_not_waited_for(verdict, monkeypatch) -> None:
    """A server that accepts and never answers."""
    monkeypatch.setattr(smoke, "TRY_AGAIN_FOR_S", 0.0)
    monkeypatch.setattr(smoke, "ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert verdict(VERSIONS) == "Failed"


def test_a_hook_without_a_version_to_try_says_so_rather_than_nothing(verdict, caplog) -> None:
    assert verdict({}) == "Failed"
    assert "there is nothing to try" in reason(caplog)


def test_a_count_that_stands_still_does_not_keep_its_mend_away(verdict, versions: Versions, redis, database) -> None:
    redis.lpush("votes", "{}")
    redis.set("{votes}:progress", 1)
    assert verdict(VERSIONS) == "Succeeded"
