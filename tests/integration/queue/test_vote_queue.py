"""The list and its batch on a real Valkey: pushes, claims, acknowledgements.

Covers vote_queue, queue_view and script_connection.
"""

import json
import socket
import threading
import time
from copy import copy
from hashlib import sha256

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from voting.clients import Clients
from voting.fence import Superseded
from voting.queue.dead_letter import DeadLetter
from voting.queue.queue_view import CLAIMED, DEAD, FENCE, PROCESSING, PROGRESS, VOTES
from voting.queue.vote_queue import (
    PUSH,
    PUSH_KEYS,
    HandedBack,
    HandedOutAgain,
    NotAList,
    QueueUnavailable,
    VoteQueue,
)
from voting.vote import Vote

ALL = {"most": 20_000, "most_bytes": 8_000_000}


@pytest.fixture
def queue(redis: Redis, clients: Clients) -> VoteQueue:
    return VoteQueue(clients.redis())


def fill(redis: Redis, *messages: bytes) -> None:
    redis.lpush(VOTES, *messages)


def test_a_push_lands_at_the_head_in_the_contracts_format(queue: VoteQueue, redis: Redis) -> None:
    queue.push(Vote("a", "first"))
    queue.push(Vote("b", "second"))
    assert redis.lrange(VOTES, 0, -1) == [b'{"vote": "b", "voter_id": "second"}', b'{"vote": "a", "voter_id": "first"}']


def test_a_push_past_its_deadline_is_refused(redis: Redis) -> None:
    seconds, microseconds = redis.time()
    assert redis.eval(PUSH, 3, *PUSH_KEYS, "late", seconds * 1_000_000 + microseconds - 1) == b"too late"
    assert redis.llen(VOTES) == 0


def test_a_push_lands_whatever_the_time_of_progress_holds(queue: VoteQueue, redis: Redis) -> None:
    redis.set(PROGRESS, "abc")
    assert queue.push(Vote("a", "x")) == 0.0
    redis.set(PROGRESS, (redis.time()[0] + 3600) * 1000)
    assert queue.push(Vote("a", "x")) > 3000
    assert redis.llen(VOTES) == 2


def test_a_push_recovers_from_a_clock_that_stood_still(queue: VoteQueue, redis: Redis) -> None:
    queue.push(Vote("a", "x"))
    queue._ahead_us -= 60_000_000  # as after a minute's freeze
    queue.push(Vote("b", "x"))
    assert redis.llen(VOTES) == 2


def test_a_push_reconnects_once_after_a_thaw(queue: VoteQueue, redis: Redis, clients: Clients) -> None:
    queue.push(Vote("a", "x"))
    redis.client_kill_filter(_type="normal", skipme=True)
    queue.push(Vote("b", "x"))
    assert redis.llen(VOTES) == 2


def test_a_deaf_redis_is_given_up_within_two_seconds_and_never_takes_the_vote_later(
    settings, redis: Redis, redis_url: str
) -> None:
    clients = Clients(settings, redis_retries=0)
    queue = VoteQueue(clients.redis())
    queue.push(Vote("a", "x"))
    redis.execute_command("CLIENT", "PAUSE", 2500, "WRITE")
    started = time.monotonic()
    with pytest.raises(QueueUnavailable):
        queue.push(Vote("b", "x"))
    assert time.monotonic() - started < 2.2
    redis.execute_command("CLIENT", "UNPAUSE")
    redis.ping()
    assert redis.llen(VOTES) == 1
    clients.close()


@pytest.mark.parametrize("fault", ["wrong type", "out of memory"])
def test_what_redis_refuses_is_unavailable(queue: VoteQueue, redis: Redis, fault: str) -> None:
    if fault == "wrong type":
        redis.set(VOTES, "x")
    else:
        redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueUnavailable):
            queue.push(Vote("a", "x"))
    finally:
        redis.config_set("maxmemory", 0)


def test_claims_return_the_oldest_first_and_leave_the_rest(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, *(b"%d" % i for i in range(1000)))
    assert queue.claim(1, most=700, most_bytes=8_000_000) == [b"%d" % i for i in range(700)]
    fill(redis, b"later")
    assert queue.claim(1, **ALL, acknowledge=700) == [b"%d" % i for i in range(700, 1000)]
    assert queue.claim(1, **ALL, acknowledge=300) == [b"later"]
    assert queue.claim(1, **ALL, acknowledge=1) == []


def test_an_unacknowledged_batch_is_claimed_again_in_order(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1", b"2")
    first = queue.claim(1, **ALL)
    fill(redis, b"3")
    assert queue.claim(2, **ALL) == first
    assert queue.claim(2, **ALL, acknowledge=2) == [b"3"]


def test_bytes_bound_a_batch_but_one_message_always_passes(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"x" * 1000, b"y" * 1000, b"z")
    assert queue.claim(1, most=10, most_bytes=500) == [b"x" * 1000]
    assert queue.claim(1, most=10, most_bytes=1001, acknowledge=1) == [b"y" * 1000, b"z"]


def test_a_look_ahead_reads_what_is_behind_the_batch_and_moves_nothing(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, *(b"%d" % i for i in range(1000)))
    assert queue.look_ahead(0, **ALL) == []  # nothing is in process
    queue.claim(1, most=300, most_bytes=8_000_000)
    fill(redis, b"later")
    assert queue.look_ahead(300, **ALL) == [b"%d" % i for i in range(300, 1000)]
    assert queue.look_ahead(300, most=2, most_bytes=1000) == [b"300", b"301"]
    assert queue.look_ahead(300, most=100, most_bytes=7) == [b"300", b"301"]
    assert queue.look_ahead(1000, **ALL) == queue.look_ahead(2000, **ALL) == []
    assert queue.claim(1, most=1, most_bytes=1000, acknowledge=300) == [b"300"]


def test_an_older_run_is_refused_and_changes_nothing(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1")
    queue.claim(7, **ALL)
    with pytest.raises(Superseded):
        queue.claim(6, **ALL, acknowledge=1, dead=[DeadLetter("not_json", b"1")])
    assert redis.lrange(PROCESSING, 0, -1) == [b"1"]
    assert redis.llen(DEAD) == 0
    assert queue.greatest_token() == 7 == int(redis.get(FENCE))


def test_a_wrong_type_is_left_alone_and_the_batch_is_still_acknowledged(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1")
    queue.claim(1, **ALL)
    redis.set(VOTES, "precious")
    with pytest.raises(NotAList):
        queue.claim(1, **ALL, acknowledge=1)
    assert redis.get(VOTES) == b"precious"
    assert redis.llen(PROCESSING) == 0
    with pytest.raises(ResponseError):
        queue.wait(0.05)


def test_a_wait_moves_the_vote_into_the_batch_in_order(queue: VoteQueue, redis: Redis) -> None:
    assert queue.wait(0.05) is False
    fill(redis, b"1", b"2")
    assert queue.wait(0.05) is True
    assert queue.wait(0.05) is True
    assert queue.claim(1, **ALL) == [b"1", b"2"]


def test_a_claim_that_arrives_after_its_run_has_given_it_up_acknowledges_nothing(
    queue: VoteQueue, redis: Redis
) -> None:
    fill(redis, b"1", b"2", b"3")
    assert queue.claim(1, most=1, most_bytes=1000) == [b"1"]
    late = copy(queue)  # about to acknowledge, but the network holds that up; its run does not wait for it
    assert queue.claim(1, most=1, most_bytes=1000) == [b"1"]
    with pytest.raises(HandedOutAgain):
        late.claim(1, most=1, most_bytes=1000, acknowledge=1, dead=[DeadLetter("not_json", b"1")])
    assert (redis.lrange(PROCESSING, 0, -1), redis.exists(DEAD)) == ([b"3", b"2", b"1"], 0)
    assert queue.claim(1, most=1, most_bytes=1000, acknowledge=1) == [b"2"]
    with pytest.raises(HandedOutAgain):
        late.claim(1, most=1, most_bytes=1000, acknowledge=1)
    assert redis.lrange(PROCESSING, 0, -1) == [b"3", b"2"]


def test_a_wait_ends_as_soon_as_a_vote_comes(queue: VoteQueue, redis: Redis) -> None:
    pusher = threading.Timer(0.05, fill, [redis, b"1"])
    pusher.start()
    started = time.monotonic()
    assert queue.wait(0.8) is True
    assert time.monotonic() - started < 0.7
    pusher.join()


def test_length_counts_the_batch_in_process(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1", b"2")
    queue.wait(0.05)
    assert queue.length() == 2


def test_dead_letters_tell_reason_and_payload() -> None:
    assert json.loads(DeadLetter("not_json", b"junk").encode()) | {"at": 0} == {
        "reason": "not_json",
        "payload": "junk",
        "at": 0,
    }
    assert json.loads(DeadLetter("not_utf8", b"\xff").encode())["payload_base64"] == "/w=="


def test_a_large_dead_letter_is_cut_and_tells_what_it_was() -> None:
    message = b"x" * 1_000_000
    letter = json.loads(DeadLetter("not_json", message).encode())
    assert letter["payload"] == "x" * 65536
    assert letter["length"] == 1_000_000
    assert letter["sha256"] == sha256(message).hexdigest()


def test_nobody_there_is_unavailable(settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clients = Clients(type(settings)({**settings.env, "REDIS_URL": f"redis://127.0.0.1:{port}"}), redis_retries=0)
    with pytest.raises(QueueUnavailable):
        VoteQueue(clients.redis()).push(Vote("a", "x"))


def test_the_age_of_a_batch_runs_from_its_first_claim_to_its_acknowledgement(queue: VoteQueue, redis: Redis) -> None:
    assert queue.backlog().batch_age_s is None
    fill(redis, b"1", b"2", b"3")
    assert queue.backlog().batch_age_s is None
    queue.claim(1, most=2, most_bytes=1000)
    redis.incrby(CLAIMED, -60_000)
    queue.claim(2, most=2, most_bytes=1000)  # by another run: the batch is as old as before
    assert 60 <= queue.backlog().batch_age_s < 70
    queue.claim(2, most=2, most_bytes=1000, acknowledge=2)
    assert queue.backlog().batch_age_s < 10
    queue.claim(2, most=2, most_bytes=1000, acknowledge=1)
    assert queue.backlog().batch_age_s is None
    assert redis.exists(CLAIMED) == 0


def test_a_backlog_tells_what_is_where(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1", b"2", b"3")
    queue.wait(0.05)
    redis.rpush(DEAD, b"{}")
    backlog = queue.backlog()
    assert (backlog.kind, backlog.waiting, backlog.in_process, backlog.dead) == ("list", 2, 1, 1)
    assert (backlog.length, backlog.handed_back_s) == (3, None)
    redis.delete(VOTES)
    redis.set(VOTES, "precious")
    assert (queue.backlog().kind, queue.backlog().waiting) == ("string", 0)


@pytest.mark.parametrize("waiting", [0, 1, 3, 500])
@pytest.mark.parametrize("held", [0, 1, 3, 500])
def test_what_is_given_back_is_the_oldest_again_in_order(
    queue: VoteQueue, redis: Redis, held: int, waiting: int
) -> None:
    messages = [b"%d" % i for i in range(held + waiting)]
    for message in messages[:held]:
        fill(redis, message)
    queue.claim(1, **ALL)
    for message in messages[held:]:
        fill(redis, message)
    assert queue.stop_claims() is True
    assert queue.give_back(2) == held
    assert redis.lrange(VOTES, 0, -1) == messages[::-1]
    assert redis.exists(PROCESSING, CLAIMED) == 0
    assert list(queue.messages(in_process=False)) == messages
    assert list(queue.messages(in_process=True)) == []
    assert queue.give_back(2) == 0


def test_nothing_is_handed_out_while_it_is_handed_back(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1", b"2")
    queue.stop_claims()
    assert queue.stop_claims() is False
    with pytest.raises(HandedBack):
        queue.claim(1, **ALL)
    assert redis.llen(VOTES) == 2
    assert queue.backlog().handed_back_s is not None
    assert queue.allow_claims() is True
    assert queue.allow_claims() is False
    assert queue.claim(1, **ALL) == [b"1", b"2"]


def test_a_commit_before_the_hand_back_is_still_acknowledged(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1", b"junk", b"3")
    queue.claim(1, most=2, most_bytes=1000)
    queue.stop_claims()
    with pytest.raises(HandedBack):
        queue.claim(1, **ALL, acknowledge=2, dead=[DeadLetter("not_json", b"junk")])
    assert redis.lrange(VOTES, 0, -1) == [b"3"]
    assert redis.llen(DEAD) == 1


def test_who_lost_a_batch_cannot_acknowledge_it(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1")
    queue.claim(5, **ALL)
    queue.stop_claims()
    with pytest.raises(HandedBack):
        queue.claim(4, **ALL)  # a superseded run: what is in process goes back all the same
    queue.wait(0.05)  # and a zombie moves it once more
    with pytest.raises(HandedBack):
        queue.claim(5, **ALL, acknowledge=1)
    assert redis.lrange(VOTES, 0, -1) == [b"1"]
    queue.allow_claims()
    with pytest.raises(Superseded):
        queue.claim(5, **ALL, acknowledge=1)


def test_a_wrong_type_is_not_given_anything_back(queue: VoteQueue, redis: Redis) -> None:
    fill(redis, b"1")
    queue.claim(1, **ALL)
    redis.set(VOTES, "precious")
    queue.stop_claims()
    with pytest.raises(ResponseError):
        queue.give_back(2)
    assert (redis.get(VOTES), redis.lrange(PROCESSING, 0, -1)) == (b"precious", [b"1"])
