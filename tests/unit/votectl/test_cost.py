"""Costs calculated by hand, and the output of the command: covers estimate and prices."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from samcli.cli.types import CfnParameterOverridesType
from samcli.yamlhelper import yaml_parse

from tests.conftest import ROOT
from votectl.__main__ import main
from votectl.cost.command import DEFAULTS
from votectl.cost.environment import PARAMETERS, SAMCONFIG, NoEnvironment, counting_hours, of_environment
from votectl.cost.estimate import (
    ALARM_METRICS,
    BUDGET_ALARM_METRICS,
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
from voting.settings import Settings

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
    watched = template.count("MetricName:") - template.count("MetricTransformations:")
    assert watched == ALARM_METRICS + BUDGET_ALARM_METRICS
    assert template.count("Type: AWS::CloudWatch::Dashboard") == DASHBOARDS
    assert template.count("Type: AWS::KMS::Key") == KEYS
    assert template.count("Type: AWS::SecretsManager::Secret") + 1 == SECRETS  # and the one that RDS makes


# ---------------------------------------------------------------- Environments of samconfig.toml

ENVIRONMENTS = tuple(name for name in tomllib.loads(SAMCONFIG.read_text()) if name != "version")


def printed(capsys, *words: str) -> dict[str, Any]:
    assert main(["cost", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_cost_of_every_environment_can_be_computed(capsys, name: str) -> None:
    document = printed(capsys, "--env", name)
    assert document["month"]["usd"] > 0
    assert document["event"]["usd"] > 0


def test_the_idle_month_of_a_club_is_below_30_dollars_and_each_of_its_savings_is_needed(capsys) -> None:
    assert printed(capsys, "--env", "club")["month"]["usd"] < 30
    for words in (
        ("--worker-schedule", "rate(1 minute)"),
        ("--alarms", "all"),
        ("--cache-nodes", "2"),
        ("--database", "db.t4g.small"),
        ("--region", "eu-central-1"),
    ):
        assert printed(capsys, "--env", "club", *words)["month"]["usd"] > 30, words


def test_an_evening_of_a_club_costs_cents_and_the_worst_one_is_bounded(capsys) -> None:
    evening = ("--env", "club", "--voters", "80", "--subscribers", "60", "--hours", "3")
    assert printed(capsys, *evening)["event"]["usd"] < 0.25
    stormy = printed(capsys, *evening, "--votes-per-voter", "100000")
    assert stormy["broadcasts"] == 3 * 3600 * 2
    assert stormy["interval_ms"] == 500


def test_an_environment_is_read_as_sam_reads_it(tmp_path: Path) -> None:
    for name in ENVIRONMENTS:
        overrides = tomllib.loads(SAMCONFIG.read_text())[name]["deploy"]["parameters"].get("parameter_overrides", [])
        given = dict(
            CfnParameterOverridesType().convert(tuple(each for each in overrides if each != "Release="), None, None)
        )
        options = of_environment(name)
        for option, (parameter, read) in PARAMETERS.items():
            assert options.get(option) == (read(given[parameter]) if parameter in given else None)
    guided = tmp_path / "samconfig.toml"
    guided.write_text(
        """[x.deploy.parameters]\nregion = "us-east-1"\n"""
        """parameter_overrides = 'CacheNodes="1" WorkerSchedule="cron(* 18 ? * MON *)" OptionA="Green Tea"'\n"""
    )
    assert of_environment("x", guided) == {
        "region": "us-east-1",
        "cache_nodes": 1,
        "worker_schedule": "cron(* 18 ? * MON *)",
    }


def test_what_is_given_beside_an_environment_wins_wherever_it_stands(capsys) -> None:
    for words in (("--env", "club", "--cache-nodes", "3"), ("--cache-nodes", "3", "--env", "club")):
        document = printed(capsys, *words)
        assert "ElastiCache: 3 x cache.t4g.micro" in [line["what"] for line in document["month"]["lines"]]


def test_what_nobody_gives_is_as_the_template_has_it() -> None:
    parameters = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]
    for option, (parameter, read) in PARAMETERS.items():
        assert DEFAULTS[option] == read(str(parameters[parameter]["Default"]))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[dev.deploy.parameters]\n", "samconfig.toml has no environment x: it has dev"),
        ("[", "samconfig.toml cannot be read: "),
        ("[x.deploy.parameters]\nparameter_overrides = ['CacheNodes=many']\n", "samconfig.toml, x: "),
        ("[x.deploy.parameters]\nparameter_overrides = 'OptionA=\"Tea'\n", "samconfig.toml, x: No closing quotation"),
        ("x = 1\n", "samconfig.toml, x: "),
    ],
)
def test_an_environment_that_cannot_be_read_is_told_in_a_line(tmp_path: Path, config: str, words: str) -> None:
    path = tmp_path / "samconfig.toml"
    path.write_text(config)
    with pytest.raises(NoEnvironment, match=re.escape(words)) as told:
        of_environment("x", path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ("rate(1 minute)", 730),
        ("cron(* 17-22 ? * FRI *)", 730 * 6 / 24 / 7),
        ("cron(* 0,17-22 ? * MON-WED,FRI *)", 730 * 7 / 24 * 4 / 7),
        ("cron(* 18 ? * * *)", 730 / 24),
    ],
)
def test_the_hours_of_counting_follow_from_the_schedule(schedule: str, hours: float) -> None:
    assert counting_hours(schedule) == pytest.approx(hours)


@pytest.mark.parametrize(
    "schedule",
    ["rate(2 minutes)", "cron(* 22-17 ? * FRI *)", "cron(* 17-24 ? * FRI *)", "cron(* 17 ? * FREITAG *)", ""],
)
def test_a_schedule_that_cannot_be_read_is_refused(capsys, schedule: str) -> None:
    assert main(["cost", "--worker-schedule", schedule]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---------------------------------------------------------------- One chatty voter


def test_a_chatty_voter_before_200_pages_costs_as_much_as_the_interval_lets(capsys) -> None:
    rows = {row["interval_ms"]: row for row in printed(capsys, "--region", "us-east-1")["chatty_voter"]}
    assert list(rows) == [50, 250, 1_000]  # the shortest, as is, and a slow one
    for interval_ms, row in rows.items():
        assert row["messages"] == 200 * 86_400_000 / interval_ms
        assert row["usd_a_day"] > row["messages"] / 1e6  # $1 per million, and the rest
    assert rows[50]["usd_a_day"] > 4.9 * rows[250]["usd_a_day"]
    main(["cost", "--interval-ms", "2000"])
    said = capsys.readouterr().out
    assert "One voter who changes the vote with every broadcast, all day, before 200 open pages:" in said
    assert re.search(r"^2,000 +8,640,000 +\d+\.\d\d$", said, re.MULTILINE)


def test_a_chatty_voter_is_bounded_by_the_budget_of_messages_too(capsys) -> None:
    rows = printed(capsys, "--messages-per-s", "400")["chatty_voter"]
    assert [row["messages"] for row in rows] == [34_560_000, 34_560_000, 17_280_000]


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
    assert lines["Egress: pages and answers"] == pytest.approx((145 + 24 + 18) / 1_000 * 0.09)


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
            if name == "other_store" and region not in entry[kind]:
                with pytest.raises(NoPrice, match=f"the price in {region} is not known"):
                    prices.price(name, kind)
                continue
            price = prices.price(name, kind)
            assert 0 < price.usd < 10
            assert price.unit
            assert price.source.startswith("https://aws.amazon.com/")
            assert price.known in {"published", "repeated", "assumed"}


def test_the_record_on_the_stores_has_the_prices_of_the_table() -> None:
    record = (ROOT / "docs/decisions/0028-stores.md").read_text()
    for kind, entry in read_table()["other_store"].items():
        assert re.search(rf"\b{entry['us-east-1']['usd']:.3g}", record), kind
    a_month = 730 * US.price("other_store", "elasticache_serverless_data").usd / 10
    instance = 730 * US.price("database", "db.t4g.micro").usd
    half_an_acu = US.price("other_store", "aurora_serverless_acu").usd / 2
    evenings = counting_hours("cron(* 17-22 ? * FRI *)") * half_an_acu
    storage = 20 * US.price("database_storage").usd
    for figure in (a_month, 730 * half_an_acu, evenings, instance, instance + storage):
        assert f"{figure:.2f}" in record


def test_the_page_on_cost_has_the_figures_that_are_printed(capsys) -> None:
    page = (ROOT / "docs/reference/cost.md").read_text()
    idle = printed(capsys, "--env", "club")["month"]["usd"]
    here = printed(capsys, "--env", "club", "--region", "eu-central-1")["month"]["usd"]
    main(["cost", "--voters", "20000", "--subscribers", "2000", "--hours", "2"])
    rows = re.findall(
        r"^One voter.*|^BROADCAST_.*a day$|^[\d,]+ +[\d,]+ +[\d.]+$", capsys.readouterr().out, re.MULTILINE
    )
    assert len(rows) == 9  # the other intervals, a sentence, a head, and three more
    for figure in (f"${idle:.2f}", f"${here:.2f}", *rows):
        assert figure in page


@pytest.mark.parametrize("interval_ms", [50, 100, 250, 500, 1_000])
def test_the_record_on_the_interval_has_the_figures_that_are_printed(capsys, interval_ms: int) -> None:
    record = (ROOT / "docs/decisions/0027-interval.md").read_text().replace("*", "")
    rows = printed(capsys, "--interval-ms", str(interval_ms))["chatty_voter"]
    (usd,) = [row["usd_a_day"] for row in rows if row["interval_ms"] == interval_ms]
    wait_ms = f"{interval_ms / 2:.0f} ms"
    assert f"| {interval_ms:,} | {1000 // interval_ms} | {wait_ms} | {usd:.0f} |" in record


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


TWENTY = "|".join(f"{number} " + "🐈" * 97 for number in range(10, 30))


def test_options_make_frames_longer_and_never_a_second_message(capsys) -> None:
    few, many = printed(capsys), printed(capsys, "--options", TWENTY, "--question", "?" * 200)

    def line(document: dict, what: str) -> dict:
        return next(line for line in document["event"]["lines"] if line["what"].startswith(what))

    assert line(many, "WebSocket: broadcasts")["quantity"] == line(few, "WebSocket: broadcasts")["quantity"]
    question = Settings({"OPTIONS": TWENTY, "QUESTION": "?" * 200}).question
    ratio = (frame_bytes(question) + 60) / (frame_bytes() + 60)
    assert line(many, "Egress: broadcasts")["usd"] == pytest.approx(ratio * line(few, "Egress: broadcasts")["usd"])

    def subscribe(*words: str) -> float:
        floods = printed(capsys, "--attack", *words)["floods"]
        return next(each["most_usd_an_hour"] for each in floods if each["what"] == "frame: subscribe")

    assert subscribe("--options", TWENTY) > subscribe()


def test_options_that_are_none_are_told_in_a_line(capsys) -> None:
    assert main(["cost", "--options", "Tea"]) == 2
    assert capsys.readouterr().err == "OPTIONS has 1 label: it takes 2 to 20, with | between them\n"
