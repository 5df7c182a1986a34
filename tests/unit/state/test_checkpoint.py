"""What is confirmed of a destination is saved, and is used only while that is safe."""

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
from support.trees import change_after, directory_id_of

from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.directory_id import DirectoryId
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rsync.command import DeletionTime, RsyncOptions
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


class Setup:
    """A source, its copy, and a state directory."""

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
        """Confirm everything, and return the saved state."""
        checkpoint = self.checkpoint()
        checkpoint.confirm(moment or clock.now(), NOTHING)
        checkpoint.save()
        return self.saved()

    def saved(self) -> DestinationState:
        return decode((self.state / FILE).read_bytes())


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with contextlib.closing(Setup(tmp_path, tmp_path / "state")) as made:
        yield made


# Saving and loading


def test_before_the_first_confirmation_there_is_no_state(setup: Setup) -> None:
    remembered = setup.checkpoint().load()
    assert remembered.state is None
    assert not remembered.error
    setup.checkpoint().save()
    setup.checkpoint().save_clean_stop()
    assert setup.checkpoint().due_at is None
    assert not (setup.state / FILE).exists()


def test_what_was_confirmed_is_loaded_by_the_next_start(setup: Setup) -> None:
    until = clock.now()
    checkpoint = setup.checkpoint()
    checkpoint.confirm(until, entries(b"a", b"d/\xff"))
    checkpoint.save()
    state = setup.checkpoint().load().state
    assert state is not None
    assert state.confirmed == until
    assert set(state.pending) == set(entries(b"a", b"d/\xff"))
    assert state.source == directory_id_of(setup.source)
    assert state.destination == directory_id_of(setup.copy)
    assert not state.is_clean_stop
    assert setup.checkpoint().full_sync_reason(state) == ""


def test_a_second_confirmation_is_saved_when_it_is_due(setup: Setup) -> None:
    checkpoint = setup.checkpoint()
    before = time.monotonic()
    checkpoint.confirm(clock.now(), EVERYTHING)
    later = clock.now()
    checkpoint.confirm(later, NOTHING)
    assert setup.saved().pending.is_everything
    assert checkpoint.due_at is not None
    assert before + 1.0 <= checkpoint.due_at <= time.monotonic() + 1.0
    checkpoint.save()
    assert checkpoint.due_at is None
    assert setup.saved().confirmed == later
    assert not setup.saved().pending


def test_a_clean_stop_is_saved_with_the_last_confirmation(setup: Setup) -> None:
    checkpoint = setup.checkpoint()
    checkpoint.confirm(clock.now(), EVERYTHING)
    later = clock.now()
    checkpoint.confirm(later, NOTHING)
    checkpoint.save_clean_stop()
    assert setup.saved().is_clean_stop
    assert setup.saved().confirmed == later


def test_a_resumed_state_is_that_of_a_running_daemon(setup: Setup) -> None:
    setup.confirmed()
    stopping = setup.checkpoint()
    before = stopping.load().state
    assert before is not None
    stopping.resume_from(before)
    stopping.save_clean_stop()
    assert setup.saved().is_clean_stop
    resuming = setup.checkpoint()
    resuming.resume_from(setup.saved())
    assert encode(setup.saved()) == encode(replace(before, is_clean_stop=False))


def test_ctimes_are_kept_of_each_run_and_of_all_when_all_was_carried(setup: Setup) -> None:
    for name in ("a", "b"):
        (setup.source / name).touch()
    (setup.source / "d").mkdir()
    change_after(setup.source / "d", setup.source / "b")
    checkpoint = setup.checkpoint()
    checkpoint.record_run(entries(b"a"))
    checkpoint.confirm(clock.now(), EVERYTHING)
    assert set(setup.saved().source_ctimes) == {b"a"}
    resumed = setup.checkpoint()
    resumed.resume_from(setup.saved())
    resumed.confirm(clock.now(), EVERYTHING)
    resumed.save()
    assert set(setup.saved().source_ctimes) == {b"a"}
    setup.checkpoint().confirm(clock.now(), NOTHING)
    assert b"d" in setup.saved().source_ctimes


def test_a_failure_to_write_is_logged_once_until_a_write_succeeds(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = setup.checkpoint()
    for _ in range(2):
        (setup.state / FILE).mkdir()
        for _ in range(2):
            checkpoint.confirm(clock.now(), NOTHING)
            checkpoint.save()
            assert checkpoint.due_at is not None
        (setup.state / FILE).rmdir()
        checkpoint.save()
        (setup.state / FILE).unlink()
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def test_the_digest_of_the_options_is_that_of_older_versions(setup: Setup) -> None:
    rules = build_rules([parse_exclude(b"*.tmp")])
    target = b"/srv/copy/"
    destination = replace(setup.destination, target=target)
    digests = []
    for is_deleting in (True, False):
        rsync = replace(RSYNC, rules=rules, extra_options=("-H",), delete=is_deleting)
        checkpoint = Checkpoint(setup.directory, "copy", setup.guard, destination, rsync)
        checkpoint.confirm(clock.now(), NOTHING)
        checkpoint.save()
        digests.append(setup.saved().options_digest[:16])
    # Another one would be a full sync after each upgrade.
    assert digests == ["e1b4a2db62d4913f", "eb26fc9090efe777"]


def test_a_truncated_or_changed_state_file_is_an_error(setup: Setup) -> None:
    setup.confirmed()
    content = (setup.state / FILE).read_bytes()
    for spoilt in (b"", content[:-1], content.replace(b"false", b"true"), os.urandom(500)):
        (setup.state / FILE).write_bytes(spoilt)
        remembered = setup.checkpoint().load()
        assert remembered.state is None
        assert remembered.error


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_full_disk_is_logged_once_and_keeps_the_old_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    with Mounts() as mounts:
        mounts.mount_tmpfs(small, "64k")
        with contextlib.closing(Setup(tmp_path, small / "state")) as setup:
            first = setup.confirmed()
            with contextlib.suppress(OSError), (small / "big").open("wb", buffering=0) as big:
                while True:
                    big.write(b"x" * 4096)
            checkpoint = setup.checkpoint()
            for _ in range(3):
                checkpoint.confirm(clock.now(), entries(*(b"%d" % n for n in range(10_000))))
                checkpoint.save()
            assert encode(setup.saved()) == encode(first)
            (small / "big").unlink()
            later = clock.now()
            checkpoint.confirm(later, NOTHING)
            checkpoint.save()
            assert setup.saved().confirmed == later
            assert sorted(os.listdir(setup.state)) == [FILE]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert (
        "state file cannot be written (No space left on device). Correct that"
        in errors[0].getMessage()
    )


# Reasons for a full sync


@pytest.mark.parametrize(
    "rsync",
    [
        pytest.param(replace(RSYNC, extra_options=("-H",)), id="an option"),
        pytest.param(replace(RSYNC, rules=build_rules([parse_exclude(b"*.tmp")])), id="an exclude"),
        pytest.param(replace(RSYNC, delete=False), id="deletion"),
        pytest.param(replace(RSYNC, delete_only=DeletionTime.RUNNING), id="running"),
    ],
)
def test_options_that_change_the_copy_need_a_full_sync(setup: Setup, rsync: RsyncOptions) -> None:
    state = setup.confirmed()
    assert "options or the excludes" in setup.checkpoint(rsync).full_sync_reason(state)


def test_options_that_do_not_change_the_copy_need_no_full_sync(
    setup: Setup,
) -> None:
    state = setup.confirmed()
    same = replace(RSYNC, timeout=5.0, rsh="other-shell", max_delete=3, itemize=True)
    assert setup.checkpoint(same).full_sync_reason(state) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"source": DirectoryId(1, 1)}, "another device", id="another device"),
        pytest.param(
            {"destination": DirectoryId(1, 1)}, "the destination is another", id="another copy"
        ),
        pytest.param({"destination": None}, "the destination is another", id="it was not there"),
    ],
)
def test_another_source_or_destination_needs_a_full_sync(
    setup: Setup, change: dict[str, object], reason: str
) -> None:
    state = dataclasses.replace(setup.confirmed(), **change)  # type: ignore[arg-type]
    assert reason in setup.checkpoint().full_sync_reason(state)


def test_another_source_directory_on_the_same_device_needs_a_full_sync(
    setup: Setup,
) -> None:
    state = setup.confirmed()
    setup.source.rename(setup.source.with_name("was"))
    setup.source.mkdir()
    setup.guard.accept()
    assert setup.checkpoint().full_sync_reason(state) == "the source is another directory"


def test_a_missing_destination_needs_a_full_sync(setup: Setup) -> None:
    state = setup.confirmed()
    setup.copy.rmdir()
    assert "the destination is another" in setup.checkpoint().full_sync_reason(state)


def test_a_clock_that_went_backwards_needs_a_full_sync(setup: Setup) -> None:
    present = clock.now()
    state = setup.confirmed(replace(present, wall=present.wall + 30))
    assert "the clock went backwards" in setup.checkpoint().full_sync_reason(state)


def test_a_reboot_without_a_clean_stop_needs_a_full_sync(setup: Setup) -> None:
    present = clock.now()
    earlier = Moment(present.wall - present.running - 60, 1000.0, "another boot")
    state = setup.confirmed(earlier)
    assert "machine went down" in setup.checkpoint().full_sync_reason(state)
    assert setup.checkpoint().full_sync_reason(replace(state, is_clean_stop=True)) == ""


# The identity of the source


def test_a_run_is_confirmed_for_the_source_that_it_began_with(
    setup: Setup,
) -> None:
    before = setup.guard.accepted.directory
    checkpoint = setup.checkpoint()
    checkpoint.record_run(NOTHING)
    setup.source.rename(setup.source.with_name("was"))
    setup.source.mkdir()
    setup.guard.accept()
    checkpoint.confirm(clock.now(), NOTHING)
    checkpoint.save()
    assert setup.saved().source == before
    assert setup.checkpoint().full_sync_reason(setup.saved()) == "the source is another directory"


def test_a_replaced_source_is_confirmed_only_by_a_run_of_everything(
    setup: Setup,
) -> None:
    before = setup.guard.accepted.directory
    checkpoint = setup.checkpoint()
    checkpoint.record_run(NOTHING)
    setup.source.rename(setup.source.with_name("was"))
    setup.source.mkdir()
    setup.guard.accept()
    for is_everything, expected in ((False, before), (True, setup.guard.accepted.directory)):
        checkpoint.record_run(EVERYTHING if is_everything else NOTHING)
        checkpoint.confirm(clock.now(), NOTHING)
        checkpoint.save()
        assert setup.saved().source == expected


def test_a_state_of_an_older_version_needs_no_full_sync(setup: Setup) -> None:
    state = setup.confirmed()
    assert state.destination is not None
    older = replace(
        state,
        source=DirectoryId(state.source.device, state.source.inode),
        destination=DirectoryId(state.destination.device, state.destination.inode),
    )
    assert setup.checkpoint().full_sync_reason(older) == ""


needs_mounts = pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")


@needs_mounts
def test_a_file_system_mounted_between_two_runs_is_reported(setup: Setup, tmp_path: Path) -> None:
    for name in ("new", "same", "other"):
        (setup.source / name).mkdir()
        (tmp_path / f"{name}-disk").mkdir()
    (tmp_path / "third-disk").mkdir()
    with Mounts() as mounts:
        for name in ("new", "same", "other", "third"):
            mounts.mount_tmpfs(tmp_path / f"{name}-disk")
        for name in ("same", "other"):
            mounts.mount_bind(tmp_path / f"{name}-disk", setup.source / name)
        setup.guard.accept()
        state = setup.confirmed()
        mounts.mount_bind(tmp_path / "new-disk", setup.source / "new")
        mounts.unmount(setup.source / "other")
        mounts.mount_bind(tmp_path / "third-disk", setup.source / "other")
        setup.guard.accept(state.nested_mounts)
        assert set(setup.checkpoint().changed_mounts(state)) == {b"new"}
        # A replaced mount may be a wrong one, so its subtree is held.
        assert set(setup.guard.held_subtrees) == {b"other"}


@needs_mounts
def test_what_was_mounted_is_pending_until_everything_was_carried(
    setup: Setup, tmp_path: Path
) -> None:
    (setup.source / "d").mkdir()
    (tmp_path / "disk").mkdir()
    checkpoint = setup.checkpoint()
    checkpoint.record_run(NOTHING)
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "disk")
        mounts.mount_bind(tmp_path / "disk", setup.source / "d")
        setup.guard.accept()
        for is_everything, trees in ((False, {b"d"}), (False, {b"d"}), (True, set())):
            checkpoint.record_run(EVERYTHING if is_everything else NOTHING)
            checkpoint.confirm(clock.now(), entries(b"f"))
            checkpoint.save()
            assert setup.saved().pending.trees == trees
            assert setup.saved().pending.entries == {b"": {b"f"}}
            # It is known, so that it is held when it is missing at the next start.
            assert set(setup.saved().nested_mounts) == {b"d"}
