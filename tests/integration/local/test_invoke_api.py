import asyncio
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from local.account import Account
from local.environment import Sandbox
from local.invoke_api import InvokeApi
from local.resources import Function
from local.service import LambdaService

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
        service = LambdaService({"F": function}, Sandbox(Account()))
        runner = web.AppRunner(InvokeApi(service, Account()).application())
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
        aws_access_key_id="x",
        aws_secret_access_key="x",
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


def test_a_web_page_reaches_no_function(url):
    request = urllib.request.Request(  # noqa: S310 - http
        f"{url}/2015-03-31/functions/F/invocations", b"{}", {"Origin": "https://evil.example"}
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)  # noqa: S310 - http
    assert error.value.code == 403
    error.value.close()
