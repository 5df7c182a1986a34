"""How a destination starts."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.mounts import Mounts, can_mount
from support.worker_setup import WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset
from pylsyncd.model.directory_id import DirectoryId
from pylsyncd.model.moves import Move, Moves
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.state.checkpoint import LoadedState
from pylsyncd.state.destination_state import encode
from pylsyncd.system import clock
from pylsyncd.worker.start_plan import StartPlan, catchup_times, deferrable_since, plan_start


def save_state(
    place: WorkerSetup, pending: Changeset = NOTHING, *, is_verified: bool = True
) -> None:
    """Save a state of a daemon that confirmed everything except ``pending``, and stopped."""
    checkpoint = place.checkpoint()
    checkpoint.confirm(clock.now(), pending, is_verified=is_verified)
    checkpoint.save_clean_stop()


def plan_for(
    place: WorkerSetup, *, requested_title: str = "", is_source_empty: bool = False
) -> StartPlan:
    checkpoint = place.checkpoint()
    return plan_start(
        "copy", checkpoint, checkpoint.load(),
        requested_title=requested_title, is_source_empty=is_source_empty,
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Iterator[WorkerSetup]:
    with contextlib.closing(WorkerSetup(tmp_path)) as made:
        yield made


def test_a_start_that_alone_deletes_may_delete_everything(place: WorkerSetup) -> None:
    plan = plan_for(place, requested_title="initial sync")
    assert not plan.first_item({}, clock.now()).changeset.deletable
    item = replace(plan, deletes_only_now=True).first_item({}, clock.now())
    assert item.changeset.deletable.is_everything
    # The next start makes a full sync of its own.
    state = place.state()
    assert state is not None
    assert not state.pending.deletable


def test_with_a_state_changed_and_pending_paths_are_the_first_work_item(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save_state(place, entries(b"pending"))
    plan = plan_for(place)
    assert plan.since_ns is not None
    item = plan.first_item({plan.since_ns: entries(b"changed")}, clock.now())
    assert set(item.changeset) == set(entries(b"pending", b"changed"))
    assert item.titles == ("catch-up",)
    assert "catching up with 2 changes" in caplog.text


def test_after_a_crash_directories_are_listed_in_which_temporary_files_may_be_left(
    place: WorkerSetup,
) -> None:
    place.checkpoint().confirm(clock.now(), entries(b"d/pending"))
    plan = plan_for(place)
    assert plan.since_ns is not None
    item = plan.first_item({plan.since_ns: entries(b"e/changed")}, clock.now())
    assert set(item.changeset) == {
        *entries(b"d/pending", b"e/changed"), (b"d", Scope.LISTING), (b"e", Scope.LISTING),
    }  # fmt: skip
    nothing = plan_for(place).first_item({plan.since_ns: MutableChangeset()}, clock.now())
    assert (b"d", Scope.LISTING) in set(nothing.changeset)


@pytest.mark.parametrize("is_clean_stop", [False, True])
def test_after_a_crash_no_move_is_believed(place: WorkerSetup, *, is_clean_stop: bool) -> None:
    """Some of them may have been carried before."""
    pending = entries(b"new", b"old")
    pending.add_new_content(b"new", Scope.ENTRY)
    pending.moves = Moves({b"new": Move(b"old", False, True)})  # noqa: FBT003
    checkpoint = place.checkpoint()
    checkpoint.confirm(clock.now(), pending)
    if is_clean_stop:
        checkpoint.save_clean_stop()
    plan = plan_for(place)
    assert plan.since_ns is not None
    item = plan.first_item({plan.since_ns: MutableChangeset()}, clock.now())
    assert bool(item.changeset.moves) == is_clean_stop


def test_until_the_first_work_item_is_carried_the_saved_state_stays(place: WorkerSetup) -> None:
    save_state(place, entries(b"pending"))
    before = place.state()
    plan = plan_for(place)
    assert plan.since_ns is not None
    plan.first_item({plan.since_ns: MutableChangeset()}, clock.now())
    after = place.state()
    assert before is not None
    assert after is not None
    assert after.confirmed == before.confirmed
    assert set(after.pending) == set(before.pending)
    assert not after.is_clean_stop


@pytest.mark.parametrize(
    ("pending", "is_source_empty", "reason"),
    [
        pytest.param(EVERYTHING, False, "the last full sync was not completed", id="unfinished"),
        pytest.param(NOTHING, True, "the source is empty", id="an empty source"),
    ],
)
def test_an_insufficient_state_leads_to_a_full_sync_with_a_reason(
    place: WorkerSetup,
    caplog: pytest.LogCaptureFixture,
    pending: Changeset,
    reason: str,
    *,
    is_source_empty: bool,
) -> None:
    caplog.set_level(logging.INFO)
    save_state(place, pending)
    plan = plan_for(place, is_source_empty=is_source_empty)
    assert plan.title == "full sync"
    item = plan.first_item({}, clock.now())
    assert item.changeset.is_everything
    assert item.titles == ("full sync",)
    assert f"Starting a full sync: {reason}." in caplog.text


def test_a_state_of_another_destination_leads_to_a_full_sync_with_a_reason(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save_state(place)
    place.copy.rename(place.copy.with_name("was"))
    place.copy.mkdir()
    plan = plan_for(place)
    assert plan.title == "full sync"
    assert plan.first_item({}, clock.now()).changeset.is_everything
    assert "Starting a full sync: the destination is another directory." in caplog.text


@pytest.mark.parametrize("what", ["source", "destination"])
def test_an_older_copy_leads_to_a_full_sync_that_trusts_no_time(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level(logging.INFO)
    save_state(place)
    saved = place.state()
    assert saved is not None
    later = {b"d/\xff": time.time_ns() - 1}
    older = replace(saved, **{f"{what}_ctimes": later})  # type: ignore[arg-type]
    place.directory.write("copy.state", encode(older))
    plan = plan_for(place)
    assert plan.since_ns is None
    item = plan.first_item({}, clock.now())
    assert item.changeset.is_everything
    assert item.changeset.new_content.is_everything
    assert (
        f"Starting a full sync: the {what} was restored from an older copy (when pylsyncd ran last,"
        " d/\\xff was newer)." in caplog.text
    )
    # It is a later run's business to say that again.
    assert place.state().source_ctimes == {}  # type: ignore[union-attr]


def test_a_full_sync_compares_the_contents_that_may_be_new_since_the_last_run(
    place: WorkerSetup,
) -> None:
    pending, found = MutableChangeset(), MutableChangeset()
    pending.add_new_content(b"pending", Scope.ENTRY)
    found.add_new_content(b"found", Scope.ENTRY)
    save_state(place, pending)
    plan = plan_for(place, requested_title="initial sync")
    state = place.state()
    assert state is not None
    assert plan.since_ns == state.confirmed.since_ns
    item = plan.first_item({plan.since_ns: found}, clock.now())
    assert set(item.changeset) == set(EVERYTHING)
    assert {change.path for change in item.changeset.new_content} == {b"pending", b"found"}
    saved = place.state()
    assert saved is not None
    assert set(saved.pending.new_content) == set(item.changeset.new_content)


def test_after_a_crash_the_contents_of_the_last_minutes_are_compared(place: WorkerSetup) -> None:
    save_state(place)
    state = place.state()
    assert state is not None
    before = replace(state.confirmed, boot="another boot", wall=state.confirmed.wall - 10**6)
    crashed = replace(state, confirmed=before, is_clean_stop=False)
    place.directory.write("copy.state", encode(crashed))
    plan = plan_for(place)
    assert plan.reason == "the machine went down while pylsyncd ran"
    assert plan.since_ns is not None
    assert plan.since_ns <= before.since_ns - 60 * 10**9


def test_of_another_source_every_content_is_new(place: WorkerSetup) -> None:
    save_state(place)
    place.source.rename(place.source.with_name("old"))
    place.source.mkdir()
    place.guard.accept()
    plan = plan_for(place)
    assert plan.reason == "the source is another directory"
    assert plan.since_ns is None
    assert plan.first_item({}, clock.now()).changeset.new_content.is_everything


def test_an_older_copy_counts_whatever_the_reason_of_the_full_sync_is(place: WorkerSetup) -> None:
    save_state(place)
    saved = place.state()
    assert saved is not None
    ctimes = {b"d": time.time_ns() - 1}
    for change, is_all_new in (
        ({"source_ctimes": ctimes}, True),
        ({"source_ctimes": ctimes, "is_clean_stop": False, "options_digest": ""}, True),
        ({"source_ctimes": ctimes, "source": DirectoryId(1, 1)}, False),
        ({"destination_ctimes": ctimes, "destination": DirectoryId(1, 1)}, False),
    ):
        place.directory.write("copy.state", encode(replace(saved, **change)))  # type: ignore[arg-type]
        item = plan_for(place).first_item({}, clock.now())
        assert item.changeset.is_everything
        assert item.changeset.new_content.is_everything is is_all_new


def test_an_unreadable_state_leads_to_a_full_sync_with_a_reason(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place.directory.write("copy.state", b"garbage")
    plan = plan_for(place)
    assert plan.first_item({}, clock.now()).changeset.is_everything
    assert "Starting a full sync: The state file is damaged" in caplog.text
    # The reason ends with a full stop of its own.
    assert ".." not in caplog.text


def test_a_requested_sync_needs_no_reason(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save_state(place, EVERYTHING)
    item = plan_for(place, requested_title="initial sync").first_item({}, clock.now())
    assert item.changeset.is_everything
    assert item.titles == ("initial sync",)
    assert "Starting a full sync" not in caplog.text


def test_without_a_state_nothing_is_compared_and_a_state_is_saved(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    start = clock.now()
    item = plan_for(place).first_item({}, start)
    assert not item.changeset
    assert "No initial sync (-i) and no saved state" in caplog.text
    assert "run pylsyncctl sync copy." in caplog.text
    state = place.state()
    assert state is not None
    assert state.confirmed == start
    assert plan_for(place).since_ns == start.since_ns


def test_a_full_sync_is_saved_as_pending_before_it_starts(place: WorkerSetup) -> None:
    plan_for(place, requested_title="initial sync").first_item({}, clock.now())
    state = place.state()
    assert state is not None
    assert state.pending.is_everything


def test_each_catch_up_time_is_returned_once_and_none_for_a_full_sync(place: WorkerSetup) -> None:
    save_state(place)
    one = plan_for(place)
    state = one.loaded.state
    assert state is not None
    earlier = replace(state, confirmed=replace(state.confirmed, wall=1.0))
    other = replace(one, loaded=LoadedState(earlier))
    full = replace(one, title="full sync", contents_known_until=None)
    assert one.since_ns is not None
    assert other.since_ns is not None
    assert list(catchup_times([one, other, one, full])) == [other.since_ns, one.since_ns]


def test_a_scan_may_come_after_the_start_unless_a_full_sync_or_a_first_state_needs_it(
    place: WorkerSetup,
) -> None:
    save_state(place)
    one = plan_for(place)
    state = one.loaded.state
    assert state is not None
    earlier = replace(state, confirmed=replace(state.confirmed, wall=1.0))
    other = replace(one, loaded=LoadedState(earlier))
    full = replace(one, title="full sync", contents_known_until=None)
    assert deferrable_since([]) is None
    assert deferrable_since([full]) is None
    assert deferrable_since([one, other, full]) == earlier.confirmed
    with_contents = replace(full, contents_known_until=state.confirmed)
    assert deferrable_since([one, with_contents]) is None
    waiting = replace(one, loaded=LoadedState(None), missing_since=state.confirmed)
    assert deferrable_since([one, waiting]) is None


def test_what_was_pending_is_queued_before_the_scan(
    place: WorkerSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    save_state(place)
    plan = plan_for(place)
    state = plan.loaded.state
    assert state is not None
    item = plan.first_item({}, state.confirmed)
    assert set(item.changeset) == set(state.pending)
    assert item.complete_until == state.confirmed
    assert "and with what a scan of the source will find" in caplog.text


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_file_system_mounted_between_two_runs_is_compared_as_a_whole(
    place: WorkerSetup, tmp_path: Path
) -> None:
    nested = place.source / "nested"
    nested.mkdir()
    (tmp_path / "disk").mkdir()
    save_state(place)
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "disk")
        mounts.mount_bind(tmp_path / "disk", nested)
        place.guard.accept()
        plan = plan_for(place)
        assert plan.since_ns is not None
        item = plan.first_item({plan.since_ns: MutableChangeset()}, clock.now())
        assert set(item.changeset) == {Change(b"nested", Scope.TREE)}


@pytest.mark.parametrize("is_verified", [False, True])
@pytest.mark.parametrize("title", ["", "initial sync"])
def test_a_kept_state_tells_whether_the_destination_is_verified(
    place: WorkerSetup, title: str, is_verified: bool
) -> None:
    save_state(place, is_verified=is_verified)
    plan = plan_for(place, requested_title=title)
    assert plan.is_verified is is_verified
    plan.first_item({plan.since_ns: MutableChangeset()} if plan.since_ns else {}, clock.now())
    state = place.state()
    assert state is not None
    assert state.is_verified is is_verified


def test_without_a_state_or_with_a_doubt_the_destination_is_unverified(place: WorkerSetup) -> None:
    assert not plan_for(place).is_verified
    save_state(place)
    doubted = plan_for(place, is_source_empty=True, requested_title="initial sync")
    assert not doubted.is_verified
    # While the source was watched for other destinations, its changes were not collected for it.
    plan_for(place).while_running().first_item({}, clock.now())
    state = place.state()
    assert state is not None
    assert not state.is_verified


def test_without_a_state_what_was_changed_during_a_wait_for_the_source_is_the_first_work_item(
    place: WorkerSetup,
) -> None:
    since = clock.now()
    plan = plan_for(place).after_wait(since, is_source_new=False)
    assert plan.since_ns == since.since_ns
    item = plan.first_item({since.since_ns: entries(b"changed")}, clock.now())
    assert (set(item.changeset), item.titles) == (set(entries(b"changed")), ("catch-up",))
    # What was there before was not compared.
    assert not plan.is_verified


def test_without_a_state_a_source_that_is_new_after_a_wait_is_synced_as_a_whole(
    place: WorkerSetup,
) -> None:
    plan = plan_for(place).after_wait(clock.now(), is_source_new=True)
    assert plan.first_item({}, clock.now()).changeset.is_everything


def test_a_wait_for_the_source_changes_nothing_if_there_is_a_state_or_an_initial_sync(
    place: WorkerSetup,
) -> None:
    wanted = plan_for(place, requested_title="initial sync")
    assert wanted.after_wait(clock.now(), is_source_new=True) is wanted
    save_state(place)
    known = plan_for(place)
    assert known.after_wait(clock.now(), is_source_new=True) is known
