"""What a month of the stack and one event cost, line by line.

How AWS meters is part of the reckoning: WebSocket messages in 32 KB, HTTP requests in 512 KB, Lambda by the millisecond
and the memory that it was given, connections by the minute. What is guessed stands in the constants below.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from votectl.cost.prices import Price, Prices
from voting.broadcast.planner import HEAD_START_S, Budget, Plan, plan, round_s
from voting.broadcast.subscribers import BUCKETS
from voting.results.results import Results
from voting.tally import Tally

HOURS_A_MONTH = 730
KB = 1024
GB = 10**9
MESSAGE_KB = 32  # a WebSocket message is metered in steps of so much
REQUEST_KB = 512  # and an HTTP request

# As template.yaml sets them. MB.
VOTE_MB, FUNCTION_MB = 1024, 512
ALARM_METRICS, METRICS, DASHBOARDS, SECRETS, KEYS = 29, 20, 1, 6, 1

# Milliseconds that Lambda bills, of warm environments on one vCPU or less; cold starts are a few thousand at most.
PAGE_MS, VOTE_MS, RESULTS_MS, FRAME_MS = 5, 10, 10, 10
POSTS_A_SECOND = 5_000  # of one ws_broadcast, on the part of a core that its memory has
BROADCAST_MS = 20  # and what each invocation spends beside its posts

# Bytes on the wire: what the functions answer, and headers.
VOTE_PAGE_BYTES, RESULTS_PAGE_BYTES, ANSWER_BYTES = 13_000, 18_000, 1_500
FRAME_OVERHEAD_BYTES = 60  # WebSocket, TLS, TCP
POST_BYTES = 1_000  # of a post to @connections: what a NAT gateway processes, answer included

LOG_BYTES = 1_500  # an invocation: what Lambda logs at its start and end, our line, its metrics, the access log's
PING_MINUTES = 5  # pages ping so often while frames come


@dataclass(frozen=True, slots=True)
class Event:
    """A vote: how many take part, for how long, and how fast results go out."""

    voters: int
    votes_per_voter: float
    subscribers: int
    hours: float
    least_interval_ms: int
    messages_per_s: int

    @property
    def votes(self) -> int:
        return round(self.voters * self.votes_per_voter)

    @property
    def budget(self) -> Budget:
        return Budget(self.messages_per_s, self.least_interval_ms / 1000)

    @property
    def interval_s(self) -> float:
        """How often everybody is sent the results, in one turn or in several."""
        return round_s(self.subscribers, self.budget, POSTS_A_SECOND)

    @property
    def turn(self) -> Plan:
        """The plan of one turn, as the worker makes it; subscribers spread evenly over the registry."""
        share, rest = divmod(self.subscribers, BUCKETS)
        sizes = [(bucket, share + (bucket < rest)) for bucket in range(BUCKETS)]
        return plan([each for each in sizes if each[1]], self.budget, POSTS_A_SECOND)

    @property
    def broadcasts(self) -> int:
        """One per interval, and none that no vote has caused: the most that there can be."""
        return min(self.votes, math.floor(self.hours * 3600 / self.interval_s)) if self.subscribers else 0

    @property
    def messages(self) -> int:
        """What broadcasts send, in metered messages."""
        return self.subscribers * self.broadcasts * metered(frame_bytes(), MESSAGE_KB)


@dataclass(frozen=True, slots=True)
class Stack:
    """What is there all month."""

    architecture: str
    cache_node: str
    cache_nodes: int
    database: str
    database_storage_gib: int
    multi_az: bool
    nat: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill."""

    what: str
    quantity: float
    price: Price

    @property
    def usd(self) -> float:
        return self.quantity * self.price.usd


def metered(size_bytes: int, step_kb: int) -> int:
    """How many are billed for one of *size_bytes*."""
    return max(1, math.ceil(size_bytes / (step_kb * KB)))


def gb_seconds(invocations: float, duration_ms: float, memory_mb: int) -> float:
    """Lambda's measure; each invocation is rounded up to the millisecond."""
    return invocations * math.ceil(duration_ms) / 1000 * memory_mb / 1024


def frame_bytes() -> int:
    """The size of a broadcast frame with six digits of votes."""
    counts = {"a": 123_456, "b": 654_321}
    return len(Results.of(Tally(1_800_000_000_000, counts), {"a": "Cats", "b": "Dogs"}).frame())


def standing(stack: Stack, prices: Prices) -> Iterator[Line]:
    """The lines of a month in which nobody votes."""
    price = prices.price
    copies = 2 if stack.multi_az else 1
    worker_runs = HOURS_A_MONTH * 60
    yield Line("Lambda: the worker, always running", *_worker(stack, prices))
    yield Line("Lambda: the worker's runs", worker_runs, price("lambda_request"))
    yield Line(
        f"ElastiCache: {stack.cache_nodes} x {stack.cache_node}",
        stack.cache_nodes * HOURS_A_MONTH,
        price("cache_node", stack.cache_node),
    )
    yield Line(f"RDS: {copies} x {stack.database}", copies * HOURS_A_MONTH, price("database", stack.database))
    yield Line(
        f"RDS: storage, {copies} x {stack.database_storage_gib} GiB",
        copies * stack.database_storage_gib,
        price("database_storage"),
    )
    yield Line("CloudWatch: logs of the worker", worker_runs * LOG_BYTES / GB, price("log_ingested"))
    yield Line("CloudWatch: metrics of the functions", METRICS, price("metric"))
    yield Line("CloudWatch: metrics under an alarm", ALARM_METRICS, price("alarm"))
    yield Line("CloudWatch: dashboard", DASHBOARDS, price("dashboard"))
    yield Line("Secrets Manager", SECRETS, price("secret"))
    yield Line("KMS: key", KEYS, price("key"))
    if stack.nat:
        yield Line("NAT gateway", HOURS_A_MONTH, price("nat_hour"))
        yield Line("NAT gateway: its address", HOURS_A_MONTH, price("public_ipv4"))


def _worker(stack: Stack, prices: Prices) -> tuple[float, Price]:
    return gb_seconds(1, HOURS_A_MONTH * 3_600_000, FUNCTION_MB), prices.price(f"lambda_{stack.architecture}")


def event_lines(event: Event, stack: Stack, prices: Prices) -> Iterator[Line]:
    """The lines that one event adds."""
    price = prices.price
    invocations, seconds = _invocations(event)
    pages, posts, views = event.voters, event.votes, event.subscribers
    yield Line("Lambda: requests", invocations, price("lambda_request"))
    yield Line("Lambda: compute", seconds, price(f"lambda_{stack.architecture}"))
    requests = (
        pages * metered(VOTE_PAGE_BYTES, REQUEST_KB)
        + posts * metered(ANSWER_BYTES, REQUEST_KB)
        + views * metered(RESULTS_PAGE_BYTES, REQUEST_KB)
    )
    yield Line("HTTP API: pages and votes", requests, price("http_request"))
    yield Line("WebSocket: broadcasts", event.messages, price("websocket_message"))
    yield Line("WebSocket: subscribing and pings", 2 * (views + _pings(event)), price("websocket_message"))
    yield Line("WebSocket: connections", views * math.ceil(event.hours * 60), price("websocket_minute"))
    yield Line("CloudWatch: logs", invocations * LOG_BYTES / GB, price("log_ingested"))
    yield Line("X-Ray: traces", _traces(event, invocations), price("trace"))
    frames = views * event.broadcasts * (frame_bytes() + FRAME_OVERHEAD_BYTES)
    answers = pages * VOTE_PAGE_BYTES + posts * ANSWER_BYTES + views * RESULTS_PAGE_BYTES
    yield Line("Egress: broadcasts", frames / GB, price("egress"))
    yield Line("Egress: pages and answers", answers / GB, price("egress"))
    if stack.nat:
        yield Line("NAT gateway: broadcasts", views * event.broadcasts * POST_BYTES / GB, price("nat_data"))


def _pings(event: Event) -> int:
    return event.subscribers * math.floor(event.hours * 60 / PING_MINUTES)


def _invocations(event: Event) -> tuple[int, float]:
    """Of all functions but the worker: how many, and their GB-seconds."""
    frames = 3 * event.subscribers + _pings(event)  # $connect, subscribe, $disconnect, and pings
    shards, per_shard_ms = _shards(event)
    parts = [
        (event.voters, PAGE_MS, VOTE_MB),
        (event.votes, VOTE_MS, VOTE_MB),
        (event.subscribers, RESULTS_MS, FUNCTION_MB),
        (frames, FRAME_MS, FUNCTION_MB),
        (shards, per_shard_ms, FUNCTION_MB),
    ]
    return sum(part[0] for part in parts), sum(gb_seconds(*part) for part in parts)


def _shards(event: Event) -> tuple[int, float]:
    """How many invocations the broadcasts take, and the milliseconds of each: a shard bides its time at its pace."""
    turn = event.turn
    if not turn.shards:
        return 0, 0.0
    posts = sum(shard.subscribers for shard in turn.shards) / len(turn.shards)  # of each shard
    posting_s = max(posts / POSTS_A_SECOND, posts / turn.shards[0].pace - HEAD_START_S)
    return math.ceil(event.messages / posts), BROADCAST_MS + posting_s * 1000


def _traces(event: Event, invocations: int) -> float:
    """X-Ray takes the first request of each second and a twentieth of the others."""
    first = min(invocations, event.hours * 3600)
    return first + (invocations - first) / 20
