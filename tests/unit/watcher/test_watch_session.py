"""One session of watching a source: how it starts, what its scans find, and how it ends."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.fanotify import skip_without_fanotify
from support.held_up import held_up

from pylsyncd.config.settings import SyncSettings, WatchMethod
from pylsyncd.model.changes import MutableChangeset, union
from pylsyncd.model.endpoints import Source
from pylsyncd.model.errors import WatchError
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.buffer import Buffer
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.system.threads import SupervisedThread, ThreadMonitor
from pylsyncd.watcher import catchup_scan, inotify, scan_thread
from pylsyncd.watcher.hard_links import HardLinks
from pylsyncd.watcher.rescanner import RescanPlan
from pylsyncd.watcher.scan_thread import ScanThread
from pylsyncd.watcher.watch_session import MonitorContext, WatchSession, watch_error

Changes = Mapping[int, MutableChangeset]

SECONDS = 45.0
LONG_AGO_NS = 1


class Monitor(ThreadMonitor):
    """A thread monitor that keeps the names of the threads."""

    def __init__(self) -> None:
        super().__init__(pytest.fail)
        self.names: list[str] = []

    def add_thread(
        self, thread: SupervisedThread, on_stuck: Callable[[str], None] | None = None
    ) -> None:
        super().add_thread(thread, on_stuck)
        self.names.append(thread.name)


class Sessions:
    """Makes sessions of one source, and stops them at the end."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._made: list[WatchSession] = []
        self.buffer = Buffer(1000, lambda: None, lambda: None)
        self.monitor = Monitor()
        self.progress: list[int] = []
        self.scanned = threading.Event()
        self.hard_links = HardLinks(os.fsencode(source), Rules())

    def make(self, method: WatchMethod = WatchMethod.INOTIFY, *since_ns: int) -> WatchSession:
        if method is not WatchMethod.INOTIFY:
            skip_without_fanotify(self.source.parent)
        sync = SyncSettings(
            Source(os.fsencode(self.source), b"", is_full_path=False), (), watch=method
        )
        context = MonitorContext(
            self.monitor, lambda: None, pytest.fail, self.progress.append,
            on_scanned=self.scanned.set,
        )  # fmt: skip
        session = WatchSession(sync, RescanPlan(since_ns), self.buffer, context)
        self._made.append(session)
        return session

    def start(self, session: WatchSession, deferrable_since: Moment | None = None) -> Changes:
        try:
            return session.start(deferrable_since)
        except WatchError:
            # It has stopped.
            self._made.remove(session)
            raise

    def stop(self) -> None:
        while self._made:
            self._made.pop().stop()

    def changes(self, session: WatchSession) -> set[Change]:
        """Return the changes so far, and empty the buffer."""
        assert session.watcher.drain(SECONDS)
        return set(self.buffer.take())


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/f").touch()
    sessions = Sessions(source)
    yield sessions
    sessions.stop()


def covers(changes: set[Change], path: bytes) -> bool:
    return any(change.covers(Change(path, Scope.ENTRY)) for change in changes)


def start_deferred(sessions: Sessions) -> WatchSession:
    """Start a session that leaves its scan to a thread."""
    session = sessions.make(WatchMethod.FANOTIFY, LONG_AGO_NS)
    assert sessions.start(session, replace(clock.now(), wall=0.0, running=0.0)) == {}
    return session


@pytest.mark.parametrize("method", [WatchMethod.INOTIFY, WatchMethod.FANOTIFY])
def test_a_session_watches_and_its_threads_are_monitored(
    sessions: Sessions, method: WatchMethod
) -> None:
    session = sessions.make(method, LONG_AGO_NS)
    changes = sessions.start(session)
    assert changes[LONG_AGO_NS].includes_entry(b"d/f")
    assert not session.awaits_scan
    (sessions.source / "d/new").touch()
    assert Change(b"d/new", Scope.ENTRY) in sessions.changes(session)
    assert sessions.monitor.names == ["watcher"]


def test_a_source_that_needs_too_many_watches_is_marked(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = sessions.source.parent
    (limits / "max_user_watches").write_text("8")
    (limits / "max_queued_events").write_text("16384")
    monkeypatch.setattr(inotify, "_LIMITS", f"{limits}/")
    # The walk reports its progress once for so many directories.
    for number in range(300):
        (sessions.source / str(number)).mkdir()
    session = sessions.make(WatchMethod.AUTO, LONG_AGO_NS)
    assert not session.events.is_marked
    first = session.events.descriptor
    changes = sessions.start(session)
    assert session.events.is_marked
    assert changes[LONG_AGO_NS].includes_entry(b"d/f")
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(first if first != session.events.descriptor else -1)
    (sessions.source / "299/new").touch()
    assert Change(b"299/new", Scope.ENTRY) in sessions.changes(session)


@pytest.mark.parametrize("method", [WatchMethod.INOTIFY, WatchMethod.FANOTIFY])
def test_a_source_that_is_gone_cannot_be_watched(sessions: Sessions, method: WatchMethod) -> None:
    session = sessions.make(method)
    sessions.source.rename(sessions.source.with_name("away"))
    with pytest.raises(WatchError, match="Cannot watch the source"):
        sessions.start(session)
    assert not session.watcher.is_alive()
    with pytest.raises(WatchError, match="Cannot watch the source"):
        sessions.make(method)


def test_a_lack_of_watches_says_what_to_do() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "fs.inotify.max_user_watches" in str(watch_error(b"/source", error))


def test_the_progress_is_that_of_the_start(sessions: Sessions) -> None:
    for number in range(300):
        (sessions.source / str(number)).mkdir()
    session = sessions.make()
    sessions.start(session)
    assert sessions.progress
    count = len(sessions.progress)
    # A walk of the watcher's own thread is no progress of the start.
    tree = sessions.source.parent / "tree"
    for number in range(300):
        (tree / str(number)).mkdir(parents=True)
    tree.rename(sessions.source / "tree")
    assert Change(b"tree", Scope.TREE) in sessions.changes(session)
    assert len(sessions.progress) == count


def test_a_deferred_scan_is_in_the_buffer_once_it_was_taken(sessions: Sessions) -> None:
    session = start_deferred(sessions)
    assert sessions.monitor.names == ["watcher", "scan after the start"]
    assert sessions.scanned.wait(SECONDS)
    assert session.is_catching_up
    assert session.awaits_scan
    assert session.caught_up_until is not None
    assert not covers(sessions.changes(session), b"d/f")
    session.take_scanned(sessions.hard_links)
    assert not session.is_catching_up
    assert session.caught_up_until is None
    assert covers(sessions.changes(session), b"d/f")
    session.take_scanned(sessions.hard_links)
    assert sessions.changes(session) == set()


def test_a_deferred_scan_that_fails_makes_everything_a_change(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(catchup_scan.CatchupScan, "scan_unwatched", fail)
    session = start_deferred(sessions)
    assert sessions.scanned.wait(SECONDS)
    session.take_scanned(sessions.hard_links)
    assert not session.is_catching_up
    assert Change(b"", Scope.TREE) in sessions.changes(session)


def test_a_deferred_scan_that_is_under_way_is_not_taken_and_ends_with_the_session(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup_scan, "_DIRECTORIES_BETWEEN_PROGRESS_CALLS", 1)
    for name in "abc":
        (sessions.source / "d" / name).mkdir()
    with ThreadPoolExecutor(1) as executor, held_up(sessions.source / "d"):
        session = start_deferred(sessions)
        session.take_scanned(sessions.hard_links)
        assert session.is_catching_up
        # The scan finds the hard links, too.
        session.look_for_hard_links(sessions.hard_links)
        assert session.hurry_hard_links() is None
        assert session.awaits_hard_links
        scan = running_scan("scan after the start")
        # The kernel closes no group while a directory is held up.
        executor.submit(sessions.stop)
        assert scan.should_stop.wait(SECONDS)
    scan.join(SECONDS)
    assert scan.has_ended
    assert scan.found is None


def running_scan(name: str) -> ScanThread[object]:
    (found,) = [thread for thread in threading.enumerate() if thread.name == name]
    assert isinstance(found, ScanThread)
    return found


def test_a_look_for_hard_links_follows_the_first_change(sessions: Sessions) -> None:
    os.link(sessions.source / "d/f", sessions.source / "link")
    session = sessions.make()
    sessions.start(session)
    session.take_scanned(sessions.hard_links)
    assert not session.awaits_hard_links
    session.look_for_hard_links(sessions.hard_links)
    assert session.awaits_hard_links
    assert session.awaits_scan
    look = session.hurry_hard_links()
    assert look is not None
    session.look_for_hard_links(sessions.hard_links)
    assert session.hurry_hard_links() is look
    assert sessions.monitor.names == ["watcher", "hard-link look"]
    look.join()
    session.take_scanned(sessions.hard_links)
    assert not session.awaits_hard_links
    assert session.hurry_hard_links() is None


def test_what_changes_before_the_look_has_ended_is_a_change_of_all_names(
    sessions: Sessions,
) -> None:
    os.link(sessions.source / "d/f", sessions.source / "link")
    session = sessions.make()
    sessions.start(session)
    (sessions.source / "link").write_text("x")
    with held_up(sessions.source / "d"):
        session.look_for_hard_links(sessions.hard_links)
        assert session.watcher.drain(SECONDS)
        changes = union(sessions.buffer.take())
        sessions.hard_links.add_other_names(changes)
        assert set(changes) == {Change(b"link", Scope.ENTRY)}
        session.take_scanned(sessions.hard_links)
        assert not sessions.buffer
    look = session.hurry_hard_links()
    assert look is not None
    look.join()
    session.take_scanned(sessions.hard_links)
    assert covers(sessions.changes(session), b"d/f")


def test_a_look_that_finds_no_source_is_repeated(sessions: Sessions) -> None:
    session = sessions.make()
    sessions.start(session)
    away = sessions.source.rename(sessions.source.with_name("away"))
    session.look_for_hard_links(sessions.hard_links)
    look = session.hurry_hard_links()
    assert look is not None
    look.join()
    session.take_scanned(sessions.hard_links)
    assert session.awaits_hard_links
    away.rename(sessions.source)
    session.look_for_hard_links(sessions.hard_links)
    assert session.hurry_hard_links() not in {None, look}


def test_a_scan_of_what_has_changed_before_knows_all_hard_links(sessions: Sessions) -> None:
    os.link(sessions.source / "d/f", sessions.source / "link")
    session = sessions.make(WatchMethod.INOTIFY, LONG_AGO_NS)
    sessions.start(session)
    session.take_scanned(sessions.hard_links)
    session.look_for_hard_links(sessions.hard_links)
    assert session.hurry_hard_links() is None
    assert not session.awaits_hard_links


def test_a_session_that_is_stopped_ends_its_look(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_thread, "_STOP_TIMEOUT", 0.0)
    session = sessions.make()
    sessions.start(session)
    with held_up(sessions.source / "d"):
        session.look_for_hard_links(sessions.hard_links)
        look = running_scan("hard-link look")
        sessions.stop()
    look.join(SECONDS)
    assert (look.has_ended, look.found) == (True, None)
