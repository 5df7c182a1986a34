"""One changeset, one rsync, one result. With real rsyncs."""

import os
import shlex
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.faults import print_error_and_exit
from support.limits import checked_permissions, user_prefix
from support.servers import Unavailable
from support.trees import differences
from support.waiting import wait_until
from support.worker_setup import DENIED, WorkerSetup, carry, changed_paths, copied, entries

from pylsyncd.model.changes import (
    EVERYTHING,
    NOTHING,
    Changeset,
    MutableChangeset,
    everything_with,
)
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rsync.command import DeletionTime
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.rules.excludes import build_rules
from pylsyncd.rules.filters import parse_exclude


def test_a_carried_changeset_leaves_nothing_pending(place: WorkerSetup) -> None:
    place.write("a", "b")
    result = carry(place, entries(b"a"))
    assert result.verdict is Verdict.DONE
    assert [*result.pending, *result.failed, *result.large_files] == []
    assert result.run is not None
    assert result.run.result.files == 1
    assert copied(place) == ["a"]


def test_an_empty_list_needs_no_run(place: WorkerSetup) -> None:
    assert carry(place, NOTHING).run is None


def test_a_failed_run_leaves_everything_pending(place: WorkerSetup) -> None:
    place.write("a")
    place.faulty.add_fault(print_error_and_exit("rsync: connection reset", 12))
    result = carry(place, entries(b"a"))
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.RETRY_LATER, [b"a"])
    assert result.outcome.message == "rsync: connection reset"
    assert result.run is not None
    assert result.run.result.exit_status == 12


@pytest.mark.parametrize("changes", [EVERYTHING, None], ids=["full sync", "listed"])
def test_skipped_deletions_are_made_at_once_without_sending_anything(
    place: WorkerSetup, changes: Changeset | None
) -> None:
    place.write("d/bad", "d/good", "shut/x", "e/f")
    (place.copy / "shut").mkdir()
    for name in ("d", "e"):
        (place.copy / name).mkdir()
        (place.copy / name / "gone").touch()
    (place.copy / "shut/kept").touch()
    if changes is None:
        changes = MutableChangeset()
        for path in (b"d", b"e", b"shut"):
            changes.add(path, Scope.LISTING)
    skipped = "IO error encountered -- skipping file deletion"
    unreadable = f'rsync: [sender] send_files failed to open "/proc/self/cwd/d/bad": {DENIED}'
    shut = f'rsync: [sender] opendir "/proc/self/cwd/shut" failed: {DENIED}'
    place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{unreadable}\n{shut}", 23))
    result = carry(place, changes)
    assert (changed_paths(result.failed), changed_paths(result.pending)) == (
        [b"d/bad", b"shut"],
        [],
    )
    assert result.verdict is Verdict.PARTIAL
    found = {str(path.relative_to(place.copy)) for path in place.copy.rglob("*")}
    assert found == {"d", "e", "shut", "shut/kept"}


def test_deletions_are_made_beside_what_vanished_and_what_is_no_directory_any_more(
    place: WorkerSetup,
) -> None:
    place.write("top/d/sub/f", "top/gone/f", "file/f")
    for name in ("top/d/old", "top/d/sub/old"):
        (place.copy / name).mkdir(parents=True)
    changes = entries(b"top", b"top/gone/f", b"file/f")
    changes.add(b"top/d", Scope.TREE)
    source = shlex.quote(str(place.source))
    # rsync says that "top/gone" has vanished, and that "file" is no directory, and deletes nothing.
    place.faulty.add_fault(f"cd {source} && rm -r top/gone file && touch file")
    result = carry(place, changes)
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.RETRY_NOW, [])
    assert changed_paths(result.failed) == [b"file/f", b"top/gone/f"]
    assert (place.copy / "top/d/sub/f").exists()
    assert not [*place.copy.rglob("old")]


@pytest.mark.parametrize("scope", [Scope.ENTRY, Scope.LISTING])
@pytest.mark.parametrize("changes", [EVERYTHING, None], ids=["full sync", "tree"])
def test_deletions_are_made_below_a_directory_that_failed_alone(
    place: WorkerSetup, changes: Changeset | None, scope: Scope
) -> None:
    place.write("top/d/sub/f")
    for name in ("top/d/old", "top/d/sub/old"):
        (place.copy / name).mkdir(parents=True)
    if changes is None:
        changes = MutableChangeset()
        changes.add(b"top", Scope.TREE)
    skipped = "IO error encountered -- skipping file deletion"
    copy = f"{place.copy}/top/d"
    said = f'rsync: [generator] failed to set times on "{copy}": No such file or directory (2)'
    if scope is Scope.LISTING:
        cut_name = f".{'n' * 246}.123456"
        said = f'rsync: [receiver] mkstemp "{copy}/{cut_name}" failed: {DENIED}'
    place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{said}", 23))
    result = carry(place, changes)
    assert [*result.failed] == [(b"top/d", scope)]
    assert changed_paths(result.pending) == []
    assert not (place.copy / "top/d/sub/old").exists()
    # That is done when the directory itself is tried again.
    assert (place.copy / "top/d/old").exists() == (scope is Scope.LISTING)


def test_a_large_file_that_waits_does_not_show_how_exact_times_are(tmp_path: Path) -> None:
    with closing(
        WorkerSetup(tmp_path, size_limit=SizeLimit(1, preserves_hard_links=False))
    ) as place:
        place.write("large")
        (place.copy / "large").write_text("LARGE")
        for top, nanoseconds in (place.source, 123_456_789), (place.copy, 123_456_700):
            os.utime(top / "large", ns=(0, nanoseconds))
        changed_ns = (place.source / "large").stat().st_ctime_ns
        wait_until(lambda: time.time_ns() > changed_ns + 50_000_000)
        transfer = place.transfer(place.session())
        result = transfer.carry(entries(b"large"), exclude_large=True)
        assert changed_paths(result.large_files) == [b"large"]
        assert transfer.options.modify_window is None
        transfer.carry(entries(b"large"))
        assert not differences(bytes(place.source), bytes(place.copy))


@pytest.mark.parametrize("delete_only", [None, DeletionTime.RUNNING])
@pytest.mark.parametrize("replace", [lambda _: None, Path.touch], ids=["missing", "file"])
def test_a_failed_path_is_deleted_with_its_directory(
    tmp_path: Path, delete_only: DeletionTime | None, replace: Callable[[Path], object]
) -> None:
    with closing(WorkerSetup(tmp_path, delete_only=delete_only)) as place:
        (place.copy / "d/in").mkdir(parents=True)
        (place.copy / "d/in/failed").touch()
        place.write("shut")
        replace(place.source / "d")
        changes = entries(b"d")
        changes.deletable.add(b"d", Scope.TREE)
        failed = frozenset([b"d/in/failed", b"shut"])
        result = place.transfer(place.session()).carry(changes, failed)
        assert result.verdict is Verdict.DONE
        assert not differences(bytes(place.source / "d"), bytes(place.copy / "d"))
        assert "shut" not in copied(place)


@pytest.mark.parametrize(
    ("change", "unread"),
    [
        (Change(b"d", Scope.TREE), "d"),
        (Change(b"d", Scope.TREE), "d/sub"),
        (Change(b"d/sub", Scope.TREE), "d"),
        (Change(b"d/sub/in", Scope.LISTING), "d"),
        (Change(b"d/sub/in/f", Scope.ENTRY), "d/sub"),
        (Change(b"d/sub/in", Scope.TREE), "d/sub"),
    ],
)
@pytest.mark.parametrize("excluded", ["", "nothing"])
def test_what_is_readable_only_after_the_list_was_built_is_carried_later(
    place: WorkerSetup, change: Change, unread: str, excluded: str
) -> None:
    place.write("d/sub/in/f")
    if excluded:
        place.set_rules(build_rules([parse_exclude(excluded.encode())]))
    changes = MutableChangeset()
    changes.add_new_content(*change)
    unreadable = place.source / unread
    unreadable.chmod(0)
    place.faulty.add_fault(f"chmod 755 {shlex.quote(str(unreadable))}")
    with checked_permissions():
        result = carry(place, changes)
    assert result.verdict is Verdict.RETRY_NOW
    assert not result.pending
    assert result.failed.new_content.includes_entry(b"d/sub/in/f")
    assert carry(place, result.failed).verdict is Verdict.DONE
    assert (place.copy / "d/sub/in/f").exists()


def test_a_full_sync_keeps_the_hints_of_what_was_unreadable_for_a_moment(
    place: WorkerSetup,
) -> None:
    place.write("d/sub/in/f")
    (place.copy / "d/sub/in").mkdir(parents=True)
    (place.copy / "d/sub/in/f").write_text("d/sub/in/?")
    for top in (place.source, place.copy):
        os.utime(top / "d/sub/in/f", (1, 1))
    hinted = MutableChangeset()
    hinted.add_new_content(b"d", Scope.TREE)
    unreadable = place.source / "d/sub"
    unreadable.chmod(0)
    place.faulty.add_fault(f"chmod 755 {shlex.quote(str(unreadable))}")
    with checked_permissions():
        result = carry(place, everything_with(hinted))
    assert (result.verdict, [*result.failed]) == (Verdict.RETRY_NOW, [(b"d/sub", Scope.TREE)])
    assert carry(place, result.failed).verdict is Verdict.DONE
    assert (place.copy / "d/sub/in/f").read_text() == "d/sub/in/f"


def test_deletions_that_are_skipped_twice_stay_pending(place: WorkerSetup) -> None:
    place.write("bad", "good")
    skipped = "IO error encountered -- skipping file deletion"
    said = f'rsync: [sender] send_files failed to open "/proc/self/cwd/bad": {DENIED}'
    other = f'rsync: [sender] opendir "/proc/self/cwd/d" failed: {DENIED}'
    changes = entries(b"bad", b"good")
    changes.add(b"d", Scope.LISTING)
    for text in (said, other):
        place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{text}", 23))
    result = carry(place, changes)
    assert result.verdict is Verdict.PARTIAL
    assert set(changed_paths(result.failed)) >= {b"bad"}
    assert set(changed_paths(result.pending)) >= {b"good"}


def test_a_directory_that_may_not_be_written_to_is_deleted_by_listing(
    make: Callable[..., WorkerSetup],
) -> None:
    try:
        prefix = user_prefix(is_root=False) if os.geteuid() == 0 else ()
    except Unavailable as reason:
        pytest.skip(str(reason))
    place = make(prelude=f"exec {shlex.join(prefix)}")
    (place.copy / "d").mkdir()
    (place.copy / "d/f").touch()
    (place.copy / "d").chmod(0o555)
    result = carry(place, entries(b"d"))
    assert (changed_paths(result.failed), changed_paths(result.pending)) == ([b"d"], [])
    result = carry(place, entries(b"d"), deletes_by_listing=True)
    assert (result.verdict, copied(place)) == (Verdict.DONE, [])


def test_excluded_paths_are_neither_sent_nor_deleted(place: WorkerSetup) -> None:
    place.write("d/new", "d/excluded")
    (place.copy / "d").mkdir()
    (place.copy / "d/kept").touch()
    listing = MutableChangeset()
    listing.add(b"d", Scope.LISTING)
    place.transfer(place.session()).carry(listing, frozenset([b"d/excluded", b"d/kept"]))
    assert sorted(path.name for path in (place.copy / "d").iterdir()) == ["kept", "new"]


def test_large_files_are_left_out_only_if_asked_and_never_of_a_full_sync(
    make: Callable[..., WorkerSetup],
) -> None:
    place = make(size_limit=SizeLimit(100, preserves_hard_links=False))
    (place.source / "large").write_bytes(b"x" * 101)
    (place.source / "small").write_bytes(b"x" * 100)
    both = entries(b"large", b"small")
    result = carry(place, both, exclude_large=True)
    assert (result.verdict, changed_paths(result.large_files)) == (Verdict.DONE, [b"large"])
    assert copied(place) == ["small"]
    assert not carry(place, both).large_files
    assert copied(place) == ["large", "small"]
    (place.copy / "large").unlink()
    assert not carry(place, EVERYTHING, exclude_large=True).large_files
    assert copied(place) == ["large", "small"]


def test_a_source_replaced_during_the_run_confirms_nothing_and_keeps_the_run(
    place: WorkerSetup,
) -> None:
    place.write("a")
    place.faulty.add_fault(
        f"mv '{place.source}' '{place.source}-was'; mkdir '{place.source}'; exit 0"
    )
    result = carry(place, entries(b"a"))
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.SOURCE_UNSAFE, [b"a"])
    assert result.run is not None
    assert result.run.outcome.verdict is Verdict.DONE


def test_nothing_is_sent_to_a_replaced_destination_until_released(place: WorkerSetup) -> None:
    place.write("a", "b")
    carry(place, entries(b"a"))
    place.copy.rename(place.copy.with_name("was"))
    place.copy.mkdir()
    result = carry(place, entries(b"b"))
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.SOURCE_UNSAFE, [b"b"])
    assert "pylsyncctl release DEST, or send SIGUSR2" in result.outcome.message
    assert result.run is None
    assert copied(place) == []
    assert not result.confirms_everything
    # A released directory is compared as a whole.
    released = carry(place, entries(b"b"), is_released=True)
    assert (released.verdict, released.confirms_everything) == (Verdict.DONE, True)
    assert copied(place) == ["a", "b"]
