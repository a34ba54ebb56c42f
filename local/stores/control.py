"""Stops and starts the embedded stores of a running instance by hand, to try out failures."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.host.state_dir import StateDir, StateError
from local.sigv4 import LAMBDA
from local.stores.store import Store, StoreError

_PATH = "/_local/stores"
NEEDED = {"lambda", "aws_access_key_id", "aws_secret_access_key", "aws_region"}  # of run.json


class StoreControl:
    """A route of the Invoke API's port, which requires a signature too: POST /_local/stores/redis/stop."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = stores

    def attach(self, application: web.Application) -> None:
        application.router.add_post(f"{_PATH}/{{name}}/{{verb:start|stop}}", self._do)

    async def _do(self, request: web.Request) -> web.Response:
        store = self._stores.get(request.match_info["name"])
        if store is None:
            return web.json_response({"message": f"{request.match_info['name']} is not embedded"}, status=404)
        try:
            if request.match_info["verb"] == "stop":
                await store.hold()
            else:
                await store.release()
        except StoreError as error:
            return web.json_response({"message": str(error)}, status=409)
        return web.json_response({"message": f"{store.title}: {request.match_info['verb']} done"})


def ask(state: StateDir, name: str, verb: str) -> str:
    """Have the running instance of *state* `stop` or `start` a store; return its message.

    Raises:
        StateError: nothing runs, or it refused.
    """
    run = state.run()
    if state.holder() is None or not run.keys() >= NEEDED:
        raise StateError(f"nothing runs on {state.path}")
    url = f"{run['lambda']}{_PATH}/{name}/{verb}"
    signed = AWSRequest("POST", url, data=b"")
    keys = Credentials(run["aws_access_key_id"], run["aws_secret_access_key"])
    SigV4Auth(keys, LAMBDA, run["aws_region"]).add_auth(signed)
    request = urllib.request.Request(url, b"", dict(signed.headers))  # noqa: S310 - http, ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=90) as response:
            return str(json.load(response)["message"])
    except urllib.error.HTTPError as error:
        with error:
            raise StateError(json.load(error)["message"]) from error
    except OSError as error:
        raise StateError(f"{run['lambda']} does not answer: {error}") from error
