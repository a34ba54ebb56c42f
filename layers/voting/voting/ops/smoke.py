"""The smoke test of a deployment: asks the new versions of the functions what users would ask, and stores no vote.

The stores are asked by `/health` of the new `result`, which pushes to a key of its own and deletes it. All functions
have the same address of Redis. Whether votes are counted is not judged: a deployment may be what mends that.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from voting.observability import logger
from voting.ops.custom_resource import NotDone
from voting.settings import InvalidSetting, Settings

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 15  # longer than most functions' own, which is 10
TRY_AGAIN_FOR_S = 45.0  # a role's right to a new version, or the failover of a store, takes some seconds
PAUSE_S = 3.0

Check = Callable[[], None]


def smoke(settings: Settings) -> None:
    """Try every new version that *settings* name; while one fails, again for 45 s in all.

    Raises:
        NotDone: one is not fit to serve; the message is a sentence for the person who deploys.
        InvalidSetting: there is nothing to try.
    """
    give_up = time.monotonic() + TRY_AGAIN_FOR_S
    for check in list(checks(settings)):
        _pass(check, give_up)


def _pass(check: Check, give_up: float) -> None:
    while True:
        try:
            return check()
        except NotDone as error:
            if time.monotonic() >= give_up:
                raise
            logger.warning("a check failed; trying again", reason=str(error))
            time.sleep(PAUSE_S)


def checks(settings: Settings) -> Iterator[Check]:
    """Yield what to try.

    Raises:
        InvalidSetting: there is nothing to try.
    """
    vote, result, ws_connect = settings.vote_version, settings.result_version, settings.ws_connect_version
    if not (vote or result or ws_connect):
        raise InvalidSetting("VOTE_VERSION, RESULT_VERSION and WS_CONNECT_VERSION are not set: there is nothing to try")
    invoke = _on_lambda()
    if vote:
        yield partial(_page, partial(invoke, "vote", vote), "/")
    if result:
        asked = partial(invoke, "result", result)
        yield partial(_health, asked)
        yield partial(_page, asked, "/results")
        yield partial(_page, asked, "/api/results")
        yield partial(_post, partial(invoke, "ws_broadcast", settings.broadcast_function), {"trial": True})
    if ws_connect:
        trial: dict[str, object] = {"requestContext": {"eventType": "TRIAL"}}
        yield partial(_post, partial(invoke, "ws_connect", ws_connect), trial)


def _page(ask: Callable[..., dict[str, Any]], path: str) -> None:
    status = ask(_request(path)).get("statusCode")
    if status != 200:
        raise NotDone(f"The new version answers GET {path} with {status}: see the function's log.")


def _health(ask: Callable[..., dict[str, Any]]) -> None:
    state = json.loads(ask(_request("/health"))["body"])
    if state["redis"] != "ok":
        raise NotDone(f"Votes would not be accepted: Redis is {state['redis']}; the log of result says why.")
    if state["postgres"] != "ok":
        raise NotDone(f"Results would not be read: Postgres is {state['postgres']}; the log of result says why.")


def _post(ask: Callable[..., dict[str, Any]], event: dict[str, object]) -> None:
    answer = ask(event)
    if not answer.get("ok"):
        raise NotDone(f"Subscribers would not be posted to. {answer.get('reason', 'The function did not try.')}")


def _request(path: str) -> dict[str, object]:
    """A GET as the HTTP API would hand it on."""
    return {
        "version": "2.0",
        "rawPath": path,
        "headers": {"host": "smoke.invalid", "x-forwarded-proto": "https"},
        "requestContext": {"http": {"method": "GET", "path": path}, "requestId": "smoke"},
    }


def _on_lambda() -> Callable[[str, str, dict[str, object]], dict[str, Any]]:
    config = Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=ANSWER_TIMEOUT_S, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=config)

    def invoke(name: str, function: str, event: dict[str, object]) -> dict[str, Any]:
        try:
            answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
            document: dict[str, Any] = json.loads(answer["Payload"].read())
        except ClientError as error:
            raise NotDone(f"AWS does not let {name} be invoked ({error.response['Error']['Code']}).") from error
        except (BotoCoreError, ValueError) as error:
            raise NotDone(f"The function {name} does not answer ({type(error).__name__}).") from error
        if answer.get("FunctionError"):  # its message may quote anything
            raise NotDone(f"The function {name} failed ({document.get('errorType')}): see its log.")
        return document

    return invoke
