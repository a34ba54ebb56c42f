"""The Lambda Invoke API: what `boto3.client("lambda").invoke` and `aws lambda invoke` talk to.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html. Every user of this machine reaches the port, and every
web page that one of them opens. So requests must be signed with the credentials of the run, which its functions have
and run.json holds, and no browser is let in at all.
"""

import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from local.awslambda.invocation import PayloadTooLarge, Throttled, UnknownFunction
from local.awslambda.runtime_api import MAX_PAYLOAD
from local.awslambda.service import LambdaService
from local.hosts import Hosts
from local.sigv4 import LAMBDA, BadSignature, SignedRequest, verify
from local.template.account import Account
from local.template.resources import function_name

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BROWSERS = ("origin", "referer", "sec-")  # prefixes of headers that browsers add, and that scripts cannot remove
logger = logging.getLogger("local.lambda")
_PATH = "/2015-03-31/functions/{name}/invocations"


class InvokeApi:
    """Answers for the functions of one service."""

    def __init__(self, functions: LambdaService, account: Account) -> None:
        self._functions = functions
        self._account = account
        self._hosts = Hosts()

    def application(self) -> web.Application:
        """Return the application that serves this API; the runner may add routes."""
        application = web.Application(
            client_max_size=MAX_PAYLOAD + 1024 * 1024,  # above Lambda's limit, so that Lambda's own error is sent
            middlewares=[_refuse_browsers, self._require_signature],
        )
        application.router.add_post(_PATH, self._invoke)
        return application

    @web.middleware
    async def _require_signature(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve only requests signed with credentials of the run."""
        if not self._hosts.admits(request.headers.get("Host", "")):
            return _error(403, "AccessDeniedException", "The Host of this request is not this machine.")
        try:
            body = await request.read()  # kept, for the handler
        except web.HTTPRequestEntityTooLarge as error:
            return _too_large(error)
        signed = SignedRequest.of(request.method, request.raw_path, request.headers.items(), body)
        try:
            verify(signed, *self._account.keyring, service=LAMBDA)
        except BadSignature as error:
            logger.warning("%s was refused: %s", request.method, error)
            return _error(403, "InvalidSignatureException", str(error))
        return await handler(request)

    async def _invoke(self, request: web.Request) -> web.Response:
        name = function_name(unquote(request.match_info["name"]))
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if not self._functions.has(name):
            arn = self._account.function_arn(name)
            return _error(404, "ResourceNotFoundException", f"Function not found: {arn}")
        try:
            payload = await request.read() or b"{}"
            _require_json(payload)
            return await self._run(name, kind, payload)
        except ValueError as error:
            return _error(400, "InvalidRequestContentException", f"Could not parse request body into json: {error}")
        except Throttled:
            return _error(429, "TooManyRequestsException", "Rate Exceeded.")
        except PayloadTooLarge as error:
            return _too_large(error)
        except UnknownFunction as error:  # the function has just been removed
            return _error(404, "ResourceNotFoundException", f"Function not found: {error}")

    async def _run(self, name: str, kind: str, payload: bytes) -> web.Response:
        match kind:
            case "DryRun":
                return _response(204)
            case "Event":
                return _response(202, request_id=self._functions.enqueue(name, payload))
            case "RequestResponse":
                answer = await self._functions.invoke(name, payload)
                response = _response(200, answer.payload)
                response.headers["X-Amz-Executed-Version"] = "$LATEST"
                if answer.error is not None:
                    response.headers["X-Amz-Function-Error"] = answer.error
                return response
            case _:
                return _error(400, "InvalidParameterValueException", f"unknown invocation type {kind}")


@web.middleware
async def _refuse_browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests from web pages that the developer visits."""
    if any(name.lower().startswith(_BROWSERS) for name in request.headers):
        return _error(403, "AccessDeniedException", "Browsers are refused here.")
    return await handler(request)


def _require_json(payload: bytes) -> None:
    try:
        json.loads(payload)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _response(status: int, body: bytes = b"", request_id: str = "") -> web.Response:
    headers = {"x-amzn-RequestId": request_id or str(uuid.uuid4())}
    if body:
        headers["Content-Type"] = "application/json"
    return web.Response(status=status, body=body or None, headers=headers)


def _too_large(error: Exception) -> web.Response:
    return _error(413, "RequestTooLargeException", f"Request must be smaller: {error}")


def _error(status: int, kind: str, message: str) -> web.Response:
    body = json.dumps({"Type": "User", "Message": message, "message": message}).encode()
    response = _response(status, body)
    response.headers["x-amzn-ErrorType"] = kind
    return response
