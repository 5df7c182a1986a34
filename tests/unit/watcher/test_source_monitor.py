"""The monitor on a real source: when it watches, and when it holds the source."""

import errno
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.disks import Disk, make_subvolume, requires
from support.fanotify import skip_without_fanotify
from support.mounts import Mounts, can_mount, can_mount_sshfs
from support.waiting import wait_until

from pylsyncd.config.settings import SyncSettings, WatchMethod
from pylsyncd.model.endpoints import Source
from pylsyncd.model.errors import WatchError
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.system.threads import ThreadMonitor
from pylsyncd.watcher.hard_links import HardLinks
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.watcher.source_monitor import SourceMonitor
from pylsyncd.watcher.watch_session import MonitorContext, WatchSession

SECONDS = 45.0
LONG_AGO = 0


class Monitored:
    """A source with its monitor, and the calls that it has made."""

    def __init__(self, source: Path, guard: SourceGuard) -> None:
        self.source = source
        self.guard = guard
        self.lost = threading.Event()
        self.failures: list[str] = []
        self.progress: list[int] = []
        self.buffer = Buffer(1000, lambda: None, lambda: None)
        self.settings = SyncSettings(Source(os.fsencode(source), b"", is_full_path=False), ())
        context = MonitorContext(
            ThreadMonitor(self.failures.append), self.lost.set, self.failures.append,
            self.progress.append, Counter(),
        )  # fmt: skip
        self.monitor = SourceMonitor(self.settings, guard, self.buffer, context)

    def use(self, **settings: float) -> None:
        """Use other settings from now on."""
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]
        self.monitor.apply_settings(self.settings)

    def changes(self) -> tuple[set[Change], set[Change]]:
        """Return the changes so far, and those with a new content; empty the buffer."""
        assert self.monitor.session is not None
        assert self.monitor.session.watcher.drain(SECONDS)
        taken = self.buffer.take()
        return set(taken), set(taken.new_content)

    def changed_paths(self) -> set[bytes]:
        """Return the paths of the changes so far, and empty the buffer."""
        assert self.monitor.session is not None
        assert self.monitor.session.watcher.drain(SECONDS)
        return {change.path for change in self.buffer.take()}

    def move_away(self) -> Path:
        return self.source.rename(self.source.with_name("away"))


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[Monitored]:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    with closing(SourceGuard(os.fsencode(source), Rules())) as guard:
        guard.accept()
        made = Monitored(source, guard)
        yield made
        made.monitor.stop_watching()
    assert not made.failures


def test_the_start_returns_earlier_changes_and_later_ones_are_in_the_buffer(
    monitored: Monitored,
) -> None:
    (monitored.source / "earlier").touch()
    changes = monitored.monitor.start_watching([LONG_AGO])[LONG_AGO]
    assert any(change.covers(Change(b"earlier", Scope.ENTRY)) for change in changes)
    (monitored.source / "later").touch()
    assert monitored.changed_paths() == {b"later"}
    assert monitored.monitor.directory_count == 2
    assert monitored.monitor.unwatched_count == 0


def test_the_oldest_look_is_the_start_of_the_last_complete_scan(monitored: Monitored) -> None:
    assert monitored.monitor.oldest_look is None
    now = clock.now()
    monitored.monitor.start_watching(
        last_scan=replace(now, wall=now.wall - 100.0, running=now.running - 100.0)
    )
    age = monitored.monitor.oldest_look
    assert age is not None
    assert 100.0 <= age < 200.0


def test_events_are_counted_over_several_sessions(monitored: Monitored) -> None:
    for name in ("one", "two"):
        monitored.monitor.start_watching()
        (monitored.source / name).mkdir()
        monitored.changed_paths()
        monitored.monitor.stop_watching()
    assert monitored.monitor.events_by_type()["CREATE"] == 2


def test_overflows_are_counted_over_several_sessions(monitored: Monitored) -> None:
    for count in (1, 2):
        monitored.monitor.start_watching()
        assert monitored.monitor.session is not None
        monitored.monitor.session.rescanner.record_overflow()
        assert monitored.monitor.overflow_count == count
        monitored.monitor.stop_watching()
        assert monitored.monitor.overflow_count == count


def test_without_a_session_nothing_is_watched(monitored: Monitored) -> None:
    monitored.monitor.stop_watching()
    assert monitored.monitor.session is None
    assert monitored.monitor.directory_count == 0
    assert monitored.monitor.unwatched_count == 0


def test_the_initial_scan_reports_progress_and_later_walks_do_not(monitored: Monitored) -> None:
    for number in range(300):
        (monitored.source / f"d/{number}").mkdir()
    monitored.monitor.start_watching()
    assert monitored.progress
    count = len(monitored.progress)
    shutil.copytree(monitored.source / "d", monitored.source / "copy")
    assert b"copy" in monitored.changed_paths()
    assert monitored.monitor.directory_count == 2 * 301 + 1
    assert len(monitored.progress) == count


def test_a_source_that_cannot_be_watched_raises_and_leaves_no_session(
    monitored: Monitored,
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    monitored.move_away()
    with pytest.raises(WatchError, match=r"Cannot watch the source .*No such file"):
        monitored.monitor.start_watching()
    assert monitored.monitor.session is None
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_source_that_disappears_is_held_and_watched_again_when_it_is_back(
    monitored: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monitored.monitor.start_watching()
    away = monitored.move_away()
    assert monitored.lost.wait(SECONDS)
    for _ in range(2):
        assert monitored.monitor.check_source() is None
    assert monitored.monitor.session is None
    assert monitored.monitor.hold_reason == "it cannot be opened (No such file or directory)"
    assert caplog.text.count("run `pylsyncctl release ") == 1
    (away / "d/elsewhere").touch()
    away.rename(monitored.source)
    restart = monitored.monitor.check_source()
    assert restart is not None
    assert restart.changes.is_everything
    assert b"d/elsewhere" in {change.path for change in restart.changes.new_content}
    assert monitored.monitor.hold_reason == ""
    assert "is back (2 directories). Starting a full sync." in caplog.text
    (monitored.source / "d/later").touch()
    assert monitored.changed_paths() == {b"d/later"}


def test_the_reason_is_kept_up_to_date_while_the_source_is_held(
    monitored: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    monitored.monitor.start_watching()
    monitored.move_away()
    monitored.monitor.check_source()
    monitored.source.mkdir()
    for _ in range(2):
        assert monitored.monitor.check_source() is None
    assert monitored.monitor.hold_reason == "an empty directory is in its place"
    assert caplog.text.count("is held: an empty directory is in its place") == 1


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_the_reason_is_kept_up_to_date_while_a_subtree_is_held(
    monitored: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    nested = monitored.source / "d"
    with Mounts() as mounts:
        mounts.mount_tmpfs(nested)
        monitored.guard.accept()
        monitored.monitor.start_watching()
        mounts.unmount(nested)
        for _ in range(2):
            monitored.monitor.check_source()
        mounts.mount_tmpfs(nested)
        for _ in range(2):
            monitored.monitor.check_source()
        for reason in ("that was mounted there is gone", "another file system was mounted there"):
            assert caplog.text.count(reason) == 1
        monitored.monitor.stop_watching()
        mounts.unmount(nested)


@requires("ext4")
def test_a_disk_that_is_back_before_it_was_missed_is_watched_again(
    monitored: Monitored, tmp_path: Path
) -> None:
    nested = monitored.source / "d"
    with Disk(tmp_path / "image", "ext4") as disk, Mounts() as mounts:
        device = disk.attach()
        mounts.mount_device(device, nested)
        (nested / "sub").mkdir()
        monitored.guard.accept()
        monitored.monitor.start_watching()
        # The kernel removes the watches, and uses the id of the mount again.
        mounts.unmount(nested)
        mounts.mount_device(device, nested)
        assert monitored.monitor.check_source() is None
        assert b"d" in monitored.changed_paths()
        (nested / "sub/later").touch()
        assert monitored.changed_paths() == {b"d/sub/later"}
        (tmp_path / "elsewhere").mkdir()
        # Now it is watched, so another mount elsewhere makes it no change.
        mounts.mount_tmpfs(tmp_path / "elsewhere")
        monitored.monitor.check_source()
        assert monitored.changed_paths() == set()
        monitored.monitor.stop_watching()
        mounts.unmount(nested)


@requires("btrfs")
def test_another_subvolume_in_a_subtree_is_watched_instead_of_the_one_before(
    monitored: Monitored, tmp_path: Path
) -> None:
    nested, top = monitored.source / "d", tmp_path / "top"
    top.mkdir()
    with Disk(tmp_path / "image", "btrfs") as disk, Mounts() as mounts:
        device = disk.attach()
        # While the file system is mounted there, the watches stay.
        mounts.mount_device(device, top)
        for name in ("one", "two"):
            make_subvolume(top / name)
            (top / name / "f").touch()
        mounts.mount_device(device, nested, "subvol=one")
        monitored.guard.accept()
        monitored.monitor.start_watching()
        mounts.unmount(nested)
        mounts.mount_device(device, nested, "subvol=two")
        assert monitored.monitor.check_source() is None
        assert b"d" in monitored.changed_paths()
        (top / "one/stray").touch()
        (nested / "later").touch()
        assert monitored.changed_paths() == {b"d/later"}
        monitored.monitor.stop_watching()
        for path in (nested, top):
            mounts.unmount(path)


@requires("xfs")
def test_a_source_whose_disk_is_back_before_it_was_missed_is_watched_again(
    monitored: Monitored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Disk(tmp_path / "image", "xfs") as disk, Mounts() as mounts:
        mounts.mount_device(disk.attach(), monitored.source)
        monitored.guard.accept()
        monitored.monitor.start_watching()
        mounts.unmount(monitored.source)
        mounts.mount_device(disk.attach(), monitored.source)
        assert monitored.monitor.check_source() is not None
        assert "is back (1 directory)" in caplog.text
        (monitored.source / "later").touch()
        assert monitored.changed_paths() == {b"later"}
        monitored.monitor.stop_watching()
        mounts.unmount(monitored.source)


def test_until_a_lost_source_is_held_it_is_changing_and_unknown(monitored: Monitored) -> None:
    monitor = monitored.monitor

    def state() -> tuple[bool, bool]:
        return monitor.is_source_known, monitor.is_source_changing

    assert state() == (False, False)
    monitor.start_watching()
    assert state() == (True, False)
    away = monitored.move_away()
    session = monitor.session
    # A program that replaces the source may be at work.
    assert monitor.check_source(should_hold=False) is None
    assert monitor.session is session
    assert (monitor.hold_reason, *state()) == ("", False, True)
    assert monitored.lost.wait(SECONDS)
    assert monitor.check_source() is None
    assert state() == (False, False)
    assert monitor.check_source(should_hold=False) is None
    assert state() == (False, False)
    away.rename(monitored.source)
    assert monitor.check_source() is not None
    assert state() == (False, True)
    monitor.record_full_sync()
    assert state() == (True, False)


def test_a_source_that_is_back_before_it_was_held_is_known_again(monitored: Monitored) -> None:
    monitored.monitor.start_watching()
    (monitored.source / "f").touch()
    monitored.move_away()
    assert monitored.lost.wait(SECONDS)
    assert monitored.monitor.is_source_changing
    monitored.source.with_name("away").rename(monitored.source)
    # It has no watches any more.
    restart = monitored.monitor.check_source(should_hold=False)
    assert restart is not None
    assert b"f" in {change.path for change in restart.changes.new_content}
    assert clock.now().running >= restart.started.running


def test_a_source_that_cannot_be_watched_again_is_held_and_logged_once(
    monitored: Monitored, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monitored.monitor.start_watching()
    with monkeypatch.context() as patch:
        patch.setattr(Inotify, "add_watch", refuse)
        monitored.move_away().rename(monitored.source)
        assert monitored.lost.wait(SECONDS)
        for _ in range(2):
            assert monitored.monitor.check_source() is None
            assert "it cannot be watched" in monitored.monitor.hold_reason
            assert monitored.monitor.is_source_changing
            assert not monitored.monitor.is_source_known
        assert [line for line in caplog.messages if "max_user_watches" in line] == caplog.messages
        assert len(caplog.messages) == 1
    assert monitored.monitor.check_source() is not None
    assert monitored.monitor.hold_reason == ""
    monitored.monitor.record_full_sync()
    caplog.clear()
    monkeypatch.setattr(Inotify, "add_watch", refuse)
    monitored.move_away().rename(monitored.source)
    wait_until(lambda: monitored.monitor.is_source_changing)
    monitored.monitor.check_source()
    assert len([line for line in caplog.messages if "max_user_watches" in line]) == 1


def test_a_scan_that_fails_at_the_start_leaves_no_session(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    add_watch, away = Inotify.add_watch, []

    def watch_and_move(self: Inotify, directory: int) -> int:
        found = add_watch(self, directory)
        away.append(monitored.move_away())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Inotify, "add_watch", watch_and_move)
        with pytest.raises(WatchError, match="Cannot watch the source"):
            monitored.monitor.start_watching()
    assert len(away) == 1
    assert monitored.monitor.session is None
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_the_age_of_a_look_is_known_after_a_reboot_and_only_with_scans(
    monitored: Monitored,
) -> None:
    now = clock.now()
    before = Moment(now.wall - 100.0, now.running + 1e6, "another boot")
    monitored.monitor.start_watching(last_scan=before)
    age = monitored.monitor.oldest_look
    assert age is not None
    assert 100.0 <= age < 200.0
    monitored.monitor.stop_watching()
    monitored.monitor.start_watching(last_scan=replace(now, wall=0.0, running=now.running + 50.0))
    assert monitored.monitor.oldest_look == 0.0
    monitored.monitor.stop_watching()
    monitored.use(scan_budget=0.0)
    monitored.monitor.start_watching()
    assert monitored.monitor.oldest_look is None


def test_other_settings_for_open_files_apply_at_once(monitored: Monitored) -> None:
    monitored.use(window=1e6)
    monitored.monitor.start_watching()
    with (monitored.source / "log").open("wb", 0) as file:
        assert monitored.changed_paths() == {b"log"}
        file.write(b"x")
        assert monitored.changed_paths() == set()
        monitored.use(window=0.0)
        wait_until(lambda: monitored.changed_paths() == {b"log"})


def test_without_counts_no_event_is_counted(monitored: Monitored) -> None:
    context = MonitorContext(ThreadMonitor(monitored.failures.append), print, print)
    monitor = SourceMonitor(monitored.settings, monitored.guard, monitored.buffer, context)
    assert monitor.events_by_type() == {}


needs_mounts = pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")


@needs_mounts
def test_what_is_mounted_over_is_a_change_once_and_again_when_it_is_accepted(
    monitored: Monitored, tmp_path: Path
) -> None:
    nested, guard = monitored.source / "d", monitored.guard
    (tmp_path / "disk").mkdir()
    monitored.monitor.start_watching()
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "disk")
        (tmp_path / "disk/sub").mkdir()
        mounts.mount_bind(tmp_path / "disk", nested)
        for expected in ({Change(b"d", Scope.TREE)}, set()):
            monitored.monitor.check_source()
            assert monitored.changes() == (expected, set())
        assert set(monitored.monitor.held_subtrees) == {b"d"}
        guard.accept_mount(b"d", guard.new_mounts[b"d"])
        for expected in ({Change(b"d", Scope.TREE)}, set()):
            monitored.monitor.check_source()
            assert monitored.changes() == (expected, set())
        (nested / "sub/later").touch()
        assert monitored.changed_paths() == {b"d/sub/later"}
        monitored.monitor.stop_watching()
        mounts.unmount(nested)


@needs_mounts
def test_another_file_system_that_a_person_accepts_has_new_contents(
    monitored: Monitored,
) -> None:
    nested = monitored.source / "d"
    with Mounts() as mounts:
        mounts.mount_tmpfs(nested)
        monitored.guard.accept()
        monitored.guard.take_exchanged()
        monitored.monitor.start_watching()
        mounts.unmount(nested)
        mounts.mount_tmpfs(nested)
        monitored.monitor.check_source()
        assert monitored.changes() == (set(), set())
        assert monitored.monitor.accept_source()
        monitored.monitor.check_source()
        tree = {Change(b"d", Scope.TREE)}
        assert monitored.changes() == (tree, tree)
        (nested / "later").touch()
        assert monitored.changed_paths() == {b"d/later"}
        monitored.monitor.stop_watching()
        mounts.unmount(nested)


@pytest.mark.skipif(not can_mount_sshfs(), reason="sshfs cannot be mounted here")
def test_a_network_file_system_is_logged_once_and_polled(
    monitored: Monitored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nested, server = monitored.source / "d", tmp_path / "server"
    server.mkdir()
    monitored.use(poll_interval=0.05)
    monitored.monitor.start_watching()
    with Mounts() as mounts:
        mounts.mount_sshfs(server, nested)
        monitored.guard.accept()
        monitored.monitor.check_source()
        monitored.changed_paths()
        wait_until(lambda: b"d" in monitored.changed_paths())
        monitored.monitor.stop_watching()
        monitored.monitor.start_watching()
        wait_until(lambda: b"d" in monitored.changed_paths())
        monitored.monitor.stop_watching()
        mounts.unmount(nested)
    assert caplog.text.count("d is on a file system that does not report changes") == 1


def test_an_unchanged_source_needs_no_full_sync(monitored: Monitored) -> None:
    monitored.monitor.start_watching()
    session = monitored.monitor.session
    assert monitored.monitor.check_source() is None
    assert monitored.monitor.session is session


def test_a_replaced_source_is_watched_and_earlier_changes_are_dropped(
    monitored: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monitored.monitor.start_watching()
    (monitored.source / "old").touch()
    wait_until(lambda: monitored.buffer)
    monitored.move_away()
    monitored.source.mkdir()
    (monitored.source / "new").touch()
    restart = monitored.monitor.check_source()
    assert restart is not None
    assert restart.changes.is_everything
    assert restart.changes.new_content.is_everything
    assert "was replaced by another directory (1 directory)" in caplog.text
    assert monitored.changed_paths() == set()
    (monitored.source / "later").touch()
    assert monitored.changed_paths() == {b"later"}


def test_a_missing_source_cannot_be_accepted(
    monitored: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    assert monitored.monitor.accept_source()
    monitored.move_away()
    assert not monitored.monitor.accept_source()
    assert "Cannot use the source" in caplog.text


def test_a_session_looks_for_hard_links_once_and_only_after_a_change(monitored: Monitored) -> None:
    hard_links = HardLinks(os.fsencode(monitored.source), Rules())
    monitored.monitor.start_watching()
    session = monitored.monitor.session
    assert session is not None
    session.take_scanned(hard_links)
    assert session.hurry_hard_links() is None
    session.look_for_hard_links(hard_links)
    look = session.hurry_hard_links()
    assert look is not None
    look.join()
    session.take_scanned(hard_links)
    assert not session.awaits_hard_links
    session.look_for_hard_links(hard_links)
    assert session.hurry_hard_links() is None


EARLIEST = replace(clock.now(), wall=LONG_AGO / 1e9, running=0.0)


def start_with_deferred_scan(monitored: Monitored) -> WatchSession:
    """Watch the source by fanotify, and leave what was changed before to a thread."""
    skip_without_fanotify(monitored.source)
    monitored.use(watch=WatchMethod.FANOTIFY)
    since = EARLIEST
    assert monitored.monitor.start_watching([since.since_ns], deferrable_since=since) == {}
    session = monitored.monitor.session
    assert session is not None
    return session


def test_a_start_by_fanotify_does_not_wait_for_the_scan(
    monitored: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (monitored.source / "earlier").touch()
    session = start_with_deferred_scan(monitored)
    (monitored.source / "later").touch()
    assert monitored.changed_paths() == {b"later"}
    assert monitored.monitor.is_catching_up
    assert monitored.monitor.caught_up_until == EARLIEST
    hard_links = HardLinks(os.fsencode(monitored.source), Rules())
    session.look_for_hard_links(hard_links)
    assert session.hurry_hard_links() is None, "the scan finds them, too"
    wait_until(lambda: session.take_scanned(hard_links) or not session.awaits_scan)
    assert not monitored.monitor.is_catching_up
    assert monitored.monitor.caught_up_until is None
    changes, _ = monitored.changes()
    assert any(change.covers(Change(b"earlier", Scope.ENTRY)) for change in changes)
    assert "changes made while pylsyncd was not running." in caplog.text


def test_an_inotify_start_waits_for_the_scan_that_watches(monitored: Monitored) -> None:
    (monitored.source / "earlier").touch()
    since = EARLIEST.since_ns
    found = monitored.monitor.start_watching([since], deferrable_since=EARLIEST)
    assert any(change.covers(Change(b"earlier", Scope.ENTRY)) for change in found[since])
    assert not monitored.monitor.is_catching_up


def test_what_a_deferred_scan_would_have_found_is_found_after_a_restart_of_the_watch(
    monitored: Monitored,
) -> None:
    (monitored.source / "earlier").write_text("x")
    start_with_deferred_scan(monitored)
    away = monitored.move_away()
    assert monitored.monitor.check_source() is None
    assert monitored.monitor.session is None
    away.rename(monitored.source)
    restart = monitored.monitor.check_source()
    assert restart is not None
    assert restart.changes.new_content.includes_entry(b"earlier")
