"""What a worker owes, and what it writes down of that: real rsyncs, real state."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.faults import FaultyRsync, exits
from support.mounts import Mounts, can_mount

from pylsyncd.destination.carrier import Carrier
from pylsyncd.destination.orders import Order
from pylsyncd.destination.worker import Worker
from pylsyncd.model.changes import EVERYTHING, NOTHING, Change, Changes, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.rsync import runner
from pylsyncd.rsync.commands import Rsync
from pylsyncd.rsync.retry import Pauses
from pylsyncd.rules.excludes import Rules
from pylsyncd.source.guard import Guard
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.state.state import State
from pylsyncd.state.statedir import StateDirectory
from pylsyncd.system import clock

SHORT = Pauses(first=0.05, longest=0.1, held=0.1, guarded=0.1, again=0.05)
LONG = Pauses(first=600.0, longest=600.0, held=600.0, guarded=600.0, again=600.0)


def entries(*some: bytes) -> Changes:
    changes = Changes()
    for path in some:
        changes.add(path, Scope.ENTRY)
    return changes


class Place:
    """A source, its copy, a substitute for rsync, and one worker after the other."""

    def __init__(self, top: Path) -> None:
        self.source, self.copy = top / "source", top / "copy"
        for path in (self.source, self.copy):
            path.mkdir()
        self.faulty = FaultyRsync(top)
        self.guard = Guard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.directory = StateDirectory(os.fsencode(top / "state"))
        target = os.fsencode(self.copy) + b"/"
        self._destination = Destination(
            "copy", str(self.copy), Transport.LOCAL, None, target, target[:-1]
        )
        self._rsync = Rsync(str(self.faulty.program), runner.version("rsync"))
        self._carrier = Carrier(self.guard, self._destination, self._rsync, {})
        # So that it is no probe that finds an order.
        assert not self._carrier.probe().message

    def close(self) -> None:
        self.guard.close()
        self.directory.close()

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.directory, "copy", self.guard, self._destination, self._rsync)

    def write(self, *names: str) -> None:
        for name in names:
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def state(self) -> State | None:
        return self.checkpoint().load().state

    def owed(self) -> set[Change] | None:
        """Return what is written down as owed; None before anything is written."""
        state = self.state()
        return None if state is None else set(state.debt)

    def paths_owed(self) -> list[bytes]:
        return sorted(change.path for change in self.owed() or ())

    def complains_of(self, name: str, *, first: str = "") -> None:
        """Have the next run do this first, all its work by default, and then say what failed."""
        said = f'rsync: [sender] send_files failed to open "{self.source}/{name}": '
        first = first or f'{self.faulty.real} "$@"'
        self.faulty.order(f"{first}; echo '{said}Permission denied (13)' >&2; exit 23")

    @contextlib.contextmanager
    def worker(self, pauses: Pauses = SHORT) -> Iterator[Worker]:
        """Run a worker."""
        failures: list[str] = []
        worker = Worker(self._carrier, pauses, self.checkpoint(), failures.append)
        worker.start()
        try:
            yield worker
        finally:
            worker.finish()
            while worker.is_alive():
                worker.end(signal.SIGKILL)
                worker.join(0.05)
        assert not failures


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with contextlib.closing(Place(tmp_path)) as made:
        yield made


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def test_what_was_carried_is_confirmed_up_to_the_moment_of_its_order(place: Place) -> None:
    place.write("f")
    until = clock.now()
    with place.worker() as worker:
        worker.put(Order(entries(b"f"), until))
        wait_until(lambda: place.owed() == set())
        state = place.state()
        assert state is not None
        assert state.confirmed == until
        assert worker.debt == 0
    assert (place.copy / "f").exists()


def test_of_a_run_that_failed_nothing_is_confirmed(place: Place) -> None:
    place.write("f", "g")
    first, second = clock.now(), clock.now()
    with place.worker(LONG) as worker:
        worker.put(Order(entries(b"f"), first))
        wait_until(lambda: place.owed() == set())
        place.faulty.order(exits(30))
        worker.put(Order(entries(b"g"), second))
        wait_until(lambda: not place.faulty.waiting)
        wait_until(lambda: worker.debt == 1)
        state = place.state()
        assert state is not None
        assert state.confirmed == first
        worker.put(Order(NOTHING, is_urgent=True))
        wait_until(lambda: worker.debt == 0)
        wait_until(lambda: (state := place.state()) and state.confirmed == second)


def test_a_path_that_fails_alone_is_owed_and_all_else_is_confirmed(place: Place) -> None:
    place.write("bad", "good")
    until = clock.now()
    place.complains_of("bad")
    with place.worker(LONG) as worker:
        worker.put(Order(entries(b"bad", b"good"), until))
        wait_until(lambda: place.paths_owed() == [b"bad"])
        state = place.state()
        assert state is not None
        assert state.confirmed == until
        # And it stays so, whatever else is carried.
        place.write("more")
        later = clock.now()
        worker.put(Order(entries(b"more"), later))
        wait_until(lambda: (state := place.state()) and state.confirmed == later)
        assert place.paths_owed() == [b"bad"]
        # A change of it is reason enough to try it again.
        worker.put(Order(entries(b"bad"), clock.now()))
        wait_until(lambda: place.owed() == set())


def test_a_path_that_fails_is_tried_again_by_itself_until_it_succeeds(place: Place) -> None:
    place.write("bad", "good")
    for _ in range(3):
        place.complains_of("bad")
    with place.worker() as worker:
        worker.put(Order(entries(b"bad", b"good"), clock.now()))
        wait_until(lambda: place.owed() == set())
        assert not place.faulty.waiting
        assert worker.debt == 0


def test_what_is_set_aside_is_neither_sent_nor_deleted_by_other_runs(place: Place) -> None:
    place.write("d/bad")
    (place.copy / "d").mkdir()
    (place.copy / "d/bad").write_text("as it was")
    place.complains_of("d/bad", first="true")
    with place.worker(LONG) as worker:
        worker.put(Order(entries(b"d/bad"), clock.now()))
        wait_until(lambda: place.paths_owed() == [b"d/bad"])
        listing = Changes()
        listing.add(b"d", Scope.LISTING)
        place.write("d/new")
        worker.put(Order(listing, clock.now()))
        wait_until((place.copy / "d/new").exists)
        wait_until(lambda: worker.debt == 1)
        assert (place.copy / "d/bad").read_text() == "as it was"
        # Deleting what it is in is meant for it, too.
        shutil.rmtree(place.source / "d")
        worker.put(Order(entries(b"d"), clock.now()))
        wait_until(lambda: not (place.copy / "d").exists())
        wait_until(lambda: worker.debt == 0)


def test_a_full_sync_carries_what_was_set_aside(place: Place) -> None:
    place.write("bad")
    place.complains_of("bad")
    with place.worker(LONG) as worker:
        worker.put(Order(entries(b"bad"), clock.now()))
        wait_until(lambda: place.paths_owed() == [b"bad"])
        worker.put(Order(EVERYTHING, clock.now()))
        wait_until(lambda: place.owed() == set())


@pytest.mark.parametrize("is_hanging", [False, True], ids=["idle", "while rsync hangs"])
def test_whoever_ends_a_worker_ends_it_in_order(place: Place, *, is_hanging: bool) -> None:
    place.write("f", "g")
    with place.worker() as worker:
        worker.put(Order(entries(b"f"), clock.now()))
        wait_until(lambda: place.owed() == set())
        if is_hanging:
            place.faulty.order("exec sleep 600")
            worker.put(Order(entries(b"g"), clock.now()))
            wait_until(lambda: not place.faulty.waiting)
    state = place.state()
    assert state is not None
    assert state.is_stopped


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_while_a_subtree_is_held_it_is_owed_as_a_whole_so_that_no_restart_forgets_it(
    place: Place, tmp_path: Path
) -> None:
    nested, disk = place.source / "nested", tmp_path / "disk"
    nested.mkdir()
    disk.mkdir()
    with Mounts() as mounts:
        mounts.tmpfs(disk)
        mounts.bind(disk, nested)
        place.guard.accept()
        place.write("nested/f", "g")
        with place.worker() as worker:
            worker.put(Order(EVERYTHING, clock.now()))
            wait_until(lambda: place.owed() == set())
            mounts.unmount(nested)
            # Nobody here sees that, and it is older than what is confirmed next.
            (disk / "f").write_text("changed elsewhere")
            place.write("g")
            worker.put(Order(EVERYTHING, clock.now()))
            wait_until(lambda: place.owed() == {Change(b"nested", Scope.TREE)})
            assert (place.copy / "nested/f").read_text() == "nested/f"
            mounts.bind(disk, nested)
            wait_until(lambda: place.owed() == set())
            assert (place.copy / "nested/f").read_text() == "changed elsewhere"
