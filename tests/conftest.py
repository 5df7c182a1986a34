"""Fixtures of all tests: a check for leaks, servers, the method of watching; and settings."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from support.disks import held_devices
from support.fanotify import skip_without_fanotify
from support.installation import Installation, install_for_all_users
from support.mounts import MountId, held_mounts
from support.servers import RsyncDaemon, SshServer, Unavailable
from support.watch_method import FANOTIFY, INOTIFY, METHODS, watch_method

# A failure prints the code that repeats it. No time is too long, since the machine may be busy.
settings.register_profile(
    "pylsyncd", print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("pylsyncd")

LONG_TESTS = "PYLSYNCD_LONG_TESTS"


def pytest_configure() -> None:
    """Give the processes of the tests an environment like that of a service."""
    # Without cached bytecode, each of hundreds of daemons compiles all modules when it starts.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    _react_to_signals()


def _react_to_signals() -> None:
    """Let the processes of the tests react to signals that a background job ignores."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            # A child inherits that a signal is ignored, but not a handler.
            signal.signal(number, lambda *_: None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Print what the results depend on: the version of rsync, the file system, and the user."""
    try:
        version = subprocess.run(
            ("rsync", "--version"),  # noqa: S607 - the one that the tests run
            capture_output=True,
            check=False,
            text=True,
        ).stdout.split("\n")[0]
    except FileNotFoundError:
        version = "rsync is not installed"
    base = config.option.basetemp or os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp")  # noqa: S108
    root = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    return [version, f"temporary trees: {base} on {_file_system(str(base))}; running as {root}"]


def _file_system(path: str) -> str:
    """Return the type of the file system that a path is on, from /proc/mounts."""
    path = os.path.realpath(path)
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [m for m in mounts if os.path.commonpath([path, m[1]]) == m[1]]
    return max(above, key=lambda mount: len(mount[1]))[2]


class HeldResources(NamedTuple):
    """The threads, children, descriptors, mounts and loop devices of the test process."""

    threads: frozenset[threading.Thread]
    children: frozenset[str]
    descriptors: frozenset[str]
    mounts: frozenset[MountId]
    devices: frozenset[str]


def _held_resources() -> HeldResources:
    children: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        # A thread may still be listed for a moment after it was joined.
        with contextlib.suppress(FileNotFoundError):
            children.update(Path(f"/proc/self/task/{task}/children").read_text().split())
    return HeldResources(
        frozenset(threading.enumerate()),
        frozenset(children),
        frozenset(_descriptors()),
        frozenset(held_mounts),
        frozenset(held_devices),
    )


def _descriptors() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        try:
            yield f"{number} ({os.readlink(f'/proc/self/fd/{number}')})"
        except FileNotFoundError:  # noqa: PERF203 - that of the listing itself is closed
            continue


@pytest.fixture(autouse=True)
def _check_for_leaks() -> Iterator[None]:
    """Fail a test that leaks a thread, a child process, a descriptor, a mount or a loop device.

    Servers of the session do not count: they start before it and stop after it.
    """
    before = _held_resources()
    yield
    after = _held_resources()
    leaks = {
        kind: sorted(map(str, now - then))
        for kind, then, now in zip(HeldResources._fields, before, after, strict=True)
        if now - then
    }
    if leaks:
        pytest.fail(f"the test leaks {leaks}")


@pytest.fixture(scope="module", params=METHODS)
def watched_by(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Run the tests of a module with daemons that watch by inotify, and by fanotify.

    What takes long by fanotify runs with PYLSYNCD_LONG_TESTS alone: see ``both_methods``.
    """
    if request.param == FANOTIFY:
        skip_without_fanotify(tmp_path_factory.getbasetemp())
    with watch_method.using(request.param):
        yield request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the other method of watching, or takes long."""
    for item in items:
        calls = getattr(item, "callspec", None)
        if calls is None or calls.params.get("watched_by", INOTIFY) == INOTIFY:
            continue
        needs_inotify = item.get_closest_marker("needs_inotify")
        if needs_inotify:
            item.add_marker(pytest.mark.skip(reason=needs_inotify.kwargs["reason"]))
        elif not (item.get_closest_marker("both_methods") or os.environ.get(LONG_TESTS)):
            item.add_marker(pytest.mark.skip(reason=f"{LONG_TESTS} is not set"))


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """Return a running sshd, or skip the test with the reason."""
    try:
        with SshServer(tmp_path_factory.mktemp("sshd")) as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def rsync_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RsyncDaemon]:
    """Return a running rsync daemon, or skip the test with the reason.

    Its modules are ``rsyncd``, and ``refusing``, which refuses an option as some versions do.
    """
    modules = {name: tmp_path_factory.mktemp(name) for name in ("rsyncd", "refusing")}
    options = {"refusing": {"refuse options": "delete-missing-args"}}
    try:
        with RsyncDaemon(tmp_path_factory.mktemp("rsyncd-server"), modules, options) as server:
            yield server
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """Return an installed pylsyncd that every user can run."""
    with tempfile.TemporaryDirectory(prefix="pylsyncd-installed-") as directory:
        Path(directory).chmod(0o755)
        try:
            yield install_for_all_users(Path(directory))
        except Unavailable as reason:
            pytest.skip(str(reason))


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Return a directory that every user can search; those of tmp_path are private."""
    with tempfile.TemporaryDirectory(prefix="pylsyncd-open-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)
