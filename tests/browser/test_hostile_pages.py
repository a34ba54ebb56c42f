"""Pages that a developer opens by accident, in a real browser: they reach no port of the local run."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from redis import Redis

from tests.chromium import arguments, executable
from tests.stack import Stack, wait_for
from voting.queue.queue_view import HANDED_BACK

EVIL = "evil.example"  # its owner points it at 127.0.0.1, as one does for DNS rebinding
NEXT = "2018-06-01/runtime/invocation/next"


@pytest.fixture(scope="module")
def rebound() -> Iterator[Browser]:
    """A browser for which EVIL is this machine."""
    rule = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=[*arguments(), rule])
        yield browser
        browser.close()


class _Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>cats</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page(rebound: Browser) -> Iterator[Page]:
    """A page of EVIL's own server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Empty)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    page = rebound.new_page()
    page.goto(f"http://{EVIL}:{server.server_port}/")
    yield page
    page.close()
    server.shutdown()
    server.server_close()
    thread.join()


def runtime_apis(stack: Stack) -> list[str]:
    """The addresses of all environments, their secrets included, as a careless function could show them."""
    found = []
    for child in psutil.Process(stack.pid).children():
        variables = Path(f"/proc/{child.pid}/environ").read_bytes()
        found += re.findall(rb"AWS_LAMBDA_RUNTIME_API=([^\0]+)", variables)
    return [address.decode() for address in found]


def send(page: Page, url: str, **options: str) -> str:
    """Fetch *url* from the page; return what became of it: `opaque` is an answer that the page cannot read."""
    script = """([url, options]) => fetch(url, {...options, signal: AbortSignal.timeout(5000)})
        .then(async answer => answer.type === "opaque" ? "opaque" : `${answer.status} ${await answer.text()}`)
        .catch(error => error.name)"""
    return str(page.evaluate(script, [url, options]))


def assert_votes_are_answered(stack: Stack) -> None:
    for _ in range(5):  # every environment would have lost its next event
        answer = httpx.post(f"{stack.http}/api/votes", json={"vote": "a"}, trust_env=False, timeout=20)
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", EVIL])
@pytest.mark.parametrize("knows_secret", [False, True])
def test_no_page_takes_a_votes_event(page: Page, fresh: Stack, host: str, knows_secret: bool) -> None:
    addresses = runtime_apis(fresh)
    assert addresses
    for address in addresses:
        authority, _, secret = address.partition("/")
        path = f"{secret}/{NEXT}" if knows_secret else NEXT
        url = f"http://{host}:{authority.partition(':')[2]}/{path}"
        assert send(page, url, mode="no-cors") in {"opaque", "TypeError"}  # at once: it does not wait for an event
    assert_votes_are_answered(fresh)


def test_no_page_reads_an_event_by_a_name_of_its_own(page: Page, fresh: Stack) -> None:
    for address in runtime_apis(fresh):
        authority, _, secret = address.partition("/")
        answer = page.goto(f"http://{EVIL}:{authority.partition(':')[2]}/{secret}/{NEXT}")
        assert answer is not None
        assert answer.status == 403
    assert_votes_are_answered(fresh)


def test_no_page_stops_the_count(page: Page, fresh: Stack) -> None:
    path = "/2015-03-31/functions/OpsFunction/invocations"
    for host in ("127.0.0.1", "localhost", EVIL):
        url = f"http://{host}:{urlsplit(fresh.lambda_).port}{path}"
        assert send(page, url, mode="no-cors", method="POST", body='{"operation": "handback"}') in {
            "opaque",
            "TypeError",
        }
    with Redis.from_url(fresh.redis) as redis:
        assert redis.exists(HANDED_BACK) == 0
    assert_votes_are_answered(fresh)
    wait_for(lambda: fresh.results()["total"] == 5, "the votes to be counted")


def test_no_page_votes_or_reads_by_a_name_of_its_own(page: Page, fresh: Stack) -> None:
    answer = page.goto(f"http://{EVIL}:{urlsplit(fresh.http).port}/")
    assert answer is not None
    assert answer.status == 421
    # That answer is a document of the origin that the votes would go to.
    assert send(page, "/api/results").startswith("421 ")
    assert send(page, "/api/votes", method="POST", body='{"vote": "a"}').startswith("421 ")
    assert fresh.results()["total"] == 0


def test_no_page_subscribes_by_a_name_of_its_own(page: Page, fresh: Stack) -> None:
    url = urlsplit(fresh.websocket)
    script = """url => new Promise(resolve => {
        const socket = new WebSocket(url);
        socket.onopen = () => resolve("open");
        socket.onerror = () => resolve("refused");
    })"""
    page.goto(f"http://{EVIL}:{url.port}/")  # of the WebSocket API's own origin
    assert page.evaluate(script, f"ws://{EVIL}:{url.port}{url.path}") == "refused"
    assert page.evaluate(script, fresh.websocket) == "refused"
