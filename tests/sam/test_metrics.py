"""What alarms and dashboard watch, beside what the functions print: a metric is one only with its exact dimensions.

CloudWatch adds nothing up over dimensions: an alarm on {service: worker} never sees a metric of {service, code}, and
says nothing of it. So every function runs here with the environment that the template gives it, on real stores, and
what it prints in the embedded metric format is compared with what is watched.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from redis import Redis

from tests.conftest import ROOT, event
from tests.management_api import ManagementApi
from tests.sam.expansion import EXISTING_STORES, NEW_STORES, Expansion, expansion
from votectl.cost import estimate
from voting.broadcast.subscribers import Subscribers
from voting.queue.queue_view import PROGRESS
from voting.queue.vote_queue import VOTES
from voting.results.snapshot import Snapshots
from voting.tally import Tally
from voting.vote import Vote

NAMESPACE = "Voting/a-stack"
NOBODY = "redis://127.0.0.1:1"
LOGGED = {"RequestsThrottled"}  # made by a filter of an access log, and looked at in test_template.py

# Handles events one after another, as one execution environment does. A worker asks before each of its steps how much
# time is left: after eight it has none, and at each it tells how things stand, not every ten seconds.
DRIVER = """
import itertools, json, sys, types
sys.path.insert(0, sys.argv[2])
import app
if "voting.worker.journal" in sys.modules:
    sys.modules["voting.worker.journal"].FLUSH_METRICS_EVERY_S = 0.0
for event in json.loads(sys.argv[1]):
    steps = itertools.count()
    context = types.SimpleNamespace(
        function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:eu-central-1:1:function:f",
        aws_request_id="r", get_remaining_time_in_millis=lambda: 60_000 if next(steps) < 8 else 0,
    )
    app.handler(event, context)
"""


@dataclass(frozen=True)
class Metric:
    """What CloudWatch knows a metric by."""

    name: str
    dimensions: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, name: str, dimensions: Mapping[str, str]) -> "Metric":
        return cls(name, frozenset(dimensions.items()))


# ---------------------------------------------------------------- What is watched


def alarmed(stack: Expansion) -> Iterator[tuple[str, Metric]]:
    """Each alarm on a metric of ours, and the metric."""
    for name, alarm in stack.of("AWS::CloudWatch::Alarm").items():
        for one in (alarm, *(query.get("MetricStat", {}).get("Metric", {}) for query in alarm.get("Metrics", []))):
            if one.get("Namespace") == {"Fn::Sub": "Voting/${AWS::StackName}"} and one["MetricName"] not in LOGGED:
                yield name, Metric.of(one["MetricName"], {each["Name"]: each["Value"] for each in one["Dimensions"]})


def shown(stack: Expansion) -> Iterator[tuple[str, Metric]]:
    """Each widget on a metric of ours, and the metric."""
    body, inserted = stack.properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    for name, value in inserted.items():
        body = body.replace(f"${{{name}}}", value["Fn::Sub"] if isinstance(value, dict) else value)
    for widget in json.loads(body)["widgets"]:
        for namespace, name, *dimensions in spelled_out(widget["properties"].get("metrics", [])):
            if namespace == "Voting/${AWS::StackName}" and name not in LOGGED:
                yield (
                    widget["properties"]["title"],
                    Metric.of(name, dict(zip(dimensions[::2], dimensions[1::2], strict=True))),
                )


def spelled_out(rows: list[list[Any]]) -> Iterator[list[str]]:
    """The rows of a widget without its shorthands: `.` is the word above, `...` all words above but the last."""
    before: list[str] = []
    for row in rows:
        words = [word for word in row if isinstance(word, str)]
        if words[0] == "...":
            words = before[: len(before) - len(words) + 1] + words[1:]
        before = [above if word == "." else word for word, above in zip(words, before or words, strict=False)]
        yield before


# ---------------------------------------------------------------- What is printed


@dataclass
class Printed:
    """The metrics that functions printed, and where they said they belong."""

    stack: Expansion
    settings: Mapping[str, str]
    metrics: set[Metric] = field(default_factory=set)

    def run(self, function: str, folder: str, *events: Mapping[str, Any], without: str = "", **env: str) -> None:
        """Run *function* on *events* with what the template says of its name and its namespace."""
        declared = self.stack.properties(function)["Environment"]["Variables"]
        powertools = {name: value for name, value in declared.items() if name.startswith("POWERTOOLS_")}
        assert powertools.pop("POWERTOOLS_METRICS_NAMESPACE") == {"Fn::Sub": "Voting/${AWS::StackName}"}
        settings = {name: value for name, value in (self.settings | env).items() if name != without}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, json.dumps(events), str(ROOT / "functions" / folder)],
            env=settings | powertools | {"POWERTOOLS_METRICS_NAMESPACE": NAMESPACE},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            self._take(json.loads(line))

    def _take(self, line: Mapping[str, Any]) -> None:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            assert directive["Namespace"] == NAMESPACE
            for keys in directive["Dimensions"]:
                for metric in directive["Metrics"]:
                    assert line[metric["Name"]], "a metric has values"
                    self.metrics.add(Metric.of(metric["Name"], {key: line[key] for key in keys}))


@pytest.fixture(scope="module")
def settings(redis_url: str, database_url: str) -> Mapping[str, str]:
    return {
        "PYTHONPATH": str(ROOT / "layers" / "voting"),
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "COOKIE_KEYS": "only-for-the-metrics-of-the-tests-0123456789",
        "BROADCAST_FUNCTION": "WsBroadcastFunction",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }


@pytest.fixture(scope="module")
def printed(settings: Mapping[str, str], redis_url: str, database_url: str) -> Printed:
    """All that goes well, and all that goes wrong, in every function that an alarm or a widget looks at."""
    printed = Printed(expansion(NEW_STORES), settings)
    with Redis.from_url(redis_url) as redis, psycopg.connect(database_url, autocommit=True) as database:
        redis.flushall()
        database.execute("DROP SCHEMA IF EXISTS public, voting CASCADE; CREATE SCHEMA public")
        ballot = event("http-post-json")
        redis.set(PROGRESS, 1)  # nothing has been counted for years
        printed.run("VoteFunction", "vote", ballot)
        printed.run("VoteFunction", "vote", ballot, REDIS_URL=NOBODY)
        printed.run("VoteFunction", "vote", ballot, without="COOKIE_KEYS")
        printed.run("ResultFunction", "result", event("http-get-results"), without="REDIS_URL")
        nowhere = {"REDIS_URL": NOBODY, "DATABASE_URL": "postgresql://127.0.0.1:1/nowhere"}
        printed.run("ResultFunction", "result", event("http-get-results"), **nowhere)
        live = {"WEBSOCKET_URL": "ws://127.0.0.1:1/live", "HTTP_URL": "http://127.0.0.1:1"}
        printed.run("WsConnectFunction", "ws_connect", event("websocket-subscribe"), **nowhere, **live)
        redis.lpush(VOTES, Vote("a", "x").encode(), b"junk")
        printed.run("WorkerFunction", "worker", event("schedule"))
        Snapshots(redis).write(Tally(2**62, {"a": 3}))
        Subscribers(redis).add("c=")
        api = ManagementApi(lambda _id, _posts: 200)
        printed.run(
            *("WsBroadcastFunction", "ws_broadcast", event("broadcast")),
            WEBSOCKET_URL=f"ws://127.0.0.1:{api.port}/live",
        )
        api.close()
    return printed


# ---------------------------------------------------------------- Both


@pytest.mark.parametrize(
    "parameters", [NEW_STORES | {"MonthlyBudgetUSD": "40"}, EXISTING_STORES], ids=["new-stores", "existing-stores"]
)
def test_every_alarm_and_every_widget_looks_at_what_a_function_prints(
    printed: Printed, parameters: Mapping[str, str]
) -> None:
    watched = [*alarmed(expansion(parameters)), *shown(expansion(parameters))]
    assert len(watched) > 15
    assert [(where, metric) for where, metric in watched if metric not in printed.metrics] == []


def test_the_estimate_of_costs_reckons_with_the_metrics_that_there_are(printed: Printed) -> None:
    """Refusals have one for each code that occurs, and are left out."""
    filters = expansion(NEW_STORES).of("AWS::Logs::MetricFilter").values()
    assert {made["MetricName"] for filter_ in filters for made in filter_["MetricTransformations"]} == LOGGED
    assert len(printed.metrics) + len(LOGGED) == estimate.METRICS


def test_whatever_is_watched_is_asked_of_the_function_that_tells_it(printed: Printed) -> None:
    services = {value for metric in printed.metrics for key, value in metric.dimensions if key == "service"}
    assert services == {"vote", "result", "worker", "ws_broadcast", "ws_connect"}


@pytest.mark.parametrize(
    "wrong",
    [
        Metric.of("NotCountedFor", {"Service": "worker"}),
        Metric.of("NotCountedFor", {"service": "Worker"}),
        Metric.of("NotCountedFor", {"service": "worker", "code": "x"}),
        Metric.of("NotCountedFor", {}),
        Metric.of("notCountedFor", {"service": "worker"}),
    ],
)
def test_a_dimension_that_is_spelled_otherwise_is_another_metric(printed: Printed, wrong: Metric) -> None:
    assert Metric.of("NotCountedFor", {"service": "worker"}) in printed.metrics
    assert wrong not in printed.metrics


def test_the_shorthands_of_widgets_are_understood() -> None:
    rows = [["N", "A", "service", "x"], [".", "B", ".", "."], ["...", "y"], ["N", "C", "k", "v", {"stat": "Sum"}]]
    assert list(spelled_out(rows)) == [
        ["N", "A", "service", "x"],
        ["N", "B", "service", "x"],
        ["N", "B", "service", "y"],
        ["N", "C", "k", "v"],
    ]
