"""Hooks and metrics of a running daemon."""

import os
import re
import resource
import select
import shlex
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from support.daemon import Pylsyncd, environment
from support.faults import FaultyRsync, exit_with, print_error_and_exit
from support.servers import free_port
from support.setups import SyncSetup
from support.waiting import wait_until

UNKNOWN_MODULE = "@ERROR: Unknown module 'x'"

# Writes each call into one file in the directory $1, and renames it when it is complete.
HOOK = """#!/bin/sh
out=$1/.$$
{ env -0 | grep -z ^PYLSYNCD_; printf '\\0'; cat; } >"$out"
mv "$out" "$1/$(date +%s%N)-$PYLSYNCD_EVENT"
"""


class HookCall(NamedTuple):
    """What one run of the hook received."""

    event: str
    variables: dict[str, str]
    paths: list[bytes]


class HookSetup(SyncSetup):
    """A source, its copy, and a hook that records its calls."""

    def __init__(self, top: Path) -> None:
        self.rsync = FaultyRsync(top)
        super().__init__(top, "-v", "-i", "-w", "0.1", f"--rsync={self.rsync.program}")
        self._calls = top / "calls"
        self._calls.mkdir()
        self.write("first")
        self.hook = top / "hook"
        self.hook.write_text(HOOK)
        self.hook.chmod(0o755)

    @property
    def command(self) -> str:
        return shlex.join([str(self.hook), str(self._calls)])

    def move_in(self, name: bytes, text: str = "y") -> None:
        """Put a file into the source, with one event."""
        outside = self.top / "outside"
        outside.write_text(text)
        os.rename(os.fsencode(outside), os.path.join(os.fsencode(self.source), name))

    def wait_idle(self, daemon: Pylsyncd) -> None:
        """Wait until the destination was probed, so that the next run carries the next change."""
        daemon.wait_ready()
        self.move_in(b"probed")
        self.expect_equal(daemon=daemon)

    def calls(self) -> list[HookCall]:
        """Return the calls of the hook so far, in the order in which they ended."""
        names = sorted(name for name in os.listdir(self._calls) if not name.startswith("."))
        return [self._read(name) for name in names]

    def _read(self, name: str) -> HookCall:
        head, _, paths = (self._calls / name).read_bytes().partition(b"\0\0")
        variables = dict(line.split("=", 1) for line in head.decode().split("\0"))
        return HookCall(name.partition("-")[2], variables, paths.split(b"\0")[:-1])

    def wait_called(self, event: str, daemon: Pylsyncd) -> HookCall:
        """Return the last call for an event, once there is one."""
        wait_until(
            lambda: any(each.event == event for each in self.calls()),
            message=lambda: daemon.log_tail,
        )
        return [each for each in self.calls() if each.event == event][-1]


@pytest.fixture
def setup(tmp_path: Path) -> HookSetup:
    return HookSetup(tmp_path)


# -- hooks ----------------------------------------------------------------------------------------


def test_a_hook_receives_the_paths_of_each_run(setup: HookSetup) -> None:
    with setup.daemon(f"--hook-batch={setup.command}") as daemon:
        daemon.wait_ready()
        call = setup.wait_called("batch", daemon)
        assert call.paths == [b"./"]
        names = [b"odd \n-rf \xff", b"second"]
        for name in names:
            setup.move_in(name)
        (setup.source / "first").unlink()
        wanted = {b"./first", *(b"./" + name for name in names)}
        wait_until(
            lambda: wanted <= {p for each in setup.calls()[1:] for p in each.paths},
            message=lambda: daemon.log_tail,
        )
        setup.expect_equal(daemon=daemon)
    later = setup.calls()[1:]
    assert sum(int(each.variables["PYLSYNCD_DELETED"]) for each in later) == 1
    assert sum(int(each.variables["PYLSYNCD_FILES"]) for each in later) == 2
    for each in later:
        assert each.variables["PYLSYNCD_DESTINATION"] == "copy"
        assert each.variables["PYLSYNCD_TARGET"] == f"{setup.copy}/"
        assert each.variables["PYLSYNCD_SOURCE"] == str(setup.source)
        assert each.variables["PYLSYNCD_EXIT"] == "0"
        assert int(each.variables["PYLSYNCD_PATHS"]) == len(each.paths)


def test_a_run_waits_until_the_hook_before_it_succeeds(setup: HookSetup) -> None:
    is_ready = setup.top / "is-ready"
    hook = f"--hook-before=/usr/bin/test -e {is_ready}"
    with setup.daemon(hook, "--retry-first=0.1", f"--hook-error={setup.command}") as daemon:
        call = setup.wait_called("error", daemon)
        reason = "the hook before the run failed: /usr/bin/test ended with exit status 1"
        assert call.variables["PYLSYNCD_REASON"] == reason
        assert not setup.copy.exists()
        is_ready.touch()
        setup.expect_equal(daemon=daemon)


def test_hooks_run_for_an_error_and_for_the_recovery(setup: HookSetup) -> None:
    hooks = (f"--hook-error={setup.command}", f"--hook-recovery={setup.command}")
    with setup.daemon(*hooks, "--retry-first=0.1") as daemon:
        setup.wait_idle(daemon)
        for _ in range(3):
            setup.rsync.add_fault(exit_with(10))
        setup.move_in(b"second")
        call = setup.wait_called("error", daemon)
        assert call.variables["PYLSYNCD_EXIT"] == "10"
        assert call.variables["PYLSYNCD_REASON"] == (
            "the connection failed: check that the destination is up and reachable"
        )
        assert call.paths == [b"./second"]
        setup.wait_called("recovery", daemon)
        setup.expect_equal(daemon=daemon)
    assert [each.event for each in setup.calls()] == ["error", "recovery"]


def test_a_hook_runs_when_a_destination_is_held(setup: HookSetup) -> None:
    with setup.daemon(f"--hook-held={setup.command}") as daemon:
        setup.wait_idle(daemon)
        setup.rsync.add_fault(print_error_and_exit(UNKNOWN_MODULE, 5))
        setup.move_in(b"second")
        call = setup.wait_called("held", daemon)
        assert "no such module" in call.variables["PYLSYNCD_REASON"]
        assert call.variables["PYLSYNCD_MESSAGE"] == UNKNOWN_MODULE
        assert call.variables["PYLSYNCD_EXIT"] == "5"
        daemon.flush()
        setup.expect_equal(daemon=daemon)
    assert [each.event for each in setup.calls()] == ["held"]


def test_a_hanging_hook_delays_neither_syncs_nor_the_stop(setup: HookSetup) -> None:
    begun = setup.top / "begun"
    setup.hook.write_text(f"#!/bin/sh\ntrap '' TERM\n>{begun}\nwhile :; do sleep 1; done\n")
    with setup.daemon(f"--hook-batch={setup.command}") as daemon:
        daemon.wait_ready()
        wait_until(begun.exists, message=lambda: daemon.log_tail)
        for number in range(3):
            setup.move_in(b"%d" % number)
            setup.expect_equal(daemon=daemon)
        daemon.stop()
        assert "[copy] stopped before 1 hook finished: batch." in daemon.log or (
            "[copy] stopped before 2 hooks finished: batch, batch." in daemon.log
        )


def test_the_output_and_the_failure_of_a_hook_are_logged(setup: HookSetup) -> None:
    setup.hook.write_text("#!/bin/sh\nprintf 'hello\\033[2J\\n'; exit 3\n")
    with setup.daemon(f"--hook-batch={setup.command}") as daemon:
        daemon.wait_ready()
        daemon.wait_for(r"\[copy\] hook batch: hello\\x1b\[2J$")
        daemon.wait_for(r"\[copy\] hook batch failed: .*/hook ended with exit status 3\.$")
        setup.move_in(b"second")
        setup.expect_equal(daemon=daemon)


def test_the_hook_for_the_last_run_runs_before_the_daemon_ends(setup: HookSetup) -> None:
    with setup.daemon("--once", f"--hook-batch={setup.command}") as daemon:
        daemon.wait_for(r"\bstopped$|sync complete")
        wait_until(lambda: not daemon.is_running, message=lambda: daemon.log_tail)
    assert [each.paths for each in setup.calls()] == [[b"./"]]


def test_the_hook_for_repairs_receives_what_others_changed(setup: HookSetup) -> None:
    with setup.daemon("--repair-interval=5s", f"--hook-repair={setup.command}") as daemon:
        daemon.wait_for("initial sync complete")
        # A younger file may be on its way.
        time.sleep(2.5)
        (setup.copy / "first").unlink()
        call = setup.wait_called("repair", daemon)
        setup.expect_equal(daemon=daemon)
    assert b"./first" in call.paths
    assert call.variables["PYLSYNCD_FILES"] == "1"
    assert re.search(r"\[copy\] repaired \d paths? that did not equal the source: ", daemon.log)


# -- metrics --------------------------------------------------------------------------------------


def values(text: str) -> dict[str, float]:
    """Return the samples in a text of metrics, without the labels of source and destination."""
    found = {}
    for family in parse(text):
        for sample in family.samples:
            labels = set(sample.labels) - {"sync", "destination", "version"}
            words = "".join(f"[{sample.labels[label]}]" for label in sorted(labels))
            found[sample.name.removeprefix("pylsyncd_") + words] = sample.value
    return found


def read_page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        content: bytes = answer.read()
    return content.decode()


def fetch(port: int) -> dict[str, float]:
    return values(read_page(port, "/metrics"))


def test_the_metrics_follow_the_syncs(setup: HookSetup) -> None:
    port = free_port()
    with setup.daemon(f"--metrics-port={port}", "--retry-first=0.1") as daemon:
        daemon.wait_ready()
        wait_until(lambda: fetch(port)["in_sync"] == 1, message=lambda: daemon.log_tail)
        found = fetch(port)
        assert '<p class="summary">1 destination, in sync</p>' in read_page(port, "/")
        assert read_page(port, "/healthz").startswith("OK: 1 destination, at most ")
        assert found["state[in_sync]"] == 1
        assert found["full_syncs_total[initial sync]"] == 1
        assert found["watches"] == 1
        assert found["watch_limit"] > 0
        setup.wait_idle(daemon)
        setup.rsync.add_fault(exit_with(10))
        setup.move_in(b"second")
        setup.expect_equal(daemon=daemon)
        wait_until(lambda: fetch(port)["in_sync"] == 1, message=lambda: daemon.log_tail)
        found = fetch(port)
        assert found["runs_total[done]"] >= 2
        assert found["runs_total[later]"] == found["rsync_exits_total[10]"] == 1
        assert found["files_total"] == 3
        assert found["sent_bytes_total"] > 0
        assert found["lag_seconds_count"] >= 1
        assert found["events_total[MOVED_TO]"] == 2
        assert found["events_total[CREATE]"] == found["overflows_total"] == 0


def test_the_metrics_show_a_held_destination_and_its_lag(
    setup: HookSetup,
) -> None:
    port = free_port()
    with setup.daemon(f"--metrics-port={port}") as daemon:
        setup.wait_idle(daemon)
        setup.rsync.add_fault(print_error_and_exit(UNKNOWN_MODULE, 5))
        setup.move_in(b"second")
        wait_until(lambda: fetch(port)["state[held]"] == 1, message=lambda: daemon.log_tail)
        # The failure is reported once it is scheduled when to try again.
        wait_until(lambda: "failing_since_seconds" in fetch(port))
        first = fetch(port)
        assert (first["in_sync"], first["waiting_paths"]) == (0, 1)
        assert first["last_success_seconds"] <= first["failing_since_seconds"] <= time.time()
        wait_until(
            lambda: fetch(port)["behind_seconds"] > first["behind_seconds"] > 0,
            message=lambda: daemon.log_tail,
        )
        daemon.flush()
        wait_until(lambda: fetch(port)["in_sync"] == 1, message=lambda: daemon.log_tail)
        last = fetch(port)
        assert last["behind_seconds"] == 0
        assert last["last_success_seconds"] > first["failing_since_seconds"]
        assert "failing_since_seconds" not in last


def test_the_metrics_file_exists_while_the_daemon_runs(setup: HookSetup) -> None:
    file = setup.top / "pylsyncd.prom"
    with setup.daemon(f"--metrics-file={file}") as daemon:
        daemon.wait_ready()
        wait_until(file.exists, message=lambda: daemon.log_tail)
        assert values(file.read_text())["watch_limit"] > 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        daemon.stop()
    assert not file.exists()


def test_a_metrics_port_in_use_is_refused_before_anything_is_changed(setup: HookSetup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = subprocess.run(
            [sys.executable, "-m", "pylsyncd", f"--state-dir={setup.top}/state",
             f"--metrics-port={port}", f"{setup.source}/./", f"{setup.copy}/"],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert run.returncode == 2
    assert f"Cannot listen on port {port} of 127.0.0.1: Address already in use." in run.stderr
    assert "Traceback" not in run.stderr
    assert not setup.copy.exists()


@pytest.mark.usefixtures("watched_by")
def test_metrics_status_file_and_socket_survive_a_lack_of_descriptors(setup: HookSetup) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")
        manager.settimeout(45.0)
        with Pylsyncd(
            *("-i", "-w", "0.1", "--status-file", setup.top / "status"),
            *(f"{setup.source}/./", f"{setup.copy}/"),
            names=["copy"],
            extra_environment={"NOTIFY_SOCKET": f"@{manager.getsockname()[1:].decode()}"},
        ) as daemon:
            setup.wait_idle(daemon)
            limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                daemon.wait_for("status file .* cannot be written: Too many open files")
                while is_readable(manager):
                    manager.recv(1000)  # Only later messages count.
                wait_until(
                    lambda: manager.recv(1000).startswith(b"STATUS="),
                    message=lambda: daemon.log_tail,
                )
            finally:
                resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
            daemon.wait_for("status file .* is written again")
            setup.move_in(b"afterwards")
            setup.expect_equal(daemon=daemon)


def is_readable(some: socket.socket) -> bool:
    return bool(select.select([some], [], [], 0)[0])
