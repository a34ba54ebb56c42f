"""In a real browser: another host of our domain sets cookies for all of it, and changes nothing for our voters."""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from redis import Redis

from tests.browser.domain import EVIL, NAME, VICTIM, Domain, running
from tests.chromium import arguments, executable
from tests.conftest import Handler
from tests.stack import PATIENCE, wait_for

OWN = "__Host-voter_sig"
Newcomer = Callable[..., BrowserContext]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One that finds every host of the domain on this machine."""
    expect.set_options(timeout=5000 * PATIENCE)
    with sync_playwright() as playwright:
        rules = f"--host-resolver-rules=MAP *.{NAME} 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=executable(), args=[*arguments(), rules])
        yield browser
        browser.close()


@pytest.fixture
def domain(handler: Callable[[str], Handler], context, redis: Redis, tmp_path: Path) -> Iterator[Domain]:
    handle = handler("vote")
    with running(lambda event: json.dumps(handle(event, context)).encode(), tmp_path) as domain:
        yield domain
    inspect.unwrap(handle).__globals__["clients"]().close()


@pytest.fixture
def newcomer(browser: Browser) -> Iterator[Newcomer]:
    """A person with a browser of their own."""
    contexts: list[BrowserContext] = []

    def come(**options: bool) -> BrowserContext:
        contexts.append(browser.new_context(ignore_https_errors=True, **options))
        return contexts[-1]

    yield come
    for one in contexts:
        one.close()


def vote(person: BrowserContext, domain: Domain, choice: str) -> Page:
    """Open the voting page and choose; return when it says that the vote was received."""
    page = person.new_page()
    page.goto(domain.url(VICTIM))
    page.locator(f"button[value={choice}]").click()
    expect(page.locator("#status")).to_have_text(f"Your vote for {'Cats' if choice == 'a' else 'Dogs'} was received.")
    return page


def cookies(person: BrowserContext) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in person.cookies()}


def toss(domain: Domain, attacker: dict[str, str]) -> None:
    """Let the other host set all that it can: the attacker's values, before ours and after, and names like ours."""
    values = {name.removeprefix("__Host-"): value for name, value in attacker.items()}
    values |= {"vote_delayed": "1", "junk": "1"}
    everywhere = f"; Domain={NAME}; Max-Age=9999; Secure"
    domain.tossed = [
        f"{name}={value}; Path={path}{everywhere}"
        for name, value in (values | {"voter_sig": values["voter_sig"].rpartition(".")[2]}).items()
        for path in ("/", "/api", "/api/votes")
    ]
    likes = (OWN, f"={OWN}", OWN.lower(), f"\u2003{OWN}", f"\x0b{OWN}", f"{OWN} ", f"__Secure-{OWN}")
    domain.tossed += [f"{like}={attacker[OWN]}; Path=/api{everywhere}" for like in likes]
    domain.tossed += [f"{like}={attacker[OWN]}; Path=/{everywhere}" for like in likes]


def visit_the_other_host(person: BrowserContext, domain: Domain) -> None:
    page = person.new_page()
    page.goto(domain.url(EVIL))
    expect(page.locator("p")).to_have_text("Kittens")
    page.close()


@pytest.mark.parametrize("with_script", [True, False])
def test_a_voter_stays_the_same_whatever_another_host_sets(
    domain: Domain, newcomer: Newcomer, redis: Redis, *, with_script: bool
) -> None:
    attacker, victim = newcomer(), newcomer(java_script_enabled=with_script)
    vote(attacker, domain, "a")
    vote(victim, domain, "b")
    mine = cookies(victim)
    toss(domain, cookies(attacker))
    visit_the_other_host(victim, domain)
    page = victim.new_page()
    page.goto(domain.url(VICTIM))
    expect(page.locator("#status")).to_have_text("Your vote for Dogs was received.")
    vote(victim, domain, "a")
    assert_the_toss_arrived(domain, cookies(attacker))
    assert voters(redis)[1:] == [mine["voter_id"]] * 2
    assert cookies(victim)[OWN] == mine[OWN]


def test_a_first_visitor_is_not_the_attacker_whatever_another_host_set_before(
    domain: Domain, newcomer: Newcomer, redis: Redis
) -> None:
    attacker, victim = newcomer(), newcomer()
    vote(attacker, domain, "a")
    toss(domain, cookies(attacker))
    visit_the_other_host(victim, domain)
    page = victim.new_page()
    page.goto(domain.url(VICTIM))
    expect(page.locator("#status")).to_have_text("")
    vote(victim, domain, "b")
    vote(victim, domain, "a")
    assert_the_toss_arrived(domain, cookies(attacker))
    ids = voters(redis)
    assert ids[1] == ids[2] != ids[0]
    assert ids[1] == cookies(victim)[OWN].partition(".")[0]


def voters(redis: Redis) -> list[str]:
    """Whose votes wait, the oldest first."""
    return [json.loads(message)["voter_id"] for message in reversed(redis.lrange("votes", 0, -1))]


def assert_the_toss_arrived(domain: Domain, attacker: dict[str, str]) -> None:
    """The browser sent the attacker's cookies with ours, of which there was one."""
    sent = wait_for(lambda: domain.received[-1], "a request with cookies").split("; ")
    assert f"voter_id={attacker['voter_id']}" in sent
    assert f"voter_sig={attacker[OWN].rpartition('.')[2]}" in sent
    assert [cookie.partition("=")[0] for cookie in sent].count(OWN) == 1
