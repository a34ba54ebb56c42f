import hashlib
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from voting.signing import Credentials, Signer

HOST = "abc.execute-api.eu-central-1.amazonaws.com"


@given(
    connection_id=st.text(min_size=1, max_size=40), body=st.binary(max_size=100), token=st.none() | st.just("t/o+k=")
)
def test_signatures_equal_botocores_for_any_id_and_token(connection_id: str, body: bytes, token: str | None) -> None:
    path = f"/live/@connections/{quote(connection_id.encode(errors='replace'), safe='')}"
    signer = Signer(Credentials("AKID", "secret", token), "eu-central-1", "execute-api", method="POST", host=HOST)
    ours = dict(
        line.split(": ", 1) for line in signer.headers(path, hashlib.sha256(body).hexdigest()).splitlines() if line
    )
    theirs = SigV4Auth(BotoCredentials("AKID", "secret", token), "execute-api", "eu-central-1")
    request = AWSRequest("POST", f"https://{HOST}{path}", data=body)
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    signature = theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)
    assert ours["authorization"].endswith(f"Signature={signature}")
    assert ours.get("x-amz-security-token") == token


def test_credentials_come_from_the_environment_and_a_missing_one_is_named() -> None:
    env = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": ""}
    assert Credentials.from_env(env) == Credentials("AKID", "secret", None)
    with pytest.raises(KeyError, match="AWS_SECRET_ACCESS_KEY"):
        Credentials.from_env({"AWS_ACCESS_KEY_ID": "AKID"})
