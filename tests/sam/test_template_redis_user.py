"""The Redis user of the template, on a real Valkey: it may do all that the package does, and nothing else."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.sam.expansion import NEW_STORES, TEMPLATE, expansion
from voting.broadcast.frame_counts import FrameCounts
from voting.broadcast.subscribers import BUCKETS, Subscribers, bucket_of
from voting.clients import Clients
from voting.ops.health import check_health
from voting.ops.list_watch import watch
from voting.ops.preflight.redis import redis_findings
from voting.queue.dead_letter import REFUSED, DeadLetter
from voting.queue.dead_letter_room import DeadLetterRoom
from voting.queue.dead_letters import DeadLetters
from voting.queue.queue_view import TROUBLE
from voting.queue.trouble import Trouble, read_trouble
from voting.queue.vote_queue import HandedBack, VoteQueue
from voting.results.snapshot import Snapshots
from voting.settings import Settings
from voting.tally import Tally
from voting.vote import Vote

PASSWORD = "only-for-this-test"
ACCESS = expansion(NEW_STORES).properties("CacheUser")["AccessString"]


@pytest.fixture
def clients(redis: Redis, redis_url: str, database_url: str) -> Iterator[Clients]:
    """Clients that log in as the template's user."""
    redis.execute_command("ACL", "SETUSER", "voting", "reset", f">{PASSWORD}", *ACCESS.split())
    redis.execute_command("ACL", "LOG", "RESET")
    redis.script_flush()  # the user must be able to load them
    host = urlsplit(redis_url)._replace(netloc=f"voting:{PASSWORD}@{urlsplit(redis_url).netloc.rpartition('@')[2]}")
    clients = Clients(Settings({"REDIS_URL": host.geturl(), "DATABASE_URL": database_url}), redis_retries=0)
    yield clients
    clients.close()
    redis.execute_command("ACL", "DELUSER", "voting")


def refusals(redis: Redis) -> set[str]:
    """What the user was refused, as `command` or key."""
    return {entry["object"] for entry in redis.acl_log()}


def source() -> str:
    """All of the package, its scripts included."""
    files = (TEMPLATE.parent / "layers/voting/voting").rglob("*")
    return "\n".join(path.read_text() for path in files if path.suffix in {".py", ".lua"})


def commands_of_scripts(text: str) -> set[str]:
    return {command.lower() for command in re.findall(r"redis\.call\('(\w+)'", text)}


def test_the_queue_from_push_to_hand_back(clients: Clients, redis: Redis) -> None:
    queue = VoteQueue(clients.redis())
    for voter in "xyz":
        queue.push(Vote("a", voter))
    assert queue.wait(0.1)
    token = queue.greatest_token() + 1
    (first,) = queue.claim(token, most=10, most_bytes=1000)
    batch = queue.claim(token, most=10, most_bytes=1000, acknowledge=1, dead=[DeadLetter("not_json", first)])
    assert len(batch) == 2
    assert list(queue.messages(in_process=True)) == batch
    assert queue.length() == queue.backlog().length == 2
    assert queue.stop_claims()
    assert queue.give_back(token + 1) == 2  # the list is empty: RENAME
    with pytest.raises(HandedBack):
        queue.claim(token + 2, most=10, most_bytes=1000)
    assert queue.allow_claims()
    queue.claim(token + 2, most=10, most_bytes=1000)
    for voter in "uvw":
        queue.push(Vote("b", voter))
    queue.stop_claims()
    assert queue.give_back(token + 3) == 2  # the list is the longer one: LMOVE
    assert len(queue.ends(5)[0]) == 5
    assert not watch(queue, 0.05).is_drained
    assert refusals(redis) == set()


def test_dead_letters(clients: Clients, redis: Redis) -> None:
    redis.rpush("{votes}:dead", *(DeadLetter("not_json", b'{"vote": "a"}').encode() for _ in range(1)))
    redis.rpush("{votes}:dead", DeadLetter("not_json", b"junk").encode())
    letters = DeadLetters(clients.redis())
    first, _second = letters.read()
    assert letters.requeue(0, 2, [(first, "x")], unless_queued=True).moved == 1
    redis.rpush("{votes}:dead", *(DeadLetter("not_json", b"junk" * 1000).encode() for _ in range(20)))
    DeadLetterRoom(clients.redis(), 10, 2000).keep()
    redis.rpush("{votes}:dead", *(DeadLetter(REFUSED, b"a vote").encode() for _ in range(20)))
    DeadLetterRoom(clients.redis(), 10, 2000).keep()
    assert letters.account().most == 10
    assert letters.drop(letters.place("not_json", 9), "not_json")[1] == 0
    assert letters.drop(letters.place(REFUSED, 9), REFUSED)[1] == 9
    assert refusals(redis) == set()


def test_snapshot_subscribers_and_health(clients: Clients, redis: Redis) -> None:
    snapshots, subscribers = Snapshots(clients.redis()), Subscribers(clients.redis())
    assert snapshots.write(Tally(2, {"a": 1})) == snapshots.write(Tally(1, {})) == (2, 0.0)
    snapshots.note_told(is_stale=True)
    assert snapshots.was_told_stale()
    subscribers.owe_all()
    trouble = Trouble(clients.redis(), TROUBLE, "nothing is counted")
    trouble.met("away")
    assert read_trouble(clients.redis(), TROUBLE) is not None
    trouble.over()
    assert snapshots.read() is not None
    assert subscribers.add("c=")
    subscribers.mark_delivered(dict.fromkeys(range(BUCKETS), 2))
    (bucket,) = subscribers.read([bucket_of("c=")])
    subscribers.mark_halfway(bucket, "c", 1)
    subscribers.mark_speed(4000)
    assert sum(subscribers.state()[0]) == 1
    assert subscribers.of(range(BUCKETS)) == ["c="]
    subscribers.remove(["c="])
    counts = FrameCounts(clients.redis())
    assert [counts.add("c=", 5, 100.0), counts.add("c=", 1, 101.0), counts.add("c=", 1, 200.0)] == [5, 6, 1]
    assert check_health(clients).redis == "ok"
    assert refusals(redis) == set()


def test_a_preflight_is_only_refused_the_configuration_which_elasticache_has_none_of(
    clients: Clients, redis: Redis
) -> None:
    assert [finding.what for finding in redis_findings(clients.redis()) if finding.level == "problem"] == []
    assert refusals(redis) <= {"config|get"}


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "KEYS *", "CONFIG GET *", "GET other", "SET votes2 x", "GET votes:dead", "SLOWLOG GET", "ACL LIST"],
)
def test_everything_else_is_refused(clients: Clients, command: str) -> None:
    with pytest.raises(NoPermissionError):
        clients.redis().execute_command(*command.split())


def test_every_command_that_a_script_calls_is_granted() -> None:
    called = commands_of_scripts(source())
    assert called
    assert called <= {word.removeprefix("+") for word in ACCESS.split() if word.startswith("+")}


def test_no_command_is_granted_that_the_package_has_no_use_for() -> None:
    used = commands_of_scripts(source())
    used |= set(re.findall(r"\.(\w+)\(", source()))  # methods of the client are called after their commands
    granted = {word.removeprefix("+") for word in ACCESS.split() if word.startswith("+")}
    scripts = {"evalsha", "eval", "script|load"} if "register_script" in used else set()
    transactions = {"multi", "exec"} if "pipeline" in used else set()
    assert granted - used - scripts - transactions == set()


def test_the_user_that_everybody_would_be_can_do_nothing(redis: Redis, redis_url: str) -> None:
    access = expansion(NEW_STORES).properties("CacheDefaultUser")["AccessString"]
    redis.execute_command("ACL", "SETUSER", "nobody", "reset", f">{PASSWORD}", *access.split())
    state = redis.acl_getuser("nobody")
    redis.execute_command("ACL", "DELUSER", "nobody")
    assert state is not None
    assert state["enabled"] is False
    assert not [rule for rule in state["commands"] + state["keys"] if not rule.startswith("-")]
