import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import ClientError
from redis import Redis

from local.awslambda.environment import Sandbox
from local.awslambda.invoke_api import InvokeApi
from local.awslambda.service import LambdaService
from local.template.account import Account
from local.template.resources import Function

ACCOUNT = Account()
FUNCTIONS = ACCOUNT.keyring[0]
HANDLER = """
import pathlib, time
HERE = pathlib.Path(__file__).parent
def handler(event, context):
    if event == {"raise": True}:
        raise ValueError("no")
    if event == {"wait": True}:
        (HERE / "waiting").touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
    (HERE / "done").touch()
    return {"event": event}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("function")
    (folder / "app.py").write_text(HANDLER, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The Invoke API in a thread of its own, since boto3 blocks."""
    started: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        function = Function("F", folder, "app.handler", 10, 128, {}, (), 1, 0, 60)
        service = LambdaService({"F": function}, Sandbox(ACCOUNT))
        runner = web.AppRunner(InvokeApi(service, ACCOUNT).application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.append("http://{}:{}".format(*runner.addresses[0][:2]))
        ready.set()
        await stop.wait()
        await runner.cleanup()
        await service.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield started[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    client = boto3.client(
        "lambda",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id=ACCOUNT.owner.access_key,
        aws_secret_access_key=ACCOUNT.owner.secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "name", ["F", "F:$LATEST", "arn:aws:lambda:eu-central-1:123456789012:function:F", "123456789012:function:F"]
)
def test_a_function_is_invoked_by_name_and_by_arn(client, name):
    answer = client.invoke(FunctionName=name, Payload=b'{"a": 1}')
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in answer
    assert answer["Payload"].read() == b'{"event": {"a": 1}}'


def test_no_payload_is_an_empty_event(client):
    assert client.invoke(FunctionName="F")["Payload"].read() == b'{"event": {}}'


def test_a_handlers_exception_is_a_function_error(client):
    answer = client.invoke(FunctionName="F", Payload=b'{"raise": true}')
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert b'"errorType": "ValueError"' in answer["Payload"].read()


def test_an_event_is_accepted_and_run_later(client, folder):
    (folder / "done").unlink(missing_ok=True)
    assert client.invoke(FunctionName="F", InvocationType="Event", Payload=b"{}")["StatusCode"] == 202
    until((folder / "done").exists)


def test_a_dry_run_runs_nothing(client, folder):
    (folder / "done").unlink(missing_ok=True)
    assert client.invoke(FunctionName="F", InvocationType="DryRun")["StatusCode"] == 204
    assert client.invoke(FunctionName="F", Payload=b'{"raise": true}')["StatusCode"] == 200
    assert not (folder / "done").exists()


def failure(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call()
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_failures_are_typed(client, folder):
    assert failure(lambda: client.invoke(FunctionName="G")) == ("ResourceNotFoundException", 404)
    not_json = failure(lambda: client.invoke(FunctionName="F", Payload=b"{"))
    assert not_json == ("InvalidRequestContentException", 400)
    large = b'"' + b" " * (6 * 1024 * 1024) + b'"'
    assert failure(lambda: client.invoke(FunctionName="F", Payload=large)) == ("RequestTooLargeException", 413)
    event = b'"' + b" " * (1024 * 1024) + b'"'
    too_large = failure(lambda: client.invoke(FunctionName="F", InvocationType="Event", Payload=event))
    assert too_large == ("RequestTooLargeException", 413)


def test_a_throttled_call_is_too_many_requests(client, folder):
    waiting = threading.Thread(target=client.invoke, kwargs={"FunctionName": "F", "Payload": b'{"wait": true}'})
    waiting.start()
    try:
        until((folder / "waiting").exists)
        assert failure(lambda: client.invoke(FunctionName="F")) == ("TooManyRequestsException", 429)
    finally:
        (folder / "go").touch()
        waiting.join()


# ---------------------------------------------------------------- attacks

PATH = "/2015-03-31/functions/F/invocations"


def signed(url: str, body: bytes = b"{}", service: str = "lambda", **keys: str | None) -> dict[str, str]:
    """The headers that make a POST of *body* one of the run's own; *keys* replace some of its credentials."""
    request = AWSRequest("POST", url, data=body)
    credentials = replace(FUNCTIONS, **keys)
    held = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.session_token)
    SigV4Auth(held, service, "eu-central-1").add_auth(request)
    return dict(request.headers)


def answer(url: str, headers: dict[str, str], body: bytes = b"{}") -> tuple[int, str]:
    got = httpx.post(url, headers=headers, content=body, trust_env=False)
    return got.status_code, got.headers.get("x-amzn-ErrorType", "")


@pytest.fixture
def not_run(folder: Path) -> Iterator[None]:
    """The function is not run by this test."""
    (folder / "done").unlink(missing_ok=True)
    yield
    assert not (folder / "done").exists()


@pytest.mark.parametrize("credentials", ACCOUNT.keyring, ids=["functions", "owner"])
def test_a_signed_request_passes(url, credentials):
    assert answer(url + PATH, signed(url + PATH, **asdict(credentials))) == (200, "")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "AWS4-HMAC-SHA256"}])
@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
def test_a_request_without_a_signature_runs_nothing(url, not_run, headers, kind):
    refused = answer(url + PATH, {**headers, "X-Amz-Invocation-Type": kind})
    assert refused == (403, "InvalidSignatureException")


@pytest.mark.parametrize(
    "keys",
    [
        {"access_key": "ASIAELSE"},
        {"secret_key": "guess"},
        {"session_token": "guess"},
        {"session_token": None},
        {"access_key": ACCOUNT.owner.access_key},
        {"access_key": ACCOUNT.owner.access_key, "session_token": None},
        {"secret_key": ACCOUNT.owner.secret_key},
    ],
)
def test_other_credentials_run_nothing(url, not_run, keys):
    assert answer(url + PATH, signed(url + PATH, **keys)) == (403, "InvalidSignatureException")


def test_a_signature_for_subscribers_runs_nothing(url, not_run):
    assert answer(url + PATH, signed(url + PATH, service="execute-api")) == (403, "InvalidSignatureException")


def test_a_signature_is_good_for_its_body_path_and_kind_only(url, not_run):
    refused = (403, "InvalidSignatureException")
    headers = signed(url + PATH)
    assert answer(url + PATH, headers, b'{"operation": "handback"}') == refused
    assert answer(url + PATH, headers | {"X-Amz-Invocation-Type": "Event"}) == refused
    assert answer(url + PATH.replace("F", "G"), headers) == refused


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"sec-fetch-mode": "no-cors"},
        {"Sec-CH-UA": "x"},
        {"Referer": "http://evil.example/"},
    ],
    ids=str,
)
def test_a_web_page_reaches_no_function_even_with_a_signature(url, not_run, header):
    assert answer(url + PATH, signed(url + PATH) | header) == (403, "AccessDeniedException")


def test_a_rebound_name_reaches_no_function_even_with_a_signature(url, not_run):
    port = url.rpartition(":")[2]
    for host in ("evil.example", "127.0.0.1.evil.example", "0.0.0.0"):
        headers = signed(f"http://{host}:{port}{PATH}") | {"Host": f"{host}:{port}"}
        assert answer(url + PATH, headers) == (403, "AccessDeniedException")


def test_a_store_is_stopped_by_a_signature_only(project):
    run = project.up()
    control = f"{run['lambda']}/_local/stores/redis/stop"
    assert answer(control, {}, b"") == (403, "InvalidSignatureException")
    with Redis.from_url(run["redis"]) as redis:
        assert redis.ping()
    assert project.do("--stop-store=redis").returncode == 0


def test_run_json_holds_what_a_client_of_boto3_needs(project):
    run = project.up()
    keys = {name: run[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
    client = boto3.client("lambda", endpoint_url=run["lambda"], region_name=run["aws_region"], **keys)
    assert client.invoke(FunctionName="TickFunction", InvocationType="DryRun")["StatusCode"] == 204
    client.close()


def test_the_owners_keys_stay_from_run_to_run(project):
    runs = []
    for _ in range(2):
        run = project.up()
        runs.append((run["aws_access_key_id"], run["aws_secret_access_key"]))
        assert project.do("--down").returncode == 0
    assert runs[0] == runs[1]
