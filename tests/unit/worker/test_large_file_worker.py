"""The thread for large files with a real rsync: it sends, deletes nothing, and can be stopped."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.destination_guard import DestinationGuard
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.resources import RunSlots, SharedResources
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer_result import TransferResult

SECONDS = 45.0
SLOW = ("--bwlimit=20",)  # the large file takes 100 s


def files(*names: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for name in names:
        changes.add(name, Scope.ENTRY)
    return changes


class WorkerSetup:
    """A source, a replica, and threads that send large files."""

    def __init__(self, directory: Path) -> None:
        self.source, self.replica = directory / "source", directory / "replica"
        for path in (self.source, self.replica):
            (path / "d").mkdir(parents=True)
        (self.source / "d/big").write_bytes(os.urandom(2_000_000))
        (self.source / "d/small").write_text("small")
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.run_slots = RunSlots(1)
        target = os.fsencode(self.replica) + b"/"
        self._destination = Destination("replica", "", Transport.LOCAL, None, target)
        self.destination_guard = DestinationGuard(self._destination)
        self.woken = threading.Event()
        self.failures: list[str] = []
        self._threads: list[LargeFileWorker] = []

    def start(self, options: tuple[str, ...] = ()) -> LargeFileWorker:
        thread = LargeFileWorker(
            RsyncSession(
                self._destination,
                RsyncOptions("rsync", (3, 2, 7), extra_options=options),
                resources=SharedResources(self.run_slots),
            ),
            self.guard,
            self.destination_guard,
            on_batch_done=self.woken.set,
            on_failed=self.failures.append,
        )
        self._threads.append(thread)
        thread.start()
        return thread

    def carry(self, thread: LargeFileWorker, *names: bytes) -> TransferResult:
        thread.start_batch(files(*names))
        # The event may still be set from the batch before.
        while (result := thread.take_result()) is None:
            assert self.woken.wait(SECONDS)
            self.woken.clear()
        assert thread.take_result() is None
        return result

    def wait_until_in_flight(self) -> None:
        wait_until(lambda: any(self.names(".big.*")), SECONDS, "the file is in flight")

    def names(self, pattern: str = "*") -> list[str]:
        return sorted(path.name for path in (self.replica / "d").glob(pattern))

    def close(self) -> None:
        for thread in self._threads:
            thread.abort(signal.SIGTERM)
            thread.join(SECONDS)
            assert not thread.is_alive()
        self.guard.close()
        assert not self.failures


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WorkerSetup]:
    made = WorkerSetup(tmp_path)
    yield made
    made.close()


def test_it_sends_the_files_of_a_batch_and_nothing_else(bench: WorkerSetup) -> None:
    thread = bench.start()
    for expected in (1, 0):
        result = bench.carry(thread, b"d/big")
        assert result.verdict is Verdict.DONE
        assert bench.names() == ["big"]
        assert result.run is not None
        assert result.run.result.files == expected


def test_it_deletes_nothing_that_is_gone_or_no_file_any_more(bench: WorkerSetup) -> None:
    thread = bench.start()
    bench.carry(thread, b"d/big")
    (bench.source / "d/big").unlink()
    assert bench.carry(thread, b"d/big") == TransferResult(Outcome(Verdict.DONE))
    (bench.source / "d/big").mkdir()
    assert bench.carry(thread, b"d/big") == TransferResult(Outcome(Verdict.DONE))
    shutil.rmtree(bench.source / "d")
    (bench.source / "d").symlink_to("elsewhere")
    assert bench.carry(thread, b"d/big") == TransferResult(Outcome(Verdict.DONE))
    assert bench.names() == ["big"]


@pytest.mark.parametrize("option", ["--stats", "--delete-during", "--del", "--force"])
def test_it_empties_no_directory_in_the_place_of_a_file(bench: WorkerSetup, option: str) -> None:
    (bench.replica / "d/big").mkdir()
    (bench.replica / "d/big/precious").touch()
    result = bench.carry(bench.start((option,)), b"d/big")
    assert result.verdict is Verdict.PARTIAL
    assert list(result.pending) == list(files(b"d/big"))
    assert (bench.replica / "d/big/precious").exists()


def test_a_cancelled_batch_ends_at_once(bench: WorkerSetup) -> None:
    thread = bench.start(SLOW)
    thread.start_batch(files(b"d/big"))
    bench.wait_until_in_flight()
    began = time.monotonic()
    result = thread.cancel_batch()
    assert time.monotonic() - began < SECONDS, "it was sent to the end"
    assert result.verdict is Verdict.RETRY_LATER
    assert list(result.pending) == list(files(b"d/big"))
    assert "big" not in bench.names()
    # The next batch is not cancelled with it.
    assert bench.carry(thread, b"d/small").verdict is Verdict.DONE


def test_a_batch_that_waits_for_a_run_slot_can_be_cancelled(bench: WorkerSetup) -> None:
    thread = bench.start()
    with bench.run_slots.acquire(lambda: False):
        thread.start_batch(files(b"d/big"))
        result = thread.cancel_batch()
    assert result.verdict is Verdict.RETRY_LATER
    assert list(result.pending) == list(files(b"d/big"))
    assert bench.names() == []
    assert bench.carry(thread, b"d/big").verdict is Verdict.DONE


def test_an_aborted_thread_ends_whatever_it_does(bench: WorkerSetup) -> None:
    idle, busy, waiting = bench.start(), bench.start(SLOW), bench.start()
    busy.start_batch(files(b"d/big"))
    bench.wait_until_in_flight()
    waiting.start_batch(files(b"d/small"))
    # In the other order, the waiting thread could get the slot in between.
    for thread in (idle, waiting, busy):
        thread.abort(signal.SIGTERM)
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert "big" not in bench.names()
    assert "small" not in bench.names()


def test_a_requested_stop_waits_for_the_current_batch(bench: WorkerSetup) -> None:
    thread = bench.start()
    thread.start_batch(files(b"d/big"))
    thread.request_stop()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert bench.names() == ["big"]


def test_nothing_is_sent_from_an_unsafe_source(bench: WorkerSetup) -> None:
    bench.source.rename(bench.source.with_name("away"))
    result = bench.carry(bench.start(), b"d/big")
    assert result.verdict is Verdict.SOURCE_UNSAFE
    assert list(result.pending) == list(files(b"d/big"))


def test_nothing_is_sent_to_a_replaced_destination_directory(bench: WorkerSetup) -> None:
    bench.destination_guard.verify_unchanged()
    away = bench.replica.rename(bench.replica.with_name("away"))
    (bench.replica / "d").mkdir(parents=True)
    assert bench.carry(bench.start(), b"d/big").verdict is Verdict.SOURCE_UNSAFE
    assert bench.names() == []
    shutil.rmtree(bench.replica)
    away.rename(bench.replica)
    assert bench.carry(bench.start(), b"d/big").verdict is Verdict.DONE
