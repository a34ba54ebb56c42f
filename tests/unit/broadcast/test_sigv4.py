from urllib.parse import unquote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from voting.broadcast.sigv4 import Credentials, SignedRequests

word = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=20)
# As API Gateway makes them, and anything else: slashes, dots, percent signs, other scripts, control characters.
connection_ids = (
    st.from_regex(r"[A-Za-z0-9_-]{8,20}={0,2}", fullmatch=True)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
    | st.sampled_from([".", "..", "...", "a/../b", "%2F", "a=b=", "=", "a=\n", "@connections"])
)
tokens = st.none() | st.text(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_.", min_size=1, max_size=1500
)
hosts = st.builds(
    "{}.execute-api.{}.{}{}".format,
    word.map(str.lower),
    word.map(str.lower),
    st.sampled_from(["amazonaws.com", "amazonaws.com.cn", "api.aws"]),
    st.sampled_from(["", ":3001", ":8443"]),
)


@given(
    connection_id=connection_ids,
    body=st.binary(max_size=100),
    access_key=word,
    secret_key=st.text(min_size=1, max_size=40).filter(lambda key: not any("\ud800" <= c <= "\udfff" for c in key)),
    token=tokens,
    region=word,
    host=hosts,
    stage=word,
    method=st.sampled_from(["POST", "DELETE"]),
)
def test_signatures_equal_botocores_for_any_id_and_token(
    connection_id: str,
    body: bytes,
    access_key: str,
    secret_key: str,
    token: str | None,
    region: str,
    host: str,
    stage: str,
    method: str,
) -> None:
    posts = SignedRequests(
        Credentials(access_key, secret_key, token),
        region,
        "execute-api",
        host=host,
        folder=f"/{stage}/@connections",
        body=body,
        method=method,
    )
    head, _, sent_body = posts.to(connection_id).partition(b"\r\n\r\n")
    request_line, *lines = head.decode().split("\r\n")
    ours = dict(line.split(": ", 1) for line in lines)
    sent_method, path, version = request_line.split(" ")
    assert (sent_method, version, sent_body) == (method, "HTTP/1.1", body)
    assert (ours["host"], ours["content-length"]) == (host, str(len(body)))
    assert unquote(path) == f"/{stage}/@connections/{connection_id}"
    assert path.count("/") == 3

    request = AWSRequest(method, f"https://{host}{path}", data=body)
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    theirs = SigV4Auth(BotoCredentials(access_key, secret_key, token), "execute-api", region)
    canonical = theirs.canonical_request(request)
    theirs._inject_signature_to_request(request, theirs.signature(theirs.string_to_sign(request, canonical), request))
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours.get("x-amz-security-token") == token


def test_credentials_come_from_the_environment_and_a_missing_one_is_named() -> None:
    env = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": ""}
    assert Credentials.from_env(env) == Credentials("AKID", "secret", None)
    with pytest.raises(KeyError, match="AWS_SECRET_ACCESS_KEY"):
        Credentials.from_env({"AWS_ACCESS_KEY_ID": "AKID"})
