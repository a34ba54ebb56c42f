"""The function ops, asked by the deployment to install: it is in the network of the database, the deployment is not."""

import json
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from voting.observability import logger
from voting.ops.custom_resource import NotDone

ANSWER_TIMEOUT_S = 170  # counting a large table takes up to 90 s, locks 30 s
TRY_AGAIN_FOR_S = 45.0  # a network that has just been made may carry nothing for some seconds
PAUSE_S = 5.0
AWAY = {"postgres_unavailable", "redis_unavailable"}
EVENT = json.dumps({"operation": "install", "unless_handed_back": True}).encode()


def install_through(function: str) -> None:
    """Have *function* install, and try again for 45 s while a store is away.

    Raises:
        NotDone: it was refused, or not answered in time.
    """
    config = Config(connect_timeout=5, read_timeout=ANSWER_TIMEOUT_S, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=config)
    give_up = time.monotonic() + TRY_AGAIN_FOR_S
    while True:
        try:
            answer = client.invoke(FunctionName=function, Payload=EVENT)
            document = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            raise NotDone(f"The function ops could not be asked ({type(error).__name__}).") from error
        if answer.get("FunctionError"):
            raise NotDone(f"The function ops broke off ({document.get('errorType')}): see its log.")
        if document["ok"]:
            return
        refused = document["error"]
        if refused["code"] not in AWAY or time.monotonic() >= give_up:
            raise NotDone(f"The database was not prepared: {refused['message']}")
        logger.warning("a store is away; trying again", code=refused["code"])
        time.sleep(PAUSE_S)
