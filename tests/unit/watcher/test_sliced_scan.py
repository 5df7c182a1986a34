"""Every directory is looked at again and again, in slices: what no event reports is found."""

import math
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import clock
from pylsyncd.watcher import sliced_scan
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.rescanner import RescanPlan

# No pause between two slices, and none between two rounds.
AT_ONCE = RescanPlan(scan_budget=1.0, least_scan_round=0.0)
HOUR = 3600.0


def earlier(moment: Moment, seconds: float) -> Moment:
    return replace(moment, wall=moment.wall - seconds, running=moment.running - seconds)


@pytest.fixture(autouse=True)
def no_writeback_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with the start of a round itself: the slack is longer than a test."""
    monkeypatch.setattr(sliced_scan, "_WRITEBACK_SLACK", 0.05)


class Scanned(WatchedSource):
    """A source without a watcher thread, and a directory outside of it."""

    def __init__(
        self,
        top: Path,
        plan: RescanPlan = AT_ONCE,
        rules: Rules | None = None,
        open_files: OpenFiles | None = None,
    ) -> None:
        self.source, self.outside = top / "source", top / "outside"
        self.outside.mkdir()
        self.new_content: set[Change] = set()
        """The paths that have had the hint of a new content."""
        super().__init__(os.fsencode(self.source), Inotify(), rules, plan, open_files=open_files)

    def close(self) -> None:
        self.rescanner.stop()
        self.inotify.close()

    def event_changes(self) -> set[Change]:
        """Process all events; return the changes."""
        self.process_events()
        changes = self.processor.take_changes()
        self.new_content |= set(changes.new_content)
        return set(changes)

    def round_changes(self) -> set[Change]:
        """Process all events, then start and complete a round; return the changes."""
        found, begun = self.event_changes(), clock.now()

        def is_over() -> bool:
            self.processor.scan_if_due()
            return self.rescanner.last_scan.running >= begun.running

        wait_until(is_over, message="the round does not end", interval=0.0)
        return found | self.event_changes()

    def drop_events(self) -> None:
        while self.inotify.read():
            pass


def entry(path: bytes) -> Change:
    return Change(path, Scope.ENTRY)


@pytest.fixture
def scanned(tmp_path: Path) -> Iterator[Scanned]:
    source = tmp_path / "source"
    (source / "a/b").mkdir(parents=True)
    for name in ("f", "a/f", "a/b/f"):
        (source / name).write_text(name)
    _let_ctimes_age()
    with closing(Scanned(tmp_path)) as made:
        made.round_changes()
        yield made


def _let_ctimes_age() -> None:
    # Longer than the slack of this test.
    time.sleep(0.15)


def test_a_source_without_changes_has_no_changes(scanned: Scanned) -> None:
    for _ in range(3):
        assert scanned.round_changes() == set()


def test_a_write_through_a_name_outside_is_found(scanned: Scanned) -> None:
    os.link(scanned.source / "a/b/f", scanned.outside / "f")
    scanned.event_changes()
    (scanned.outside / "f").write_text("longer than before")
    assert entry(b"a/b/f") in scanned.round_changes()


def test_a_write_through_mmap_is_found(scanned: Scanned) -> None:
    with (scanned.source / "a/f").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        scanned.round_changes()
        mapped[0] = ord("X")
        assert scanned.round_changes() == {entry(b"a/f")}
        assert scanned.new_content == {entry(b"a/f")}


def test_a_write_through_mmap_before_the_close_is_found(scanned: Scanned) -> None:
    # Its last event says neither that it was written to, nor when.
    with (scanned.source / "a/f").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0] = ord("X")
        _let_ctimes_age()
    assert scanned.event_changes() == {entry(b"a/f")}
    assert entry(b"a/f") in scanned.round_changes()


def test_a_change_of_attributes_is_not_reported_again(scanned: Scanned) -> None:
    (scanned.source / "a/f").chmod(0o600)
    _let_ctimes_age()
    assert scanned.event_changes() == {entry(b"a/f")}
    assert scanned.round_changes() == set()


def test_what_events_have_reported_is_not_reported_again(scanned: Scanned) -> None:
    (scanned.source / "a/f").write_text("new")
    (scanned.source / "a/new").write_text("new")
    (scanned.source / "made").mkdir()
    _let_ctimes_age()
    assert scanned.event_changes()
    for _ in range(3):
        assert scanned.round_changes() == set()


def test_a_change_after_the_last_event_is_reported(scanned: Scanned) -> None:
    os.link(scanned.source / "f", scanned.outside / "f")
    (scanned.source / "f").write_text("reported by an event")
    _let_ctimes_age()
    assert scanned.event_changes()
    (scanned.outside / "f").write_text("reported by no event")
    assert scanned.round_changes() == {entry(b"f")}


def test_names_whose_events_were_lost_are_found(scanned: Scanned) -> None:
    (scanned.source / "a/new").write_text("new")
    (scanned.source / "a/b/f").unlink()
    scanned.drop_events()
    found = scanned.round_changes()
    assert {Change(b"a", Scope.LISTING), Change(b"a/b", Scope.LISTING)} <= found
    assert entry(b"a/new") in found


def test_a_subdirectory_without_a_watch_is_watched(scanned: Scanned) -> None:
    (scanned.source / "a/new/deep").mkdir(parents=True)
    scanned.drop_events()
    assert Change(b"a/new", Scope.TREE) in scanned.round_changes()
    (scanned.source / "a/new/deep/f").touch()
    assert scanned.event_changes() == {entry(b"a/new/deep/f")}


def test_a_directory_that_moves_during_a_round_is_looked_at(scanned: Scanned) -> None:
    os.link(scanned.source / "a/b/f", scanned.outside / "f")
    scanned.round_changes()
    (scanned.outside / "f").write_text("longer than before")
    (scanned.source / "a/b").rename(scanned.source / "moved")
    # The event is not processed when the round begins.
    found: set[Change] = set()

    def is_found() -> bool:
        scanned.processor.scan_if_due()
        found.update(scanned.event_changes())
        return entry(b"moved/f") in found

    wait_until(is_found)


def test_a_change_after_the_look_of_a_round_is_found_by_the_next_one(
    scanned: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(scanned.source / "f", scanned.outside / "f")
    scanned.round_changes()
    _let_ctimes_age()
    # A slice is a look at one directory, the first one that of the source.
    monkeypatch.setattr(sliced_scan, "_MAX_SLICE_SECONDS", 0.0)
    before = scanned.rescanner.last_scan
    wait_until(scanned.processor.scan_if_due, message="no slice is due", interval=0.0)
    # The look has found the new link.
    scanned.event_changes()
    (scanned.outside / "f").write_text("longer than before")
    _let_ctimes_age()
    assert scanned.rescanner.last_scan == before
    assert entry(b"f") in scanned.round_changes()


def test_an_open_file_that_is_held_back_is_not_reported(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    files = OpenFiles(HOUR, 2 * HOUR)
    path = tmp_path / "source/f"
    with closing(Scanned(tmp_path, open_files=files)) as scanned, path.open("wb", 0) as file:
        scanned.round_changes()
        file.write(b"1")
        assert scanned.event_changes() == set()
        file.write(b"2")
        scanned.drop_events()
        assert entry(b"f") not in scanned.round_changes()
        files.take_all()
        file.write(b"3")
        scanned.drop_events()
        assert entry(b"f") in scanned.round_changes()


def test_excluded_names_are_not_reported(tmp_path: Path) -> None:
    (tmp_path / "source/out").mkdir(parents=True)
    (tmp_path / "source/f.tmp").write_text("old")
    rules = build_rules([parse_exclude(b"*.tmp"), parse_exclude(b"/out/")])
    with closing(Scanned(tmp_path, rules=rules)) as scanned:
        _let_ctimes_age()
        scanned.round_changes()
        (scanned.source / "f.tmp").write_text("new and longer")
        (scanned.source / "out/f").touch()
        scanned.drop_events()
        assert scanned.round_changes() == set()
        assert scanned.paths == {b""}


def test_a_first_round_leaves_out_what_was_written_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliced_scan, "_WRITEBACK_SLACK", HOUR)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/f").touch()
    _let_ctimes_age()
    with closing(Scanned(tmp_path)) as scanned:
        assert scanned.round_changes() == set()


def test_the_first_round_finds_the_changes_since_the_last_run(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/f").touch()
    now = clock.now()
    for since, expected in ((earlier(now, HOUR), True), (earlier(now, -HOUR), False)):
        with closing(Scanned(tmp_path, replace(AT_ONCE, last_scan=since))) as scanned:
            found = set()

            def scan(scanned: Scanned = scanned, found: set[Change] = found) -> bool:
                assert scanned.processor.scan_if_due()
                found |= scanned.event_changes()
                return scanned.rescanner.last_scan.wall >= now.wall

            if expected:
                wait_until(scan, 10.0, "no round ends")
            else:
                scan()
            assert (entry(b"f") in found) is expected
        scanned.outside.rmdir()


def test_a_change_after_the_clock_was_set_back_is_found(
    scanned: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(scanned.source / "f", scanned.outside / "f")
    # The clock was an hour ahead until now.
    ahead = _clock_ahead(monkeypatch, HOUR)
    scanned.round_changes()
    scanned.round_changes()
    ahead(0.0)
    (scanned.outside / "f").write_text("longer than before")
    assert entry(b"f") in scanned.round_changes()


def test_an_event_before_the_clock_was_set_back_hides_no_change(
    scanned: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(scanned.source / "f", scanned.outside / "f")
    ahead = _clock_ahead(monkeypatch, HOUR)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(HOUR * 1e9))
    scanned.round_changes()
    (scanned.source / "f").write_text("reported by an event")
    assert scanned.event_changes() == {entry(b"f")}
    monkeypatch.setattr(time, "time_ns", real)
    ahead(0.0)
    (scanned.outside / "f").write_text("reported by no event")
    assert entry(b"f") in scanned.round_changes()


def _clock_ahead(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Callable[[float], None]:
    real = clock.now
    offset = [seconds]
    monkeypatch.setattr(clock, "now", lambda: replace(real(), wall=real().wall + offset[0]))
    return lambda changed: offset.__setitem__(0, changed)


def test_a_round_without_resources_is_not_complete(
    scanned: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(scanned.source / "f", scanned.outside / "f")
    scanned.round_changes()
    before = scanned.rescanner.last_scan
    (scanned.outside / "f").write_text("longer than before")

    def refuse(_path: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        for _ in range(20):
            scanned.processor.scan_if_due()
    assert scanned.rescanner.last_scan == before
    assert entry(b"f") in scanned.round_changes()


def test_a_slice_ends_within_a_large_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1_000):
        (source / f"{number}").touch()
    with closing(Scanned(tmp_path)) as scanned:
        begun, slices = scanned.rescanner.last_scan, 0

        def is_over() -> bool:
            nonlocal slices
            slices += scanned.processor.scan_if_due()
            return scanned.rescanner.last_scan != begun

        monkeypatch.setattr(sliced_scan, "_MAX_SLICE_SECONDS", 0.0)
        wait_until(is_over, message="the round does not end", interval=0.0)
        assert slices >= 1_000 // 128


def test_a_stop_closes_the_directory_that_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    for number in range(1_000):
        (tmp_path / f"source/{number}").touch()
    monkeypatch.setattr(sliced_scan, "_MAX_SLICE_SECONDS", 0.0)
    with closing(Scanned(tmp_path)) as scanned:
        wait_until(scanned.processor.scan_if_due, message="no slice is due", interval=0.0)
        assert _is_open(scanned.source)
        scanned.rescanner.stop()
        assert not _is_open(scanned.source)


def _is_open(path: Path) -> bool:
    """Return True if this process has a file or directory open."""
    links = Path("/proc/self/fd").iterdir()
    return any(link.is_symlink() and os.readlink(link) == str(path) for link in links)


def test_the_slices_keep_to_the_budget(tmp_path: Path) -> None:
    (tmp_path / "source/a").mkdir(parents=True)
    plan = RescanPlan(scan_budget=0.005, least_scan_round=0.0)

    def scan_for_a_while() -> float:
        """Scan; return the CPU time that it takes."""
        begun, slices = time.thread_time(), 0
        end = time.monotonic() + 0.3
        while time.monotonic() < end or not slices:
            due_at = scanned.rescanner.due_at
            assert due_at is not None
            time.sleep(max(0.0, min(due_at, end) - time.monotonic()))
            slices += scanned.processor.scan_if_due()
        return time.thread_time() - begun

    with closing(Scanned(tmp_path, plan)) as scanned:
        # Python may collect garbage once.
        assert any(scan_for_a_while() < 0.1 for _ in range(3))


def test_a_small_tree_is_looked_at_once_in_the_least_period(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    begun = time.monotonic()
    with closing(Scanned(tmp_path, RescanPlan(scan_budget=1.0))) as scanned:
        due_at = scanned.rescanner.due_at
        assert due_at is not None
        assert begun + 55.0 < due_at <= time.monotonic() + 60.0
        assert not scanned.processor.scan_if_due()


def test_without_a_budget_nothing_is_due(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with closing(Scanned(tmp_path, RescanPlan())) as scanned:
        assert scanned.rescanner.due_at is None
        assert scanned.rescanner.reported is None
        assert scanned.rescanner.last_scan.wall < math.inf


def test_polled_directories_are_left_to_polls(tmp_path: Path) -> None:
    (tmp_path / "source/far").mkdir(parents=True)
    (tmp_path / "source/f").touch()
    (tmp_path / "source/far/f").touch()
    plan = replace(
        AT_ONCE, eventless_directories=[b"far"], poll_interval=HOUR,
        last_scan=earlier(clock.now(), HOUR),
    )  # fmt: skip
    with closing(Scanned(tmp_path, plan)) as scanned:
        found = scanned.round_changes()
        assert entry(b"f") in found
        assert entry(b"far/f") not in found
