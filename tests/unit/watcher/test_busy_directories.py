"""Directories whose files are written to again and again: what they report, and what is found."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rules.excludes import build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.system import clock
from pylsyncd.watcher import busy_directories, inotify
from pylsyncd.watcher.busy_directories import BusyDirectories
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.open_files import OpenFiles
from pylsyncd.watcher.reported_names import ReportedNames

LIMIT = 8
NEVER = 1e6


class BusySource:
    """A watched source with the directories ``quiet`` and ``busy``, and open files in them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        (top / "quiet").mkdir(parents=True)
        (top / "busy/sub").mkdir(parents=True)
        self.notify = Inotify()
        self.open_files = OpenFiles(NEVER, 2 * NEVER)
        rules = build_rules([parse_exclude(b"*.tmp")])
        self.watched = WatchedSource(os.fsencode(top), self.notify, rules, None, lambda _: None,
                                     self.open_files)  # fmt: skip
        self.busy = BusyDirectories(self.watched.watches, self.open_files, None)

    def wd(self, path: str) -> int:
        found = self.watched.watches.tree.find(os.fsencode(path))
        assert found is not None
        return found

    def events(self) -> set[tuple[str, bytes]]:
        """Read all events; return their types and names."""
        chunks = b"".join(iter(self.notify.read, b""))
        return {(inotify.mask_names(mask), name) for _, mask, name in inotify.decode_events(chunks)}

    def make_busy(self, path: str = "busy", now: float = 0.0) -> None:
        self.busy.record(self.wd(path), LIMIT + 1)
        self.busy.check(now)
        assert self.wd(path) in self.busy

    def look(self, now: float = 1.0) -> dict[bytes, set[bytes]]:
        """Look at the busy directories; return the subdirectories of those to compare, by path."""
        tree = self.watched.watches.tree
        compared = self.busy.look(clock.now(), now, is_early=True)
        return {path: names for wd, names in compared.items() if (path := tree.path(wd))}

    def held_back(self) -> set[bytes]:
        """Remove and return the paths of the files that are held back."""
        tree = self.watched.watches.tree
        return {
            os.path.join(tree.path(wd) or b"?", name)
            for wd, names in self.open_files.take_all().items()
            for name in names
        }


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusySource]:
    monkeypatch.setattr(busy_directories, "_MAX_MODIFICATIONS", LIMIT)
    source = BusySource(tmp_path / "source")
    yield source
    source.notify.close()


def write(path: Path) -> None:
    """Write to a file without closing it first, and as if it had been open for long."""
    with path.open("ab", 0) as file:
        file.write(b"x")


def test_a_busy_directory_reports_all_but_modifications(source: BusySource) -> None:
    source.make_busy()
    for directory in ("busy", "quiet"):
        write(source.top / directory / "f")
        os.rename(source.top / directory / "f", source.top / directory / "g")
        os.unlink(source.top / directory / "g")
        events = source.events()
        assert {("CREATE", b"f"), ("CLOSE_WRITE", b"f"), ("DELETE", b"g")} <= events
        assert (("MODIFY", b"f") in events) is (directory == "quiet")


def test_a_scan_of_a_busy_directory_does_not_have_it_report_modifications(
    source: BusySource,
) -> None:
    source.make_busy()
    watches = source.watched.watches
    with watches.opened_watched(source.wd("busy")) as directory:
        assert directory is not None
    watches.scan([clock.now().since_ns])
    watches.watch_subtree(source.wd(""), b"busy")
    write(source.top / "busy/f")
    assert ("MODIFY", b"f") not in source.events()


def test_a_new_directory_of_the_name_of_a_busy_one_reports_modifications(
    source: BusySource,
) -> None:
    source.make_busy()
    os.rename(source.top / "busy", source.top.parent / "elsewhere")
    (source.top / "busy").mkdir()
    source.watched.watches.scan()
    source.events()
    write(source.top / "busy/f")
    assert ("MODIFY", b"f") in source.events()


def test_the_directories_with_most_modifications_become_busy_first(source: BusySource) -> None:
    source.busy.record(source.wd("quiet"), 1)
    source.busy.record(source.wd("busy"), LIMIT)
    source.busy.check(0.0)
    assert source.wd("busy") in source.busy
    assert source.wd("quiet") not in source.busy


def test_directories_become_busy_until_an_eighth_of_the_limit_is_left(source: BusySource) -> None:
    source.busy.record(source.wd("quiet"), 2)
    source.busy.record(source.wd("busy"), LIMIT)
    source.busy.check(0.0)
    assert {source.wd("busy"), source.wd("quiet")} == {
        wd for wd in source.watched.watches.tree if wd in source.busy
    }


def test_modifications_up_to_the_limit_are_reported(source: BusySource) -> None:
    for second in range(1, 5):
        source.busy.record(source.wd("busy"), LIMIT)
        source.busy.check(float(second))
    assert len(source.busy) == 0
    source.busy.record(source.wd("busy"), LIMIT // 2)
    source.busy.check(4.5)
    source.busy.record(source.wd("busy"), LIMIT // 2 + 1)
    source.busy.check(4.9)
    assert source.wd("busy") in source.busy


def test_a_look_finds_what_was_modified_since_the_directory_became_busy(source: BusySource) -> None:
    for name in ("f", "g", "h.tmp"):
        write(source.top / "busy" / name)
    wait_until(lambda: _is_past(source.top / "busy/g"))
    source.make_busy()
    write(source.top / "busy/f")
    write(source.top / "busy/h.tmp")
    source.look()
    assert source.held_back() == {b"busy/f"}


def _is_past(path: Path) -> bool:
    """Return True if the ctime of a file is older than two ticks of the kernel's clock."""
    return clock.now().wall - path.stat().st_ctime > 0.05


def test_the_first_look_need_not_be_asked_for(source: BusySource) -> None:
    source.make_busy()
    write(source.top / "busy/f")
    assert source.busy.look(clock.now(), 1.0, is_early=False)
    assert source.held_back() == {b"busy/f"}


def test_a_look_finds_no_modification_twice(source: BusySource) -> None:
    source.make_busy()
    write(source.top / "busy/f")
    source.look()
    assert source.held_back() == {b"busy/f"}
    wait_until(lambda: _is_past(source.top / "busy/f"))
    source.look()
    source.held_back()
    source.look()
    assert source.held_back() == set()


def test_a_modified_file_is_due_a_window_after_its_ctime(source: BusySource) -> None:
    source.open_files.set_times(1.0, NEVER)
    source.make_busy()
    write(source.top / "busy/f")
    wait_until(lambda: clock.now().wall - (source.top / "busy/f").stat().st_ctime > 1.05)
    source.look(5.0)
    assert source.open_files.take_due(5.0) == {source.wd("busy"): {b"f"}}


def test_a_quiet_directory_reports_modifications_again(source: BusySource) -> None:
    write(source.top / "busy/f")
    wait_until(lambda: _is_past(source.top / "busy/f"))
    source.make_busy()
    # The first look makes up for the change of the mask, the second one finds nothing.
    for _ in range(3):
        assert len(source.busy) == 1
        source.look()
    assert len(source.busy) == 0
    assert source.busy.due_at is None
    source.events()
    write(source.top / "busy/f")
    assert ("MODIFY", b"f") in source.events()


def test_a_modification_before_the_last_look_is_found(source: BusySource) -> None:
    source.make_busy()
    source.look()
    write(source.top / "busy/f")
    source.look(100.0)
    assert len(source.busy) == 0
    assert source.held_back() == {b"busy/f"}


def test_a_directory_that_stays_busy_is_retried_after_a_time(
    source: BusySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_directories, "_MAX_RETRIES_PER_ROUND", 1)
    source.make_busy()
    source.make_busy("quiet")
    for now, expected in (1.0, 2), (59.0, 2), (60.0, 1), (61.0, 0):
        for directory in ("busy", "quiet"):
            write(source.top / directory / "f")
        source.look(now)
        assert len(source.busy) == expected


def test_a_file_that_is_modified_after_each_look_is_not_due(source: BusySource) -> None:
    source.open_files.set_times(1.0, NEVER)
    source.make_busy()
    for now in (10.0, 11.0, 12.0):
        write(source.top / "busy/f")
        source.look(now)
        # The next look is due, and was not made yet.
        assert not source.open_files.take_due(now + 1.0)


def test_old_events_do_not_count_against_a_busy_directory(source: BusySource) -> None:
    source.make_busy(now=1.0)
    source.look()
    source.busy.record(source.wd("busy"), LIMIT + 1)
    source.busy.check(2.0)
    # A directory whose mask is replaced has to be compared.
    (source.top / "busy/new").mkdir()
    assert source.look() == {}
    source.busy.record(source.wd("busy"), LIMIT + 1)
    source.busy.check(3.0)
    (source.top / "busy/newer").mkdir()
    assert source.look(3.0) == {b"busy": {b"sub", b"new", b"newer"}}


def test_the_first_look_has_a_directory_compared_that_has_changed(source: BusySource) -> None:
    source.make_busy("quiet")
    source.make_busy("busy")
    (source.top / "busy/new").mkdir()
    wait_until(lambda: _is_past(source.top / "quiet"))
    compared = source.look()
    assert compared[b"busy"] == {b"sub", b"new"}
    (source.top / "busy/newer").mkdir()
    assert source.look() == {}


@pytest.mark.parametrize(("window", "pause"), [(0.1, 0.5), (4.0, 2.0), (1000.0, 30.0)])
def test_the_next_look_is_due_twice_in_a_window_within_limits(
    source: BusySource, window: float, pause: float
) -> None:
    source.open_files.set_times(window, NEVER)
    source.make_busy()
    source.look(10.0)
    assert source.busy.due_at == source.open_files.next_look == 10.0 + pause


def test_the_next_look_waits_in_proportion_to_the_processor_time_of_the_last(
    source: BusySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_directories, "_PAUSE_PER_LOOK_SECOND", 1e9)
    source.make_busy()
    source.look(10.0)
    due_at = source.busy.due_at
    assert due_at is not None
    # A look takes less than 0.1 s, and this thread has used more.
    assert 30.0 < due_at - 10.0 < 1e8


def test_looks_and_changes_of_masks_empty_the_event_queue(
    source: BusySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_directories, "_DIRECTORIES_BETWEEN_READS", 2)
    write(source.top / "quiet/f")
    source.make_busy()
    assert not source.notify.pending_bytes()
    write(source.top / "quiet/f")
    source.look()
    assert source.notify.pending_bytes()
    source.make_busy("quiet")
    write(source.top / "quiet/g")
    source.look()
    assert not source.notify.pending_bytes()
    monkeypatch.setattr(busy_directories, "_DIRECTORIES_BETWEEN_READS", 100)
    monkeypatch.setattr(busy_directories, "_FILES_BETWEEN_READS", 4)
    for name, is_emptied in (("h", False), ("i", True)):
        write(source.top / "quiet" / name)
        source.look()
        assert bool(source.notify.pending_bytes()) is not is_emptied


def test_an_open_file_is_not_due_before_the_first_look_of_a_busy_directory(
    source: BusySource,
) -> None:
    source.open_files.set_times(1.0, NEVER)
    source.open_files.record(source.wd("busy"), [b"f"], 0.0, clock.now())
    source.make_busy(now=0.2)
    assert not source.open_files.take_due(1.0)


@pytest.mark.parametrize("is_taken_later", [False, True])
def test_what_a_look_finds_was_modified_after_the_last_look_and_what_was_taken(
    source: BusySource, *, is_taken_later: bool
) -> None:
    taken = clock.now()
    source.make_busy()
    looked_until = source.busy.looked_until
    write(source.top / "busy/f")
    source.busy.look(clock.now() if is_taken_later else taken, 1.0, is_early=True)
    expected = looked_until if is_taken_later else taken
    assert source.open_files.oldest_modification(0.0) == expected


def test_what_events_have_reported_is_not_found_and_what_is_found_is_reported(
    source: BusySource,
) -> None:
    reported = ReportedNames()
    source.busy = BusyDirectories(source.watched.watches, source.open_files, reported)
    wd = source.wd("busy")
    source.make_busy()
    source.look()
    # Nothing was found, so nothing was reported.
    assert not reported.has_reported_directory(wd, 0)
    for name in ("by-event", "by-look"):
        write(source.top / "busy" / name)
    wait_until(lambda: _is_past(source.top / "busy/by-look"))
    reported.add(wd, [b"by-event"], time.time_ns())
    source.look()
    assert source.held_back() == {b"busy/by-look"}
    ctime = (source.top / "busy/by-look").stat().st_ctime_ns
    assert reported.has_reported(wd, b"by-look", ctime)
    assert not reported.has_reported(wd, b"by-look", time.time_ns())


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        pytest.param(lambda _: None, {}, id="nothing has changed"),
        pytest.param(lambda top: (top / "busy/sub").chmod(0o700), {b"busy": {b"sub"}}, id="mode"),
    ],
)
def test_the_first_look_has_a_directory_compared_whose_subdirectory_has_changed(
    source: BusySource, operation: Callable[[Path], None], expected: dict[bytes, set[bytes]]
) -> None:
    wait_until(lambda: _is_past(source.top / "busy"))
    source.make_busy()
    operation(source.top)
    assert source.look() == expected


def test_a_file_that_is_gone_while_a_directory_is_looked_at_is_not_found(
    source: BusySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.make_busy()
    for name in ("stays", "goes"):
        write(source.top / "busy" / name)
    real = os.scandir

    @contextmanager
    def scan_late(directory: int) -> Iterator[list["os.DirEntry[str]"]]:
        with real(directory) as entries:
            found = list(entries)
        (source.top / "busy/goes").unlink(missing_ok=True)
        yield found

    monkeypatch.setattr(os, "scandir", scan_late)
    source.look()
    assert source.held_back() == {b"busy/stays"}


def test_modifications_are_complete_until_the_oldest_look(source: BusySource) -> None:
    assert source.busy.looked_until is None
    before = clock.now()
    source.make_busy()
    first = source.busy.looked_until
    assert first is not None
    assert first.running >= before.running
    source.look()
    second = source.busy.looked_until
    assert second is not None
    assert second.running > first.running


def test_a_directory_that_is_gone_is_not_busy(source: BusySource) -> None:
    source.make_busy()
    wd = source.wd("busy")
    os.rename(source.top / "busy", source.top.parent / "elsewhere")
    source.look()
    # Its event is in the queue: until then it may come back.
    assert wd in source.busy
    source.watched.watches.remove_subtree(wd)
    source.look()
    assert len(source.busy) == 0


def process_all(source: BusySource) -> set[Change]:
    """Process the events; return the changes, those found by looks included."""
    processor = source.watched.processor
    source.watched.process_events()
    changes = set(processor.take_changes())
    return changes | set(processor.take_changes(includes_open_files=True))


@contextmanager
def modified_often(directory: Path) -> Iterator[None]:
    """Cause more modifications of open files than the limit, none of them merged by the kernel."""
    with (directory / "one").open("ab", 0) as one, (directory / "other").open("ab", 0) as other:
        for _ in range(LIMIT):
            one.write(b"x")
            other.write(b"x")
        yield


@pytest.mark.parametrize(("count", "is_busy"), [(LIMIT, False), (LIMIT + 1, True)])
def test_each_modification_of_an_open_file_counts_once(
    source: BusySource, count: int, *, is_busy: bool
) -> None:
    with ExitStack() as opened:
        files = [opened.enter_context((source.top / "busy" / n).open("ab", 0)) for n in "ab"]
        process_all(source)
        for number in range(count):
            files[number % 2].write(b"x")
        process_all(source)
        source.events()
        write(source.top / "busy/late")
        assert (("MODIFY", b"late") not in source.events()) is is_busy


def test_busy_directories_are_looked_at_early_only_for_all_open_files(source: BusySource) -> None:
    with modified_often(source.top / "busy"), (source.top / "busy/f").open("ab", 0) as file:
        process_all(source)
        file.write(b"x")
        source.watched.process_events()
        processor = source.watched.processor
        assert not processor.take_changes()
        assert Change(b"busy/f", Scope.ENTRY) in set(
            processor.take_changes(includes_open_files=True)
        )


def test_new_busy_directories_are_looked_at_by_the_next_scan(source: BusySource) -> None:
    processor = source.watched.processor
    with modified_often(source.top / "quiet"):
        process_all(source)
    with modified_often(source.top / "busy"):
        source.watched.process_events()
        assert not processor.scan_if_due()
        processor.take_changes()
        assert processor.due_at is not None
        assert processor.due_at < 0.0
        for directory in ("busy", "quiet"):
            write(source.top / directory / "late")
        source.events()
        assert processor.scan_if_due()
        found = source.open_files.take_all()
        assert b"late" in found[source.wd("busy")]
        # It was looked at when it became busy.
        assert source.wd("quiet") not in found
        assert processor.due_at > 0.0


def test_what_is_lost_while_the_mask_is_replaced_is_found(source: BusySource) -> None:
    remove_modify, done = source.notify.remove_modify, []

    def lose_events(directory: int) -> None:
        remove_modify(directory)
        if not done:
            done.append(directory)
            (source.top / "busy/new").mkdir()
            (source.top / "busy/new/f").touch()
            (source.top / "busy/sub").rename(source.top.parent / "gone")
            source.events()

    source.notify.remove_modify = lose_events  # type: ignore[method-assign]
    with modified_often(source.top / "busy"):
        changes = process_all(source)
    assert done
    assert Change(b"busy", Scope.LISTING) in changes
    assert Change(b"busy/new", Scope.TREE) in changes
    assert source.watched.paths == {b"", b"quiet", b"busy", b"busy/new"}
    (source.top / "busy/new/g").touch()
    assert Change(b"busy/new/g", Scope.ENTRY) in process_all(source)


def test_files_that_are_written_and_closed_make_no_directory_busy(source: BusySource) -> None:
    for number in range(5 * LIMIT):
        write(source.top / "busy" / str(number))
    process_all(source)
    source.events()
    write(source.top / "busy/0")
    assert ("MODIFY", b"0") in source.events()


def test_only_new_busy_directories_are_looked_at_before_the_round(source: BusySource) -> None:
    source.make_busy("quiet")
    source.look(1.0)
    source.make_busy("busy")
    for directory in ("busy", "quiet"):
        write(source.top / directory / "f")
    assert source.busy.due_at is not None
    assert source.busy.due_at < 1.0
    before = source.busy.looked_until
    (source.top / "busy/link").symlink_to("sub")
    compared = source.busy.look(clock.now(), 1.0, is_early=False)
    assert compared == {source.wd("busy"): {b"sub"}}
    assert source.held_back() == {b"busy/f", b"busy/link"}
    assert source.busy.looked_until == before
    due_at = source.busy.due_at
    assert due_at > 1.0
    source.busy.look(clock.now(), due_at, is_early=False)
    assert source.held_back() >= {b"quiet/f"}


def test_a_flood_of_modifications_is_found_by_looks(source: BusySource) -> None:
    with modified_often(source.top / "busy"):
        process_all(source)
        source.events()
        write(source.top / "busy/late")
        assert ("MODIFY", b"late") not in source.events()
        assert Change(b"busy/late", Scope.ENTRY) in process_all(source)
