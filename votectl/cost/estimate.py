"""What a month of the stack and one event cost, item by item.

The estimate follows how AWS meters: WebSocket messages in steps of 32 KB, HTTP requests in steps of 512 KB, Lambda by
the millisecond and the memory of the function, connections by the minute. The constants below hold the assumptions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from votectl.cost.prices import Price, Prices
from voting.broadcast.planner import HEAD_START_S, Budget, Plan, plan, round_s
from voting.broadcast.subscribers import BUCKETS
from voting.question import Question
from voting.results.results import Results
from voting.tally import Tally

HOURS_A_MONTH = 730
KB = 1024
GB = 10**9
MESSAGE_KB = 32  # metering step of a WebSocket message
REQUEST_KB = 512  # metering step of an HTTP request

# As template.yaml sets them. MB.
VOTE_MB, FUNCTION_MB = 1024, 512
ALARM_METRICS, METRICS, DASHBOARDS, SECRETS, KEYS = 44, 21, 1, 6, 1
FEW_ALARM_METRICS, BUDGET_ALARM_METRICS = 13, 1  # with Alarms=few; with MonthlyBudgetUSD, in addition
SECOND_NODE_METRICS, FEW_SECOND_NODE_METRICS = 6, 1  # of ALARM_METRICS and FEW_ALARM_METRICS: one node has none

# Billed milliseconds of warm environments on at most one vCPU; there are a few thousand cold starts at most.
PAGE_MS, VOTE_MS, RESULTS_MS, FRAME_MS = 5, 10, 10, 10
POSTS_A_SECOND = 5_000  # of one ws_broadcast, on the share of a vCPU that comes with its memory
BROADCAST_MS = 20  # of each invocation, apart from its posts

# Bytes on the wire: response bodies with their headers.
VOTE_PAGE_BYTES, RESULTS_PAGE_BYTES, ANSWER_BYTES = 14_500, 24_000, 1_500
FRAME_OVERHEAD_BYTES = 60  # WebSocket, TLS, TCP
POST_BYTES = 1_000  # that a NAT gateway processes for one post to @connections, response included

LOG_BYTES = 1_500  # per invocation: Lambda's start and end lines, ours, the metrics, the access log
CHATTY_PAGES = 200  # open pages of results, before which one voter changes the vote all day
DAY_S = 86_400
PING_MINUTES = 5  # interval of a page's pings while frames arrive

CATS_OR_DOGS = Question.of("", ["Cats", "Dogs"])


@dataclass(frozen=True, slots=True)
class Event:
    """One event: how many people take part, for how long, and how fast results go out."""

    voters: int
    votes_per_voter: float
    subscribers: int
    hours: float
    least_interval_ms: int
    messages_per_s: int
    question: Question = CATS_OR_DOGS

    @property
    def votes(self) -> int:
        return round(self.voters * self.votes_per_voter)

    @property
    def budget(self) -> Budget:
        return Budget(self.messages_per_s, self.least_interval_ms / 1000)

    @property
    def interval_s(self) -> float:
        """Time between two results for the same subscriber, whether the audience takes one turn or several."""
        return round_s(self.subscribers, self.budget, POSTS_A_SECOND)

    @property
    def turn(self) -> Plan:
        """The plan of one turn, as the worker makes it; subscribers spread evenly over the registry."""
        share, rest = divmod(self.subscribers, BUCKETS)
        sizes = [(bucket, share + (bucket < rest)) for bucket in range(BUCKETS)]
        return plan([each for each in sizes if each[1]], self.budget, POSTS_A_SECOND)

    @property
    def broadcasts(self) -> int:
        """An upper bound: one per interval, and no more than there are votes."""
        return min(self.votes, math.floor(self.hours * 3600 / self.interval_s)) if self.subscribers else 0

    @property
    def messages(self) -> int:
        """Metered messages of all broadcasts."""
        return self.subscribers * self.broadcasts * metered(frame_bytes(self.question), MESSAGE_KB)


@dataclass(frozen=True, slots=True)
class Stack:
    """The resources that run all month."""

    architecture: str
    cache_node: str
    cache_nodes: int
    database: str
    database_storage_gib: int
    multi_az: bool
    nat: bool
    counting_hours: float = HOURS_A_MONTH  # of a month, in which the schedule starts the worker
    few_alarms: bool = False
    budget: bool = False


@dataclass(frozen=True, slots=True)
class LineItem:
    """One item of the bill."""

    what: str
    quantity: float
    price: Price

    @property
    def usd(self) -> float:
        return self.quantity * self.price.usd


def metered(size_bytes: int, step_kb: int) -> int:
    """The metered units of one message or request of *size_bytes*."""
    return max(1, math.ceil(size_bytes / (step_kb * KB)))


def gb_seconds(invocations: float, duration_ms: float, memory_mb: int) -> float:
    """Lambda's unit of compute; each invocation is rounded up to the millisecond."""
    return invocations * math.ceil(duration_ms) / 1000 * memory_mb / 1024


def frame_bytes(question: Question = CATS_OR_DOGS) -> int:
    """The size of a broadcast frame with six digits of votes for each option of *question*."""
    counts = {choice: (123_456, 654_321)[place % 2] for place, choice in enumerate(question.labels)}
    return len(Results.of(Tally(1_800_000_000_000, counts), question).frame())


def standing(stack: Stack, prices: Prices) -> Iterator[LineItem]:
    """The items of a month without votes."""
    price = prices.price
    copies = 2 if stack.multi_az else 1
    always = stack.counting_hours == HOURS_A_MONTH
    worker_runs = stack.counting_hours * 60
    when = "always running" if always else f"{stack.counting_hours:.0f} hours"
    yield LineItem(f"Lambda: the worker, {when}", *_worker(stack, prices))
    yield LineItem("Lambda: the worker's runs", worker_runs, price("lambda_request"))
    yield LineItem(
        f"ElastiCache: {stack.cache_nodes} x {stack.cache_node}",
        stack.cache_nodes * HOURS_A_MONTH,
        price("cache_node", stack.cache_node),
    )
    yield LineItem(f"RDS: {copies} x {stack.database}", copies * HOURS_A_MONTH, price("database", stack.database))
    yield LineItem(
        f"RDS: storage, {copies} x {stack.database_storage_gib} GiB",
        copies * stack.database_storage_gib,
        price("database_storage"),
    )
    yield LineItem("CloudWatch: logs of the worker", worker_runs * LOG_BYTES / GB, price("log_ingested"))
    # A metric of ours is billed by the hour in which it has data.
    metrics = METRICS * stack.counting_hours / HOURS_A_MONTH
    yield LineItem("CloudWatch: metrics of the functions", metrics, price("metric"))
    yield LineItem("CloudWatch: metrics under an alarm", _alarm_metrics(stack), price("alarm"))
    yield LineItem("CloudWatch: dashboard", 0 if stack.few_alarms else DASHBOARDS, price("dashboard"))
    yield LineItem("Secrets Manager", SECRETS, price("secret"))
    yield LineItem("KMS: key", KEYS, price("key"))
    if stack.nat:
        yield LineItem("NAT gateway", HOURS_A_MONTH, price("nat_hour"))
        yield LineItem("NAT gateway: its address", HOURS_A_MONTH, price("public_ipv4"))


def _alarm_metrics(stack: Stack) -> int:
    all_, second = (
        (FEW_ALARM_METRICS, FEW_SECOND_NODE_METRICS) if stack.few_alarms else (ALARM_METRICS, SECOND_NODE_METRICS)
    )
    return all_ - second * (stack.cache_nodes == 1) + BUDGET_ALARM_METRICS * stack.budget


def _worker(stack: Stack, prices: Prices) -> tuple[float, Price]:
    return gb_seconds(1, stack.counting_hours * 3_600_000, FUNCTION_MB), prices.price(f"lambda_{stack.architecture}")


def chatty_day(interval_ms: int, messages_per_s: int) -> Event:
    """A day on which one voter changes the vote so often that every broadcast has something new to say."""
    interval_s = round_s(CHATTY_PAGES, Budget(messages_per_s, interval_ms / 1000), POSTS_A_SECOND)
    return Event(1, DAY_S / interval_s, CHATTY_PAGES, DAY_S / 3600, interval_ms, messages_per_s)


def event_lines(event: Event, stack: Stack, prices: Prices) -> Iterator[LineItem]:
    """The items that one event adds."""
    price = prices.price
    invocations, seconds = _invocations(event)
    pages, posts, views = event.voters, event.votes, event.subscribers
    yield LineItem("Lambda: requests", invocations, price("lambda_request"))
    yield LineItem("Lambda: compute", seconds, price(f"lambda_{stack.architecture}"))
    requests = (
        pages * metered(VOTE_PAGE_BYTES, REQUEST_KB)
        + posts * metered(ANSWER_BYTES, REQUEST_KB)
        + views * metered(RESULTS_PAGE_BYTES, REQUEST_KB)
    )
    yield LineItem("HTTP API: pages and votes", requests, price("http_request"))
    yield LineItem("WebSocket: broadcasts", event.messages, price("websocket_message"))
    yield LineItem("WebSocket: subscribing and pings", 2 * (views + _pings(event)), price("websocket_message"))
    yield LineItem("WebSocket: connections", views * math.ceil(event.hours * 60), price("websocket_minute"))
    yield LineItem("CloudWatch: logs", invocations * LOG_BYTES / GB, price("log_ingested"))
    yield LineItem("X-Ray: traces", _traces(event, invocations), price("trace"))
    frames = views * event.broadcasts * (frame_bytes(event.question) + FRAME_OVERHEAD_BYTES)
    answers = pages * VOTE_PAGE_BYTES + posts * ANSWER_BYTES + views * RESULTS_PAGE_BYTES
    yield LineItem("Egress: broadcasts", frames / GB, price("egress"))
    yield LineItem("Egress: pages and answers", answers / GB, price("egress"))
    if stack.nat:
        yield LineItem("NAT gateway: broadcasts", views * event.broadcasts * POST_BYTES / GB, price("nat_data"))


def _pings(event: Event) -> int:
    return event.subscribers * math.floor(event.hours * 60 / PING_MINUTES)


def _invocations(event: Event) -> tuple[int, float]:
    """Invocations of all functions but the worker, and their GB-seconds."""
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
    """Invocations that the broadcasts take, and the milliseconds of each; a shard that keeps its pace has to wait."""
    turn = event.turn
    if not turn.shards:
        return 0, 0.0
    posts = sum(shard.subscribers for shard in turn.shards) / len(turn.shards)  # of each shard
    posting_s = max(posts / POSTS_A_SECOND, posts / turn.shards[0].pace - HEAD_START_S)
    return math.ceil(event.messages / posts), BROADCAST_MS + posting_s * 1000


def _traces(event: Event, invocations: int) -> float:
    """X-Ray samples the first request of each second and 5% of the others."""
    first = min(invocations, event.hours * 3600)
    return first + (invocations - first) / 20
