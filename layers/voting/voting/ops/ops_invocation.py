"""The deployment installs through the function ops, which is in the network of the database."""

import json
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from voting.observability import logger
from voting.ops.custom_resource import NotDone

ANSWER_TIMEOUT_S = 170  # counting a large table takes up to 90 s, waiting for locks 30 s
TRY_AGAIN_FOR_S = 45.0  # a new network may not work for some seconds
PAUSE_S = 5.0
AWAY = {"postgres_unavailable", "redis_unavailable"}
EVENT = json.dumps({"operation": "install", "unless_handed_back": True}).encode()


def install_through(function: str) -> None:
    """Invoke *function* to install; retry for 45 s while a store is away.

    Raises:
        NotDone: the function refused, failed or timed out.
    """
    config = Config(connect_timeout=5, read_timeout=ANSWER_TIMEOUT_S, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=config)
    give_up = time.monotonic() + TRY_AGAIN_FOR_S
    while True:
        try:
            answer = client.invoke(FunctionName=function, Payload=EVENT)
            document = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            raise NotDone(f"The function ops could not be invoked ({type(error).__name__}).") from error
        if answer.get("FunctionError"):
            raise NotDone(f"The function ops failed ({document.get('errorType')}): see its log.")
        if document["ok"]:
            return
        refused = document["error"]
        if refused["code"] not in AWAY or time.monotonic() >= give_up:
            raise NotDone(f"The database was not prepared: {refused['message']}")
        logger.warning("a store is away; trying again", code=refused["code"])
        time.sleep(PAUSE_S)
