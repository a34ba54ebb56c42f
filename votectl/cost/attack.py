"""What a flood costs the owner per hour: for each kind of request, without limits and within those of the stack.

Prices, durations and sizes are those of the event estimate. A request that a throttle refuses is not billed, according
to AWS staff on re:Post; its line in the access log of the HTTP API is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from votectl.cost.estimate import (
    ANSWER_BYTES,
    CATS_OR_DOGS,
    FRAME_MS,
    FRAME_OVERHEAD_BYTES,
    FUNCTION_MB,
    GB,
    LOG_BYTES,
    PAGE_MS,
    RESULTS_MS,
    VOTE_MB,
    VOTE_MS,
    VOTE_PAGE_BYTES,
    frame_bytes,
    gb_seconds,
)
from votectl.cost.prices import Prices
from votectl.table import table
from voting.broadcast.planner import Budget, round_s
from voting.broadcast.subscribers import BUCKETS
from voting.question import Question

# The defaults of template.yaml, requests per second.
VOTES_PER_S, VIEWS_PER_S, CONNECTIONS_PER_S, FRAMES_PER_S = 4000, 2000, 200, 400

RATES = 10, 100, 1_000, 10_000  # requests per second of the attacker
TRACED = 1 / 20  # share of all invocations, by X-Ray's default sampling
LONGEST_CONNECTION_MINUTES = 120  # then API Gateway closes it
REFUSAL_LOG_BYTES = 350  # one line of the access log
ERROR_FRAME_BYTES, PONG_BYTES = 120, 15


@dataclass(frozen=True, slots=True)
class Flood:
    """One kind of request, sent without pause."""

    what: str
    usd: float  # for one that is admitted
    most_per_s: float | None  # admitted per second; None if there is no limit
    bound: str
    usd_unbounded: float | None = None  # for one, if the limit is not only on their number

    def usd_an_hour(self, per_s: float) -> float:
        """What *per_s* of them would cost without limits."""
        return (self.usd if self.usd_unbounded is None else self.usd_unbounded) * per_s * 3600

    @property
    def most_usd_an_hour(self) -> float | None:
        return None if self.most_per_s is None else self.usd * self.most_per_s * 3600


@dataclass(frozen=True, slots=True)
class Bill:
    """Unit costs, in USD."""

    prices: Prices
    architecture: str
    question: Question = CATS_OR_DOGS

    def price(self, name: str) -> float:
        return self.prices.price(name).usd

    def invocation(self, duration_ms: float, memory_mb: int) -> float:
        """One invocation of a function, with its logs and its share of the traces."""
        compute = gb_seconds(1, duration_ms, memory_mb) * self.price(f"lambda_{self.architecture}")
        logs = LOG_BYTES / GB * self.price("log_ingested")
        return self.price("lambda_request") + compute + logs + TRACED * self.price("trace")

    def request(self, duration_ms: float, memory_mb: int, answer_bytes: int) -> float:
        """One request to the HTTP API."""
        return self.price("http_request") + self.invocation(duration_ms, memory_mb) + self.egress(answer_bytes)

    def frame(self, *answers_bytes: int) -> float:
        """One frame from a subscriber, and the frames sent in response."""
        return (
            self.price("websocket_message")
            + self.invocation(FRAME_MS, FUNCTION_MB)
            + sum(self.message(size) for size in answers_bytes)
        )

    def message(self, size_bytes: int) -> float:
        """One message to a subscriber."""
        return self.price("websocket_message") + self.egress(size_bytes + FRAME_OVERHEAD_BYTES)

    def connection(self, minutes: float) -> float:
        """One connection of a subscriber, from $connect to $disconnect."""
        return 2 * self.invocation(FRAME_MS, FUNCTION_MB) + minutes * self.price("websocket_minute")

    def egress(self, size_bytes: int) -> float:
        return size_bytes / GB * self.price("egress")


def floods(bill: Bill, subscribers: int, budget: Budget) -> Iterator[Flood]:
    """All kinds of floods, while *subscribers* watch."""
    page = bill.request(PAGE_MS, VOTE_MB, VOTE_PAGE_BYTES)
    results = bill.request(RESULTS_MS, FUNCTION_MB, ANSWER_BYTES)
    yield Flood("GET / (the page)", page, VIEWS_PER_S, "ViewsPerSecond")
    yield Flood("GET /api/results", results, VIEWS_PER_S, "ViewsPerSecond")
    vote = bill.request(VOTE_MS, VOTE_MB, ANSWER_BYTES)
    yield Flood("POST a vote", vote, VOTES_PER_S, "VotesPerSecond")
    yield _broadcasts(bill, subscribers, budget)
    refused = bill.request(PAGE_MS, VOTE_MB, ANSWER_BYTES)
    yield Flood("POST that is refused (400, 403)", refused, VOTES_PER_S, "VotesPerSecond")
    yield Flood("WebSocket connect and leave", bill.connection(1), CONNECTIONS_PER_S, "ConnectionsPerSecond")
    held = bill.connection(LONGEST_CONNECTION_MINUTES)
    yield Flood("WebSocket connect and stay, 2 h", held, CONNECTIONS_PER_S, "ConnectionsPerSecond")
    yield Flood("frame: subscribe", bill.frame(frame_bytes(bill.question)), FRAMES_PER_S, "FramesPerSecond")
    yield Flood("frame: ping", bill.frame(PONG_BYTES), FRAMES_PER_S, "FramesPerSecond")
    yield Flood("frame: junk", bill.frame(ERROR_FRAME_BYTES), FRAMES_PER_S, "FramesPerSecond")
    yield _strangers_ping(bill, subscribers)
    line = REFUSAL_LOG_BYTES / GB * bill.price("log_ingested")
    yield Flood("any that is throttled (429): its log", line, None, "nothing of ours")


def _broadcasts(bill: Bill, subscribers: int, budget: Budget) -> Flood:
    """A vote changes the results, and all subscribers get them, as often as the budget allows."""
    broadcast = subscribers * bill.message(frame_bytes(bill.question))
    return Flood(
        "POST a vote: its broadcast", broadcast, 1 / round_s(subscribers, budget), "BroadcastMessagesPerSecond"
    )


def _strangers_ping(bill: Bill, subscribers: int) -> Flood:
    """Without its limit, the whole bucket of the connection would get the results."""
    alone = bill.frame(PONG_BYTES, frame_bytes(bill.question))
    amplified = bill.frame(PONG_BYTES) + subscribers / BUCKETS * bill.message(frame_bytes(bill.question))
    return Flood("frame: ping of a stranger", alone, FRAMES_PER_S, "answered alone; FramesPerSecond", amplified)


def flood_costs(bill: Bill, subscribers: int, budget: Budget) -> dict[str, Any]:
    """Everything that is printed, as a JSON document; amounts in USD."""
    return {
        "region": bill.prices.region,
        "prices_dated": bill.prices.dated.isoformat(),
        "subscribers": subscribers,
        "floods": [
            {
                "what": flood.what,
                "usd_an_hour": {str(rate): flood.usd_an_hour(rate) for rate in RATES},
                "let_through_per_s": flood.most_per_s,
                "most_usd_an_hour": flood.most_usd_an_hour,
                "bound": flood.bound,
            }
            for flood in floods(bill, subscribers, budget)
        ],
    }


def describe_attack(document: Mapping[str, Any]) -> Iterator[str]:
    """Render *document* as text with a table."""
    yield (
        f"What a flood costs in USD per hour, at list prices of {document['region']}, {document['prices_dated']}, "
        f"while\n{document['subscribers']:,} watch: by requests per second without any limit, and the most that the "
        "limits allow.\n"
    )
    heads = ["", *(f"{rate:,}/s" for rate in RATES), "let through", "at most", "bound"]
    rows = [
        [
            flood["what"],
            *(_usd(flood["usd_an_hour"][str(rate)]) for rate in RATES),
            "-" if flood["let_through_per_s"] is None else _rate(flood["let_through_per_s"]),
            "-" if flood["most_usd_an_hour"] is None else _usd(flood["most_usd_an_hour"]),
            flood["bound"],
        ]
        for flood in document["floods"]
    ]
    yield table([heads, *rows])


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}/s" if per_s >= 1 else f"{per_s:.2g}/s"


def _usd(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:,.2f}"
