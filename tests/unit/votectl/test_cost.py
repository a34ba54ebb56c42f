"""Costs calculated by hand, and the output of the command."""

import json

import pytest

from tests.conftest import ROOT
from votectl.__main__ import main
from votectl.cost.estimate import (
    ALARM_METRICS,
    DASHBOARDS,
    KEYS,
    SECRETS,
    Event,
    Stack,
    event_lines,
    frame_bytes,
    gb_seconds,
    metered,
    standing,
)
from votectl.cost.prices import NoPrice, Prices, read_table, regions

STACK = Stack("arm64", "cache.t4g.small", 2, "db.t4g.medium", 20, multi_az=True, nat=False)
US = Prices.of("us-east-1")


def an_event(**changes) -> Event:
    given = {
        "voters": 10_000,
        "votes_per_voter": 1.2,
        "subscribers": 1_000,
        "hours": 1.0,
        "least_interval_ms": 50,
        "messages_per_s": 4_000,
    }
    return Event(**(given | changes))


def usd(lines) -> dict[str, float]:
    return {line.what: line.usd for line in lines}


# ---------------------------------------------------------------- How AWS meters


@pytest.mark.parametrize(("size", "messages"), [(0, 1), (181, 1), (32 * 1024, 1), (33 * 1024, 2), (128 * 1024, 4)])
def test_websocket_messages_are_metered_in_32_kb(size: int, messages: int) -> None:
    assert metered(size, 32) == messages


@pytest.mark.parametrize(("size", "requests"), [(1, 1), (512 * 1024, 1), (512 * 1024 + 1, 2), (6 * 1024 * 1024, 12)])
def test_http_requests_are_metered_in_512_kb(size: int, requests: int) -> None:
    assert metered(size, 512) == requests


def test_lambda_is_billed_by_the_started_millisecond_and_the_memory() -> None:
    assert gb_seconds(1_000_000, 10, 1024) == 10_000
    assert gb_seconds(1_000_000, 9.1, 512) == 5_000


def test_connections_are_billed_by_the_started_minute() -> None:
    lines = usd(event_lines(an_event(hours=1.01), STACK, US))
    assert lines["WebSocket: connections"] == pytest.approx(1_000 * 61 * 0.25 / 1e6)


# ---------------------------------------------------------------- A month


def test_a_month_adds_up() -> None:
    assert usd(standing(STACK, US)) == pytest.approx(
        {
            "Lambda: the worker, always running": 730 * 3600 * 0.5 * 0.0000133334,  # 17.52
            "Lambda: the worker's runs": 43_800 * 0.20 / 1e6,
            "ElastiCache: 2 x cache.t4g.small": 2 * 730 * 0.0256,  # 37.38
            "RDS: 2 x db.t4g.medium": 2 * 730 * 0.065,  # 94.90
            "RDS: storage, 2 x 20 GiB": 40 * 0.115,  # 4.60
            "CloudWatch: logs of the worker": 43_800 * 1_500 / 1e9 * 0.50,
            "CloudWatch: metrics of the functions": 21 * 0.30,
            "CloudWatch: metrics under an alarm": 44 * 0.10,
            "CloudWatch: dashboard": 3.00,
            "Secrets Manager": 6 * 0.40,
            "KMS: key": 1.00,
        }
    )


def test_a_nat_gateway_bills_its_hours_and_its_address() -> None:
    stack = Stack("arm64", "cache.t4g.micro", 1, "db.t4g.micro", 20, multi_az=False, nat=True)
    lines = usd(standing(stack, US))
    assert lines["NAT gateway"] == pytest.approx(730 * 0.045)
    assert lines["NAT gateway: its address"] == pytest.approx(730 * 0.005)
    assert lines["RDS: 1 x db.t4g.micro"] == pytest.approx(730 * 0.016)


def test_x86_costs_a_quarter_more_to_compute() -> None:
    other = Stack("x86_64", "cache.t4g.small", 2, "db.t4g.medium", 20, multi_az=True, nat=False)
    worker = "Lambda: the worker, always running"
    assert usd(standing(other, US))[worker] / usd(standing(STACK, US))[worker] == pytest.approx(1.25, abs=0.001)


def test_the_counts_are_those_of_the_template() -> None:
    template = (ROOT / "template.yaml").read_text()
    assert template.count("MetricName:") - template.count("MetricTransformations:") == ALARM_METRICS
    assert template.count("Type: AWS::CloudWatch::Dashboard") == DASHBOARDS
    assert template.count("Type: AWS::KMS::Key") == KEYS
    assert template.count("Type: AWS::SecretsManager::Secret") + 1 == SECRETS  # and the one that RDS makes


# ---------------------------------------------------------------- An event


def test_an_event_adds_up() -> None:
    lines = usd(event_lines(an_event(), STACK, US))
    # 1,000 subscribers at 4,000 messages/s: one broadcast each 250 ms, 14,400 an hour, but only 12,000 votes.
    assert lines["WebSocket: broadcasts"] == pytest.approx(12.00)
    # 10,000 pages, 12,000 votes, 1,000 results pages
    assert lines["HTTP API: pages and votes"] == pytest.approx(0.023)
    # each subscribes and pings 12 times, and is answered
    assert lines["WebSocket: subscribing and pings"] == pytest.approx(2 * 1_000 * 13 / 1e6)
    # pages, votes, views, 3 + 12 frames of each subscriber, a shard of each broadcast
    assert lines["Lambda: requests"] == pytest.approx((10_000 + 12_000 + 1_000 + 15_000 + 12_000) * 0.20 / 1e6)
    # 50 + 120 GB-s of vote; at half a GB: 1,000 x 10 ms, 15,000 x 10 ms, 12,000 x (20 + 200) ms
    assert lines["Lambda: compute"] == pytest.approx((50 + 120 + 5 + 75 + 1_320) * 0.0000133334)
    assert lines["CloudWatch: logs"] == pytest.approx(50_000 * 1_500 / 1e9 * 0.50)
    # 3,600 first ones of a second, and a twentieth of 46,400
    assert lines["X-Ray: traces"] == pytest.approx((3_600 + 2_320) * 5 / 1e6)
    assert lines["Egress: broadcasts"] == pytest.approx(12_000_000 * (frame_bytes() + 60) / 1e9 * 0.09)
    assert lines["Egress: pages and answers"] == pytest.approx((130 + 18 + 18) / 1_000 * 0.09)


def test_messages_are_subscribers_times_broadcasts_within_the_budget() -> None:
    crowd = an_event(voters=1_000_000, subscribers=100_000)
    assert crowd.interval_s == 25
    assert len(crowd.turn.shards) == 1  # it posts 4,000 a second for 10 s, and then others do
    assert crowd.broadcasts == 144
    assert crowd.messages == 14_400_000


def test_no_more_is_broadcast_than_voted() -> None:
    assert an_event(voters=10, votes_per_voter=1, subscribers=8).broadcasts == 10


def test_a_longer_interval_costs_less() -> None:
    costs = [sum(usd(event_lines(an_event(least_interval_ms=ms), STACK, US)).values()) for ms in (250, 1_000, 5_000)]
    assert costs == sorted(costs, reverse=True)
    assert an_event(least_interval_ms=1_000).messages == 3_600_000


def test_a_nat_gateway_bills_what_broadcasts_send_through_it() -> None:
    stack = Stack("arm64", "cache.t4g.small", 2, "db.t4g.medium", 20, multi_az=True, nat=True)
    assert usd(event_lines(an_event(), stack, US))["NAT gateway: broadcasts"] == pytest.approx(12 * 0.045)


def test_an_event_without_voters_and_subscribers_costs_nothing() -> None:
    empty = an_event(voters=0, subscribers=0)
    assert sum(usd(event_lines(empty, STACK, US)).values()) == 0


# ---------------------------------------------------------------- The table of prices


@pytest.mark.parametrize("region", regions())
def test_every_price_has_a_unit_a_source_and_says_how_well_it_is_known(region: str) -> None:
    prices = Prices.of(region)
    for name, entry in read_table().items():
        if name == "dated":
            continue
        for kind in [None] if "unit" in entry else list(entry):
            price = prices.price(name, kind)
            assert 0 < price.usd < 10
            assert price.unit
            assert price.source.startswith("https://aws.amazon.com/")
            assert price.known in {"published", "repeated", "assumed"}


def test_a_region_or_a_kind_without_prices_is_named() -> None:
    with pytest.raises(NoPrice, match="none for mars-north-1"):
        Prices.of("mars-north-1")
    with pytest.raises(NoPrice, match=r"none for cache\.x\.huge: add it to prices\.toml"):
        US.price("cache_node", "cache.x.huge")


# ---------------------------------------------------------------- The command


def test_the_command_says_what_dominates_and_what_the_interval_does(capsys) -> None:
    assert main(["cost", "--region", "us-east-1"]) == 0
    said = capsys.readouterr().out
    assert "Most of it: RDS: 2 x db.t4g.medium (55%)" in said
    assert "Most of it: WebSocket: broadcasts (96%)" in said
    assert "BROADCAST_INTERVAL_MS" in said
    assert "as of 2026-" in said


def test_the_command_speaks_json(capsys) -> None:
    assert main(["cost", "--json", "--voters", "100", "--subscribers", "0", "--hours", "0.5", "--nat"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["votes"], document["broadcasts"], document["region"]) == (120, 0, "eu-central-1")
    assert document["month"]["usd"] == pytest.approx(sum(line["usd"] for line in document["month"]["lines"]))
    assert "ElastiCache: 2 x cache.t4g.small" in document["assumed"]


def test_slower_broadcasts_start_from_what_the_budget_allows(capsys) -> None:
    main(["cost", "--json", "--voters", "100000", "--subscribers", "20000"])
    others = json.loads(capsys.readouterr().out)["other_intervals"]
    assert [row["least_interval_ms"] for row in others] == [5_000, 10_000, 25_000, 50_000]
    assert [row["messages"] for row in others] == [14_400_000, 7_200_000, 2_880_000, 1_440_000]


def test_an_unknown_node_is_refused_with_the_known_ones(capsys) -> None:
    assert main(["cost", "--cache-node", "cache.x.huge"]) == 2
    assert "cache.t4g.small" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--hours", "0"), ("--hours", "nan"), ("--voters", "-1"), ("--interval-ms", "20"), ("--voters", "many")]
)
def test_figures_that_make_no_sense_are_refused(capsys, words: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["cost", *words])
    assert f"argument {words[0]}" in capsys.readouterr().err
