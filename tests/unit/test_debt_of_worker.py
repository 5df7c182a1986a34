"""What a worker owes, and what it writes down of that: real rsyncs, real state."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import exits
from support.mounts import Mounts, can_mount
from support.workplace import LONG, Workplace, entries, wait_until

from pylsyncd.destination.orders import Order
from pylsyncd.model.changes import EVERYTHING, NOTHING, Change, Changes, Scope
from pylsyncd.system import clock


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with contextlib.closing(Workplace(tmp_path)) as made:
        yield made


def test_what_was_carried_is_confirmed_up_to_the_moment_of_its_order(place: Workplace) -> None:
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


def test_of_a_run_that_failed_nothing_is_confirmed(place: Workplace) -> None:
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


def test_a_path_that_fails_alone_is_owed_and_all_else_is_confirmed(place: Workplace) -> None:
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


def test_a_path_that_fails_is_tried_again_by_itself_until_it_succeeds(place: Workplace) -> None:
    place.write("bad", "good")
    for _ in range(3):
        place.complains_of("bad")
    with place.worker() as worker:
        worker.put(Order(entries(b"bad", b"good"), clock.now()))
        wait_until(lambda: place.owed() == set())
        assert not place.faulty.waiting
        assert worker.debt == 0


def test_what_is_set_aside_is_neither_sent_nor_deleted_by_other_runs(place: Workplace) -> None:
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


def test_a_full_sync_carries_what_was_set_aside(place: Workplace) -> None:
    place.write("bad")
    place.complains_of("bad")
    with place.worker(LONG) as worker:
        worker.put(Order(entries(b"bad"), clock.now()))
        wait_until(lambda: place.paths_owed() == [b"bad"])
        worker.put(Order(EVERYTHING, clock.now()))
        wait_until(lambda: place.owed() == set())


@pytest.mark.parametrize("is_hanging", [False, True], ids=["idle", "while rsync hangs"])
def test_whoever_ends_a_worker_ends_it_in_order(place: Workplace, *, is_hanging: bool) -> None:
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
    place: Workplace, tmp_path: Path
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
