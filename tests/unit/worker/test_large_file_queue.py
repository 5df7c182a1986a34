"""Large files beside all else: whatever is done to them on their way, the trees are equal at last.

A small worker stands in for the real one; rsync, its runs beside each other, and the disk are real.
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
from support.installed import ABILITIES
from support.trees import differences

from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.rsync import file_list
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncOptions
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.session import RsyncSession

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE
SECONDS = 30.0
LARGE = 100_000


def changes(*those: tuple[bytes, Scope]) -> MutableChangeset:
    collection = MutableChangeset()
    for path, scope in those:
        collection.add(path, scope)
    return collection


class Stage:
    """A source, a replica, a lane for large files, and what a worker does beside it."""

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
        self.bulk = LargeFileWorker(
            self.guard,
            RsyncSession(self.to, replace(self.rsync, bandwidth_limit=rate)),
            known_directory_id=lambda: None,
            on_batch_done=self.woken.set,
            on_failed=self.failures.append,
        )
        self.bulk.start()
        self.lane = LargeFileQueue(self.bulk, RetryPolicy(first_pause=0.05, max_pause=0.1))
        self.fresh = Backlog()
        self.outcomes: list[Outcome] = []

    def write(self, name: str, size: int = 2 * LARGE) -> None:
        (self.source / name).write_bytes(os.urandom(size))

    def carry(self, *those: tuple[bytes, Scope]) -> None:
        """Do what a worker does when it is told of changes."""
        self.fresh.add(changes(*those))
        self._attempt()

    def work(self) -> None:
        """Take what has ended, carry what came back, begin what is due."""
        outcome = self.lane.take_outcome()
        if outcome is not None:
            self.outcomes.append(outcome)
        self.fresh.add(self.lane.take_returned())
        self._attempt()

    def finish(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self.lane or self.fresh:
            assert time.monotonic() < deadline, list(self.lane.pending)
            self.work()
            self.woken.wait(0.01)
            self.woken.clear()

    def wait_for_flight(self, pattern: str = ".big.*") -> None:
        deadline = time.monotonic() + SECONDS
        while not list(self.replica.glob(f"**/{pattern}")):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _attempt(self) -> None:
        if self.fresh:
            self._run(self.lane.defer_conflicts(self.fresh.take()))
        self.lane.start_due_batch()

    def _run(self, owed: Changeset) -> None:
        rsync = replace(self.rsync, in_flight=self.lane.in_flight)
        content = b""
        root = os.open(self.source, os.O_RDONLY)
        try:
            if owed.is_everything:
                command = rsync.full_sync_command(CURRENT_DIRECTORY, self.to, ABILITIES)
            else:
                files = file_list.build_file_list(
                    root, owed, Rules(),
                    delete_missing_args=ABILITIES.has_delete_missing_args,
                    excluded=self.lane.in_flight,
                    size_limit=SizeLimit(LARGE,
                    preserves_hard_links=False) if self.lane.accepts_files else None,
                )  # fmt: skip
                self.lane.add(files.large_files)
                command = rsync.file_list_command(
                    CURRENT_DIRECTORY,
                    self.to,
                    ABILITIES,
                    create_parents=False,
                    excluded=sorted(files.files_to_exclude),
                )
                content = files.encode()
            is_needed = owed.is_everything or bool(content)
            run = Runner().run(command, content, directory=root) if is_needed else RunResult()
        finally:
            os.close(root)
        if run.exit_status:
            assert run.exit_status in {23, 24}, list(run.messages)
            self.fresh.add(owed)
        else:
            self.lane.accepts_files = True

    def close(self) -> None:
        self.bulk.abort(signal.SIGTERM)
        self.bulk.join(SECONDS)
        assert not self.bulk.is_alive()
        self.guard.close()
        assert not self.failures

    @property
    def differences(self) -> list[str]:
        return differences(os.fsencode(self.source), os.fsencode(self.replica))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    stages: list[Stage] = []

    def made(rate: str) -> Stage:
        stages.append(Stage(tmp_path, rate))
        return stages[-1]

    yield made
    for stage in stages:
        stage.close()


@pytest.fixture
def flying(make: Callable[[str], Stage]) -> Stage:
    """Return a stage with a large file on its way, for some seconds, and a small one there."""
    stage = make("200")
    stage.write("d/big", 500_000)
    stage.write("d/small", 10)
    stage.carry((b"d", TREE), (b"", ENTRY))
    stage.wait_for_flight()
    assert stage.lane.in_flight == {b"d/big"}
    return stage


def test_small_files_do_not_wait_for_large_ones(flying: Stage) -> None:
    flying.write("d/later", 10)
    flying.carry((b"d/later", ENTRY))
    assert sorted(path.name for path in flying.replica.glob("d/[a-z]*")) == ["later", "small"]
    flying.finish()
    assert not flying.differences


@pytest.mark.parametrize("change", [(b"d", LISTING), (b"d", TREE), (b"", TREE)], ids=str)
def test_runs_that_delete_leave_alone_what_is_on_its_way(
    flying: Stage, change: tuple[bytes, Scope]
) -> None:
    flying.write("d/small", 20)
    (flying.replica / "d/stale").touch()
    flying.carry(change)
    flying.wait_for_flight()
    assert not (flying.replica / "d/stale").exists()
    # That run would have been as long.
    assert not (flying.replica / "d/big").exists()
    flying.finish()
    assert flying.outcomes[0].verdict is Verdict.DONE
    assert not flying.differences


def test_directories_get_the_times_that_they_have_when_the_file_is_there(flying: Stage) -> None:
    flying.write("d/later", 10)
    flying.carry((b"d/later", ENTRY))
    flying.wait_for_flight()
    os.chmod(flying.source / "d", 0o700)
    flying.carry((b"d", ENTRY))
    flying.finish()
    assert not flying.differences


def test_a_file_that_changes_on_its_way_is_sent_once_more(flying: Stage) -> None:
    # Not in its place, where rsync, that has it open, would see it change.
    flying.write("../big", 2 * LARGE)
    (flying.source / "../big").rename(flying.source / "d/big")
    flying.carry((b"d/big", ENTRY), (b"d", ENTRY))
    flying.wait_for_flight()
    flying.finish()
    assert [outcome.verdict for outcome in flying.outcomes] == [Verdict.DONE, Verdict.DONE]
    assert not flying.differences


@pytest.mark.parametrize("how", ["file", "directory", "above", "below", "link"])
def test_the_flight_of_a_file_that_has_gone_is_ended(flying: Stage, how: str) -> None:
    source = flying.source
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
    flying.carry(*what, (b"d", ENTRY) if how != "above" else (b"", ENTRY))
    assert time.monotonic() - began < 2.0
    assert flying.lane.in_flight == ({b"elsewhere/big"} if how == "above" else set()) or (
        how == "link" and flying.lane.in_flight == {b"d/other"}
    )
    flying.finish()
    assert not flying.differences


def test_a_name_that_the_file_may_be_written_to_waits(flying: Stage) -> None:
    name = ".big.abcdef"
    for directory in (flying.source, flying.replica):
        (directory / "d" / name).touch()
    (flying.source / "d" / name).unlink()
    flying.carry((b"d/" + name.encode(), ENTRY), (b"d", ENTRY))
    assert (flying.replica / "d" / name).exists()
    assert (b"d/" + name.encode(), ENTRY) in list(flying.lane.pending)
    flying.finish()
    assert not flying.differences


def test_all_that_is_not_confirmed_is_owed(flying: Stage) -> None:
    flying.write("d/other")
    flying.carry((b"d/other", ENTRY), (b"d/big", ENTRY))
    assert {change.path for change in flying.lane.pending} == {b"d/big", b"d/other"}
    flying.finish()
    assert not flying.lane.pending


def test_files_go_one_by_one_at_first_and_together_when_that_goes_well(
    make: Callable[[str], Stage],
) -> None:
    stage = make("0")
    for number in range(12):
        stage.write(f"d/{number}")
    stage.carry((b"d", TREE), (b"", ENTRY))
    flights: list[int] = []
    while stage.lane:
        flight = len(stage.lane.in_flight)
        while stage.lane.in_flight:
            assert stage.woken.wait(SECONDS)
            stage.woken.clear()
            stage.work()
            if len(stage.lane.in_flight) != flight:
                break
        flights.append(flight)
        stage.work()
    assert [flight for flight in flights if flight] == [1, 2, 4, 5]
    assert not stage.differences


def test_what_fails_by_itself_is_for_the_worker_to_tell_apart(make: Callable[[str], Stage]) -> None:
    stage = make("0")
    stage.write("d/big")
    (stage.replica / "d/big").mkdir(parents=True)
    (stage.replica / "d/big/stale").touch()
    stage.carry((b"d/big", ENTRY), (b"d", ENTRY), (b"", ENTRY))
    assert stage.woken.wait(SECONDS)
    outcome = stage.lane.take_outcome()
    assert outcome is not None
    assert outcome.verdict is Verdict.PARTIAL
    assert not stage.lane.accepts_files
    stage.finish()
    assert stage.lane.accepts_files
    assert not stage.differences


def test_a_destination_that_is_away_is_tried_again_later(make: Callable[[str], Stage]) -> None:
    stage = make("0")
    stage.write("d/big")
    stage.carry((b"d", LISTING), (b"", LISTING))
    # Until it is there, its run is refused; the worker's find that, too.
    stage.lane.retry_queue.schedule_retry(RetryPolicy(), Verdict.RETRY_LATER)
    stage.finish()
    assert not stage.differences


def test_too_many_to_be_told_apart_are_the_workers(make: Callable[[str], Stage]) -> None:
    stage = make("0")
    stage.write("d/big")
    stage.lane.add(changes((b"d", TREE)))
    stage.lane.start_due_batch()
    assert not stage.lane.in_flight
    assert list(stage.lane.take_returned()) == list(changes((b"d", TREE)))


def _move(stage: Stage, random_: random.Random) -> list[tuple[bytes, Scope]]:
    """Do something to the source, and return what a watcher tells of it."""
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
    make: Callable[[str], Stage], seed: int
) -> None:
    random_ = random.Random(seed)
    stage = make("4000")
    stage.carry(*((change.path, change.scope) for change in EVERYTHING))
    for _ in range(60):
        told = _move(stage, random_)
        if random_.random() < 0.5:
            stage.fresh.add(changes(*told))
        else:
            stage.carry(*told)
        if random_.random() < 0.3:
            stage.woken.wait(random_.random() / 10)
            stage.work()
    stage.finish()
    assert stage.differences == []
    assert stage.outcomes
