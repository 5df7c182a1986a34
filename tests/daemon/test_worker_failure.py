"""A worker that fails of something unforeseen affects its own destination only."""

import contextlib
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from support.crashes import CRASHING, CrashingDaemon, CrashSetup
from support.in_process import run_pylsyncctl
from support.servers import free_port
from support.trees import equal_within
from support.waiting import DEADLINE, wait_until

KINDS = (
    "ValueError", "RecursionError", "MemoryError", "Interrupted", "UnicodeDecodeError",
    "SystemExit", "KeyboardInterrupt", "AssertionError",
)  # fmt: skip
CRITICAL = 2


@pytest.fixture
def setup(tmp_path: Path) -> CrashSetup:
    return CrashSetup(tmp_path)


def destinations(setup: CrashSetup) -> dict[str, dict[str, Any]]:
    """Return the destinations in the status, by name."""
    answer = run_pylsyncctl(setup.directory, "status", "--json")
    assert answer.returncode == 0, answer
    (sync,) = json.loads(answer.stdout)["syncs"]
    return {each["name"]: each for each in sync["destinations"]}


def condition(setup: CrashSetup, name: str = CRASHING) -> str:
    return str(destinations(setup)[name]["condition"])


def wait_failed(setup: CrashSetup, daemon: CrashingDaemon, name: str = CRASHING) -> dict[str, Any]:
    """Return the status of the failed destination, as it is before the next attempt."""
    seen: dict[str, Any] = {}

    def has_failed() -> bool:
        seen.clear()
        seen.update(destinations(setup)[name])
        # The worker itself knows first; the pool says why, and when the next attempt is.
        return seen["condition"] == "failed" and bool(seen["error"])

    wait_until(has_failed, message=lambda: daemon.log_tail)
    return seen


def wait_in_sync(setup: CrashSetup, daemon: CrashingDaemon) -> None:
    """Wait for the next attempt, and hasten it if the destination has failed very often."""

    def is_in_sync() -> bool:
        status = destinations(setup)[CRASHING]
        if (status["next_attempt"] or 0.0) > DEADLINE / 2:
            assert setup.run("flush").returncode == 0
        return str(status["condition"]) == "in sync"

    wait_until(is_in_sync, message=lambda: daemon.log_tail)


def fail_until_the_pause_is_long(
    setup: CrashSetup, daemon: CrashingDaemon, name: str = CRASHING
) -> None:
    """Have the destination fail until its next attempt by itself is later than a test waits."""
    for count in range(1, 7):
        wait_until(
            lambda: setup.crash_count("interpret") >= count,  # noqa: B023  # called at once
            message=lambda: daemon.log_tail,
        )
        # It ends a pause after a second.
        assert setup.run("flush").returncode == 0
    wait_until(
        lambda: (wait_failed(setup, daemon, name)["next_attempt"] or 0.0) > DEADLINE,
        message=lambda: daemon.log_tail,
    )


def expect_equal(
    setup: CrashSetup, copy: Path, daemon: CrashingDaemon, seconds: float = 45
) -> None:
    assert equal_within(os.fsencode(setup.source), os.fsencode(copy), seconds) == [], (
        daemon.log_tail
    )


@contextlib.contextmanager
def to_be_killed(setup: CrashSetup, *options: str) -> Iterator[CrashingDaemon]:
    """Yield a running daemon, and kill it at the end."""
    daemon = setup.daemon(*options)
    daemon.__enter__()
    try:
        daemon.wait_ready()
        yield daemon
        daemon.crash()
    finally:
        daemon.kill()


def wait_confirmed(setup: CrashSetup, *names: str) -> int:
    return setup.run("wait", "--timeout", "45", *names).returncode


def metric_states(port: int) -> set[str]:
    """Return the states of the bad destination that are 1 in the metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        families = parse(answer.read().decode())
    return {
        sample.labels["state"]
        for family in families
        for sample in family.samples
        if sample.name == "pylsyncd_state"
        and sample.labels["destination"] == CRASHING
        and sample.value
    }


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_destination_of_a_failed_worker_is_affected(setup: CrashSetup, kind: str) -> None:
    setup.write("before")
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        setup.add_bug("interpret", kind)
        setup.write("during")
        bad = wait_failed(setup, daemon)
        assert kind in bad["error"]
        assert "Please report this." in bad["error"]
        assert len(bad["error"]) < 500
        assert bad["waiting"] >= 1
        assert (bad["next_attempt"] or 0.0) <= 300.0
        for number in range(3):
            setup.write(f"more/{number}")
            assert wait_confirmed(setup, "good") == 0
            expect_equal(setup, setup.good, daemon)
        (setup.source / "before").unlink()
        assert setup.run("wait", "--timeout", "0.5").returncode == 1
        setup.fix_bug("interpret")
        wait_in_sync(setup, daemon)
        expect_equal(setup, setup.bad, daemon)
        assert destinations(setup)[CRASHING]["error"] == ""
        assert wait_confirmed(setup) == 0
        assert setup.crash_count("interpret") >= 1
        daemon.wait_for(r"\[bad\] works again\.")
        tracebacks = daemon.log.count("Traceback")
        assert tracebacks == 1, daemon.log_tail


@pytest.mark.parametrize("place", ["confirm", "add"])
def test_a_worker_that_fails_while_its_state_changes_gets_a_full_sync(
    setup: CrashSetup, place: str
) -> None:
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        setup.add_bug(place)
        setup.write("first")
        wait_failed(setup, daemon)
        setup.write("second")
        assert destinations(setup)[CRASHING]["owes_everything"]
        expect_equal(setup, setup.good, daemon)
        # What no event tells is found by a full sync.
        (setup.bad / "stray").touch()
        setup.fix_bug(place)
        expect_equal(setup, setup.bad, daemon)
        assert wait_confirmed(setup) == 0


def test_changes_made_while_the_worker_was_down_survive_a_kill(setup: CrashSetup) -> None:
    setup.write("before")
    with to_be_killed(setup, "-i") as daemon:
        setup.add_bug("interpret")
        setup.write("during")
        (setup.source / "before").unlink()
        wait_failed(setup, daemon)
        expect_equal(setup, setup.good, daemon)
    with to_be_killed(setup) as daemon:
        wait_failed(setup, daemon)
        setup.write("later")
    setup.fix_bug("interpret")
    with setup.daemon() as daemon:
        daemon.wait_ready()
        expect_equal(setup, setup.bad, daemon)
        expect_equal(setup, setup.good, daemon)


def test_a_stop_while_the_worker_is_down_keeps_its_changes_pending(setup: CrashSetup) -> None:
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        setup.add_bug("interpret")
        setup.write("during")
        wait_failed(setup, daemon)
        daemon.stop()
        assert "[bad] stopped before everything was synced." in daemon.log
    setup.fix_bug("interpret")
    # Without an initial sync, only the state of the last run tells what is pending.
    with setup.daemon() as daemon:
        daemon.wait_ready()
        expect_equal(setup, setup.bad, daemon)


def test_a_failure_is_shown_in_all_reports_and_calls_the_hooks(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    hook = tmp_path / "hook"
    hook.write_text(
        f'#!/bin/sh\necho "$PYLSYNCD_EVENT $PYLSYNCD_DESTINATION $PYLSYNCD_MESSAGE" >>{calls}\n'
    )
    hook.chmod(0o755)
    port = free_port()
    setup = CrashSetup(
        tmp_path, f"--hook-error={hook}", f"--hook-recovery={hook}", f"--metrics-port={port}"
    )
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        assert metric_states(port) != {"failed"}
        setup.add_bug("interpret")
        setup.write("during")
        # Long enough for all the reports.
        fail_until_the_pause_is_long(setup, daemon)
        assert metric_states(port) == {"failed"}
        table = setup.run("status").stdout
        assert re.search(r"\bbad +failed\b", table), table
        assert "Please report this." in table
        check = setup.run("status", "--check", "--max-lag", "3600")
        assert check.returncode == CRITICAL, check
        assert "bad failed" in check.stdout
        wait_until(calls.exists)
        setup.fix_bug("interpret")
        assert setup.run("flush").returncode == 0
        expect_equal(setup, setup.bad, daemon)
        wait_until(lambda: "recovery bad" in calls.read_text(), message=lambda: daemon.log_tail)
    lines = calls.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["error", "bad"], ["recovery", "bad"]]
    assert "ValueError" in lines[0]


def test_the_worker_for_large_files_is_replaced_with_its_destinations_worker(
    tmp_path: Path,
) -> None:
    setup = CrashSetup(tmp_path, "--batch-size-limit=1000")
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        setup.add_bug("large")
        setup.write("large", "x" * 5000)
        wait_failed(setup, daemon)
        setup.write("small")
        expect_equal(setup, setup.good, daemon)
        assert "ValueError" in wait_failed(setup, daemon)["error"]
        setup.fix_bug("large")
        expect_equal(setup, setup.bad, daemon)
        assert wait_confirmed(setup) == 0


def test_a_hook_thread_that_fails_goes_on_with_later_hooks(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    setup = CrashSetup(tmp_path, f"--hook-batch=sh -c 'echo $PYLSYNCD_DESTINATION >>{calls}'")
    with setup.daemon() as daemon:
        daemon.wait_ready()
        setup.add_bug("hook", "Interrupted")
        setup.write("first")
        daemon.wait_for(r"\[bad\] An unexpected error in pylsyncd stopped a hook \(.*Interrupted")
        expect_equal(setup, setup.bad, daemon)
        assert condition(setup) == "in sync"
        setup.fix_bug("hook")
        setup.write("second")
        for name in ("bad", "good"):
            wait_until(
                lambda name=name: calls.exists() and name in calls.read_text(),
                message=lambda: daemon.log_tail,
            )


def test_a_flush_ends_the_pause_and_a_pause_stays_in_force(setup: CrashSetup) -> None:
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        setup.add_bug("interpret")
        setup.write("during")
        fail_until_the_pause_is_long(setup, daemon)
        assert setup.run("pause", CRASHING).returncode == 0
        assert condition(setup) == "failed"
        count = setup.crash_count("interpret")
        assert setup.run("flush").returncode == 0
        wait_until(lambda: condition(setup) == "paused", message=lambda: daemon.log_tail)
        assert setup.crash_count("interpret") == count
        setup.fix_bug("interpret")
        assert not (setup.bad / "after").exists()
        assert setup.run("resume").returncode == 0
        expect_equal(setup, setup.bad, daemon)


def test_a_reload_serves_a_failed_destination_under_new_settings_at_once(tmp_path: Path) -> None:
    setup = CrashSetup(tmp_path)
    file = tmp_path / "pylsyncd.conf"

    def write_file(*lines: str) -> None:
        file.write_text(
            "\n".join([
                "[pylsyncd]", "window = 0.1", "initial_sync = yes", "[sync web]",
                f"source = {setup.source}/./", "destinations =", f"    {setup.good}/",
                f"    {setup.bad}/", *lines, "",
            ])
        )  # fmt: skip

    write_file()
    daemon = CrashingDaemon(
        "-v", "-c", file, state=setup.state, program=setup.program,
        extra_environment={"RUNTIME_DIRECTORY": str(setup.directory)},
    )  # fmt: skip
    with daemon:
        wait_until(lambda: setup.run("wait", "--timeout", "45").returncode == 0)
        setup.add_bug("interpret")
        setup.write("during")
        fail_until_the_pause_is_long(setup, daemon, "web/bad")
        # Unchanged settings: the destination stays as it is.
        assert setup.run("reload").returncode == 0
        assert condition(setup, "web/bad") == "failed"
        setup.fix_bug("interpret")
        write_file("bandwidth_limit = 100M")
        assert setup.run("reload").returncode == 0
        expect_equal(setup, setup.bad, daemon)
        wait_until(
            lambda: condition(setup, "web/bad") == "in sync", message=lambda: daemon.log_tail
        )
        daemon.wait_for(r"bad\] works again")


def test_with_once_a_failed_worker_makes_the_exit_status_1_and_the_others_complete(
    setup: CrashSetup,
) -> None:
    setup.write("file")
    setup.add_bug("interpret", "MemoryError")
    ended = subprocess.run(
        setup.command_line("--once"), env=setup.environment(), stderr=subprocess.PIPE, check=False,
        timeout=60, text=True,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert (setup.good / "file").exists()
    assert "[bad] an unexpected error in pylsyncd stopped its worker (MemoryError" in ended.stderr
    assert "[bad] stopped before everything was synced." in ended.stderr
