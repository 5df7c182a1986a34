"""Several sources with the watches of one inotify instance."""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.limits import max_queued_events
from support.mounts import Mounts, can_mount
from support.overlapping import OverlappingWriter
from support.replica import Replica, read_tree
from support.waiting import wait_until
from support.watching import WatchedSource

from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.system import walk
from pylsyncd.watcher import inotify, shared_inotify
from pylsyncd.watcher.inotify import Inotify
from pylsyncd.watcher.shared_inotify import InotifyShare, SharedInotify

Opened = tuple[int, int]


@pytest.fixture
def instance() -> Iterator[SharedInotify]:
    instance = SharedInotify()
    yield instance
    instance.close()


@pytest.fixture
def shares(instance: SharedInotify) -> Iterator[tuple[InotifyShare, InotifyShare]]:
    one, other = instance.open_share(), instance.open_share()
    yield one, other
    for share in (one, other):
        share.close()


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Opened]:
    """Return two open directories, a and b."""
    opened = []
    for name in "ab":
        (tmp_path / name).mkdir()
        opened.append(os.open(tmp_path / name, os.O_RDONLY))
    yield (opened[0], opened[1])
    for each in opened:
        os.close(each)


def events_of(share: InotifyShare) -> list[tuple[int, str, bytes]]:
    """Return the events of a source until there are none."""
    return [
        (wd, inotify.mask_names(mask), name)
        for chunk in iter(share.read, b"")
        for wd, mask, name in inotify.decode_events(chunk)
    ]


def kernel_watches(instance: SharedInotify) -> int:
    """Return the number of watches of the instance, from proc_pid_fdinfo(5)."""
    lines = Path(f"/proc/self/fdinfo/{instance.descriptor}").read_text().splitlines()
    return sum(line.startswith("inotify ") for line in lines)


# -- holders of watches ---------------------------------------------------------------------------


def test_each_source_has_the_events_of_its_watches_in_order(
    shares: tuple[InotifyShare, InotifyShare], directories: Opened, tmp_path: Path
) -> None:
    one, other = shares
    wds = one.add_watch(directories[0]), other.add_watch(directories[1])
    for name in "xy":
        (tmp_path / "a" / name).mkdir()
        (tmp_path / "b" / name).mkdir()
    kind = "CREATE|ISDIR"
    assert events_of(one) == [(wds[0], kind, b"x"), (wds[0], kind, b"y")]
    assert events_of(other) == [(wds[1], kind, b"x"), (wds[1], kind, b"y")]


def test_a_watch_that_two_sources_hold_is_removed_with_the_last(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    wd = one.add_watch(directories[0])
    assert other.add_watch(directories[0]) == other.identify(directories[0]) == wd
    with walk.opened_root(os.fsencode(tmp_path)) as above:
        assert other.add_watch_at(above, b"a") == wd
    (tmp_path / "a/x").mkdir()
    assert events_of(one) == events_of(other) == [(wd, "CREATE|ISDIR", b"x")]
    one.remove_watch(wd)
    one.remove_watch(wd)
    (tmp_path / "a/y").mkdir()
    assert (events_of(one), len(events_of(other))) == ([], 1)
    assert kernel_watches(instance) == 1
    other.remove_watch(wd)
    assert kernel_watches(instance) == 0


def test_a_source_that_identifies_a_directory_does_not_take_the_watch_of_another(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    wd = one.add_watch(directories[0])
    other.remove_watch(other.identify(directories[0]))
    (tmp_path / "a/x").mkdir()
    assert events_of(one) == [(wd, "CREATE|ISDIR", b"x")]
    assert (events_of(other), kernel_watches(instance)) == ([], 1)


def test_all_holders_learn_that_a_directory_is_gone(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    wd = one.add_watch(directories[0])
    other.add_watch(directories[0])
    (tmp_path / "a").rmdir()
    # The directory is still open: the kernel removes the watch with the last descriptor.
    os.dup2(directories[1], directories[0])
    for share in shares:
        assert events_of(share)[-2:] == [(wd, "DELETE_SELF", b""), (wd, "IGNORED", b"")]
    assert not instance._holders  # noqa: SLF001
    one.remove_watch(wd)


def test_a_source_that_closes_removes_only_its_own_watches(
    instance: SharedInotify, directories: Opened, tmp_path: Path
) -> None:
    one, other = instance.open_share(), instance.open_share()
    for directory in directories:
        one.add_watch(directory)
    wd = other.add_watch(directories[0])
    one.close()
    assert (len(instance), kernel_watches(instance)) == (1, 1)
    (tmp_path / "a/x").mkdir()
    assert events_of(other) == [(wd, "CREATE|ISDIR", b"x")]
    other.close()
    assert (len(instance), kernel_watches(instance)) == (0, 0)


def test_modifications_stay_if_another_source_holds_the_watch(
    shares: tuple[InotifyShare, InotifyShare], directories: Opened, tmp_path: Path
) -> None:
    one, other = shares
    file = tmp_path / "a/f"
    file.touch()
    wd = one.add_watch(directories[0])
    one.remove_modify(directories[0])

    def masks(share: InotifyShare) -> set[str]:
        with file.open("a") as opened:
            opened.write("x")
        return {mask for _, mask, _ in events_of(share)}

    assert masks(one) == {"CLOSE_WRITE"}
    assert other.add_watch(directories[0]) == wd
    assert masks(other) == {"MODIFY", "CLOSE_WRITE"}
    for share in shares:
        with pytest.raises(OSError, match="busy"):
            share.remove_modify(directories[0])
    assert masks(one) == {"MODIFY", "CLOSE_WRITE"}
    other.remove_watch(wd)
    one.remove_modify(directories[0])
    events_of(one)
    assert masks(one) == {"CLOSE_WRITE"}


def test_a_source_that_comes_while_modifications_are_removed_is_scanned(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    wd = one.add_watch(directories[0])
    remove_modify = Inotify.remove_modify

    def remove_late(notify: Inotify, directory: int) -> None:
        other.add_watch(directory)
        remove_modify(notify, directory)

    monkeypatch.setattr(Inotify, "remove_modify", remove_late)
    with pytest.raises(OSError, match="busy"):
        one.remove_modify(directories[0])
    assert events_of(other) == [(-1, "Q_OVERFLOW", b"")]
    (tmp_path / "a/f").write_text("x")
    assert (wd, "MODIFY", b"f") in events_of(other)
    assert kernel_watches(instance) == 1


def test_a_source_that_adds_a_watch_meanwhile_has_its_modifications(
    shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    wd = one.add_watch(directories[0])
    add_watch = Inotify.add_watch
    is_first = True

    def add_slowly(notify: Inotify, directory: int) -> int:
        nonlocal is_first
        added = add_watch(notify, directory)
        if is_first:
            is_first = False
            one.remove_modify(directory)
        return added

    monkeypatch.setattr(Inotify, "add_watch", add_slowly)
    assert other.add_watch(directories[0]) == wd
    (tmp_path / "a/f").write_text("x")
    assert (wd, "MODIFY", b"f") in events_of(other)


# -- what happens at the same time ----------------------------------------------------------------


def test_events_before_an_add_returns_are_not_lost(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    expected = one.add_watch(directories[0])
    add_watch = Inotify.add_watch

    def add_slowly(notify: Inotify, directory: int) -> int:
        wd = add_watch(notify, directory)
        (tmp_path / "a").rename(tmp_path / "moved")
        assert [mask for _, mask, _ in events_of(one)] == ["MOVE_SELF"]
        return wd

    monkeypatch.setattr(Inotify, "add_watch", add_slowly)
    assert other.add_watch(directories[0]) == expected
    assert events_of(other) == [(expected, "MOVE_SELF", b"")]
    assert not instance._kept  # noqa: SLF001


def test_a_source_is_scanned_if_too_many_events_come_while_it_adds_a_watch(
    shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    one.add_watch(directories[0])
    add_watch = Inotify.add_watch

    def add_slowly(notify: Inotify, directory: int) -> int:
        wd = add_watch(notify, directory)
        (tmp_path / "a/x").mkdir()
        assert len(events_of(one)) == 1
        return wd

    monkeypatch.setattr(Inotify, "add_watch", add_slowly)
    monkeypatch.setattr(shared_inotify, "_MAX_KEPT_BYTES", 16)
    other.add_watch(directories[0])
    assert events_of(other) == [(-1, "Q_OVERFLOW", b"")]


def test_each_of_two_sources_that_add_a_watch_has_the_events_since_it_began(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, first = shares
    second = instance.open_share()
    one.add_watch(directories[0])
    add_watch = Inotify.add_watch
    added, may_return = threading.Semaphore(0), [threading.Event(), threading.Event()]
    waiting = iter(may_return)

    def add_slowly(notify: Inotify, directory: int) -> int:
        wd = add_watch(notify, directory)
        end = next(waiting)
        added.release()
        assert end.wait(30.0)
        return wd

    monkeypatch.setattr(Inotify, "add_watch", add_slowly)
    with ThreadPoolExecutor(2) as executor:
        adds = []
        for share, name in ((first, "x"), (second, "y")):
            adds.append(executor.submit(share.add_watch, directories[0]))
            assert added.acquire(timeout=30.0)
            (tmp_path / "a" / name).mkdir()
            assert len(events_of(one)) == 1
        for add, end, name in zip(adds, may_return, "zw", strict=True):
            end.set()
            add.result(30.0)
            (tmp_path / "a" / name).mkdir()
            assert len(events_of(one)) == 1
    assert [name for _, _, name in events_of(first)] == [b"x", b"y", b"z", b"w"]
    assert [name for _, _, name in events_of(second)] == [b"y", b"z", b"w"]
    assert not instance._kept  # noqa: SLF001
    second.close()


def test_a_watch_that_cannot_be_added_has_no_holder(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    wd = one.add_watch(directories[0])
    add_watch = Inotify.add_watch
    attempts: list[int] = []

    def add_once(notify: Inotify, directory: int) -> int:
        attempts.append(directory)
        if len(attempts) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        added = add_watch(notify, directory)
        # So it has to be added again.
        one.remove_modify(directory)
        return added

    monkeypatch.setattr(Inotify, "add_watch", add_once)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        other.add_watch(directories[0])
    assert len(attempts) == 2
    (tmp_path / "a/x").mkdir()
    assert (len(events_of(one)), events_of(other)) == (1, [])
    assert not instance._kept  # noqa: SLF001
    one.remove_watch(wd)
    assert kernel_watches(instance) == 0


def test_a_watch_that_another_source_removes_meanwhile_is_added_again(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    one, other = shares
    first = one.add_watch(directories[0])
    add_watch = Inotify.add_watch

    def add_slowly(notify: Inotify, directory: int) -> int:
        wd = add_watch(notify, directory)
        one.remove_watch(first)
        assert not events_of(one)
        return wd

    monkeypatch.setattr(Inotify, "add_watch", add_slowly)
    wd = other.add_watch(directories[0])
    assert wd != first
    (tmp_path / "a/x").mkdir()
    assert events_of(other)[-1] == (wd, "CREATE|ISDIR", b"x")
    assert kernel_watches(instance) == len(instance._holders) == 1  # noqa: SLF001


def test_sources_that_add_and_remove_the_same_watch_lose_no_event(
    shares: tuple[InotifyShare, InotifyShare], directories: Opened, tmp_path: Path
) -> None:
    failures: list[str] = []

    def work(share: InotifyShare, name: str) -> None:
        file = tmp_path / "a" / name
        for _ in range(300):
            wd = share.add_watch(directories[0])
            file.touch()
            if (wd, name.encode()) not in {(found, what) for found, _, what in events_of(share)}:
                failures.append(name)
            file.unlink()
            share.remove_watch(wd)

    threads = [
        threading.Thread(target=work, args=(share, name))
        for share, name in zip(shares, ("one", "other"), strict=True)
    ]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not failures


def test_a_source_that_does_not_read_is_scanned_and_costs_no_other_an_event(
    shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(shared_inotify, "_MAX_QUEUED_BYTES", 100)
    one, other = shares
    for share in shares:
        share.add_watch(directories[0])
    for number in range(6):
        (tmp_path / f"a/{number}").mkdir()
        assert len(events_of(other)) == 1
    # Each event has 32 bytes here.
    masks = [mask for _, mask, _ in events_of(one)]
    assert masks == [*["CREATE|ISDIR"] * 3, "Q_OVERFLOW"]
    (tmp_path / "a/last").mkdir()
    assert [name for _, _, name in events_of(one)] == [b"last"]
    # It is told each time.
    for number in range(6):
        (tmp_path / f"a/{number}").rmdir()
        assert events_of(other)
    assert [mask for _, mask, _ in events_of(one)][-1] == "Q_OVERFLOW"


def test_a_source_knows_whether_it_has_read_all_of_its_events(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    # Each event has 32 bytes here.
    monkeypatch.setattr(shared_inotify, "_MAX_CHUNK_SIZE", 70)
    one = shares[0]
    one.add_watch(directories[0])
    for number in range(5):
        (tmp_path / f"a/{number}").mkdir()
        instance.distribute_some()
    chunks = []
    while chunk := one.read():
        chunks.append((len(chunk), one.is_full(chunk)))
    assert chunks == [(64, True), (64, True), (32, False)]


def test_an_instance_that_is_closed_reads_nothing() -> None:
    instance = SharedInotify()
    instance.close()
    # Its descriptor may be another file by now.
    assert not instance.distribute_some()


def test_a_read_returns_what_came_before_it_whatever_other_sources_have(
    shares: tuple[InotifyShare, InotifyShare], directories: Opened, tmp_path: Path
) -> None:
    one, other = shares
    one.add_watch(directories[0])
    wd = other.add_watch(directories[1])
    (tmp_path / "a/x").mkdir()
    # Two events each: more than one read from the kernel returns.
    for names in [("x", "y"), ("y", "x")] * 600:
        (tmp_path / "a" / names[0]).rename(tmp_path / "a" / names[1])
    (tmp_path / "b/new").mkdir()
    assert next(iter(inotify.decode_events(other.read())))[0] == wd
    assert len(events_of(one)) > 2_000


def test_all_sources_are_scanned_if_the_kernel_drops_events(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], directories: Opened
) -> None:
    for share, directory in zip(shares, directories, strict=True):
        share.add_watch(directory)
    overflow = inotify.EVENT_HEADER.pack(-1, inotify.OVERFLOW, 0, 0)
    with instance.lock:
        instance._split(overflow)  # noqa: SLF001
    for share in shares:
        assert events_of(share) == [(-1, "Q_OVERFLOW", b"")]


# -- sources that are watched ---------------------------------------------------------------------


def changes_of(watched: WatchedSource) -> set[Change]:
    """Process all events; return the changes."""
    changes: set[Change] = set()
    while watched.has_events:
        watched.process_events()
        changes.update(watched.processor.take_changes())
    return changes


def paths_on_disk(source: Path) -> set[bytes]:
    return {os.fsencode(Path(path).relative_to(source)) for path, _, _ in os.walk(source)}


def assert_watched(instance: SharedInotify, *sources: tuple[Path, WatchedSource]) -> None:
    """Check that each source watches its directories, and the kernel no others."""
    inodes = set()
    for path, watched in sources:
        expected = paths_on_disk(path) - {b"."} | {b""}
        assert watched.paths == expected
        inodes |= {(path / os.fsdecode(each)).stat().st_ino for each in expected}
        for each in expected:
            (path / os.fsdecode(each) / "probe").touch()
        found = changes_of(watched)
        assert {Change(os.path.join(each, b"probe"), Scope.ENTRY) for each in expected} <= found
        for each in expected:
            (path / os.fsdecode(each) / "probe").unlink()
    for _, watched in sources:
        changes_of(watched)
    assert kernel_watches(instance) == len(inodes)


def test_a_tree_moves_from_one_source_to_the_other_and_back(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    (a / "tree/deep").mkdir(parents=True)
    b.mkdir()
    watched = [
        WatchedSource(os.fsencode(path), share) for path, share in zip((a, b), shares, strict=True)
    ]
    for start, end in ((a, b), (b, a)):
        (start / "tree").rename(end / "tree")
        (end / "tree/deep/new").touch()
        arrived, left = watched if end is a else reversed(watched)
        assert Change(b"tree", Scope.TREE) in changes_of(arrived)
        assert changes_of(left) == {Change(b"tree", Scope.ENTRY)}
        assert_watched(instance, (a, watched[0]), (b, watched[1]))


def test_sources_are_scanned_after_the_kernel_dropped_their_events(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    (b / "old").mkdir(parents=True)
    a.mkdir()
    names = [a / "one", a / "other"]
    names[0].touch()
    watched = [
        WatchedSource(os.fsencode(path), share) for path, share in zip((a, b), shares, strict=True)
    ]
    # Two events each. The kernel merges only identical events in a row.
    for _ in range(max_queued_events() // 2 + 1_000):
        os.rename(*names)
        names.reverse()
    (b / "new/deep").mkdir(parents=True)
    (b / "old").rmdir()
    for each in watched:
        changes_of(each)
        assert each.rescanner.overflow_count == 1
        wait_until(each.processor.scan_if_due)
    changes = changes_of(watched[1])
    assert Change(b"new", Scope.TREE) in changes
    assert Change(b"", Scope.LISTING) in changes
    assert_watched(instance, (a, watched[0]), (b, watched[1]))


@pytest.mark.skipif(not can_mount(), reason="needs root and permission to mount")
def test_sources_reach_the_same_directories_through_a_bind_mount(
    instance: SharedInotify, shares: tuple[InotifyShare, InotifyShare], tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    (a / "d").mkdir(parents=True)
    b.mkdir()
    with Mounts() as mounts:
        mounts.mount_bind(a, b)
        watched = [
            WatchedSource(os.fsencode(path), share)
            for path, share in zip((a, b), shares, strict=True)
        ]
        (b / "d/new").mkdir()
        assert changes_of(watched[0]) == changes_of(watched[1]) == {Change(b"d/new", Scope.TREE)}
        assert_watched(instance, (a, watched[0]), (b, watched[1]))


def test_a_file_system_that_is_unmounted_is_lost_for_all_holders(
    shares: tuple[InotifyShare, InotifyShare], tmp_path: Path
) -> None:
    if not can_mount():
        pytest.skip("needs root and permission to mount")
    (tmp_path / "mounted").mkdir()
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "mounted")
        watched = [WatchedSource(os.fsencode(tmp_path / "mounted"), share) for share in shares]
        mounts.unmount(tmp_path / "mounted")
    for each in watched:
        each.process_events()
        assert each.processor.is_source_lost


@pytest.mark.parametrize("seed", range(8))
def test_overlapping_sources_equal_their_replicas_after_random_operations(
    seed: int, instance: SharedInotify, tmp_path: Path
) -> None:
    writer = OverlappingWriter(seed, tmp_path / "top")
    places = writer.sources
    with ExitStack() as stack:
        watched = []
        for place in places:
            share = instance.open_share()
            stack.callback(share.close)
            watched.append(WatchedSource(os.fsencode(place), share))
        replicas = [Replica(place) for place in places]
        for _ in range(25):
            for _ in range(writer.random.randrange(1, 12)):
                writer.work()
            # One of them may be behind by several rounds.
            for each, replica in writer.random.sample(list(zip(watched, replicas, strict=True)), 2):
                replica.apply(changes_of(each))
        for each, replica, place in zip(watched, replicas, places, strict=True):
            replica.apply(changes_of(each))
            assert (replica.entries, seed) == (read_tree(place), seed)
        assert_watched(instance, *zip(places, watched, strict=True))
