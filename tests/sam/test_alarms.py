"""Each alarm of the template over a timeline of data points that are late, missing or sparse, as CloudWatch has them.

Can it go off, does it go out again, what does it say without traffic and when it has just been made? Nothing here asks
AWS; `metric_math` follows its documentation, whose own examples are tested first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import pytest

from tests.sam.expansion import EXISTING_STORES, NEW_STORES, declared, expansion
from tests.sam.metric_math import ALARM, INSUFFICIENT, OK, Alarm, Point, Query, Series, calculate

# ---------------------------------------------------------------- the model, by the examples in AWS's guide

O, X = 0.0, 1.0  # noqa: E741 - as in the guide: within the threshold, beyond it
SPELLED: Mapping[str, float | None] = {"0": O, "X": X, "-": None}


def of(needed: int, periods: int, missing: str) -> Alarm:
    query = Query("AWS/Any", "Any", frozenset(), "Maximum", 5)
    return Alarm({"metric": query}, "metric", "GreaterThanThreshold", 0.5, needed, periods, missing)


@pytest.mark.parametrize(
    ("needed", "points", "ignore", "breaching", "not_breaching"),
    [
        (3, "0 - X - X", OK, OK, OK),
        (3, "0 - - - -", OK, OK, OK),
        (3, "- - - - -", "kept", ALARM, OK),
        (3, "0 X X - X", ALARM, ALARM, ALARM),
        (3, "- - - - X", "kept", ALARM, OK),
        (3, "X - - - -", "kept", ALARM, OK),
        (2, "0 - X - X", ALARM, ALARM, ALARM),
        (2, "0 0 X 0 X", ALARM, ALARM, ALARM),
        (2, "0 - X - -", OK, ALARM, OK),
        (2, "- - - - 0", OK, ALARM, OK),
        (2, "- - - - X", "kept", ALARM, OK),
    ],
)
def test_the_tables_of_the_guide_on_missing_data(
    needed: int, points: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    data = [SPELLED[point] for point in points.split()]
    assert of(needed, 3, "ignore").decide(data, "kept") == ignore
    assert of(needed, 3, "breaching").decide(data, "kept") == breaching
    assert of(needed, 3, "notBreaching").decide(data, "kept") == not_breaching


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("a + b", [11.0, 2.0, 30.0, None]),
        ("FILL(a, 0) + FILL(b, 0)", [11.0, 2.0, 30.0, 0.0]),
        ("a / b", [0.1, None, 0.0, None]),
        ("MAX(METRICS())", [10.0, 2.0, 30.0, None]),
        ("MIN([a, b])", [1.0, 2.0, 30.0, None]),
        ("100 * a / SERVICE_QUOTA(b)", [10.0, 20.0, None, None]),
    ],
)
def test_metric_math_treats_missing_points_as_the_guide_says(expression: str, result: Series) -> None:
    series: dict[str, Series] = {"a": [1.0, 2.0, None, None], "b": [10.0, None, 30.0, None]}
    assert calculate(expression, series, quota=1000.0 / 100) == result


def test_periods_of_five_minutes_end_at_any_minute() -> None:
    query = Query("AWS/Any", "Any", frozenset(), "Sum", 5)
    points = [Point(3, 1.0), Point(4, 2.0), Point(6, 4.0, late=2)]
    assert query.series(points, 5, 2) == [None, 3.0]
    assert query.series(points, 8, 2) == [None, 3.0]  # minutes 3 to 7; that of 6 is not there yet
    assert query.series(points, 9, 2) == [1.0, 6.0]


# ---------------------------------------------------------------- what is published, by AWS and by us

CALLS, EVENTS, ALWAYS = "for each minute with calls", "for each minute in which it happens", "for each minute"
API, FUNCTION, NODE, INSTANCE = {"ApiId"}, {"FunctionName"}, {"CacheClusterId", "CacheNodeId"}, {"DBInstanceIdentifier"}
OURS = {"Fn::Sub": "Voting/${AWS::StackName}"}
# By the guides of each service; our own by what functions print, which test_metrics.py compares.
PUBLISHED: Mapping[tuple[str, str], tuple[str, set[str]]] = {
    ("AWS/Lambda", "Errors"): (CALLS, FUNCTION),
    ("AWS/Lambda", "Invocations"): (CALLS, FUNCTION),
    ("AWS/Lambda", "Throttles"): (CALLS, FUNCTION),
    ("AWS/Lambda", "ClaimedAccountConcurrency"): (CALLS, set()),
    ("AWS/Lambda", "ConcurrentExecutions"): (CALLS, set()),  # with FunctionName it is another metric
    ("AWS/ApiGateway", "5xx"): (CALLS, API),
    ("AWS/ApiGateway", "Count"): (CALLS, API),
    ("AWS/ApiGateway", "ClientError"): (CALLS, API),
    ("AWS/ApiGateway", "ExecutionError"): (CALLS, API),
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): (ALWAYS, {"QueueName"}),
    **{
        ("AWS/ElastiCache", name): (ALWAYS, NODE)
        for name in (
            *("DatabaseMemoryUsagePercentage", "Evictions", "EngineCPUUtilization"),
            *("CPUCreditBalance", "ReplicationLag"),
        )
    },
    **{
        ("AWS/RDS", name): (ALWAYS, INSTANCE)
        for name in ("DatabaseConnections", "FreeStorageSpace", "CPUUtilization", "CPUCreditBalance")
    },
    ("ours", "RequestsThrottled"): (EVENTS, set()),
    ("ours", "RequestsFailed"): (EVENTS, {"service"}),
    ("ours", "RequestsUnavailable"): (EVENTS, {"service"}),
    ("ours", "VotesDelayed"): (EVENTS, {"service"}),
    ("ours", "PostsFailed"): (CALLS, {"service"}),
    ("ours", "PostsSent"): (CALLS, {"service"}),
    **{
        ("ours", name): (ALWAYS, {"service"})
        for name in ("NotCountedFor", "QueueLength", "DeadLetters", "DeadLettersFull")
    },
}


def published(query: Query) -> tuple[str, set[str]]:
    return PUBLISHED["ours" if query.namespace == OURS else query.namespace, query.name]


# ---------------------------------------------------------------- the alarms


@dataclass(frozen=True)
class Expected:
    """What is expected of an alarm."""

    moment: bool = False  # one bad minute is enough, wherever it is and however late
    made: str = OK  # its state before there is any data
    usual: float = 0.0  # a value that is nothing to worry about
    bad: float | None = None  # one that is, for an expression whose threshold is another number
    silence: bool = False  # the fault is that nothing is published


MOMENT = Expected(moment=True)
ALARMS: Mapping[str, Expected] = {
    "VoteErrors": MOMENT,
    "ResultErrors": MOMENT,
    "WsConnectErrors": MOMENT,
    "VoteThrottles": MOMENT,
    "FunctionsThrottled": MOMENT,
    "ConcurrencyHigh": Expected(usual=400.0, bad=900.0),
    "HttpServerErrors": MOMENT,
    "HttpThrottled": MOMENT,
    "HttpBusy": Expected(),
    "LiveServerErrors": MOMENT,
    "LiveThrottled": Expected(),
    "LiveBusy": Expected(),
    "WorkerSilent": Expected(made=ALARM, usual=1.0, silence=True),
    "WorkerFailing": Expected(),
    "CountingStalled": MOMENT,
    "VotesDelayed": MOMENT,
    "QueueLong": Expected(),
    "VotesParked": Expected(made=INSUFFICIENT),
    "DeadLettersFull": Expected(made=INSUFFICIENT),
    "InvocationsFailed": Expected(),
    "BroadcastErrors": Expected(),
    "BroadcastFailures": Expected(moment=True),
    "BroadcastsCostly": Expected(bad=60_000.0),  # a minute: 104 dollars a day
    "CacheMemoryHigh": Expected(),
    "CacheEvictions": MOMENT,
    "CacheBusy": Expected(),
    "CacheCreditsLow": Expected(usual=200.0),
    "CacheReplicaLags": Expected(),
    "DatabaseConnectionsHigh": Expected(),
    "DatabaseStorageLow": Expected(usual=2e10),
    "DatabaseBusy": Expected(),
    "DatabaseCreditsLow": Expected(usual=200.0),
}
CANARIES = {"VoteErrors", "ResultErrors", "WsConnectErrors"}
MORE = (1, 2, 4)  # periods that CloudWatch fetches beyond N: the guide's examples have 2
each_alarm = pytest.mark.parametrize("name", ALARMS)
however_late = pytest.mark.parametrize("late", [0, 1, 2, 3])


STACK = NEW_STORES | {"MonthlyBudgetUSD": "100"}


@cache
def alarms() -> Mapping[str, Alarm]:
    defaults = {name: one.get("Default") for name, one in declared()["Parameters"].items()} | STACK

    def threshold(value: Any) -> float:
        return float(defaults[value["Ref"]] if isinstance(value, dict) else value)

    found = expansion(STACK).of("AWS::CloudWatch::Alarm")
    return {name: Alarm.of(one, threshold(one["Threshold"])) for name, one in found.items()}


def beyond(alarm: Alarm, expected: Expected) -> float:
    """A bad value, just beyond the threshold."""
    if expected.bad is not None:
        return expected.bad
    step = {"GreaterThanThreshold": 1.0, "GreaterThanOrEqualToThreshold": 0.0, "LessThanThreshold": -1.0}
    return alarm.threshold + step[alarm.comparison]


Minutes = Callable[[int], bool]
BEGAN = 40  # long after the alarm was made


def always(_minute: int) -> bool:
    return True


def never(_minute: int) -> bool:
    return False


def run(
    name: str,
    until: int,
    *,
    bad: Minutes = never,
    calls: Minutes = always,
    late: Callable[[int], int] = lambda _minute: 0,
    carrier: str | None = None,
    more: int = 2,
) -> list[str]:
    """The states of the alarm *name* over *until* minutes.

    Args:
        bad: the minutes in which something is wrong; with `carrier` only the metric of that id shows it.
        calls: the minutes with requests, frames, or runs of the worker.
        late: after how many minutes a minute's points arrive, of those metrics that show the fault.
    """
    alarm, expected = alarms()[name], ALARMS[name]
    points: dict[str, list[Point]] = {}
    for id_, query in alarm.queries.items():
        how, _ = published(query)
        shows = carrier in (None, id_)
        points[id_] = []
        for minute in range(until):
            wrong = bad(minute) and shows
            there = {
                CALLS: calls(minute) and not (wrong and expected.silence),
                EVENTS: calls(minute) and wrong,
                ALWAYS: True,
            }
            if there[how]:
                value = beyond(alarm, expected) if wrong else expected.usual
                points[id_].append(Point(minute, value, late(minute) if shows else 0))
    return alarm.states(points, until, more=more)


def reach(name: str) -> int:
    """The minutes that N periods take."""
    alarm = alarms()[name]
    return alarm.periods * alarm.minutes


def only_events(name: str) -> bool:
    return {published(query)[0] for query in alarms()[name].queries.values()} == {EVENTS}


def test_the_alarms_are_all_looked_at() -> None:
    assert ALARMS.keys() == alarms().keys()


@each_alarm
def test_each_metric_exists_with_the_dimensions_that_the_alarm_asks_for(name: str) -> None:
    for query in alarms()[name].queries.values():
        assert query.dimensions == published(query)[1], query.name


@each_alarm
@however_late
def test_a_fault_that_lasts_sets_the_alarm_off_and_its_end_puts_it_out(name: str, late: int) -> None:
    over = BEGAN + reach(name) + 15

    def bad(minute: int) -> bool:
        return BEGAN <= minute < over

    for more in MORE:
        fetched_still = more * alarms()[name].minutes  # points that are older than N periods
        states = run(name, over + reach(name) + 60, bad=bad, late=lambda _minute: late, more=more)
        assert ALARM not in states[5:BEGAN], "it goes off without a fault"
        on = states.index(ALARM, BEGAN)
        assert on <= BEGAN + reach(name) + late + 2 + (fetched_still if ALARMS[name].silence else 0)
        assert set(states[on : over + late]) == {ALARM}, "it goes out during the fault"
        out = over + late + reach(name) + 1 + (fetched_still if only_events(name) else 0)
        assert set(states[out:]) == {OK}, "it does not go out"


@pytest.mark.parametrize("name", [name for name, one in ALARMS.items() if not one.silence])
def test_it_goes_out_although_the_traffic_ends_with_the_fault(name: str) -> None:
    over = BEGAN + reach(name) + 15

    def is_before_the_end(minute: int) -> bool:
        return minute < over

    def bad(minute: int) -> bool:
        return BEGAN <= minute < over

    for more in MORE:
        states = run(name, over + 2 * reach(name) + 30, bad=bad, calls=is_before_the_end, more=more)
        assert ALARM in states[BEGAN:over]
        assert set(states[over + reach(name) + more * alarms()[name].minutes + 1 :]) == {OK}


@pytest.mark.parametrize("name", [name for name, one in ALARMS.items() if one.moment])
@however_late
def test_one_bad_minute_is_noticed_although_its_point_comes_after_later_ones(name: str, late: int) -> None:
    """Whichever of its metrics shows it. FILL, or one period out of one, has the newest minute decide alone."""

    def bad(minute: int) -> bool:
        return minute == BEGAN

    for carrier, more in product(alarms()[name].queries, MORE):
        states = run(name, BEGAN + 25, bad=bad, late=lambda m: late * bad(m), carrier=carrier, more=more)
        assert ALARM in states[BEGAN : BEGAN + late + 2]
        assert set(states[BEGAN + 12 :]) == {OK}


@each_alarm
@pytest.mark.parametrize("every", [1, 4, 30], ids=["steady", "sparse", "hardly any"])
def test_no_fault_no_alarm(name: str, every: int) -> None:
    gap = 1 if ALARMS[name].silence else every  # the worker runs whatever the traffic
    for more in MORE:
        assert ALARM not in run(name, 120, calls=lambda m: m % gap == 0, more=more)[5:]


@each_alarm
def test_what_a_new_stack_says_before_there_is_any_data(name: str) -> None:
    """The worker's first run puts WorkerSilent out, and makes those OK that wait for its figures."""
    for more in MORE:
        states = alarms()[name].states({}, 10, more=more)
        assert set(states) == {ALARMS[name].made}


def test_a_worker_that_counts_at_set_hours_is_not_missed_at_others() -> None:
    stack = expansion(NEW_STORES | {"WorkerSchedule": "cron(* 17-22 ? * FRI *)"})
    alarm = Alarm.of(stack.properties("WorkerSilent"), 1.0)
    runs = [Point(minute, 1.0) for minute in range(60, 120)]
    assert ALARM not in alarm.states({"metric": runs}, 240)


@pytest.mark.parametrize("name", sorted(CANARIES))
@pytest.mark.parametrize("every", [1, 2, 3], ids="a request each {} minutes".format)
@pytest.mark.parametrize("first", [0, 1, 2, 3])
@however_late
def test_a_canary_with_errors_is_called_back_while_codedeploy_watches(
    name: str, every: int, first: int, late: int
) -> None:
    """At the first evaluation after CloudWatch has heard of an error, and for long enough to be seen."""

    def failing(minute: int) -> bool:
        return minute >= BEGAN + first and (minute - BEGAN - first) % every == 0

    heard = BEGAN + first + late + 1
    for carrier, more in product(alarms()[name].queries, MORE):
        states = run(name, heard + 5, bad=failing, late=lambda m: late * (m >= BEGAN), carrier=carrier, more=more)
        assert states[heard] == states[heard + 1] == ALARM
        assert ALARM not in states[:heard]


@pytest.mark.parametrize("name", sorted(CANARIES))
@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_healthy_canary_stays_whatever_happened_ten_minutes_before(name: str, every: int) -> None:
    def failing(minute: int) -> bool:
        return minute == BEGAN - 11

    for more in MORE:
        states = run(name, BEGAN + 30, bad=failing, calls=lambda m: failing(m) or m % every == 0, more=more)
        assert ALARM in states
        assert ALARM not in states[BEGAN:]


def test_the_canaries_alarms_are_these() -> None:
    groups = expansion(NEW_STORES).of("AWS::CodeDeploy::DeploymentGroup").values()
    assert {one["Name"]["Ref"] for group in groups for one in group["AlarmConfiguration"]["Alarms"]} == CANARIES


@pytest.mark.parametrize("stores", [NEW_STORES, EXISTING_STORES], ids=["new", "existing"])
def test_a_mend_is_let_out_at_once_while_an_alarm_is_on(stores: Mapping[str, str]) -> None:
    """CodeDeploy stops a deployment whose alarm is on, also that of the mend."""
    groups = expansion(stores | {"Rollout": "AllAtOnce"}).of("AWS::CodeDeploy::DeploymentGroup").values()
    assert groups
    assert not [group for group in groups if group.get("AlarmConfiguration", {}).get("Alarms")]


@pytest.mark.parametrize("name", ["CacheCreditsLow", "DatabaseCreditsLow"])
def test_a_new_node_without_credits_yet_is_no_alarm(name: str) -> None:
    """It begins with none and earns at least 8 an hour while nothing happens (t4g.micro, less what it idles away)."""
    for more in MORE:
        alarm = alarms()[name]
        points = [Point(minute, 8 * minute / 60) for minute in range(0, 240, 5)]
        states = alarm.states(dict.fromkeys(alarm.queries, points), 240, more=more)
        assert ALARM not in states


STORES = {
    "a single node": ({"CacheNodes": "1"}, {"CacheReplicaLags"}),
    "a cache without credits": ({"CacheNodeType": "cache.m7g.large"}, {"CacheCreditsLow"}),
    "a database without credits": ({"DatabaseClass": "db.m7g.large"}, {"DatabaseCreditsLow"}),
}


@pytest.mark.parametrize(("parameters", "gone"), STORES.values(), ids=STORES.keys())
def test_alarms_on_what_a_store_does_not_publish_are_not_made(parameters: Mapping[str, str], gone: set[str]) -> None:
    stack = expansion(STACK | parameters)
    assert ALARMS.keys() - stack.of("AWS::CloudWatch::Alarm").keys() == gone
    body, inserted = stack.properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    shown = body + "".join(value["Fn::Sub"] if isinstance(value, dict) else value for value in inserted.values())
    assert not [name for name in gone if name in shown]


def test_a_single_node_is_not_asked_for_a_second() -> None:
    assert "${Cache}-002" in str(expansion(NEW_STORES).of("AWS::CloudWatch::Alarm"))
    assert "${Cache}-002" not in str(expansion(NEW_STORES | {"CacheNodes": "1"}).of("AWS::CloudWatch::Alarm"))
