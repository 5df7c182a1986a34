"""Changes that only scans find: in directories without a watch, and without events."""

import contextlib
import ctypes
import errno
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.daemon import environment
from support.limits import watch_limit_prefix
from support.servers import Unavailable
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import clock
from pylsyncd.watcher import rescanner, watch_manager
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.rescanner import RescanPlan

OFTEN = 0.01  # seconds between two polls
LONG_AGO = 0  # a ctime before all others
NEVER = 1 << 62  # a ctime after all others


class _Capabilities(ctypes.Structure):
    """What capget(2) and capset(2) take, for capabilities below 32 and from 32 on."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32),
                ("inheritable", ctypes.c_uint32))  # fmt: skip


@contextlib.contextmanager
def respected_permissions(*, respect: bool = True) -> Iterator[None]:
    """Have this thread respect file permissions even as root; or ignore them again."""
    if os.geteuid():
        yield
        return
    call = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    present, changed = (_Capabilities * 2)(), (_Capabilities * 2)()
    for capabilities in (present, changed):
        assert call.capget(header, capabilities) == 0
    if respect:
        changed[0].effective &= ~_OVERRIDING
    else:
        changed[0].effective |= _OVERRIDING & changed[0].permitted
    assert call.capset(header, changed) == 0
    try:
        yield
    finally:
        assert call.capset(header, present) == 0


_VERSION = 0x20080522
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of capabilities(7).
_OVERRIDING = 1 << 1 | 1 << 2


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "source"
    path.mkdir()
    with respected_permissions():
        yield path
        for directory, names, _ in os.walk(path):
            for name in names:
                (Path(directory) / name).chmod(0o700)


class Watched(WatchedSource):
    """A source without a watcher thread, with scans as they are planned."""

    def __init__(self, source: Path, plan: RescanPlan, rules: Rules | None = None) -> None:
        self.on_progress: Callable[[], None] = lambda: None
        super().__init__(os.fsencode(source), Inotify(), rules, plan, lambda _: self.on_progress())

    def __enter__(self) -> "Watched":  # noqa: PYI034  # typing.Self is younger than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.inotify.close()

    def event_changes(self) -> set[Change]:
        """Process all events; return the changes."""
        self.process_events()
        return set(self.processor.take_changes())

    def next_poll_changes(self) -> set[Change]:
        """Return the changes that the next poll finds."""
        wait_until(self.processor.scan_if_due, message="no poll was due")
        return self.event_changes()

    def drop_events(self) -> None:
        """Discard all events, as if the file system had sent none."""
        while self.inotify.read():
            pass


def is_covered(path: bytes, changes: set[Change]) -> bool:
    return any(change.covers(Change(path, Scope.ENTRY)) for change in changes)


# -- directories that cannot be read --------------------------------------------------------------


def test_an_unreadable_directory_is_a_change_at_the_start(source: Path) -> None:
    (source / "shut/deep").mkdir(parents=True)
    (source / "open").mkdir()
    (source / "shut").chmod(0)
    with Watched(source, RescanPlan([NEVER], poll_interval=OFTEN)) as watched:
        found = watched.initial_changes[NEVER]
        assert set(found) == {Change(b"shut", Scope.TREE)}
        assert watched.paths == {b"", b"open"}


def test_a_new_unreadable_directory_is_a_whole_tree(source: Path) -> None:
    with Watched(source, RescanPlan(poll_interval=3600.0)) as watched:
        (source / "shut").mkdir(0)
        assert watched.event_changes() == {Change(b"shut", Scope.TREE)}
        assert len(watched.watches.unwatched) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change an unreadable directory")
def test_a_directory_that_becomes_readable_is_a_whole_tree_and_watched(
    source: Path,
) -> None:
    (source / "shut/deep/er").mkdir(parents=True)
    (source / "shut").chmod(0)
    with Watched(source, RescanPlan(poll_interval=OFTEN)) as watched:
        with respected_permissions(respect=False):
            (source / "shut/deep/er/f").touch()
        assert not is_covered(b"shut/deep/er/f", watched.next_poll_changes())
        (source / "shut").chmod(0o700)
        assert is_covered(b"shut/deep/er/f", watched.event_changes())
        (source / "shut/deep/er/g").touch()
        assert watched.event_changes() == {Change(b"shut/deep/er/g", Scope.ENTRY)}
        assert len(watched.watches.unwatched) == 0
        assert watched.rescanner.due_at is None


def test_a_scan_adds_a_directory_that_became_unreadable_once(source: Path) -> None:
    (source / "far/shut/deep").mkdir(parents=True)
    with Watched(
        source, RescanPlan(eventless_directories=[b"far"], poll_interval=OFTEN)
    ) as watched:
        (source / "far/shut").chmod(0)
        watched.drop_events()
        assert Change(b"far/shut", Scope.TREE) in watched.next_poll_changes()
        # Only once: it is known to be unreadable by now.
        assert Change(b"far/shut", Scope.TREE) not in watched.next_poll_changes()


def test_each_unreadable_directory_is_logged_once(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        (source / name).mkdir()
    (source / "one").chmod(0)
    with Watched(source, RescanPlan(poll_interval=OFTEN)) as watched:
        for polls in (0, 3):
            for _ in range(polls):
                watched.next_poll_changes()
            assert [line for line in caplog.messages if "cannot be watched" in line] == [
                "one cannot be watched (Permission denied): it is scanned every 0.01 s instead."
            ]
        (source / "new").mkdir(0)
        watched.event_changes()
        (source / "one").chmod(0o700)
        watched.event_changes()
        for _ in range(3):
            watched.next_poll_changes()
        (source / "new").chmod(0o700)
        watched.event_changes()
        (source / "last").mkdir(0)
        watched.event_changes()
    told = [line.split()[0] for line in caplog.messages if "cannot be watched" in line]
    assert told == ["one", "new", "last"]


def test_a_lack_of_watches_is_logged_when_it_has_doubled(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Watched(source, RescanPlan(poll_interval=OFTEN)) as watched:
        add_watch = watched.inotify.add_watch

        def refuse(directory: int) -> int:
            if b"lacking" in os.readlink(b"/proc/self/fd/%d" % directory):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return add_watch(directory)

        for _ in range(2):
            watched.inotify.add_watch = refuse  # type: ignore[method-assign]
            logged = []
            for number in range(5):
                caplog.clear()
                (source / f"lacking-{number}").mkdir()
                watched.event_changes()
                logged += [line.partition(": ")[2][:11] for line in caplog.messages]
            assert logged == ["1 directory", "2 directori", "4 directori"]
            watched.inotify.add_watch = add_watch  # type: ignore[method-assign]
            watched.next_poll_changes()
            assert not watched.watches.unwatched
            for number in range(5):
                (source / f"lacking-{number}").rmdir()
            watched.event_changes()


def test_of_many_unreadable_directories_the_first_are_named_and_the_others_counted(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Watched(source, RescanPlan()) as watched:
        for count, more in ((10, []), (12, ["The same holds for 2 more directories."])):
            caplog.clear()
            for number in range(count):
                (source / f"{count}-{number}").mkdir(0)
            watched.event_changes()
            assert sum("cannot be watched" in line for line in caplog.messages) == 10
            assert [line for line in caplog.messages if "same holds" in line] == more


def test_an_unreadable_excluded_directory_is_ignored(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (source / "lost+found").mkdir(0)
    rules = build_rules([parse_exclude(b"/lost+found/")])
    with Watched(source, RescanPlan([NEVER], poll_interval=OFTEN), rules) as watched:
        assert set(watched.initial_changes[NEVER]) == set()
        assert len(watched.watches.unwatched) == 0
        assert watched.rescanner.due_at is None
    assert not caplog.messages


def test_a_directory_that_can_be_listed_but_not_entered_stops_no_scan(source: Path) -> None:
    (source / "half").mkdir()
    (source / "half/f").touch()
    (source / "half/sub").mkdir()
    (source / "half").chmod(0o600)
    (source / "open").mkdir()
    with Watched(source, RescanPlan([NEVER], poll_interval=OFTEN)) as watched:
        found = set(watched.initial_changes[NEVER])
        assert is_covered(b"half/sub", found)
        assert is_covered(b"half/f", found)
        assert b"open" in watched.paths


# -- file systems that send no events -------------------------------------------------------------


def test_a_poll_finds_changes_without_events_at_any_depth(source: Path) -> None:
    (source / "far/deep").mkdir(parents=True)
    (source / "near").mkdir()
    with Watched(
        source, RescanPlan(eventless_directories=[b"far"], poll_interval=OFTEN)
    ) as watched:
        (source / "far/deep/f").touch()
        (source / "far/new/tree").mkdir(parents=True)
        (source / "far/new/tree/f").touch()
        watched.drop_events()
        found = watched.next_poll_changes()
        for path in (b"far/deep/f", b"far/new", b"far/new/tree/f"):
            assert is_covered(path, found)
        assert not is_covered(b"near", found)


def test_a_poll_offers_all_of_a_file_system_without_ctimes(source: Path) -> None:
    (source / "far/deep").mkdir(parents=True)
    (source / "near").mkdir()
    plan = RescanPlan(
        [NEVER], eventless_directories=[b"far"], directories_without_ctimes=[b"far"],
        poll_interval=OFTEN,
    )  # fmt: skip
    with Watched(source, plan) as watched:
        assert set(watched.initial_changes[NEVER]) == {Change(b"far", Scope.TREE)}
        # Its files are not looked at: that takes a message to the server for each.
        assert watched.next_poll_changes() == {Change(b"far", Scope.TREE)}
        # A directory that a program elsewhere has made is watched.
        (source / "far/new").mkdir()
        watched.drop_events()
        watched.next_poll_changes()
        assert b"far/new" in watched.paths


def test_a_poll_of_a_whole_source_without_ctimes_is_no_full_sync(source: Path) -> None:
    (source / "d/deep").mkdir(parents=True)
    (source / "f").touch()
    plan = RescanPlan(
        eventless_directories=[b""], directories_without_ctimes=[b""], poll_interval=OFTEN
    )
    with Watched(source, plan) as watched:
        assert watched.next_poll_changes() == {
            Change(b"", Scope.LISTING), Change(b"d", Scope.TREE),
        }  # fmt: skip


def test_a_scan_after_dropped_events_offers_all_of_a_file_system_without_ctimes(
    source: Path,
) -> None:
    (source / "card").mkdir()
    plan = RescanPlan(directories_without_ctimes=[b"card"])
    with Watched(source, plan) as watched:
        watched.rescanner.record_overflow()
        wait_until(lambda: (watched.rescanner.due_at or 0.0) <= time.monotonic())
        found = watched.rescanner.scan_if_due()
        assert found is not None
        assert Change(b"card", Scope.TREE) in set(found)


def test_an_unwatched_directory_without_ctimes_is_offered_by_each_poll(source: Path) -> None:
    (source / "card/shut").mkdir(parents=True)
    (source / "card/shut").chmod(0)
    plan = RescanPlan(directories_without_ctimes=[b"card"], poll_interval=OFTEN)
    with Watched(source, plan) as watched:
        for _ in range(2):
            assert Change(b"card/shut", Scope.TREE) in watched.next_poll_changes()
        (source / "card/shut").chmod(0o700)


def test_a_restart_finds_changes_stamped_by_a_server_clock_that_lags(
    source: Path,
) -> None:
    with Watched(source, RescanPlan(eventless_directories=[b""], poll_interval=OFTEN)) as watched:
        before = clock.now()
        watched.next_poll_changes()
        now, until = clock.now(), watched.rescanner.complete_until
        assert before.wall - 70 < until.wall <= now.wall - 60
        assert until.running <= max(0.0, now.running - 60)


def test_a_poll_finds_changes_after_the_clock_was_set_back(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "far").mkdir()
    real, hour = clock.now, 3600.0
    # The clock was an hour ahead until now.
    monkeypatch.setattr(clock, "now", lambda: replace(real(), wall=real().wall + hour))
    plan = RescanPlan(eventless_directories=[b"far"], poll_interval=OFTEN)
    with Watched(source, plan) as watched:
        watched.next_poll_changes()
        monkeypatch.setattr(clock, "now", real)
        (source / "far/f").touch()
        watched.drop_events()
        assert is_covered(b"far/f", watched.next_poll_changes())


def test_a_poll_that_was_asked_for_is_due_once_and_only_if_none_was_since(source: Path) -> None:
    (source / "far").mkdir()
    with Watched(source, RescanPlan(eventless_directories=[b"far"])) as watched:
        asked = time.monotonic()
        assert not watched.rescanner.has_polled_since(asked)
        assert not watched.processor.scan_if_due()
        watched.rescanner.request_poll(asked)
        assert watched.processor.scan_if_due()
        assert watched.rescanner.has_polled_since(asked)
        watched.rescanner.request_poll(asked)
        assert not watched.processor.scan_if_due()
        # A poll that cannot be complete is not repeated at once.
        (source / "far").rename(source / "gone")
        watched.rescanner.request_poll(time.monotonic())
        assert watched.processor.scan_if_due()
        assert not watched.processor.scan_if_due()
        assert not watched.rescanner.has_polled_since(time.monotonic())


def test_a_poll_repeats_the_period_of_a_failed_one(source: Path) -> None:
    (source / "far").mkdir()
    with Watched(
        source, RescanPlan(eventless_directories=[b"far"], poll_interval=OFTEN)
    ) as watched:
        watched.next_poll_changes()
        before = watched.rescanner.complete_until
        (source / "far").chmod(0)
        watched.drop_events()
        watched.next_poll_changes()
        assert watched.rescanner.complete_until == before
        (source / "far").chmod(0o700)
        watched.next_poll_changes()
        assert watched.rescanner.complete_until.running > before.running


def test_without_directories_to_poll_nothing_is_due(source: Path) -> None:
    (source / "d").mkdir()
    with Watched(source, RescanPlan([LONG_AGO], poll_interval=OFTEN)) as watched:
        assert set(watched.initial_changes[LONG_AGO]) != set()
        assert watched.rescanner.due_at is None
        assert not watched.processor.scan_if_due()


@pytest.mark.parametrize(
    ("ago", "due_in"),
    [
        pytest.param(300.0, 760.0, id="a part of the interval is over"),
        pytest.param(30.0, 1000.0, id="it has just been"),
        pytest.param(5000.0, 60.0, id="it is overdue"),
        pytest.param(-300.0, 1000.0, id="the clock was set back"),
    ],
)
def test_a_periodic_scan_is_due_an_interval_after_the_last_one_but_not_at_the_start(
    source: Path, ago: float, due_in: float
) -> None:
    before, now = time.monotonic(), clock.now()
    last_scan = replace(now, wall=now.wall - ago)
    with Watched(source, RescanPlan(scan_interval=1000.0, last_scan=last_scan)) as watched:
        after = time.monotonic()
        due_at = watched.rescanner.due_at
        assert due_at is not None
        assert before + due_in - (after - before) - 0.1 <= due_at <= after + due_in + 0.1


def scan_after_overflow(watched: Watched) -> set[Change]:
    """Record an overflow; return the changes that the scan finds."""
    watched.rescanner.record_overflow()
    wait_until(lambda: (watched.rescanner.due_at or 0.0) <= time.monotonic())
    found = watched.rescanner.scan_if_due()
    assert found is not None
    return set(found)


def test_a_scan_after_dropped_events_finds_what_the_next_poll_would_find(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "far").mkdir()
    real = clock.now
    with Watched(source, RescanPlan(eventless_directories=[b"far"])) as watched:
        (source / "far/f").touch()
        watched.drop_events()
        # All of this is longer ago than ctimes may be off.
        monkeypatch.setattr(clock, "now", lambda: _later(real(), 100.0))
        watched.rescanner.record_empty_queue(clock.now())
        assert is_covered(b"far/f", scan_after_overflow(watched))


def _later(moment: Moment, seconds: float) -> Moment:
    return replace(moment, wall=moment.wall + seconds, running=moment.running + seconds)


def test_a_scan_after_dropped_events_is_logged_and_completes_them(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Watched(source, RescanPlan()) as watched:
        before = clock.now()
        (source / "f").touch()
        watched.drop_events()
        assert scan_after_overflow(watched) == {Change(b"", Scope.LISTING)}
        assert "Scanned the source for missed changes: found 1 change." in caplog.messages
        assert watched.rescanner.complete_until.running >= before.running
        caplog.clear()
        source.rename(source.with_name("was"))
        watched.drop_events()
        assert scan_after_overflow(watched) == set()
        assert watched.rescanner.is_source_lost
        assert not any("Scanned" in line for line in caplog.messages)
        source.with_name("was").rename(source)


def test_a_scan_after_dropped_events_is_followed_by_a_pause(source: Path) -> None:
    with Watched(source, RescanPlan()) as watched:
        watched.rescanner.record_overflow()
        wait_until(lambda: (watched.rescanner.due_at or 0.0) <= time.monotonic())
        started = time.monotonic()
        assert watched.rescanner.scan_if_due() is not None
        watched.rescanner.record_overflow()
        due_at = watched.rescanner.due_at
        assert due_at is not None
        # The end of a storm alone is half a second away.
        assert due_at >= started + 1.0


def test_dropped_events_before_the_clock_was_set_back_are_a_full_sync(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = clock.now
    with Watched(source, RescanPlan()) as watched:
        monkeypatch.setattr(clock, "now", lambda: replace(real(), wall=real().wall - 3600.0))
        assert scan_after_overflow(watched) == {Change(b"", Scope.TREE)}
    assert "Falling back to a full sync: the clock went backwards" in caplog.text


def test_the_next_poll_is_due_an_interval_later_although_a_directory_is_missing(
    source: Path,
) -> None:
    plan = RescanPlan(eventless_directories=[b"gone"], poll_interval=OFTEN)
    with Watched(source, plan) as watched:
        before = time.monotonic()
        assert watched.next_poll_changes() == set()
        due_at = watched.rescanner.due_at
        assert due_at is not None
        assert due_at > before + OFTEN
        assert watched.rescanner.has_polled_since(before)


def test_a_scan_is_pending_from_an_overflow_to_its_end(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch_manager, "_DIRECTORIES_BETWEEN_READS", 1)
    (source / "d").mkdir()
    with Watched(source, RescanPlan()) as watched:
        during: list[tuple[bool, bool]] = []

        def look() -> None:
            during.append((scans.has_missed_events, scans.is_scan_pending))

        scans = watched.rescanner
        assert (scans.has_missed_events, scans.is_scan_pending) == (False, False)
        for _ in range(2):
            scans.record_overflow()
            assert caplog.text.count("The kernel dropped events") == 1
        assert (scans.has_missed_events, scans.is_scan_pending) == (True, True)
        watched.on_progress = look
        scan_after_overflow(watched)
        assert set(during) == {(False, True)}
        assert (scans.has_missed_events, scans.is_scan_pending) == (False, False)


def test_what_is_mounted_later_is_polled_and_offered(source: Path) -> None:
    for name in ("far", "card"):
        (source / name).mkdir()
    with Watched(source, RescanPlan(poll_interval=OFTEN)) as watched:
        watched.rescanner.set_mounts([b"far"], [b"far", b"card"])
        assert watched.next_poll_changes() == {Change(b"far", Scope.TREE)}
        watched.rescanner.set_mounts([], [b"card"])
        assert watched.rescanner.due_at is None
        assert Change(b"card", Scope.TREE) in scan_after_overflow(watched)


def test_the_next_periodic_scan_is_due_an_interval_later(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescanner, "_OVERDUE_SCAN_DELAY", 0.0)
    plan = RescanPlan(scan_interval=1000.0, last_scan=replace(clock.now(), wall=0.0))
    with Watched(source, plan) as watched:
        watched.next_poll_changes()
        due_at = watched.rescanner.due_at
        assert due_at is not None
        assert due_at > time.monotonic() + 900.0


def test_a_periodic_scan_finds_changes_and_notices_a_lost_source(source: Path) -> None:
    (source / "card").mkdir()
    made = clock.now().wall
    wait_until(lambda: clock.now().wall > made + 0.1)
    last_scan = replace(clock.now(), boot="another boot")
    plan = RescanPlan(
        directories_without_ctimes=[b"card"], scan_interval=OFTEN, last_scan=last_scan
    )
    with Watched(source, plan) as watched:
        before = clock.now()
        (source / "f").touch()
        watched.drop_events()
        found = watched.next_poll_changes()
        assert is_covered(b"f", found)
        assert Change(b"card", Scope.TREE) in found
        assert watched.rescanner.last_scan.running >= before.running
        scanned = watched.rescanner.last_scan
        source.rename(source.with_name("was"))
        source.mkdir()
        watched.drop_events()
        assert watched.next_poll_changes() == set()
        assert watched.rescanner.is_source_lost
        assert watched.rescanner.last_scan == scanned


# -- more directories than watches ----------------------------------------------------------------

LIMIT = "/proc/sys/user/max_inotify_watches"


def beyond_the_limit(seed: int) -> None:
    """Change directories beyond the watch limit; runs in a user namespace that can set it."""
    chance = random.Random(seed)
    logging.basicConfig(format="%(message)s")
    top = Path(tempfile.mkdtemp(prefix="pylsyncd-recovery-"))
    try:
        places = [Path(f"{a}/{b}/{c}") for a in range(4) for b in range(3) for c in range(2)]
        for place in places:
            (top / place).mkdir(parents=True)
        with Watched(top, RescanPlan(poll_interval=OFTEN)) as watched:
            assert 0 < len(watched.watches.tree) <= 15
            for round_ in range(10):
                changed = _changed_at_random(chance, top, places, round_)
                found = watched.event_changes() | watched.next_poll_changes()
                missed = [path for path in changed if not is_covered(path, found)]
                assert not missed, f"seed {seed}, round {round_}: {missed} not in {found}"
            Path(LIMIT).write_text("10000\n")
            watched.next_poll_changes()
            everywhere = {os.path.relpath(path, top) for path, _, _ in os.walk(top)}
            assert watched.paths == {
                b"" if path == "." else os.fsencode(path) for path in everywhere
            }
            assert watched.rescanner.due_at is None
    finally:
        shutil.rmtree(top)


def _changed_at_random(
    chance: random.Random, top: Path, places: Sequence[Path], number: int
) -> list[bytes]:
    place, other = chance.sample(places, 2)
    if chance.random() < 0.5:
        (top / place / "f").write_bytes(b"%d" % number)
        return [os.fsencode(place / "f")]
    (top / place / f"new-{number}/deep").mkdir(parents=True)
    (top / place / f"new-{number}/deep/f").touch()
    moved = other / f"moved-{number}"
    (top / place / f"new-{number}").rename(top / moved)
    return [os.fsencode(moved / "deep/f")]


@pytest.mark.parametrize("seed", range(3))
def test_no_change_beyond_the_watch_limit_is_missed_and_the_limit_is_logged_once(seed: int) -> None:
    try:
        prefix = watch_limit_prefix(15)
    except Unavailable as reason:
        pytest.skip(str(reason))
    here = os.path.dirname(os.path.abspath(__file__))
    tests = os.path.dirname(os.path.dirname(here))
    run = subprocess.run(
        (*prefix, sys.executable, "-c", f"import test_rescanner as t; t.beyond_the_limit({seed})"),
        env=environment({"PYTHONPATH": os.pathsep.join([here, tests, os.path.dirname(tests)])}),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = [line for line in run.stderr.splitlines() if "max_user_watches" in line]
    assert 1 <= len(told) <= 2, run.stderr
