"""Large files beside other changes: whatever happens to them in flight, the trees become equal.

A small worker stands in for the real one. The rsyncs that run side by side and the disk are real.
"""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.processes import descendants
from support.rsync_features import CAPABILITIES
from support.trees import differences

from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.rsync import file_list
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncOptions
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.destination_guard import DestinationGuard
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer_result import TransferResult

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE
SECONDS = 45.0
LARGE = 100_000


def changes(*those: tuple[bytes, Scope]) -> MutableChangeset:
    collection = MutableChangeset()
    for path, scope in those:
        collection.add(path, scope)
    return collection


class QueueSetup:
    """A source, a replica, a queue for large files, and what a worker does beside it."""

    def __init__(self, directory: Path, rate: str) -> None:
        self.source, self.replica = directory / "source", directory / "replica"
        (self.source / "d").mkdir(parents=True)
        self.replica.mkdir()
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.to = Destination("r", "", Transport.LOCAL, None, os.fsencode(self.replica) + b"/")
        self.rsync = RsyncOptions("rsync", (3, 2, 7))
        self.woken = threading.Event()
        self.failures: list[str] = []
        self._session = RsyncSession(self.to, self.rsync)
        self.set_rate(rate)
        self._held: list[int] = []
        self.thread = LargeFileWorker(
            self._session,
            self.guard,
            DestinationGuard(None),
            on_batch_done=self.woken.set,
            on_failed=self.failures.append,
        )
        self.thread.start()
        self.large_files = LargeFileQueue(self.thread, RetryPolicy(first_pause=0.05, max_pause=0.1))
        self.backlog = Backlog()
        self.results: list[TransferResult] = []

    def set_rate(self, rate: str) -> None:
        """Limit the bandwidth of the following batches, in KiB/s."""
        self._session.options = replace(self.rsync, bandwidth_limit=rate)

    def hold_batch(self) -> None:
        """Suspend the rsyncs of the batch in flight until ``finish``."""
        self._held = [each.pid for each in descendants(os.getpid()) if each.name == "rsync"]
        for pid in self._held:
            os.kill(pid, signal.SIGSTOP)

    def release_batch(self) -> None:
        while self._held:
            os.kill(self._held.pop(), signal.SIGCONT)

    def write(self, name: str, size: int = 2 * LARGE) -> None:
        (self.source / name).write_bytes(os.urandom(size))

    def carry(self, *some: tuple[bytes, Scope]) -> None:
        """Do what a worker does with new changes."""
        self.backlog.add(changes(*some))
        self._attempt()

    def work(self) -> None:
        """Take a finished batch, carry the returned changes, start a due batch."""
        result = self.large_files.take_result()
        if result is not None:
            self.results.append(result)
        returned, _ = self.large_files.take_returned()
        self.backlog.add(returned)
        self._attempt()

    def finish(self) -> None:
        self.release_batch()
        deadline = time.monotonic() + SECONDS
        while self.large_files or self.backlog:
            assert time.monotonic() < deadline, list(self.large_files.pending)
            self.work()
            self.woken.wait(0.01)
            self.woken.clear()

    @property
    def is_in_flight(self) -> bool:
        """Whether a part of the large file is at the replica."""
        return bool(list(self.replica.glob("**/.big.*")))

    def wait_until_in_flight(self) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.is_in_flight:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _attempt(self) -> None:
        if self.backlog:
            self._run(self.large_files.defer_conflicts(self.backlog.take()))
        self.large_files.start_due_batch()

    def _run(self, changeset: Changeset) -> None:
        rsync = replace(self.rsync, in_flight=self.large_files.in_flight)
        content = b""
        root = os.open(self.source, os.O_RDONLY)
        try:
            if changeset.is_everything:
                command = rsync.full_sync_command(CURRENT_DIRECTORY, self.to, CAPABILITIES)
            else:
                files = file_list.build_file_list(
                    root, changeset, Rules(),
                    delete_missing_args=CAPABILITIES.has_delete_missing_args,
                    excluded=self.large_files.in_flight,
                    size_limit=SizeLimit(LARGE,
                    preserves_hard_links=False) if self.large_files.accepts_files else None,
                )  # fmt: skip
                self.large_files.add(files.large_files)
                command = rsync.file_list_command(
                    CURRENT_DIRECTORY,
                    self.to,
                    CAPABILITIES,
                    create_parents=False,
                    excluded=sorted(files.files_to_exclude),
                )
                content = files.encode()
            is_needed = changeset.is_everything or bool(content)
            run = Runner().run(command, content, directory=root) if is_needed else RunResult()
        finally:
            os.close(root)
        if run.exit_status:
            assert run.exit_status in {23, 24}, list(run.messages)
            self.backlog.add(changeset)
        else:
            self.large_files.accepts_files = True

    def close(self) -> None:
        self.release_batch()
        self.thread.abort(signal.SIGTERM)
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        self.guard.close()
        assert not self.failures

    @property
    def differences(self) -> list[str]:
        return differences(os.fsencode(self.source), os.fsencode(self.replica))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], QueueSetup]]:
    stages: list[QueueSetup] = []

    def made(rate: str) -> QueueSetup:
        stages.append(QueueSetup(tmp_path, rate))
        return stages[-1]

    yield made
    for stage in stages:
        stage.close()


def start_sending(stage: QueueSetup) -> None:
    """Have a large file in flight, and a small one synced."""
    stage.write("d/big", 500_000)
    stage.write("d/small", 10)
    stage.carry((b"d", TREE), (b"", ENTRY))
    stage.wait_until_in_flight()
    assert stage.large_files.in_flight == {b"d/big"}


@pytest.fixture
def sending(make: Callable[[str], QueueSetup]) -> QueueSetup:
    """Return a stage with a large file in flight until ``finish``, and a small one synced."""
    stage = make("200")
    start_sending(stage)
    stage.hold_batch()
    while not stage.is_in_flight:
        # It was sent before it was held, on a machine that is busy.
        stage.finish()
        stage.results.clear()
        start_sending(stage)
        stage.hold_batch()
    stage.set_rate("0")
    return stage


def test_small_files_do_not_wait_for_large_ones(sending: QueueSetup) -> None:
    sending.write("d/later", 10)
    sending.carry((b"d/later", ENTRY))
    assert sorted(path.name for path in sending.replica.glob("d/[a-z]*")) == ["later", "small"]
    sending.finish()
    assert not sending.differences


@pytest.mark.parametrize("change", [(b"d", LISTING), (b"d", TREE), (b"", TREE)], ids=str)
def test_runs_that_delete_leave_files_in_flight_alone(
    sending: QueueSetup, change: tuple[bytes, Scope]
) -> None:
    sending.write("d/small", 20)
    (sending.replica / "d/stale").touch()
    sending.carry(change)
    sending.wait_until_in_flight()
    assert not (sending.replica / "d/stale").exists()
    # The full file would have taken longer than that run.
    assert not (sending.replica / "d/big").exists()
    sending.finish()
    assert sending.results[0].verdict is Verdict.DONE
    assert not sending.differences


def test_directories_get_their_present_times_and_modes_after_the_file(sending: QueueSetup) -> None:
    sending.write("d/later", 10)
    sending.carry((b"d/later", ENTRY))
    sending.wait_until_in_flight()
    os.chmod(sending.source / "d", 0o700)
    sending.carry((b"d", ENTRY))
    sending.finish()
    assert not sending.differences


def test_a_file_that_changes_in_flight_is_sent_again(sending: QueueSetup) -> None:
    # Replaced and not rewritten: rsync, which has it open, would notice a change of its content.
    sending.write("../big", 2 * LARGE)
    (sending.source / "../big").rename(sending.source / "d/big")
    sending.carry((b"d/big", ENTRY), (b"d", ENTRY))
    sending.wait_until_in_flight()
    sending.finish()
    assert [result.verdict for result in sending.results] == [Verdict.DONE, Verdict.DONE]
    assert not sending.differences


@pytest.mark.parametrize("how", ["file", "directory", "above", "below", "link"])
def test_the_batch_of_a_file_that_is_gone_is_cancelled(
    make: Callable[[str], QueueSetup], how: str
) -> None:
    stage = make("5")  # the large file takes 100 s
    start_sending(stage)
    stage.set_rate("200")
    source = stage.source
    if how == "above":
        (source / "d").rename(source / "elsewhere")
        what = [(b"d", ENTRY), (b"elsewhere", TREE)]
    elif how == "file":
        (source / "d/big").unlink()
        what = [(b"d/big", ENTRY)]
    elif how == "link":
        (source / "d/big").rename(source / "d/other")
        (source / "d/big").symlink_to("other")
        what = [(b"d/big", ENTRY), (b"d/other", ENTRY)]
    else:
        (source / "d/big").unlink()
        (source / "d/big").mkdir()
        (source / "d/big/in").touch()
        what = [(b"d/big", TREE)] if how == "directory" else [(b"d/big/in", ENTRY)]
    began = time.monotonic()
    stage.carry(*what, (b"d", ENTRY) if how != "above" else (b"", ENTRY))
    assert time.monotonic() - began < SECONDS, "it was sent to the end"
    assert stage.large_files.in_flight == ({b"elsewhere/big"} if how == "above" else set()) or (
        how == "link" and stage.large_files.in_flight == {b"d/other"}
    )
    stage.finish()
    assert not stage.differences


def test_a_name_that_may_be_the_temporary_file_is_deferred(sending: QueueSetup) -> None:
    name = ".big.abcdef"
    for directory in (sending.source, sending.replica):
        (directory / "d" / name).touch()
    (sending.source / "d" / name).unlink()
    sending.carry((b"d/" + name.encode(), ENTRY), (b"d", ENTRY))
    assert (sending.replica / "d" / name).exists()
    assert (b"d/" + name.encode(), ENTRY) in list(sending.large_files.pending)
    sending.finish()
    assert not sending.differences


def test_everything_that_is_not_confirmed_is_pending(sending: QueueSetup) -> None:
    sending.write("d/other")
    sending.carry((b"d/other", ENTRY), (b"d/big", ENTRY))
    assert {change.path for change in sending.large_files.pending} == {b"d/big", b"d/other"}
    sending.finish()
    assert not sending.large_files.pending


def test_batches_start_with_one_file_and_grow_as_they_succeed(
    make: Callable[[str], QueueSetup],
) -> None:
    stage = make("0")
    for number in range(12):
        stage.write(f"d/{number}")
    stage.carry((b"d", TREE), (b"", ENTRY))
    flights: list[int] = []
    while stage.large_files:
        flight = len(stage.large_files.in_flight)
        while stage.large_files.in_flight:
            assert stage.woken.wait(SECONDS)
            stage.woken.clear()
            stage.work()
            if len(stage.large_files.in_flight) != flight:
                break
        flights.append(flight)
        stage.work()
    assert [flight for flight in flights if flight] == [1, 2, 4, 5]
    assert not stage.differences


def test_a_partial_failure_is_returned_to_the_worker(make: Callable[[str], QueueSetup]) -> None:
    stage = make("0")
    stage.write("d/big")
    (stage.replica / "d/big").mkdir(parents=True)
    (stage.replica / "d/big/stale").touch()
    stage.carry((b"d/big", ENTRY), (b"d", ENTRY), (b"", ENTRY))
    assert stage.woken.wait(SECONDS)
    result = stage.large_files.take_result()
    assert result is not None
    assert result.verdict is Verdict.PARTIAL
    assert not stage.large_files.accepts_files
    stage.finish()
    assert stage.large_files.accepts_files
    assert not stage.differences


def test_an_unreachable_destination_is_retried_later(make: Callable[[str], QueueSetup]) -> None:
    stage = make("0")
    stage.write("d/big")
    stage.carry((b"d", LISTING), (b"", LISTING))
    # As if the destination had been unreachable.
    stage.large_files.retry_queue.schedule_retry(Verdict.RETRY_LATER)
    stage.finish()
    assert not stage.differences


def test_a_directory_that_stands_in_for_files_is_returned_to_the_worker(
    make: Callable[[str], QueueSetup],
) -> None:
    stage = make("0")
    stage.write("d/big")
    stage.large_files.add(changes((b"d", TREE)))
    stage.large_files.start_due_batch()
    assert not stage.large_files.in_flight
    returned, _ = stage.large_files.take_returned()
    assert list(returned) == list(changes((b"d", TREE)))


def _move(stage: QueueSetup, random_: random.Random) -> list[tuple[bytes, Scope]]:
    """Change the source at random, and return the changes that a watcher would report."""
    directories = [path for path in stage.source.rglob("*") if path.is_dir()] + [stage.source]
    directory = random_.choice(directories)
    target = directory / random_.choice(["a", "b", ".a.xyzxyz"])
    above = os.fsencode(directory.relative_to(stage.source)) if directory != stage.source else b""
    path = os.path.join(above, os.fsencode(target.name))
    told = [(path, ENTRY), (above, ENTRY)]
    kind = random_.choice(["large", "large", "small", "remove", "directory", "rename", "listing"])
    if kind == "listing":
        return [(above, random_.choice([LISTING, TREE]))]
    if kind == "rename" and target.exists():
        other = random_.choice(directories) / random_.choice(["a", "b", "c"])
        if not other.exists() and target not in (other, *other.parents):
            target.rename(other)
            to = os.fsencode(other.relative_to(stage.source))
            return [*told, (to, TREE), (os.path.dirname(to), ENTRY)]
        return []
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    if kind in {"large", "small"}:
        target.write_bytes(random_.randbytes(2 * LARGE if kind == "large" else 100))
    elif kind == "directory":
        target.mkdir()
        (target / "a").write_bytes(random_.randbytes(2 * LARGE))
        told = [(path, TREE), (above, ENTRY)]
    return told


@pytest.mark.parametrize("seed", range(6))
def test_after_any_changes_at_any_time_the_trees_are_equal(
    make: Callable[[str], QueueSetup], seed: int
) -> None:
    random_ = random.Random(seed)
    stage = make("4000")
    stage.carry(*((change.path, change.scope) for change in EVERYTHING))
    for _ in range(60):
        told = _move(stage, random_)
        if random_.random() < 0.5:
            stage.backlog.add(changes(*told))
        else:
            stage.carry(*told)
        if random_.random() < 0.3:
            stage.woken.wait(random_.random() / 10)
            stage.work()
    stage.finish()
    assert stage.differences == []
    assert stage.results
