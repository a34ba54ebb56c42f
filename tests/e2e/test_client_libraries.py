"""Programs subscribe by the libraries that people use, as these are by default."""

import json

import pytest
import websocket

from tests.e2e.subscriber import Subscriber
from tests.stack import DEADLINE_S, PATIENCE, Stack


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_websocket_client_which_sends_the_apis_own_origin_may_subscribe(fresh: Stack, host: str) -> None:
    client = websocket.create_connection(
        fresh.websocket.replace("127.0.0.1", host), timeout=DEADLINE_S * PATIENCE, http_no_proxy=["*"]
    )
    try:
        client.send('{"action": "subscribe"}')
        frame = json.loads(client.recv())
    finally:
        client.close()
    assert (frame["type"], frame["total"]) == ("results", 0)


def test_websockets_which_sends_no_origin_may_subscribe(fresh: Stack) -> None:
    with Subscriber(fresh.websocket) as subscriber:
        subscriber.send("subscribe")
        subscriber.total(0)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example:3001"])
def test_websocket_client_with_another_origin_is_refused(fresh: Stack, origin: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(fresh.websocket, timeout=DEADLINE_S, origin=origin, http_no_proxy=["*"])
    assert refused.value.status_code == 403
