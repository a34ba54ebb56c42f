"""Requests of httpx that are signed for the Invoke API of a local run."""

from collections.abc import Generator, Mapping
from typing import Any

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


class Signature(httpx.Auth):
    """Signs each request with the credentials of a run.json."""

    requires_request_body = True

    def __init__(self, run: Mapping[str, Any]) -> None:
        self._credentials = Credentials(run["aws_access_key_id"], run["aws_secret_access_key"])
        self._region = run["aws_region"]

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        amz = {name: value for name, value in request.headers.items() if name.startswith("x-amz-")}
        signed = AWSRequest(request.method, str(request.url), data=request.content, headers=amz)
        SigV4Auth(self._credentials, "lambda", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        yield request
