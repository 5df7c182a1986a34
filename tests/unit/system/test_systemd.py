"""The service manager is notified as sd_notify(3) says, and no trouble with it raises."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylsyncd.system.systemd import SystemdNotifier


@pytest.fixture(params=["file", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "s")
    return f"@pylsyncd-{secrets.token_hex(8)}"


@pytest.fixture
def systemd(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        listening.settimeout(45)
        yield listening


@pytest.fixture
def notifier(address: str, systemd: socket.socket) -> Iterator[SystemdNotifier]:  # noqa: ARG001
    made = SystemdNotifier({"NOTIFY_SOCKET": address})
    yield made
    made.close()


def test_notifications_are_those_of_the_protocol(
    notifier: SystemdNotifier, systemd: socket.socket
) -> None:
    notifier.ready()
    assert systemd.recv(1000) == b"READY=1"
    notifier.watchdog()
    assert systemd.recv(1000) == b"WATCHDOG=1"
    notifier.stopping()
    assert systemd.recv(1000) == b"STOPPING=1"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    first, second = systemd.recv(1000).split(b"\n")
    assert first == b"RELOADING=1"
    name, _, value = second.partition(b"=")
    assert name == b"MONOTONIC_USEC"
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_is_one_line_so_no_name_can_forge_a_notification(
    notifier: SystemdNotifier, systemd: socket.socket
) -> None:
    notifier.status("2 in sync\nWATCHDOG=trigger\tx")
    assert systemd.recv(1000) == b"STATUS=2 in sync WATCHDOG=trigger x"
    notifier.status("\udcff" + "x" * 10_000)
    assert systemd.recv(100_000).startswith(b"STATUS=\\udcffxxx")


def test_a_forked_process_sends_its_new_pid(
    notifier: SystemdNotifier, systemd: socket.socket
) -> None:
    child = os.fork()
    if not child:
        notifier.ready()
        os._exit(0)
    os.waitpid(child, 0)
    assert systemd.recv(1000) == f"READY=1\nMAINPID={child}".encode()


def test_the_variables_of_systemd_are_removed_from_the_environment() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/root"}
    SystemdNotifier(environ).close()
    assert environ == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "ours"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_watchdog_interval_is_half_of_its_timeout(
    variables: dict[str, str], interval: float | None
) -> None:
    if variables.get("WATCHDOG_PID") == "ours":
        variables = variables | {"WATCHDOG_PID": str(os.getpid())}
    notifier = SystemdNotifier({"NOTIFY_SOCKET": "@x", **variables})
    assert notifier.watchdog_interval == interval
    notifier.close()
    assert SystemdNotifier(dict(variables)).watchdog_interval is None, "there is no socket"


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "@", "/none/there"])
def test_without_a_service_manager_nothing_happens(address: str) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address} if address else {})
    for notify in (notifier.ready, notifier.watchdog, notifier.reloading, notifier.stopping):
        notify()
    notifier.status("well")
    notifier.close()
    notifier.ready()


def test_an_unresponsive_service_manager_is_logged_once_and_delays_little(
    notifier: SystemdNotifier, caplog: pytest.LogCaptureFixture
) -> None:
    start = time.monotonic()
    # More than the kernel keeps for it (net.unix.max_dgram_qlen).
    while not caplog.records:
        notifier.status("x" * 400)
        assert time.monotonic() < start + 45
    notifier.watchdog()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
