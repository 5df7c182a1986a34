"""What a destination begins with."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounts import Mounts, can_mount

from pylsyncd.model.changes import EVERYTHING, NOTHING, Change, Changeset, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rules.excludes import Rules
from pylsyncd.state.checkpoint import Checkpoint, LoadedState
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.system import clock
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.start_plan import StartPlan, catchup_times, plan_start


def entries(*some: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add(path, Scope.ENTRY)
    return changes


class Place:
    """A source, its copy, and what earlier runs have left."""

    def __init__(self, top: Path) -> None:
        self.source, self.copy = top / "source", top / "copy"
        self.source.mkdir()
        self.copy.mkdir()
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.directory = StateDirectory(os.fsencode(top / "state"))

    def close(self) -> None:
        self.guard.close()
        self.directory.close()

    def checkpoint(self) -> Checkpoint:
        target = os.fsencode(self.copy) + b"/"
        copy = Destination("copy", str(self.copy), Transport.LOCAL, None, target, target[:-1])
        rsync = RsyncOptions("rsync", (3, 5, 0))
        return Checkpoint(self.directory, "copy", self.guard, copy, rsync)

    def left(self, debt: Changeset = NOTHING) -> None:
        """Have a daemon confirm all but a debt, and end in order."""
        checkpoint = self.checkpoint()
        checkpoint.confirm(clock.now(), debt)
        checkpoint.save_clean_stop()

    def beginning(self, *, forced: str = "", is_vacant: bool = False) -> StartPlan:
        checkpoint = self.checkpoint()
        return plan_start(
            "copy", checkpoint, checkpoint.load(), requested_title=forced, is_source_empty=is_vacant
        )

    def kept(self) -> LoadedState:
        return self.checkpoint().load()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with contextlib.closing(Place(tmp_path)) as made:
        yield made


def test_with_a_state_all_that_has_changed_and_is_owed_is_the_first_order(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place.left(entries(b"owed"))
    beginning = place.beginning()
    assert beginning.since_ns is not None
    order = beginning.first_item({beginning.since_ns: entries(b"changed")}, clock.now())
    assert set(order.changeset) == set(entries(b"owed", b"changed"))
    assert order.titles == ("catch-up",)
    assert "catching up with 2 changes" in caplog.text


def test_until_the_first_order_was_carried_a_restart_finds_the_same_again(place: Place) -> None:
    place.left(entries(b"owed"))
    before = place.kept().state
    beginning = place.beginning()
    assert beginning.since_ns is not None
    beginning.first_item({beginning.since_ns: MutableChangeset()}, clock.now())
    after = place.kept().state
    assert before is not None
    assert after is not None
    assert after.confirmed == before.confirmed
    assert set(after.pending) == set(before.pending)
    assert not after.is_clean_stop


@pytest.mark.parametrize(
    ("debt", "is_vacant", "reason"),
    [
        pytest.param(EVERYTHING, False, "the last full sync was not completed", id="unfinished"),
        pytest.param(NOTHING, True, "the source is empty", id="an empty source"),
    ],
)
def test_a_state_that_is_not_enough_leads_to_a_full_sync_that_says_why(
    place: Place, caplog: pytest.LogCaptureFixture, debt: Changeset, reason: str, *, is_vacant: bool
) -> None:
    caplog.set_level(logging.INFO)
    place.left(debt)
    beginning = place.beginning(is_vacant=is_vacant)
    assert beginning.since_ns is None
    order = beginning.first_item({}, clock.now())
    assert order.changeset.is_everything
    assert order.titles == ("full sync",)
    assert f"Starting a full sync: {reason}." in caplog.text


def test_a_state_that_is_doubted_leads_to_a_full_sync_that_says_why(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place.left()
    place.copy.rename(place.copy.with_name("was"))
    place.copy.mkdir()
    beginning = place.beginning()
    assert beginning.since_ns is None
    assert beginning.first_item({}, clock.now()).changeset.is_everything
    assert "Starting a full sync: the destination is another directory." in caplog.text


def test_a_state_that_cannot_be_read_leads_to_a_full_sync_that_says_why(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place.directory.write("copy.state", b"garbage")
    beginning = place.beginning()
    assert beginning.first_item({}, clock.now()).changeset.is_everything
    assert "Starting a full sync: The state file is damaged" in caplog.text
    # One full stop is enough.
    assert ".." not in caplog.text


def test_what_somebody_asked_for_needs_no_reason(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place.left(EVERYTHING)
    order = place.beginning(forced="initial sync").first_item({}, clock.now())
    assert order.changeset.is_everything
    assert order.titles == ("initial sync",)
    assert "Starting a full sync" not in caplog.text


def test_without_a_state_nothing_is_compared_and_a_state_is_saved(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    start = clock.now()
    order = place.beginning().first_item({}, start)
    assert not order.changeset
    assert "No initial sync (-i) and no saved state" in caplog.text
    state = place.kept().state
    assert state is not None
    assert state.confirmed == start
    assert place.beginning().since_ns == start.since_ns


def test_a_full_sync_that_is_owed_is_kept_before_it_has_begun(place: Place) -> None:
    place.beginning(forced="initial sync").first_item({}, clock.now())
    state = place.kept().state
    assert state is not None
    assert state.pending.is_everything


def test_each_moment_is_asked_for_once_and_none_for_a_full_sync(place: Place) -> None:
    place.left()
    one = place.beginning()
    state = one.loaded.state
    assert state is not None
    earlier = replace(state, confirmed=replace(state.confirmed, wall=1.0))
    other = replace(one, loaded=LoadedState(earlier))
    full = replace(one, title="full sync")
    assert one.since_ns is not None
    assert other.since_ns is not None
    assert list(catchup_times([one, other, one, full])) == [other.since_ns, one.since_ns]


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_what_was_mounted_while_nobody_looked_is_compared_as_a_whole(
    place: Place, tmp_path: Path
) -> None:
    nested = place.source / "nested"
    nested.mkdir()
    (tmp_path / "disk").mkdir()
    place.left()
    with Mounts() as mounts:
        mounts.tmpfs(tmp_path / "disk")
        mounts.bind(tmp_path / "disk", nested)
        place.guard.accept()
        beginning = place.beginning()
        assert beginning.since_ns is not None
        order = beginning.first_item({beginning.since_ns: MutableChangeset()}, clock.now())
        assert set(order.changeset) == {Change(b"nested", Scope.TREE)}
