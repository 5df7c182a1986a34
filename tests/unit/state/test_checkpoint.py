"""What is kept of a destination, and when it is not believed."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounts import Mounts, can_mount
from support.trees import identity_at

from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.moments import Moment
from pylsyncd.model.notation import Transport
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.state.destination_state import DestinationState, decode, encode
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.system import clock
from pylsyncd.watcher.source_guard import SourceGuard

RSYNC = RsyncOptions("rsync", (3, 5, 0))
FILE = "copy.state"


def entries(*some: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add(path, Scope.ENTRY)
    return changes


class Place:
    """A source, its copy, and what is kept of it."""

    def __init__(self, top: Path, state: Path) -> None:
        self.source, self.copy, self.state = top / "source", top / "copy", state
        self.source.mkdir()
        self.copy.mkdir()
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.directory = StateDirectory(os.fsencode(state))
        target = os.fsencode(self.copy) + b"/"
        self.destination = Destination(
            "copy", str(self.copy), Transport.LOCAL, None, target, target[:-1]
        )

    def close(self) -> None:
        self.guard.close()
        self.directory.close()

    def checkpoint(self, rsync: RsyncOptions = RSYNC) -> Checkpoint:
        return Checkpoint(self.directory, "copy", self.guard, self.destination, rsync)

    def confirmed(self, moment: Moment | None = None) -> DestinationState:
        """Have written that all is well; return what a next start finds."""
        checkpoint = self.checkpoint()
        checkpoint.confirm(moment or clock.now(), NOTHING)
        checkpoint.save()
        return self.kept()

    def kept(self) -> DestinationState:
        return decode((self.state / FILE).read_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with contextlib.closing(Place(tmp_path, tmp_path / "state")) as made:
        yield made


# -- kept -----------------------------------------------------------------------------------------


def test_before_anything_was_confirmed_there_is_nothing(place: Place) -> None:
    remembered = place.checkpoint().load()
    assert remembered.state is None
    assert not remembered.error
    place.checkpoint().save()
    place.checkpoint().save_clean_stop()
    assert not (place.state / FILE).exists()


def test_what_was_confirmed_is_found_by_the_next_start(place: Place) -> None:
    until = clock.now()
    checkpoint = place.checkpoint()
    checkpoint.confirm(until, entries(b"a", b"d/\xff"))
    checkpoint.save()
    state = place.checkpoint().load().state
    assert state is not None
    assert state.confirmed == until
    assert set(state.debt) == set(entries(b"a", b"d/\xff"))
    assert state.source == identity_at(place.source)
    assert state.destination == identity_at(place.copy)
    assert not state.is_stopped
    assert place.checkpoint().full_sync_reason(state) == ""


def test_what_is_confirmed_soon_after_is_written_when_it_is_due(place: Place) -> None:
    checkpoint = place.checkpoint()
    checkpoint.confirm(clock.now(), EVERYTHING)
    later = clock.now()
    checkpoint.confirm(later, NOTHING)
    assert place.kept().debt.is_everything
    assert checkpoint.due_at is not None
    assert checkpoint.due_at <= time.monotonic() + 1.0
    checkpoint.save()
    assert checkpoint.due_at is None
    assert place.kept().confirmed == later
    assert not place.kept().debt


def test_a_stop_marks_what_was_confirmed_last(place: Place) -> None:
    checkpoint = place.checkpoint()
    checkpoint.confirm(clock.now(), EVERYTHING)
    later = clock.now()
    checkpoint.confirm(later, NOTHING)
    checkpoint.save_clean_stop()
    assert place.kept().is_stopped
    assert place.kept().confirmed == later


def test_from_a_resume_on_it_is_the_state_of_a_running_daemon(place: Place) -> None:
    place.confirmed()
    stopping = place.checkpoint()
    before = stopping.load().state
    assert before is not None
    stopping.resume_from(before)
    stopping.save_clean_stop()
    assert place.kept().is_stopped
    resuming = place.checkpoint()
    resuming.resume_from(place.kept())
    assert encode(place.kept()) == encode(replace(before, is_stopped=False))


def test_a_state_that_was_cut_or_changed_is_a_fault_and_not_a_state(place: Place) -> None:
    place.confirmed()
    content = (place.state / FILE).read_bytes()
    for spoilt in (b"", content[:-1], content.replace(b"false", b"true"), os.urandom(500)):
        (place.state / FILE).write_bytes(spoilt)
        remembered = place.checkpoint().load()
        assert remembered.state is None
        assert remembered.error


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_full_disk_is_told_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with Mounts() as mounts:
        mounts.tmpfs(small, "64k")
        with contextlib.closing(Place(tmp_path, small / "state")) as place:
            first = place.confirmed()
            with contextlib.suppress(OSError), (small / "big").open("wb", buffering=0) as big:
                while True:
                    big.write(b"x" * 4096)
            checkpoint = place.checkpoint()
            for _ in range(3):
                checkpoint.confirm(clock.now(), entries(*(b"%d" % n for n in range(10_000))))
                checkpoint.save()
            assert encode(place.kept()) == encode(first)
            (small / "big").unlink()
            later = clock.now()
            checkpoint.confirm(later, NOTHING)
            checkpoint.save()
            assert place.kept().confirmed == later
            assert sorted(os.listdir(place.state)) == [FILE]
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1
    assert "state cannot be written (No space left on device): mend" in told[0].getMessage()


# -- doubted --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rsync",
    [
        pytest.param(replace(RSYNC, extra_options=("-H",)), id="an option"),
        pytest.param(replace(RSYNC, rules=build_rules([parse_exclude(b"*.tmp")])), id="an exclude"),
        pytest.param(replace(RSYNC, delete=False), id="deletion"),
    ],
)
def test_with_options_that_shape_another_copy_a_state_is_not_believed(
    place: Place, rsync: RsyncOptions
) -> None:
    state = place.confirmed()
    assert "options or the excludes" in place.checkpoint(rsync).full_sync_reason(state)


def test_with_options_that_shape_the_same_copy_a_state_is_believed(place: Place) -> None:
    state = place.confirmed()
    same = replace(RSYNC, timeout=5.0, rsh="other-shell", max_delete=3, itemize=True)
    assert place.checkpoint(same).full_sync_reason(state) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"source": (1, 1)}, "another device", id="another device"),
        pytest.param({"destination": (1, 1)}, "the destination is another", id="another copy"),
        pytest.param({"destination": None}, "the destination is another", id="it was not there"),
    ],
)
def test_of_another_source_or_copy_a_state_is_not_believed(
    place: Place, change: dict[str, object], reason: str
) -> None:
    state = dataclasses.replace(place.confirmed(), **change)  # type: ignore[arg-type]
    assert reason in place.checkpoint().full_sync_reason(state)


def test_of_another_directory_on_the_same_device_a_state_is_not_believed(place: Place) -> None:
    state = place.confirmed()
    place.source.rename(place.source.with_name("was"))
    place.source.mkdir()
    place.guard.accept()
    assert place.checkpoint().full_sync_reason(state) == "the source is another directory"


def test_when_the_copy_is_not_there_a_state_is_not_believed(place: Place) -> None:
    state = place.confirmed()
    place.copy.rmdir()
    assert "the destination is another" in place.checkpoint().full_sync_reason(state)


def test_when_the_clock_went_backwards_a_state_is_not_believed(place: Place) -> None:
    present = clock.now()
    state = place.confirmed(replace(present, wall=present.wall + 30))
    assert "the clock went backwards" in place.checkpoint().full_sync_reason(state)


def test_after_another_boot_only_a_state_that_was_left_in_order_is_believed(place: Place) -> None:
    present = clock.now()
    earlier = Moment(present.wall - present.running - 60, 1000.0, "another boot")
    state = place.confirmed(earlier)
    assert "machine went down" in place.checkpoint().full_sync_reason(state)
    assert place.checkpoint().full_sync_reason(replace(state, is_stopped=True)) == ""


# -- what a source stood on -----------------------------------------------------------------------


def test_a_run_that_began_on_one_source_is_not_confirmed_for_the_one_that_replaced_it(
    place: Place,
) -> None:
    before = place.guard.accepted.inode_id
    checkpoint = place.checkpoint()
    checkpoint.record_source(is_everything=False)
    place.source.rename(place.source.with_name("was"))
    place.source.mkdir()
    place.guard.accept()
    checkpoint.confirm(clock.now(), NOTHING)
    checkpoint.save()
    assert place.kept().source == before
    assert place.checkpoint().full_sync_reason(place.kept()) == "the source is another directory"


def test_another_source_is_confirmed_only_by_a_run_that_compares_everything(place: Place) -> None:
    before = place.guard.accepted.inode_id
    checkpoint = place.checkpoint()
    checkpoint.record_source(is_everything=False)
    place.source.rename(place.source.with_name("was"))
    place.source.mkdir()
    place.guard.accept()
    for is_everything, expected in ((False, before), (True, place.guard.accepted.inode_id)):
        checkpoint.record_source(is_everything=is_everything)
        checkpoint.confirm(clock.now(), NOTHING)
        checkpoint.save()
        assert place.kept().source == expected


needs_mounts = pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")


@needs_mounts
def test_what_was_mounted_between_two_runs_is_to_be_looked_at_as_a_whole(
    place: Place, tmp_path: Path
) -> None:
    for name in ("new", "same", "other"):
        (place.source / name).mkdir()
        (tmp_path / f"{name}-disk").mkdir()
    (tmp_path / "third-disk").mkdir()
    with Mounts() as mounts:
        for name in ("new", "same", "other", "third"):
            mounts.tmpfs(tmp_path / f"{name}-disk")
        for name in ("same", "other"):
            mounts.bind(tmp_path / f"{name}-disk", place.source / name)
        place.guard.accept()
        state = place.confirmed()
        mounts.bind(tmp_path / "new-disk", place.source / "new")
        mounts.unmount(place.source / "other")
        mounts.bind(tmp_path / "third-disk", place.source / "other")
        place.guard.accept(state.mounts)
        assert set(place.checkpoint().changed_mounts(state)) == {b"new"}
        # Not known to be what belongs there, and so not to be believed.
        assert set(place.guard.held_subtrees) == {b"other"}
