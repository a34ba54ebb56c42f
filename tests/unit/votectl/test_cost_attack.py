"""What floods cost: figures calculated by hand, the bounds of the template, and the page that shows them.

Covers attack.
"""

import json
import re

import pytest

from local.template.intrinsics import parse
from tests.conftest import ROOT
from votectl.__main__ import main
from votectl.cost import attack
from votectl.cost.attack import Bill, Flood, floods
from votectl.cost.estimate import frame_bytes
from votectl.cost.prices import Prices
from voting.broadcast.planner import Budget

BUDGET = Budget(4000, 0.05)
BILL = Bill(Prices.of("us-east-1"), "arm64")
GB_S, REQUEST, LOG, TRACE, EGRESS = 0.0000133334, 0.20e-6, 1500e-9 * 0.50, 5e-6 / 20, 0.09e-9
HALF_A_GB_10_MS = 0.005 * GB_S + REQUEST + LOG + TRACE


def named(subscribers: int = 1000) -> dict[str, Flood]:
    return {flood.what: flood for flood in floods(BILL, subscribers, BUDGET)}


def test_floods_add_up() -> None:
    found = named()
    page = 1e-6 + 0.005 * GB_S + REQUEST + LOG + TRACE + 14_500 * EGRESS
    assert found["GET / (the page)"].usd == pytest.approx(page)
    assert found["GET / (the page)"].usd_an_hour(1000) == pytest.approx(3_600_000 * page)
    assert found["GET / (the page)"].most_usd_an_hour == pytest.approx(2000 * 3600 * page)
    assert found["frame: ping"].usd == pytest.approx(2e-6 + HALF_A_GB_10_MS + 75 * EGRESS)
    assert found["WebSocket connect and leave"].usd == pytest.approx(2 * HALF_A_GB_10_MS + 0.25e-6)
    stay = found["WebSocket connect and stay, 2 h"].usd - found["WebSocket connect and leave"].usd
    assert stay == pytest.approx(119 * 0.25e-6)


def test_a_strangers_ping_costs_three_messages_and_not_a_bucket_of_them() -> None:
    alone = named(100_000)["frame: ping of a stranger"]
    message = 1e-6 + (frame_bytes() + 60) * EGRESS
    assert alone.usd == pytest.approx(named()["frame: ping"].usd + message)
    # Seven a second were found to cost $16 an hour, where the budget of broadcasts bounded them.
    unbounded = 7 * 3600 * (100_000 / 64) * message
    assert alone.usd_an_hour(7) == pytest.approx(unbounded, rel=0.01)
    assert alone.usd * 7 * 3600 < 0.2


@pytest.mark.parametrize("subscribers", [1000, 4000, 100_000])
def test_what_broadcasts_cost_is_bounded_by_their_budget_however_many_watch(subscribers: int) -> None:
    broadcast = named(subscribers)["POST a vote: its broadcast"]
    assert broadcast.most_usd_an_hour == pytest.approx(4000 * 3600 * (1e-6 + (frame_bytes() + 60) * EGRESS))


def test_the_bounds_are_those_of_the_template() -> None:
    parameters = parse((ROOT / "template.yaml").read_text())["Parameters"]
    for parameter, bound in {
        "VotesPerSecond": attack.VOTES_PER_S,
        "ViewsPerSecond": attack.VIEWS_PER_S,
        "ConnectionsPerSecond": attack.CONNECTIONS_PER_S,
        "FramesPerSecond": attack.FRAMES_PER_S,
    }.items():
        assert parameters[parameter]["Default"] == bound
    assert {flood.bound.rpartition("; ")[2] for flood in named().values()} - {"nothing of ours"} <= parameters.keys()


def test_the_page_on_security_shows_what_the_command_prints(capsys) -> None:
    assert main(["cost", "--attack"]) == 0
    page = (ROOT / "docs/explanation/security.md").read_text()
    (shown,) = re.findall(r"votectl cost --attack\n```\n\n```\n(.*?)```\n", page, re.DOTALL)
    assert shown == capsys.readouterr().out


def test_the_command_speaks_json_and_knows_the_audience(capsys) -> None:
    assert main(["cost", "--attack", "--json", "--subscribers", "100000", "--region", "us-east-1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["subscribers"], document["region"]) == (100_000, "us-east-1")
    assert all(flood["usd_an_hour"].keys() == {"10", "100", "1000", "10000"} for flood in document["floods"])
