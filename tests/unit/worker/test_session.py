"""Runs of rsync to one destination: counted, in a slot, and stopped from another thread."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import FaultyRsync, exit_with, work_and_exit_with
from support.waiting import wait_until

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import PROGRESS_OPTION, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.worker.resources import RunSlots, SharedResources
from pylsyncd.worker.session import STOPPED, RsyncSession

SECONDS = 45.0


class SessionSetup:
    """A source with a file, a copy, and a session between them."""

    def __init__(self, directory: Path) -> None:
        self.source, self.copy = directory / "source", directory / "copy"
        self.source.mkdir()
        self.copy.mkdir()
        (self.source / "f").write_text("content")
        self.faulty = FaultyRsync(directory)
        self.run_slots = RunSlots(1)
        self.progress: list[str] = []
        self.resources = SharedResources(
            self.run_slots,
            on_progress=lambda name, _: self.progress.append(name),
            on_progress_end=lambda name: self.progress.append(f"end of {name}"),
        )
        self.session = self.new_session(Transport.LOCAL)
        self.root = os.open(self.source, os.O_RDONLY)

    def new_session(self, transport: Transport) -> RsyncSession:
        destination = Destination("copy", "", transport, None, os.fsencode(self.copy) + b"/")
        options = RsyncOptions(str(self.faulty.program), (3, 2, 7))
        return RsyncSession(destination, options, resources=self.resources)

    @property
    def command(self) -> list[bytes]:
        copy = os.fsencode(self.copy) + b"/"
        return [os.fsencode(self.faulty.program), b"-a", b"--info=stats2", b"./", copy]

    def run_in_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self.session.run, args=(self.root, self.command, b""))
        thread.start()
        return thread


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SessionSetup]:
    bench = SessionSetup(tmp_path)
    yield bench
    os.close(bench.root)


def test_a_run_is_returned_and_counted(bench: SessionSetup) -> None:
    run = bench.session.run(bench.root, bench.command, b"")
    assert run.outcome.verdict is Verdict.DONE
    assert (run.result.exit_status, run.result.files, run.is_counted) == (0, 1, True)
    assert (bench.copy / "f").read_text() == "content"
    assert bench.session.statistics.counts().outcomes == {"done": 1}


@pytest.mark.parametrize(
    ("status", "is_listed"),
    [
        pytest.param(0, True, id="done"),
        pytest.param(24, True, id="files have vanished"),
        pytest.param(23, False, id="a time may not be set"),
        pytest.param(12, False, id="broken off"),
    ],
)
def test_no_copy_has_a_time_that_was_not_in_the_list_of_a_run(
    bench: SessionSetup, status: int, *, is_listed: bool
) -> None:
    session = bench.session
    command = session.options.file_list_command(
        b"./", session.destination, RsyncCapabilities(), create_parents=False
    )
    bench.faulty.add_fault(work_and_exit_with(status))
    started_ns = time.time_ns()
    session.run(bench.root, command, b"f\0")
    assert (bench.copy / "f").exists()
    statistics = session.statistics
    assert started_ns < statistics.latest_listed_ns <= statistics.latest_carried_ns
    assert (statistics.latest_listed_ns < statistics.latest_carried_ns) is is_listed


def test_a_run_without_a_list_may_have_carried_any_time_up_to_its_end(bench: SessionSetup) -> None:
    bench.session.run(bench.root, bench.command, b"")
    statistics = bench.session.statistics
    assert statistics.latest_listed_ns == statistics.latest_carried_ns


@pytest.mark.parametrize(("status", "is_counted"), [(0, False), (24, False), (30, True), (5, True)])
def test_a_dry_run_is_counted_only_if_it_failed(
    bench: SessionSetup, status: int, *, is_counted: bool
) -> None:
    bench.faulty.add_fault(exit_with(status))
    run = bench.session.run(bench.root, bench.command, b"", is_dry_run=True)
    assert run.is_counted == is_counted
    assert bool(bench.session.statistics.counts().outcomes) == is_counted


def test_a_dry_run_that_finds_a_missing_capability_is_not_counted(bench: SessionSetup) -> None:
    bench.faulty.add_fault("echo 'rsync: --mkpath: unknown option' >&2; exit 1")
    assert not bench.session.run(bench.root, bench.command, b"", is_dry_run=True).is_counted


def test_an_aborted_session_runs_nothing(bench: SessionSetup) -> None:
    bench.session.abort(signal.SIGTERM)
    run = bench.session.run(bench.root, bench.command, b"")
    assert (run.outcome, run.is_counted) == (STOPPED, False)
    assert bench.session.is_aborted
    assert not (bench.copy / "f").exists()


def test_abort_stops_the_running_rsync(bench: SessionSetup) -> None:
    bench.faulty.add_fault("exec sleep 600")
    thread = bench.run_in_thread()
    wait_until(lambda: not bench.faulty.pending_faults)
    bench.session.abort(signal.SIGTERM)
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert bench.session.statistics.counts().outcomes == {"later": 1}


def test_a_cancelled_session_runs_nothing_until_runs_are_allowed_again(bench: SessionSetup) -> None:
    bench.session.cancel(signal.SIGTERM)
    assert bench.session.run(bench.root, bench.command, b"").outcome == STOPPED
    bench.session.allow_runs()
    assert bench.session.run(bench.root, bench.command, b"").outcome.verdict is Verdict.DONE


def test_a_run_that_waits_for_a_slot_can_be_aborted(bench: SessionSetup) -> None:
    with bench.run_slots.acquire(lambda: False):
        thread = bench.run_in_thread()
        bench.session.abort(signal.SIGTERM)
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert not bench.session.statistics.counts().outcomes


def test_the_session_for_large_files_has_the_same_statistics(bench: SessionSetup) -> None:
    other = bench.session.for_large_files()
    other.run(bench.root, bench.command, b"")
    assert bench.session.statistics.counts().outcomes == {"done": 1}
    # But it is aborted separately.
    other.abort(signal.SIGTERM)
    assert not bench.session.is_aborted


def test_progress_is_reported_from_the_start_of_a_run_that_shows_it_to_its_end(
    bench: SessionSetup,
) -> None:
    bench.session.run(bench.root, bench.command, b"")
    assert bench.progress == ["end of copy"]
    bench.progress.clear()
    command = [bench.command[0], PROGRESS_OPTION, *bench.command[1:]]
    bench.session.run(bench.root, command, b"")
    assert bench.progress[0] == "copy"
    assert bench.progress[-1] == "end of copy"


def test_only_a_remote_shell_uses_the_shared_connection(bench: SessionSetup) -> None:
    assert bench.session.with_shared_ssh(bench.session.options) is bench.session.options
    session = bench.new_session(Transport.SHELL)
    try:
        options = session.with_shared_ssh(session.options)
        assert "ControlPath" in options.rsh
    finally:
        session.close()
        bench.resources.ssh_sharing.close()
