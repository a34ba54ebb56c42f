"""The functions of the WebSocket API and of the broadcasts, on real stores: covers websocket_api."""

import json
from contextlib import closing

import psycopg
import pytest
from redis import Redis

from tests.conftest import Handler, event
from tests.management_api import ManagementApi
from tests.resolver import ipv4, ipv6, resolve_to
from voting.broadcast.delivery import MEASURED_FROM
from voting.broadcast.planner import Audience, Budget, TurnPlanner
from voting.broadcast.subscribers import BUCKETS, Subscribers, bucket_of
from voting.results.snapshot import SNAPSHOT, Snapshots
from voting.settings import Settings
from voting.tally import Tally

CONNECTION = event("websocket-subscribe")["requestContext"]["connectionId"]


@pytest.fixture
def settings(settings: Settings, api: ManagementApi) -> Settings:
    return Settings(
        {
            **settings.env,
            "HTTP_URL": "https://a1b2c3d4.execute-api.eu-central-1.amazonaws.com",
            "WEBSOCKET_URL": f"ws://127.0.0.1:{api.port}/live",
            "ALLOWED_ORIGINS": "https://vote.example.org",
        }
    )


@pytest.fixture
def ws_connect(websocket_handler, redis: Redis, database: psycopg.Connection) -> Handler:
    return websocket_handler("ws_connect")


@pytest.fixture
def ws_broadcast(websocket_handler, redis: Redis) -> Handler:
    return websocket_handler("ws_broadcast")


def frames(api: ManagementApi, connection: str = CONNECTION) -> list[dict]:
    return [json.loads(frame) for frame in api.frames[connection]]


def subscribers(redis: Redis) -> list[str]:
    return Subscribers(redis).of(range(BUCKETS))


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://a1b2c3d4.execute-api.eu-central-1.amazonaws.com", 200),
        ("https://VOTE.example.org", 200),
        (None, 200),
        ("https://evil.example.org", 403),
        ("http://[::1", 403),
        ("https://vote.example.org.evil.org", 403),
        ("http://vote.example.org", 403),
        ("null", 403),
        ("", 403),
        # The WebSocket API's own host, as websocket-client sends it, and what is not it.
        ("https://w5x6y7z8.execute-api.eu-central-1.amazonaws.com", 200),
        ("https://W5X6Y7Z8.execute-api.eu-central-1.AMAZONAWS.com", 200),
        ("https://w5x6y7z8.execute-api.eu-central-1.amazonaws.com:443", 200),
        ("http://w5x6y7z8.execute-api.eu-central-1.amazonaws.com", 403),
        ("wss://w5x6y7z8.execute-api.eu-central-1.amazonaws.com", 403),
        ("https://w5x6y7z8.execute-api.eu-central-1.amazonaws.com:8443", 403),
        ("https://evil-w5x6y7z8.execute-api.eu-central-1.amazonaws.com", 403),
        ("https://w5x6y7z8.execute-api.eu-central-1.amazonaws.com.evil.org", 403),
        ("https://w5x6y7z8.execute-api.eu-central-1.amazonaws.com@evil.org", 403),
        ("https://execute-api.eu-central-1.amazonaws.com", 403),
        ("https://x9x9x9x9.execute-api.eu-central-1.amazonaws.com", 403),
        ("w5x6y7z8.execute-api.eu-central-1.amazonaws.com", 403),
        ("https://", 403),
        ("https://vote.example.org:443", 200),
    ],
)
def test_pages_of_other_origins_are_refused_at_the_handshake(ws_connect, context, origin, status) -> None:
    connect = event("websocket-connect")
    del connect["headers"]["Origin"]
    if origin is not None:
        connect["headers"]["Origin"] = origin
    assert ws_connect(connect, context)["statusCode"] == status


@pytest.mark.parametrize(
    ("domain", "protocol", "origin", "status"),
    [
        ("127.0.0.1:3001", "http", "http://127.0.0.1:3001", 200),
        ("localhost:3001", "http", "http://localhost:3001", 200),
        ("LocalHost:3001", "http", "http://localhost:3001", 200),
        ("[::1]:3001", "http", "http://[::1]:3001", 200),
        ("127.0.0.1:3001", "http", "https://127.0.0.1:3001", 403),
        ("127.0.0.1:3001", "http", "http://127.0.0.1:4001", 403),
        ("evil.example:3001", "http", "http://evil.example:3001", 403),  # its name was pointed at this machine
        ("127.0.0.1.evil.example:3001", "http", "http://127.0.0.1.evil.example:3001", 403),
        ("localhost.evil.example", "http", "http://localhost.evil.example", 403),
        ("live.example.org", "https", "https://live.example.org", 200),
        ("", "https", "https://", 403),
        ("", "http", "http://", 403),
        ("live.example.org", "ftp", "ftp://live.example.org", 403),
    ],
)
def test_the_apis_own_host_is_the_one_that_the_client_reached(
    ws_connect, context, domain, protocol, origin, status
) -> None:
    connect = event("websocket-connect")
    connect["requestContext"]["domainName"] = domain
    connect["headers"] |= {"Host": domain, "X-Forwarded-Proto": protocol, "Origin": origin}
    assert ws_connect(connect, context)["statusCode"] == status


def test_a_connection_is_no_subscriber_before_it_subscribes(ws_connect, context, redis: Redis) -> None:
    ws_connect(event("websocket-connect"), context)
    assert subscribers(redis) == []


def test_a_subscriber_gets_the_current_results_at_once(ws_connect, context, api, redis: Redis) -> None:
    Snapshots(redis).write(Tally(17, {"a": 1, "b": 2}))
    ws_connect(event("websocket-subscribe"), context)
    ws_connect(event("websocket-subscribe"), context)
    assert [frame["type"] for frame in frames(api)] == ["results", "results"]
    assert (frames(api)[0]["version"], frames(api)[0]["total"]) == (17, 3)
    assert subscribers(redis) == [CONNECTION]


def test_a_ping_is_answered_and_heals_a_lost_registration(ws_connect, context, api, redis: Redis) -> None:
    Snapshots(redis).write(Tally(17, {"a": 1, "b": 2}))
    ws_connect(event("websocket-subscribe"), context)
    ws_connect(event("websocket-ping"), context)
    assert [frame["type"] for frame in frames(api)] == ["results", "pong"]
    Subscribers(redis).remove([CONNECTION])
    ws_connect(event("websocket-ping"), context)
    assert [frame["type"] for frame in frames(api)[2:]] == ["pong", "results"]  # it may have missed some
    assert frames(api)[3]["version"] == 17
    assert subscribers(redis) == [CONNECTION]


@pytest.mark.parametrize("failing", [0, 1])
def test_results_that_could_not_be_sent_after_a_pong_come_with_the_next_one(
    ws_connect, context, api, redis: Redis, failing: int
) -> None:
    Snapshots(redis).write(Tally(17, {"a": 1}))
    api.behaviour = lambda _id, posts: 400 if posts == failing else 200
    ws_connect(event("websocket-ping"), context)
    assert subscribers(redis) == []
    ws_connect(event("websocket-ping"), context)
    assert [frame["type"] for frame in frames(api)[-2:]] == ["pong", "results"]
    assert subscribers(redis) == [CONNECTION]


@pytest.mark.parametrize("attack", ["pings of strangers", "subscribes of strangers", "pings of the forgotten"])
def test_strangers_cost_nobody_else_a_frame(ws_connect, context, api, redis: Redis, attack: str) -> None:
    """120 of them, with 300 subscribers that have all there is."""
    registry = Subscribers(redis)
    idle = {f"idle{number}=" for number in range(300)}
    for id_ in idle:
        registry.add(id_)
    Snapshots(redis).write(Tally(17, {"a": 1}))
    registry.mark_delivered(dict.fromkeys(range(BUCKETS), 17))
    for number in range(120):
        frame = event("websocket-subscribe" if "subscribes" in attack else "websocket-ping")
        frame["requestContext"]["connectionId"] = f"stranger{number}="
        ws_connect(frame, context)
        if "forgotten" in attack:
            registry.remove([f"stranger{number}="])
            ws_connect(frame, context)
    state = registry.state()
    assert sum(state.sizes) == 420
    assert TurnPlanner(Budget(4000, 0.05)).turn(17, Audience(state.sizes, state.delivered), 0.0).shards == ()
    assert api.posts.keys().isdisjoint(idle)
    assert sum(api.posts.values()) == 120 * {"pings of strangers": 2, "subscribes of strangers": 1}.get(attack, 4)


def test_who_leaves_while_the_registry_is_away_ends_well(handler, context, monkeypatch) -> None:
    load = handler
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    assert load("ws_connect")(event("websocket-disconnect"), context) == {"statusCode": 200}


def test_a_pong_tells_of_figures_that_nobody_confirms(ws_connect, context, api, redis: Redis) -> None:
    Snapshots(redis).write(Tally(17, {"a": 1}))
    Subscribers(redis).add(CONNECTION)
    ws_connect(event("websocket-ping"), context)
    redis.hincrby(SNAPSHOT, "at", -40_000)  # no worker is there to say so in a frame
    ws_connect(event("websocket-ping"), context)
    fresh, stale = frames(api)
    assert fresh == {"type": "pong"}
    assert stale == {"type": "pong", "stale_seconds": stale["stale_seconds"]}
    assert stale["stale_seconds"] in {40, 41}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("junk", "invalid_json"),
        ("", "invalid_json"),
        (None, "invalid_json"),
        ("[" * 20_000, "invalid_json"),
        ("null", "missing_action"),
        ("[]", "missing_action"),
        ('{"action": 1}', "missing_action"),
        ('{"action": "fly"}', "unknown_action"),
    ],
)
def test_anything_else_is_a_typed_error(ws_connect, context, api, body, code) -> None:
    assert ws_connect(event("websocket-subscribe", body=body), context) == {"statusCode": 200}
    (frame,) = frames(api)
    assert (frame["type"], frame["code"]) == ("error", code)
    assert frame["message"]


def test_a_binary_frame_is_a_typed_error(ws_connect, context, api) -> None:
    ws_connect(event("websocket-subscribe", body="/w==", isBase64Encoded=True), context)
    assert [frame["code"] for frame in frames(api)] == ["binary_frame"]


def test_a_disconnect_is_forgotten(ws_connect, context, redis: Redis) -> None:
    ws_connect(event("websocket-subscribe"), context)
    Subscribers(redis).add("another=")
    ws_connect(event("websocket-disconnect"), context)
    assert subscribers(redis) == ["another="]


def test_who_left_before_the_answer_is_forgotten(ws_connect, context, api, redis: Redis) -> None:
    api.behaviour = lambda _id, _posts: 410
    ws_connect(event("websocket-subscribe"), context)
    assert subscribers(redis) == []


def test_a_broadcast_reaches_all_forgets_the_gone_and_records_the_version(
    ws_broadcast, context, api, redis: Redis
) -> None:
    registry = Subscribers(redis)
    for number in range(40):
        registry.add(f"c{number}=")
    api.behaviour = lambda id_, _posts: 410 if id_ == "c7=" else 200
    Snapshots(redis).write(Tally(5, {"a": 3}))
    assert ws_broadcast(event("broadcast"), context) == {"sent": 39, "gone": 1, "failed": 0}
    assert sorted(subscribers(redis)) == sorted(f"c{n}=" for n in range(40) if n != 7)
    assert set(registry.state()[1].values()) == {5}
    assert [frame["version"] for frame in frames(api, "c8=")] == [5]


@pytest.mark.parametrize(("function", "sent"), [("ws_connect", "websocket-subscribe"), ("ws_broadcast", "broadcast")])
def test_with_dual_stack_endpoints_posts_do_not_even_try_ipv4(
    websocket_handler, context, api, redis: Redis, database, monkeypatch: pytest.MonkeyPatch, function: str, sent: str
) -> None:
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    monkeypatch.setenv("WEBSOCKET_URL", "ws://live.test/live")
    with closing(ManagementApi(lambda _id, _posts: 200)) as unwanted:
        resolve_to(monkeypatch, ipv4(unwanted.port), ipv6(api.port), only="live.test")
        Subscribers(redis).add(CONNECTION)
        Snapshots(redis).write(Tally(5, {"a": 3}))
        websocket_handler(function)(event(sent), context)
        assert (len(frames(api)), unwanted.lines) == (1, 0)


def test_a_shard_posts_to_its_own_buckets_only(ws_broadcast, context, api, redis: Redis) -> None:
    registry = Subscribers(redis)
    for number in range(40):
        registry.add(f"c{number}=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    ws_broadcast({"buckets": [0, 3]}, context)
    assert sorted(api.posts) == sorted(registry.of([0, 3]))
    assert registry.state()[1] == {0: 5, 3: 5}


def test_a_late_broadcast_posts_the_newest_results(ws_broadcast, context, api, redis: Redis) -> None:
    Subscribers(redis).add("c=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    Snapshots(redis).write(Tally(6, {"a": 4}))
    ws_broadcast(event("broadcast"), context)
    assert [frame["version"] for frame in frames(api, "c=")] == [6]


def test_an_event_of_buckets_alone_is_delivered_too(ws_broadcast, context, api, redis: Redis) -> None:
    Subscribers(redis).add("c=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    assert ws_broadcast({"buckets": list(range(BUCKETS))}, context)["sent"] == 1


def test_a_client_that_does_not_read_keeps_no_other_from_the_newest_results(
    ws_broadcast, context, api, redis: Redis
) -> None:
    """One in each bucket would keep all that come after it there from being settled, and all before it from news."""
    registry = Subscribers(redis)
    ids = [f"c{number}=" for number in range(500)]
    for id_ in ids:
        registry.add(id_)
    deaf = {sorted(registry.of([bucket]))[len(registry.of([bucket])) // 2] for bucket in range(BUCKETS)}
    api.behaviour = lambda id_, _posts: 429 if id_ in deaf else 200
    shard = event("broadcast") | {"pace": 1e9, "within_s": 20.0}
    for version in (5, 6):
        Snapshots(redis).write(Tally(version, {"a": version}))
        assert ws_broadcast(shard, context)["sent"] == len(ids) - len(deaf)
        assert registry.state().delivered == dict.fromkeys(range(BUCKETS), version)
    assert {frames(api, id_)[-1]["version"] for id_ in ids if id_ not in deaf} == {6}


def test_a_time_that_is_nearly_up_leaves_nobody_out_for_good(ws_broadcast, context, api, redis: Redis) -> None:
    registry = Subscribers(redis)
    for number in range(60):
        registry.add(f"c{number}=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    shard = event("broadcast") | {"pace": 20.0, "within_s": 1.0}  # a head start of 10, and 20 in that second
    first = ws_broadcast(shard, context)["sent"]
    assert 10 <= first < 60
    done = registry.state()[1]
    assert 0 < len(done) < BUCKETS
    while len(done) < BUCKETS:
        rest = [bucket for bucket in range(BUCKETS) if bucket not in done]
        ws_broadcast(shard | {"buckets": rest}, context)
        done = registry.state()[1]
    assert api.posts.keys() == {f"c{number}=" for number in range(60)}


def test_a_large_delivery_tells_how_fast_it_was(ws_broadcast, context, api, redis: Redis) -> None:
    registry = Subscribers(redis)
    for number in range(MEASURED_FROM):
        registry.add(f"c{number}=")
    Snapshots(redis).write(Tally(5, {"a": 3}))
    ws_broadcast(event("broadcast") | {"pace": 1e9}, context)
    assert registry.state().posts_per_s not in {None, 4000.0}


def test_a_delivery_that_was_throttled_tells_nothing_of_itself(ws_broadcast, context, api, redis: Redis) -> None:
    registry = Subscribers(redis)
    for number in range(MEASURED_FROM):
        registry.add(f"c{number}=")
    api.behaviour = lambda id_, posts: 429 if id_ == "c0=" and posts == 0 else 200
    Snapshots(redis).write(Tally(5, {"a": 3}))
    ws_broadcast(event("broadcast") | {"pace": 1e9}, context)
    assert registry.state().posts_per_s is None


def test_a_bucket_of_which_nobody_could_be_reached_is_not_taken_for_delivered(
    ws_broadcast, context, api, redis: Redis
) -> None:
    Snapshots(redis).write(Tally(17, {"a": 1}))
    registry = Subscribers(redis)
    ids = [f"c{number}=" for number in range(8)]
    for id_ in ids:
        registry.add(id_)
    mute = bucket_of(ids[0])
    api.behaviour = lambda id_, _posts: 503 if bucket_of(id_) == mute else 200
    ws_broadcast({"buckets": list(range(BUCKETS))}, context)
    delivered = registry.state().delivered
    assert mute not in delivered
    assert {bucket_of(id_) for id_ in ids} - {mute} <= delivered.keys()
    api.behaviour = lambda _id, _posts: 200
    ws_broadcast({"buckets": [mute]}, context)
    assert registry.state().delivered[mute] == 17
