"""The pages at the metrics port, over HTTP and in a browser."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Browser, running_browser
from support.commands import IN_SYNC_STATUS, MIXED_STATUS, destination, status
from support.waiting import wait_until

from pylsyncd.control.page import CONTENT_SECURITY_POLICY, format_page
from pylsyncd.control.web_pages import make_pages
from pylsyncd.model.status import Condition, Status
from pylsyncd.report.http_response import HttpResponse

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
from support.metrics import exporting  # it imports the optional library

SCRIPT = "<script>document.title = 'run'</script><img src=loaded onerror=\"document.title='run'\">"
EVIL_STATUS = status(
    *MIXED_STATUS.syncs[0].destinations,
    destination(f"web/{SCRIPT}{'long' * 50}", error=f"{SCRIPT}{'/path' * 50}"),
    source=SCRIPT, unwatched=1,
)  # fmt: skip


@contextlib.contextmanager
def serving(shown: Status) -> Iterator[int]:
    """Yield the port at which a status is served."""
    read = lambda: shown  # noqa: E731
    with exporting(read, port=0, pages=make_pages(read, "web1")) as metrics:
        assert metrics.port is not None
        yield metrics.port


class Answer:
    """What the server sends for one request."""

    def __init__(self, port: int, path: str, method: str = "GET") -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(client):
            client.request(method, path)
            response = client.getresponse()
            self.status = response.status
            self.headers = response.headers
            self.text = response.read().decode()


def test_the_page_is_served_with_its_policy_and_is_not_kept() -> None:
    with serving(EVIL_STATUS) as port:
        answer = Answer(port, "/")
        assert Answer(port, "/?query").text == answer.text
    assert (answer.status, answer.text) == (200, format_page(EVIL_STATUS, "web1"))
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_metrics_are_served_beside_the_page_and_nothing_else_is() -> None:
    with serving(IN_SYNC_STATUS) as port:
        assert "# TYPE pylsyncd_state gauge" in Answer(port, "/metrics").text
        for path in ("/metrics/", "/status", "/favicon.ico", "//x", "/../etc/passwd", "/healthz/x"):
            answer = Answer(port, path)
            assert (answer.status, "pylsyncd_" in answer.text) == (404, False)


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_a_head_request_gets_the_headers_alone(path: str) -> None:
    with serving(IN_SYNC_STATUS) as port:
        whole = Answer(port, path)
        # The client of the library would not read a body.
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(f"HEAD {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            sent = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    headers, _, body = sent.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.0 200 ")
    assert b"Content-Length: %d" % len(whole.text.encode()) in headers
    assert body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(method: str) -> None:
    with serving(IN_SYNC_STATUS) as port:
        for path in ("/", "/healthz", "/metrics"):
            assert Answer(port, path, method).status == 501


@pytest.mark.parametrize(
    ("each", "query", "http_status", "text"),
    [
        (destination("a"), "", 200, "OK: 1 destination, at most 0 s behind\n"),
        (destination("a", behind=601.0), "", 503, "CRITICAL: a in sync, 10 min 1 s behind\n"),
        (destination("a", behind=601.0), "?max_lag=3600", 200,
         "OK: 1 destination, at most 10 min 1 s behind\n"),
        (destination("a", behind=601.0), "?max_lag=1h", 200,
         "OK: 1 destination, at most 10 min 1 s behind\n"),
        (destination("a", behind=2.5), "?max_lag=2", 503, "CRITICAL: a in sync, 2 s behind\n"),
        (destination("a", Condition.RETRYING, error="no\nhost"), "", 200,
         "WARNING: a retrying (no\\nhost)\n"),
        (destination("a", unverified="never compared"), "", 200,
         "WARNING: a unverified (never compared)\n"),
        (destination("a", Condition.HELD, error="too much"), "", 503,
         "CRITICAL: a held (too much)\n"),
        (destination("a", Condition.FAILED), "", 503, "CRITICAL: a failed\n"),
        *(
            (destination("a"), query, 400,
             "max_lag must be a time, such as 90 (seconds) or 10min\n")
            for query in ("?max_lag=", "?max_lag=x", "?max_lag=nan", "?max_lag=-1", "?lag=1",
                          "?max_lag=1&max_lag=2", "?max_lag=1;x", "?" + "a=1&" * 5000)
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_the_health_is_an_error_if_something_is_critical(
    each: object, query: str, http_status: int, text: str
) -> None:
    with serving(status(each)) as port:
        answer = Answer(port, f"/healthz{query}")
    assert (answer.status, answer.text) == (http_status, text)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_held_source_is_an_error_of_the_health() -> None:
    with serving(status(held="nothing is mounted there")) as port:
        answer = Answer(port, "/healthz")
    assert (answer.status, answer.text) == (
        503, "CRITICAL: source /srv/www held: nothing is mounted there\n",
    )  # fmt: skip


_SEEN = """({
    title: document.title,
    scripts: document.scripts.length,
    images: document.images.length,
    width: document.documentElement.scrollWidth,
    display: getComputedStyle(document.querySelector("tbody tr")).display,
    has_headings: document.querySelector("thead").offsetHeight > 0,
    text: document.body.innerText,
})"""


def _look(browser: Browser, url: str, width: int) -> dict[str, Any]:
    browser.open(url, width)
    seen = browser.evaluate(_SEEN)
    assert isinstance(seen, dict)
    return seen


def test_a_browser_shows_the_page_on_any_screen_and_would_run_no_script_in_it(
    tmp_path: Path,
) -> None:
    injected = format_page(IN_SYNC_STATUS, "web1").replace("</main>", f"{SCRIPT}</main>")
    injected_page = HttpResponse(
        injected.encode(), "text/html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    )
    read = lambda: EVIL_STATUS  # noqa: E731
    pages = {**make_pages(read, "web1"), "/injected": lambda _: injected_page}
    with exporting(read, port=0, pages=pages) as server, running_browser(tmp_path) as browser:
        for width, display in ((1200, "table-row"), (360, "block")):
            seen = _look(browser, f"http://127.0.0.1:{server.port}/", width)
            assert seen["width"] <= width
            assert (seen["display"], seen["has_headings"]) == (display, width > 800)
            assert seen["title"].endswith("pylsyncd on web1")
            assert (seen["scripts"], seen["images"]) == (0, 0)
            assert f"{SCRIPT}long" in seen["text"]
            # The policy refuses nothing of the page itself.
            assert browser.happened("Log.entryAdded") == []
            assert len(browser.happened("Network.requestWillBeSent")) == 1
        seen = _look(browser, f"http://127.0.0.1:{server.port}/injected", 1200)
        assert (seen["scripts"], seen["images"]) == (1, 1)
        assert seen["title"].endswith("pylsyncd on web1")
        wait_until(lambda: browser.evaluate("1") and browser.happened("Log.entryAdded"))
