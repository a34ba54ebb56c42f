"""The alternatives to our poster: boto3 as documented, and wrk as the limit; and the connections to post to."""

import random
import re
import string
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import ClientError, ReadTimeoutError

from bench.load.management_stub import Letter, Management
from voting.broadcast.posting_loop import ANSWER_WITHIN_S
from voting.broadcast.sigv4 import Credentials, SignedRequests
from voting.question import Question
from voting.results.results import Results
from voting.tally import Tally

REGION = "eu-central-1"
CREDENTIALS = Credentials("ASIAEXAMPLE", "s" * 40, "t" * 900)  # about as long as the session token of a role
RESULTS = Results.of(Tally(1_700_000_000_000, {"a": 61_728, "b": 61_728}), Question.of("", ["Cats", "Dogs"]))
FRAME = RESULTS.frame()
THREADS = 64
ID_CHARACTERS = string.ascii_letters + string.digits + "-_"


def connection_ids(count: int, *, faulty: bool = False, hanging: bool = True) -> list[str]:
    """Connection ids as API Gateway makes them; if *faulty*, 2% are gone, 1% throttled at first, 1% never respond."""
    chance = random.Random(count)
    first = ["L"] * count
    if faulty:
        for number, place in enumerate(chance.sample(range(count), count // 25)):
            first[place] = (Letter.GONE, Letter.GONE, Letter.THROTTLE, Letter.HANG if hanging else "L")[number % 4]
    return [f"{letter}{number:012x}Ih=" for number, letter in enumerate(first)]


def with_boto3(api: Management, threads: int) -> Callable[[Iterable[str]], None]:
    """boto3 as its documentation recommends: one client for all threads, with a connection for each."""
    client = boto3.session.Session().client(
        "apigatewaymanagementapi",
        endpoint_url=f"{'https' if api.secure else 'http'}://127.0.0.1:{api.port}/live",
        region_name=REGION,
        aws_access_key_id=CREDENTIALS.access_key,
        aws_secret_access_key=CREDENTIALS.secret_key,
        aws_session_token=CREDENTIALS.token,
        config=Config(
            max_pool_connections=THREADS,
            retries={"total_max_attempts": 1},
            read_timeout=ANSWER_WITHIN_S,
            proxies={},
        ),
    )

    def post(connection_id: str) -> None:
        try:
            client.post_to_connection(ConnectionId=connection_id, Data=FRAME)
        except client.exceptions.GoneException:
            return
        except ReadTimeoutError:
            return
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 429:
                raise
            post(connection_id)

    def post_all(ids: Iterable[str]) -> None:
        if threads == 1:
            deque(map(post, ids), maxlen=0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                deque(pool.map(post, ids), maxlen=0)

    return post_all


def with_wrk(api: Management, connections: int, seconds: int) -> float:
    """Requests per second with one of our signed requests, sent over and over.

    Raises:
        FileNotFoundError: wrk is not installed.
    """
    posts = _signed(CREDENTIALS, REGION, f"127.0.0.1:{api.port}")
    head, _, body = posts.to(connection_ids(1)[0]).partition(b"\r\n\r\n")
    request, *headers = head.decode().split("\r\n")
    lines = [f"wrk.method = 'POST'\nwrk.path = '{request.split(' ')[1]}'\nwrk.body = [[{body.decode()}]]"]
    lines += [
        "wrk.headers['{}'] = '{}'".format(*header.split(": ", 1))
        for header in headers
        if not header.startswith(("host:", "content-length:"))  # wrk adds these itself
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        url = f"{'https' if api.secure else 'http'}://127.0.0.1:{api.port}/"
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, url],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def _signed(credentials: Credentials, region: str, host: str) -> SignedRequests:
    return SignedRequests(credentials, region, "execute-api", host=host, folder="/live/@connections", body=FRAME)


def differing_signatures(count: int) -> int:
    """How many of *count* requests with random ids and tokens botocore signs differently."""
    chance, differing = random.Random(7), 0
    for _ in range(count):
        token = "".join(chance.choices(ID_CHARACTERS + "/+=", k=chance.randrange(1, 1000)))
        credentials = Credentials("ASIAEXAMPLE", "secret", chance.choice([None, token]))
        connection_id = "".join(
            chr(chance.choice([chance.randrange(32, 127), chance.randrange(160, 0xD800)])) for _ in range(16)
        )
        posts = _signed(credentials, REGION, "abc.execute-api.eu-central-1.amazonaws.com")
        head = posts.to(connection_id).partition(b"\r\n\r\n")[0].decode()
        request_line, *lines = head.split("\r\n")
        ours = dict(line.split(": ", 1) for line in lines)
        request = AWSRequest("POST", f"https://{ours['host']}{request_line.split(' ')[1]}", data=FRAME)
        request.context["timestamp"] = request.headers["X-Amz-Date"] = ours["x-amz-date"]
        if credentials.token:
            request.headers["X-Amz-Security-Token"] = credentials.token
        theirs = SigV4Auth(
            BotoCredentials(credentials.access_key, credentials.secret_key, credentials.token), "execute-api", REGION
        )
        to_sign = theirs.string_to_sign(request, theirs.canonical_request(request))
        differing += not ours["authorization"].endswith(f"Signature={theirs.signature(to_sign, request)}")
    return differing
