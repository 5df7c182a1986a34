"""The lane for large files with a real rsync: it sends, deletes nothing, and ends when told to."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.trees import identity_at

from pylsyncd.model.changes import MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.model.paths import InodeId
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.turns import RunSlots

SECONDS = 20.0
SLOW = ("--bwlimit=500",)


def files(*names: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for name in names:
        changes.add(name, Scope.ENTRY)
    return changes


class Bench:
    """A source, a replica, and a lane between them."""

    def __init__(self, directory: Path) -> None:
        self.source, self.replica = directory / "source", directory / "replica"
        for path in (self.source, self.replica):
            (path / "d").mkdir(parents=True)
        (self.source / "d/big").write_bytes(os.urandom(2_000_000))
        (self.source / "d/small").write_text("small")
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.turns = RunSlots(1)
        self.place: InodeId | None = None
        self.woken = threading.Event()
        self.failures: list[str] = []
        self._made: list[LargeFileWorker] = []

    def bulk(self, options: tuple[str, ...] = ()) -> LargeFileWorker:
        target = os.fsencode(self.replica) + b"/"
        bulk = LargeFileWorker(
            self.guard,
            RsyncSession(
                Destination("replica", "", Transport.LOCAL, None, target),
                RsyncOptions("rsync", (3, 2, 7), extra_options=options),
                resources=SharedResources(self.turns),
            ),
            known_directory_id=lambda: self.place,
            on_batch_done=self.woken.set,
            on_failed=self.failures.append,
        )
        self._made.append(bulk)
        bulk.start()
        return bulk

    def carry(self, bulk: LargeFileWorker, *names: bytes) -> Outcome:
        bulk.start_batch(files(*names))
        # It may be woken once more for the batch before.
        while (outcome := bulk.take_outcome()) is None:
            assert self.woken.wait(SECONDS)
            self.woken.clear()
        assert bulk.take_outcome() is None
        return outcome

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{what}, not within {SECONDS} s"
            time.sleep(0.01)

    def wait_for_flight(self) -> None:
        self.wait_until(lambda: any(self.names(".big.*")), "the file is on its way")

    def names(self, pattern: str = "*") -> list[str]:
        return sorted(path.name for path in (self.replica / "d").glob(pattern))

    def close(self) -> None:
        for bulk in self._made:
            bulk.abort(signal.SIGTERM)
            bulk.join(SECONDS)
            assert not bulk.is_alive()
        self.guard.close()
        assert not self.failures


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_it_sends_what_it_is_told_and_nothing_else(bench: Bench) -> None:
    bulk = bench.bulk()
    assert bench.carry(bulk, b"d/big").verdict is Verdict.DONE
    assert bench.names() == ["big"]
    ran = bulk.session.last_run
    assert ran is not None
    assert ran.files == 1
    assert bench.carry(bulk, b"d/big").verdict is Verdict.DONE
    ran = bulk.session.last_run
    assert ran is not None
    assert ran.files == 0


def test_it_deletes_nothing_that_went_or_became_something_else(bench: Bench) -> None:
    bulk = bench.bulk()
    bench.carry(bulk, b"d/big")
    (bench.source / "d/big").unlink()
    assert bench.carry(bulk, b"d/big") == Outcome(Verdict.DONE)
    (bench.source / "d/big").mkdir()
    assert bench.carry(bulk, b"d/big") == Outcome(Verdict.DONE)
    shutil.rmtree(bench.source / "d")
    (bench.source / "d").symlink_to("elsewhere")
    assert bench.carry(bulk, b"d/big") == Outcome(Verdict.DONE)
    assert bench.names() == ["big"]


@pytest.mark.parametrize("option", ["--stats", "--delete-during", "--del", "--force"])
def test_it_empties_no_directory_that_stands_in_a_files_place(bench: Bench, option: str) -> None:
    (bench.replica / "d/big").mkdir()
    (bench.replica / "d/big/precious").touch()
    outcome = bench.carry(bench.bulk((option,)), b"d/big")
    assert outcome.verdict is Verdict.PARTIAL
    assert list(outcome.pending) == list(files(b"d/big"))
    assert (bench.replica / "d/big/precious").exists()


def test_a_batch_that_is_called_back_ends_at_once(bench: Bench) -> None:
    bulk = bench.bulk(SLOW)
    bulk.start_batch(files(b"d/big"))
    bench.wait_for_flight()
    began = time.monotonic()
    outcome = bulk.cancel_batch()
    assert time.monotonic() - began < 3.0
    assert outcome.verdict is Verdict.RETRY_LATER
    assert list(outcome.pending) == list(files(b"d/big"))
    assert "big" not in bench.names()
    # The next one is not called back with it.
    assert bench.carry(bulk, b"d/small").verdict is Verdict.DONE


def test_a_batch_is_called_back_that_waits_for_its_turn(bench: Bench) -> None:
    bulk = bench.bulk()
    with bench.turns.acquire(lambda: False):
        bulk.start_batch(files(b"d/big"))
        outcome = bulk.cancel_batch()
    assert outcome.verdict is Verdict.RETRY_LATER
    assert list(outcome.pending) == list(files(b"d/big"))
    assert bench.names() == []
    assert bench.carry(bulk, b"d/big").verdict is Verdict.DONE


def test_it_ends_whatever_it_does(bench: Bench) -> None:
    idle, busy, waiting = bench.bulk(), bench.bulk(SLOW), bench.bulk()
    busy.start_batch(files(b"d/big"))
    bench.wait_for_flight()
    waiting.start_batch(files(b"d/small"))
    # In the other order, it could get its turn in between.
    for bulk in (idle, waiting, busy):
        bulk.abort(signal.SIGTERM)
        bulk.join(SECONDS)
        assert not bulk.is_alive()
    assert "big" not in bench.names()
    assert "small" not in bench.names()


def test_it_finishes_what_it_has(bench: Bench) -> None:
    bulk = bench.bulk()
    bulk.start_batch(files(b"d/big"))
    bulk.request_stop()
    bulk.join(SECONDS)
    assert not bulk.is_alive()
    assert bench.names() == ["big"]


def test_nothing_is_sent_from_a_source_that_is_not_to_be_believed(bench: Bench) -> None:
    bench.source.rename(bench.source.with_name("away"))
    outcome = bench.carry(bench.bulk(), b"d/big")
    assert outcome.verdict is Verdict.SOURCE_UNSAFE
    assert list(outcome.pending) == list(files(b"d/big"))


def test_nothing_is_sent_to_a_directory_that_is_not_the_one_it_was(bench: Bench) -> None:
    bench.place = (0, 0)
    assert bench.carry(bench.bulk(), b"d/big").verdict is Verdict.SOURCE_UNSAFE
    assert bench.names() == []
    bench.place = identity_at(bench.replica)
    assert bench.carry(bench.bulk(), b"d/big").verdict is Verdict.DONE
