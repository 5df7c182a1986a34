"""The scan on real trees: it finds every change since a ctime, and little else."""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from support import operations
from support.disks import Disk, make_snapshot, make_subvolume, requires
from support.mounts import Mounts, can_mount
from support.operations import Operation, WorkArea
from support.trees import Snapshot, snapshot
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.optimizer import optimize
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.watcher import catchup_scan
from pylsyncd.watcher.catchup_scan import CatchupScan, ScanPurpose, find_changes
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.rescanner import RescanPlan
from pylsyncd.watcher.watch_manager import WatchManager

NO_RULES = Rules()
LONG_AGO = 0
NEVER = 1 << 62
# A tmpfs and, on most machines, a disk file system.
PLACES = [place for place in ("/dev/shm", "/var/tmp") if os.access(place, os.W_OK)]  # noqa: S108


class ScannedSource:
    """A source and a directory outside of it on the same file system, to be scanned."""

    def __init__(self, top: Path, rules: Rules = NO_RULES) -> None:
        self._top = top
        for name in ("source", "outside"):
            (top / name).mkdir()
        self.area = WorkArea(os.fsencode(top / "source"), os.fsencode(top / "outside"))
        self.source = self.area.inside
        self.rules = rules
        self._notify = Inotify()

    def close(self) -> None:
        self.close_only()
        shutil.rmtree(self._top)

    def close_only(self) -> None:
        """Give up the watches, and leave the trees."""
        self._notify.close()

    def do(self, *some: Operation) -> None:
        for operation in some:
            operation(self.area)

    def next_ctime(self) -> int:
        """Return a ctime in nanoseconds, later than all changes so far."""
        marker = self._top / "marker"
        marker.touch()
        begin = marker.stat().st_ctime_ns

        def has_later_ctime() -> bool:
            marker.touch()
            return marker.stat().st_ctime_ns != begin

        wait_until(has_later_ctime, 10.0, "the clock of the file system does not advance")
        return marker.stat().st_ctime_ns

    def watch_manager(self) -> WatchManager:
        """Return a watch manager that watches nothing yet."""
        return WatchManager(self.source, self._notify, self.rules)

    def found(self, moment: int) -> MutableChangeset:
        """Return the changes that an initial scan finds."""
        return self.watch_manager().scan([moment])[moment]


def place_in(directory: str, rules: Rules = NO_RULES) -> ScannedSource:
    return ScannedSource(Path(tempfile.mkdtemp(prefix="pylsyncd-scan-", dir=directory)), rules)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[ScannedSource]:
    made = place_in(request.param)
    yield made
    made.close()


def entry(path: bytes) -> Change:
    return Change(path, Scope.ENTRY)


def listing(path: bytes) -> Change:
    return Change(path, Scope.LISTING)


def tree(path: bytes) -> Change:
    return Change(path, Scope.TREE)


# -- what counts as found -------------------------------------------------------------------------


def uncovered(before: Snapshot, after: Snapshot, changes: Collection[Change]) -> list[bytes]:
    """Return the paths that differ and that no change covers."""
    return [
        path
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path) and not _is_covered(path, after, changes)
    ]


def _is_covered(path: bytes, after: Snapshot, changes: Collection[Change]) -> bool:
    looked_at = [entry(path)]
    if path not in after:
        # A change of the topmost missing or replaced directory covers what was below it.
        above = path
        while (above := os.path.dirname(above)) and _kind(after, above) != "directory":
            looked_at.append(entry(above))
    return any(change.covers(look) for change in changes for look in looked_at)


def _kind(tree_: Snapshot, path: bytes) -> str:
    return tree_[path].kind if path in tree_ else ""


def test_uncovered_finds_the_paths_that_no_change_covers() -> None:
    directory = tempfile.mkdtemp(prefix="pylsyncd-scan-")
    try:
        root = os.fsencode(directory)
        os.makedirs(root + b"/d/sub")
        Path(directory, "d/sub/f").touch()
        full = snapshot(root)
        empty = {b"": full[b""]}
        assert uncovered(empty, full, [tree(b"d")]) == []
        assert uncovered(empty, full, [listing(b""), listing(b"d")]) == [b"d/sub/f"]
        assert uncovered(full, empty, [entry(b"d")]) == []
        assert uncovered(full, empty, [entry(b"d/sub")]) == [b"d"]
    finally:
        shutil.rmtree(directory)


# -- everything is found --------------------------------------------------------------------------


def fill(chance: random.Random, top: bytes) -> None:
    """Create directories with three names, three levels deep, with files, links and symlinks."""
    for _ in range(12):
        directory = os.path.join(top, *chance.choices([b"a", b"b", b"\xff"], k=3))
        os.makedirs(directory, exist_ok=True)
        for name in (b"f", b"g"):
            with suppress(OSError):
                Path(os.fsdecode(os.path.join(directory, name))).write_bytes(chance.randbytes(4))
    os.symlink(b"a", top + b"/s")
    files = [os.path.join(where, name) for where, _, names in os.walk(top) for name in names]
    os.link(chance.choice(files), top + b"/linked", follow_symlinks=False)


def draw(chance: random.Random, area: WorkArea) -> Operation:
    """Choose a random operation, which may be impossible."""

    def some(top: bytes, *, directories: bool | None = None) -> bytes:
        kinds = {None: (True, True), True: (True, False), False: (False, True)}[directories]
        names = [
            os.path.relpath(os.path.join(where, name), top)
            for where, below, files in os.walk(top)
            for name in (below if kinds[0] else []) + (files if kinds[1] else [])
        ]
        return chance.choice(sorted(names) or [b"none"])

    inside, outside = area
    directory = some(inside, directories=True) if chance.random() < 0.8 else b""
    new = os.path.join(directory, chance.choice([b"a", b"b", b"f", b"g", b"n", b"\xff"]))
    file, either, other = some(inside, directories=False), some(inside), some(inside)
    far, free = some(outside), b"%d" % chance.randrange(10**9)
    choices: list[Callable[[], Operation]] = [
        lambda: operations.write(new, chance.randbytes(5)),
        lambda: operations.append(file, b"+"),
        lambda: operations.replace(new, chance.randbytes(6)),
        lambda: operations.chmod(either, chance.choice([0o700, 0o750, 0o711])),
        lambda: operations.utime(either, chance.randrange(10**18)),
        lambda: operations.rename(either, new),
        lambda: operations.rename(some(inside, directories=True), new),
        lambda: operations.exchange(either, other),
        lambda: operations.move_out(either, free),
        lambda: operations.move_in(far, new),
        lambda: operations.mkdir(os.path.join(new, b"x")),
        lambda: operations.remove(file),
        lambda: operations.remove_tree(directory or b"none"),
        lambda: operations.link(new, file),
        lambda: operations.link_in(new, far),
        lambda: operations.symlink(new, b"a"),
    ]
    return chance.choice(choices)()


def churn(chance: random.Random, area: WorkArea, count: int) -> list[str]:
    """Run random operations; return them as text for the message of a failure."""
    done = []
    for _ in range(count):
        operation = draw(chance, area)
        with suppress(OSError):
            operation(area)
            done.append(repr(operation))
    return done


def prepared(chance: random.Random, place: ScannedSource) -> None:
    for top in place.area:
        fill(chance, top)


@pytest.mark.parametrize("seed", range(10))
def test_the_initial_scan_finds_every_change_since_a_ctime(seed: int, place: ScannedSource) -> None:
    chance = random.Random(seed)
    prepared(chance, place)
    for _ in range(5):
        before, moment = snapshot(place.source), place.next_ctime()
        done = churn(chance, place.area, chance.randrange(1, 15))
        changes = set(place.found(moment))
        assert uncovered(before, snapshot(place.source), changes) == [], "\n".join(done)


@pytest.mark.parametrize("seed", range(10))
def test_a_later_scan_finds_every_change_since_a_ctime(seed: int, place: ScannedSource) -> None:
    chance = random.Random(seed)
    prepared(chance, place)
    watches = place.watch_manager()
    watches.scan()
    for _ in range(5):
        before, moment = snapshot(place.source), place.next_ctime()
        done = churn(chance, place.area, chance.randrange(1, 15))
        changes = set(watches.scan([moment])[moment])
        assert uncovered(before, snapshot(place.source), changes) == [], "\n".join(done)


@pytest.mark.parametrize("seed", range(10))
def test_one_scan_finds_the_changes_since_each_of_several_ctimes(
    seed: int, place: ScannedSource
) -> None:
    chance = random.Random(seed)
    prepared(chance, place)
    states, done = {}, []
    for _ in range(3):
        moment = place.next_ctime()
        states[moment] = snapshot(place.source)
        done += churn(chance, place.area, chance.randrange(4))
    nothing = place.next_ctime()
    after = snapshot(place.source)
    found = place.watch_manager().scan([*states, nothing])
    for moment, before in states.items():
        assert uncovered(before, after, set(found[moment])) == [], "\n".join(done)
        assert set(optimize(found[moment])) == set(optimize(place.found(moment)))
    assert set(found[nothing]) == set()


# -- and little else ------------------------------------------------------------------------------


def test_one_rewritten_file_of_a_thousand_is_one_entry(place: ScannedSource) -> None:
    place.do(operations.mkdir("many"), operations.mkdir("other/deep"))
    place.do(operations.fill("many", 1000, b"x"), operations.write("other/deep/f"))
    moment = place.next_ctime()
    place.do(operations.append("many/500", b"more"))
    assert list(place.found(moment)) == [entry(b"many/500")]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        pytest.param(operations.write("d/new"), {listing(b"d")}, id="a new file"),
        pytest.param(operations.remove("d/f"), {listing(b"d")}, id="a deleted file"),
        pytest.param(operations.rename("d/f", "e/g"), {listing(b"d"), listing(b"e")}, id="moved"),
        pytest.param(operations.chmod("d/f", 0o600), {entry(b"d/f")}, id="a file's mode"),
        pytest.param(operations.chmod("d/sub", 0o700), {listing(b"d/sub")}, id="its own mode"),
        pytest.param(
            operations.mkdir("d/new"), {listing(b"d"), tree(b"d/new")}, id="a new directory"
        ),
        pytest.param(
            operations.rename("d/sub", "e/sub"),
            {listing(b"d"), listing(b"e"), tree(b"e/sub")},
            id="a moved directory",
        ),
        pytest.param(
            operations.move_in("old", "e/in"),
            {listing(b"e"), tree(b"e/in")},
            id="a directory that comes with old contents",
        ),
        pytest.param(operations.move_out("d/sub", "gone"), {listing(b"d")}, id="moved out"),
        pytest.param(operations.append("d/one", b"+"), {entry(b"d/one"), entry(b"e/two")},
                     id="all names of a file"),
    ],
)  # fmt: skip
def test_an_operation_changes_only_what_it_touches(
    operation: Operation, expected: set[Change], place: ScannedSource
) -> None:
    for directory in ("d/sub/deep", "e", "untouched/deep"):
        place.do(operations.mkdir(directory))
    for file in ("d/f", "d/one", "d/sub/deep/f", "untouched/deep/f"):
        place.do(operations.write(file))
    place.do(operations.link("e/two", "d/one"), operations.outside(operations.mkdir("old/deep")))
    moment = place.next_ctime()
    place.do(operation)
    assert set(place.found(moment)) == expected


def test_a_fresh_directory_that_was_there_before_is_not_a_whole_tree(
    place: ScannedSource,
) -> None:
    place.do(operations.mkdir("d/sub/deep"))
    watches = place.watch_manager()
    watches.scan()
    moment = place.next_ctime()
    place.do(operations.write("d/f"), operations.write("d/sub/f"), operations.mkdir("d/new"))
    expected = {listing(b"d"), listing(b"d/sub"), tree(b"d/new")}
    assert set(watches.scan([moment])[moment]) == expected
    assert tree(b"d/sub") in set(place.found(moment))


def test_a_directory_that_left_and_came_back_is_a_whole_tree(place: ScannedSource) -> None:
    place.do(operations.mkdir("d/sub/deep"))
    watches = place.watch_manager()
    watches.scan()
    moment = place.next_ctime()
    place.do(operations.move_out("d/sub", "away"), operations.move_in("away", "d/sub"))
    assert tree(b"d/sub") in set(watches.scan([moment])[moment])


def scan_after_exchange(scanned: ScannedSource) -> MutableChangeset:
    """Return what a scan finds of two watched directories that were exchanged."""
    scanned.do(operations.mkdir("one/deep"), operations.mkdir("two"), operations.mkdir("other"))
    watches = scanned.watch_manager()
    watches.scan()
    moment = scanned.next_ctime()
    scanned.do(operations.exchange("one", "two"))
    return watches.scan([moment])[moment]


def test_directories_that_were_exchanged_are_whole_trees(place: ScannedSource) -> None:
    found = scan_after_exchange(place)
    assert set(found) == {listing(b""), tree(b"one"), tree(b"two")}
    assert found.new_content.includes_tree(b"one")


@requires("xfs")
def test_directories_that_were_exchanged_without_ctimes_are_whole_trees(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with Disk(tmp_path / "image", "xfs") as disk, Mounts() as mounts:
        mounts.mount_device(disk.attach(), place)
        scanned = ScannedSource(place)
        found = scan_after_exchange(scanned)
        assert set(found) == {listing(b""), tree(b"one"), tree(b"two")}
        assert found.new_content.includes_tree(b"one")
        scanned.close_only()
        mounts.unmount(place)


ALL_FRESH = {entry(b"d/new"), entry(b"d/set back"), entry(b"e/mode"), entry(b"e/old")}


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        pytest.param(ScanPurpose.REPLACE_EVENTS, ALL_FRESH, id="events were lost"),
        # Each has a later ctime than mtime, except what was just written.
        pytest.param(ScanPurpose.POLL, ALL_FRESH - {entry(b"d/new")}, id="no events"),
        pytest.param(
            ScanPurpose.COMPLETE_EVENTS,
            {entry(b"d/set back"), entry(b"e/mode"), entry(b"e/old")},
            id="beside events",
        ),
    ],
)
def test_the_purpose_of_a_scan_decides_which_contents_are_new(
    purpose: ScanPurpose, expected: set[Change], place: ScannedSource
) -> None:
    place.do(operations.mkdir("d"), operations.mkdir("e"), operations.write("e/mode"))
    place.do(operations.write("e/old"), operations.write("e/untouched"))
    watches = place.watch_manager()
    watches.scan()
    moment = place.next_ctime()
    place.do(operations.write("d/new"), operations.write("d/set back"))
    os.utime(place.source + b"/d/set back", (1, 1))
    os.chmod(place.source + b"/e/mode", 0o600)
    place.do(operations.append("e/old", b"+"))
    os.utime(place.source + b"/e/old", (1, 1))
    found = watches.scan([moment], None, purpose)[moment]
    assert set(found) == {listing(b"d"), entry(b"e/mode"), entry(b"e/old")}
    assert set(found.new_content) == expected


@pytest.mark.parametrize("purpose", ScanPurpose)
def test_a_directory_that_appeared_has_a_new_content(
    purpose: ScanPurpose, place: ScannedSource
) -> None:
    place.do(operations.mkdir("d/sub"), operations.outside(operations.mkdir("old/deep")))
    watches = place.watch_manager()
    watches.scan()
    moment = place.next_ctime()
    place.do(operations.move_in("old", "d/in"), operations.chmod("d/sub", 0o700))
    found = watches.scan([moment], None, purpose)[moment]
    assert set(found) == {listing(b"d"), tree(b"d/sub"), tree(b"d/in")}
    # Its events have told what happened to the one that was there.
    is_known = purpose is ScanPurpose.COMPLETE_EVENTS
    assert set(found.new_content) == {tree(b"d/in")} | (set() if is_known else {tree(b"d/sub")})


def test_excluded_paths_are_no_changes() -> None:
    place = place_in(PLACES[0], build_rules([parse_exclude(b"*.tmp"), parse_exclude(b"cache/")]))
    try:
        place.do(operations.mkdir("cache/deep"), operations.write("a.tmp"), operations.write("b"))
        place.do(operations.write("cache/f"))
        moment = place.next_ctime()
        for name in ("a.tmp", "b", "cache/f", "cache/deep/g"):
            place.do(operations.append(name, b"+"))
        assert set(place.found(moment)) == {entry(b"b")}
    finally:
        place.close()


def test_a_scan_that_watches_nothing_finds_the_same(place: ScannedSource) -> None:
    place.do(operations.mkdir("d/e"), operations.write("d/f"), operations.write("d/g"))
    moment = place.next_ctime()
    place.do(operations.append("d/f", b"+"), operations.write("d/e/new"))
    changes = find_changes(place.source, [moment], NO_RULES)[moment]
    found = place.found(moment)
    assert set(changes) == set(found)
    assert set(changes.new_content) == set(found.new_content) >= {entry(b"d/f")}


def test_a_change_behind_the_walk_through_a_removed_name_is_found(tmp_path: Path) -> None:
    for name in ("a", "z", *(f"m/{number}" for number in range(300))):
        (tmp_path / name).mkdir(parents=True)
    first, last = (name for name in walked(tmp_path) if name in "az")
    kept, gone = tmp_path / first / "kept", tmp_path / last / "gone"
    kept.write_text("old")
    os.link(kept, gone)
    moment = time.time_ns()
    wait_until(lambda: time.time_ns() > moment + 50_000_000)

    def change_once(_: int) -> None:
        if gone.exists():
            gone.write_text("through a removed name")
            gone.unlink()

    with closing(Inotify()) as notify:
        plan = RescanPlan(since_ns=[moment + 20_000_000])
        watched = WatchedSource(os.fsencode(tmp_path), notify, plan=plan, on_progress=change_once)
        (found,) = watched.initial_changes.values()
    assert not gone.exists()
    assert Change(os.fsencode(f"{first}/kept"), Scope.ENTRY) in set(found)


def test_an_unreadable_directory_is_a_whole_tree_for_each_ctime() -> None:
    scan = CatchupScan([1, 2], NO_RULES)
    scan.add_unreadable(b"d")
    assert {since: set(changes) for since, changes in scan.changes.items()} == {
        1: {tree(b"d")}, 2: {tree(b"d")},
    }  # fmt: skip


def test_an_unwatched_directory_is_scanned_with_all_below_it(place: ScannedSource) -> None:
    place.do(operations.mkdir("d/deep"), operations.mkdir("d/skip"), operations.mkdir("d/old"))
    place.do(operations.write("d/old/f"))
    since = place.next_ctime()
    place.do(operations.write("d/deep/f"), operations.write("d/skip/f"))
    place.do(operations.append("d/old/f", b"+"))
    scan = CatchupScan([since], build_rules([parse_exclude(b"skip/")]))
    directory = os.open(os.path.join(place.source, b"d"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        scan.scan_unwatched(directory, b"d")
    finally:
        os.close(directory)
    assert set(scan.changes[since]) == {listing(b"d/deep"), entry(b"d/old/f")}


def walked(top: Path) -> list[str]:
    """Return the subdirectories in the order of a walk."""
    # A walk takes them from the end of the listing.
    return [entry.name for entry in os.scandir(top)][::-1]


# -- other devices --------------------------------------------------------------------------------


@requires("btrfs")
def test_a_snapshot_with_old_ctimes_is_a_whole_tree(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with Disk(tmp_path / "image", "btrfs") as disk, Mounts() as mounts:
        mounts.mount_device(disk.attach(), place)
        make_subvolume(place / "origin")
        (place / "origin/d").mkdir()
        (place / "origin/d/f").touch()
        scanned = ScannedSource(place)
        source = place / "source"
        for name in ("new", "old"):
            (source / name).mkdir()
        make_snapshot(place / "origin", source / "old/snapshot")
        moment = scanned.next_ctime()
        make_snapshot(place / "origin", source / "new/snapshot")
        assert (source / "new/snapshot").stat().st_ctime_ns < moment
        found = scanned.found(moment)
        assert set(optimize(found)) == {
            Change(b"new", Scope.LISTING), Change(b"new/snapshot", Scope.TREE),
        }  # fmt: skip
        assert found.new_content.includes_tree(b"new/snapshot")
        # It is watched, and known to have been there, when dropped events are made up for.
        watches = scanned.watch_manager()
        watches.scan()
        assert Change(b"new/snapshot", Scope.TREE) not in set(watches.scan([moment])[moment])
        scanned.close_only()
        mounts.unmount(place)


@pytest.mark.parametrize(
    ("purpose", "mtime", "expected"),
    [
        (ScanPurpose.REPLACE_EVENTS, 100, True),
        (ScanPurpose.COMPLETE_EVENTS, 99, True),
        (ScanPurpose.COMPLETE_EVENTS, 100, False),
        (ScanPurpose.COMPLETE_EVENTS, 101, False),
    ],
)
def test_a_file_has_a_new_content_by_its_time(
    tmp_path: Path, purpose: ScanPurpose, mtime: int, *, expected: bool
) -> None:
    (tmp_path / "f").touch()
    os.utime(tmp_path / "f", ns=(mtime, mtime))
    assert purpose.has_new_content((tmp_path / "f").stat(), 100) is expected


@contextmanager
def scanning(top: Path, since: int, rules: Rules = NO_RULES) -> Iterator[tuple[CatchupScan, int]]:
    """Yield a scan and the open directory to scan."""
    directory = os.open(top, os.O_RDONLY)
    try:
        yield CatchupScan([since, NEVER], rules), directory
    finally:
        os.close(directory)


def test_a_symlink_is_looked_at_and_not_its_target(place: ScannedSource) -> None:
    source = Path(os.fsdecode(place.source))
    (source / "target").touch()
    (source / "link").symlink_to("target")
    since = place.next_ctime()
    os.utime(source / "link", ns=(0, 0), follow_symlinks=False)
    assert set(place.found(since)) == {Change(b"link", Scope.ENTRY)}


class Broken:
    """An entry of which nothing but the name can be read."""

    def __init__(self, name: str, error: type[OSError]) -> None:
        self.name = name
        self._error = error

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        assert not follow_symlinks
        return False

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise self._error(self.name, follow_symlinks)


def test_a_file_whose_status_cannot_be_read_is_a_change_unless_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        Broken("gone", FileNotFoundError), Broken("shut", PermissionError),
        Broken("shut.tmp", PermissionError), Broken("gone too", FileNotFoundError),
    ]  # fmt: skip
    with scanning(tmp_path, 1, build_rules([parse_exclude(b"*.tmp")])) as (scan, directory):
        monkeypatch.setattr(os, "scandir", lambda _: nullcontext(entries))
        assert scan.visit_files(directory, b"d") == []
        for since in (1, NEVER):
            assert set(scan.changes[since]) == {Change(b"d/shut", Scope.ENTRY)}


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir], ids=["files", "directories"])
@pytest.mark.parametrize(("count", "expected"), [(2, 0), (3, 1), (5, 1), (6, 2)])
def test_progress_is_reported_after_so_many_files_and_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], count: int,
    expected: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(catchup_scan, "_FILES_BETWEEN_PROGRESS_CALLS", 3)
    monkeypatch.setattr(catchup_scan, "_DIRECTORIES_BETWEEN_PROGRESS_CALLS", 3)
    for number in range(count):
        make(tmp_path / str(number))
    calls: list[None] = []
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        scan = CatchupScan([LONG_AGO], NO_RULES, lambda: calls.append(None))
        scan.scan_unwatched(directory, b"d")
    finally:
        os.close(directory)
    assert len(calls) == expected


def test_in_an_unwatched_directory_what_may_have_been_moved_there_is_a_tree(
    place: ScannedSource,
) -> None:
    source, outside = (Path(os.fsdecode(each)) for each in (place.source, place.area.outside))
    (outside / "moved/deep").mkdir(parents=True)
    (outside / "moved/deep/f").touch()
    (source / "unwatched/old").mkdir(parents=True)
    (source / "unwatched/f").touch()
    # A rule for directories.
    rules = build_rules([parse_exclude(b"f/")])
    since = place.next_ctime()
    (outside / "moved").rename(source / "unwatched/moved")
    (source / "unwatched/f").chmod(0o600)
    with scanning(source / "unwatched", since, rules) as (scan, directory):
        scan.scan_unwatched(directory, b"unwatched")
        found = scan.changes[since]
        assert set(optimize(found)) == {
            Change(b"unwatched", Scope.LISTING), Change(b"unwatched/moved", Scope.TREE),
        }  # fmt: skip
        assert Change(b"unwatched/f", Scope.ENTRY) in set(found.new_content)
        assert not scan.changes[NEVER]
    # Now it may have been moved there itself.
    (source / "new").touch()
    with (
        scanning(source, since) as (scan, directory),
        scanning(source / "unwatched", since) as (_, unwatched),
    ):
        scan.visit_directory(directory, b"", was_there=True)
        scan.scan_unwatched(unwatched, b"unwatched")
        assert Change(b"unwatched", Scope.TREE) in set(scan.changes[since])


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_mount_in_a_changed_directory_is_no_new_tree(tmp_path: Path) -> None:
    scanned = place_in(str(tmp_path))
    source = Path(os.fsdecode(scanned.source))
    (source / "d/mounted").mkdir(parents=True)
    with closing(scanned), Mounts() as mounts:
        mounts.mount_tmpfs(source / "d/mounted")
        (source / "d/mounted/deep").mkdir()
        moment = scanned.next_ctime()
        (source / "d/new").touch()
        assert set(optimize(scanned.found(moment))) == {Change(b"d", Scope.LISTING)}
        mounts.unmount(source / "d/mounted")
