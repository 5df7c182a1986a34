"""The metrics server listens on the loopback only, and its clients cannot block it."""

import contextlib
import dataclasses
import http.client
import socket
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from support.metrics import METRIC_NAMES, STATUS, exporting, fail, family_names, fetch, value
from support.waiting import DEADLINE, wait_until

from pylsyncd.model.errors import UsageError
from pylsyncd.report import metrics_server
from pylsyncd.report.metrics import MetricsExporter
from pylsyncd.report.metrics_server import MAX_CONNECTIONS


def test_metrics_are_served_on_the_loopback_only() -> None:
    with exporting(port=0) as metrics:
        assert family_names(fetch(metrics)) == METRIC_NAMES
        listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        ours = f":{metrics.port:04X}"
        addresses = [
            line.split()[1]
            for line in listening.splitlines()
            if ours in line.split()[1] and line.split()[3] == "0A"
        ]
        assert addresses == [f"0100007F{ours}"]


def test_openmetrics_is_served_on_request() -> None:
    with exporting(port=0) as metrics:
        text = fetch(metrics, "application/openmetrics-text; version=1.0.0")
    found = {family.name.removeprefix("pylsyncd_") for family in parse_openmetrics(text)}
    assert found == METRIC_NAMES


def test_each_request_gets_the_current_status() -> None:
    limits = iter(range(1, 100))
    read = lambda: dataclasses.replace(STATUS, watch_limit=next(limits))  # noqa: E731
    with exporting(read, port=0) as metrics:
        found = [value(fetch(metrics), "watch_limit") for _ in range(3)]
    assert found == [1, 2, 3]


HOSTS = {
    "localhost": 200,
    "LocalHost:9": 200,
    "127.0.0.1": 200,
    "127.0.0.1:65535": 200,
    "[::1]:9100": 200,
    "": 421,
    "evil.example": 421,
    "localhost.evil.example": 421,
    "127.0.0.1.evil.example:80": 421,
    "localhost:9100@evil.example": 421,
    "127.0.0.10": 421,
    "localhost:" + "9" * 5000: 421,
}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host[:30] or "none")
def test_only_requests_for_this_machine_are_answered(host: str) -> None:
    with exporting(port=0) as metrics:
        client = http.client.HTTPConnection("127.0.0.1", metrics.port, timeout=60)
        with contextlib.closing(client):
            client.putrequest("GET", "/metrics", skip_host=True)
            if host:
                client.putheader("Host", host)
            client.endheaders()
            assert client.getresponse().status == HOSTS[host]


def test_a_port_in_use_is_an_error_that_names_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            MetricsExporter(lambda: STATUS, fail, port=port)
    assert str(caught.value) == (
        f"Cannot listen on port {port} of 127.0.0.1: Address already in use. Stop the process "
        "that uses it, or choose another port with --metrics-port."
    )


def test_a_port_can_be_used_again_at_once() -> None:
    with exporting(port=0) as metrics:
        port = metrics.port
        fetch(metrics)
    with exporting(port=port) as metrics:
        fetch(metrics)


@pytest.fixture
def _patient_with_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close no connection for its silence."""
    monkeypatch.setattr(metrics_server, "_SILENCE_TIMEOUT", 600.0)


@pytest.mark.usefixtures("_patient_with_silence")
def test_silent_clients_and_garbage_do_not_keep_others_waiting() -> None:
    with exporting(port=0) as metrics:
        address = ("127.0.0.1", metrics.port)
        silent = [socket.create_connection(address) for _ in range(3 * MAX_CONNECTIONS)]
        try:
            for _ in range(10):
                with socket.create_connection(address) as garbage:
                    garbage.sendall(b"\0\xff" * 1000 + b"\r\n\r\n")
            texts: list[str] = []

            def is_answered() -> bool:
                with contextlib.suppress(OSError):
                    texts.append(fetch(metrics))
                return bool(texts)

            wait_until(is_answered)
            assert value(texts[0], "watches") == 1000
            serving = [each for each in threading.enumerate() if each.name == "metrics"]
            assert len(serving) <= MAX_CONNECTIONS + 1
        finally:
            for each in silent:
                each.close()


@pytest.mark.usefixtures("_patient_with_silence")
def test_a_stop_does_not_wait_for_silent_clients() -> None:
    with exporting(port=0) as metrics:
        silent = socket.create_connection(("127.0.0.1", metrics.port))
        wait_until(lambda: sum(each.name == "metrics" for each in threading.enumerate()) == 2)
        started = time.monotonic()
    silent.close()
    assert time.monotonic() - started < DEADLINE
