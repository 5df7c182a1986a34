"""What is moved in the source is moved at the destination, if that is certain to be right.

With a real rsync daemon, where nothing but a run to link files can do it.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.faults import exit_with, kill_itself
from support.moving import SIZE, MovingSetup, moving, start_server

from pylsyncd.model.changes import Changeset, MutableChangeset, union
from pylsyncd.model.moves import NO_MOVES, Move
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rules.excludes import build_rules
from pylsyncd.rules.filters import parse_exclude, parse_filter
from pylsyncd.worker import renames
from pylsyncd.worker.moves import settled_pairs
from pylsyncd.worker.transfer_result import TransferResult

SETTLED: frozenset[bytes] = frozenset()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> None:
    """Have a server run before a test does."""
    start_server("rsyncd", request)


@pytest.fixture
def make(
    tmp_path: Path, request: pytest.FixtureRequest, server: None
) -> Iterator[Callable[..., MovingSetup]]:
    """Return a function that makes a source and its copy behind an rsync daemon."""
    del server
    made = []

    def make(**options: object) -> MovingSetup:
        made.append(MovingSetup(tmp_path, "rsyncd", request, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(make: Callable[..., MovingSetup]) -> MovingSetup:
    return make()


def carry(
    place: MovingSetup, changeset: Changeset, unsettled: frozenset[bytes] | None = SETTLED
) -> TransferResult:
    return place.transfer.carry(changeset, unsettled=unsettled)


def make_moved(place: MovingSetup, *, old: str = "old", new: str = "new") -> Changeset:
    """Move a directory of two files."""
    place.write(f"{old}/f", f"{old}/d/g", "other")
    place.make_equal()
    place.move(old, new)
    return place.moved({new: old})


def test_a_moved_directory_is_not_sent_and_its_old_copy_is_deleted(
    place: MovingSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    result = carry(place, make_moved(place))
    assert result.verdict is Verdict.DONE
    assert result.run is not None
    assert (result.run.result.moved_files, result.run.result.moved_bytes) == (2, 2 * SIZE)
    assert place.moved_counts == (2, 2 * SIZE)
    assert place.bytes_sent < 4 * SIZE
    assert place.differences() == []
    assert (place.copy / "new/f").stat().st_nlink == 1
    assert "moved 2 files (1.4 MB not sent), " in caplog.text
    assert "moved old to new" in caplog.text


def test_files_that_keep_their_last_names_are_moved_together(place: MovingSetup) -> None:
    place.write("a/1", "a/2", "a/3", "a/stays", "b/other")
    place.make_equal()
    for number in "123":
        place.move(f"a/{number}", f"b/{number}")
    moved = place.moved({f"b/{number}": f"a/{number}" for number in "123"})
    assert carry(place, moved).verdict is Verdict.DONE
    assert place.moved_counts == (3, 3 * SIZE)
    assert place.differences() == []
    # One run makes the directory, one links, and one is that of the window.
    assert [len(run) for run in place.faulty.runs[-3:]] == [1, 3, 6]


def test_a_file_with_another_last_name_is_sent_to_an_rsync_daemon(place: MovingSetup) -> None:
    place.write("a")
    place.make_equal()
    place.move("a", "b")
    place.write("big", size=3 * SIZE)
    assert carry(place, place.moved({"b": "a"})).verdict is Verdict.DONE
    assert place.moved_counts == (0, 0)
    assert (place.copy / "b").exists()


def test_small_moves_are_sent(place: MovingSetup) -> None:
    place.write("old/f", size=1000)
    place.make_equal()
    place.move("old", "new")
    before = len(place.faulty.runs)
    assert carry(place, place.moved({"new": "old"})).verdict is Verdict.DONE
    assert len(place.faulty.runs) == before + 1
    assert place.differences() == []


def test_what_was_written_after_the_move_is_sent_although_size_and_time_are_equal(
    place: MovingSetup,
) -> None:
    make_moved(place)
    written = place.source / "new/f"
    times = written.stat().st_atime_ns, written.stat().st_mtime_ns
    place.write("new/f")
    os.utime(written, ns=times)
    some = MutableScopedPaths()
    some.add(b"new/f", Scope.ENTRY)
    more = MutableChangeset()
    more.add_new_content(b"new/f", Scope.ENTRY)
    assert carry(place, place.moved({"new": "old"}, some, more=more)).verdict is Verdict.DONE
    assert place.moved_counts[0] == 2
    assert place.differences() == []


def test_files_that_are_written_in_place_are_copied_instead_of_linked(
    make: Callable[..., MovingSetup],
) -> None:
    place = make(extra_options=("--inplace",))
    moved = make_moved(place)
    sent_before = place.bytes_sent
    # A new file comes to the old place while rsync copies.
    place.faulty.add_rule("d/g", f"mkdir {place.source}/old; echo x >{place.source}/old/f")
    assert carry(place, moved).verdict is Verdict.DONE
    assert place.bytes_sent - sent_before < SIZE
    assert (place.copy / "new/f").read_bytes() == (place.source / "new/f").read_bytes()
    assert (place.copy / "new/f").stat().st_nlink == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--hard-links",), ("-zH",), ("--backup",), ("-b",), ("--backup-dir=x",), ("--iconv=.",),
        ("--link-dest=/x",), ("--copy-dest=/x",), ("--checksum",), ("-I",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_is_moved_with_options_that_give_names_another_meaning(
    make: Callable[..., MovingSetup], options: tuple[str, ...]
) -> None:
    place = make(extra_options=options)
    place.write("old/f", "old/g")
    (place.copy / "old").mkdir()
    for name in "fg":
        (place.copy / "old" / name).write_bytes(b"")
    place.move("old", "new")
    before = len(place.faulty.runs)
    carry(place, place.moved({"new": "old"}))
    assert not any("f" in run for run in place.faulty.runs[before:])
    assert place.moved_counts == (0, 0)


def test_nothing_is_moved_with_no_delete_or_where_renames_are_not_detected(
    place: MovingSetup,
) -> None:
    moved = make_moved(place)
    for options in (
        replace(place.options, delete=False),
        replace(place.options, detects_renames=False),
        replace(place.options, dry_run=True),
        replace(place.options, last=build_rules([parse_exclude(b"other")])),
    ):
        place.transfer.carry(moved, options=options, unsettled=SETTLED)
    assert place.moved_counts == (0, 0)


@pytest.mark.parametrize("is_released", [True, False])
def test_nothing_is_moved_for_what_was_released_or_while_it_is_not_known_what_waits(
    place: MovingSetup, *, is_released: bool
) -> None:
    moved = make_moved(place)
    unsettled = SETTLED if is_released else None
    place.transfer.carry(moved, is_released=is_released, unsettled=unsettled)
    assert place.moved_counts == (0, 0)
    assert place.differences() == []


@pytest.mark.parametrize("excluded", [b"old", b"old/d", b"new/f", b"new"])
def test_no_move_touches_what_another_run_carries(place: MovingSetup, excluded: bytes) -> None:
    moved = make_moved(place)
    place.transfer.carry(moved, in_flight=frozenset([excluded]), unsettled=SETTLED)
    assert place.moved_counts == (0, 0)
    place.transfer.carry(moved, unsettled=SETTLED)
    assert place.differences() == []


@pytest.mark.parametrize(
    ("unsettled", "left"),
    [
        (b"x", [b"a/n", b"b"]), (b"", []), (b"a", [b"b"]), (b"a/n", [b"b"]), (b"a/n/f", [b"b"]),
        (b"a/no", [b"a/n", b"b"]), (b"o/1", [b"b"]), (b"o/1/f", [b"b"]), (b"o", []),
        (b"o/2", [b"a/n"]), (b"b/c/d", [b"a/n"]),
    ],
)  # fmt: skip
def test_pairs_at_above_or_below_an_unsettled_path_are_dropped(
    unsettled: bytes, left: list[bytes]
) -> None:
    pairs = {
        b"a/n": Move(b"o/1", is_directory=True, is_new_name=True),
        b"b": Move(b"o/2", is_directory=True, is_new_name=True),
    }
    assert sorted(settled_pairs(pairs, frozenset([unsettled]))) == left


def test_a_name_that_was_there_before_is_not_linked_to(place: MovingSetup) -> None:
    place.write("old/f", "old/g", "new/f")
    place.make_equal()
    shutil.rmtree(place.source / "new")
    place.move("old", "new")
    carry(place, place.moved({"new": "old"}, is_new_name=False))
    assert place.moved_counts == (0, 0)
    assert place.differences() == []


def test_nothing_is_linked_to_an_old_place_that_was_filled_again(place: MovingSetup) -> None:
    moved = make_moved(place)
    place.write("old/f", "old/h")
    more = MutableChangeset()
    more.add_new_content(b"old", Scope.TREE)
    carry(place, place.moved({"new": "old"}, more=more))
    assert place.moved_counts == (0, 0)
    assert place.differences() == []
    assert moved


def test_copies_share_nothing_with_an_old_place_that_is_filled_again_meanwhile(
    place: MovingSetup,
) -> None:
    moved = make_moved(place)
    place.faulty.add_rule("d/g", f"cp -a {place.source}/new {place.source}/old")
    carry(place, moved)
    place.faulty.discard_rules()
    later = MutableChangeset()
    later.add_new_content(b"old", Scope.TREE)
    carry(place, later)
    assert place.differences() == []
    for name in ("old", "new"):
        assert (place.copy / name / "f").stat().st_nlink == 1


def test_only_what_the_rules_include_is_moved(make: Callable[..., MovingSetup]) -> None:
    place = make(rules=build_rules([parse_exclude(b"*.tmp"), parse_exclude(b"/new/d/")]))
    place.write("old/f", "old/g", "old/x.tmp", "old/d/h")
    place.make_equal_except({"old/x.tmp"})
    place.move("old", "new")
    assert carry(place, place.moved({"new": "old"})).verdict is Verdict.DONE
    assert place.moved_counts == (2, 2 * SIZE)
    assert sorted(os.listdir(place.copy / "new")) == ["f", "g"]
    assert not (place.copy / "old/f").exists()


# Where copies can be renamed.


@pytest.fixture(scope="module", params=["local", "ssh"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of a destination, and have its server run before a test does."""
    kind: str = request.param
    start_server(kind, request)
    return kind


@pytest.fixture
def make_renaming(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> Iterator[Callable[..., MovingSetup]]:
    """Return a function that makes a source and its copy, which can be renamed."""
    made = []

    def make(**options: object) -> MovingSetup:
        made.append(MovingSetup(tmp_path, kind, request, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for place in made:
        place.close()


RULES_BELOW = [b"- *.tmp", b"- /old/x.tmp", b"- /new/x.tmp", b"P /old/x.tmp", b"P *.tmp"]


@pytest.mark.parametrize("rule", RULES_BELOW, ids=bytes.decode)
def test_what_rules_keep_at_the_copy_of_a_directory_stays_when_that_is_moved(
    make_renaming: Callable[..., MovingSetup], rule: bytes
) -> None:
    place = make_renaming(rules=build_rules([parse_filter(rule)]))
    place.write("old/f", "old/d/g")
    place.make_equal()
    (place.copy / "old/x.tmp").write_text("of the copy alone")
    inode = (place.copy / "old/f").stat().st_ino
    place.move("old", "new")
    carry(place, place.moved({"new": "old"}))
    assert sorted(os.listdir(place.copy / "new")) == ["d", "f"]
    assert (place.copy / "old/x.tmp").exists() == (b"new" not in rule)
    assert not (place.copy / "old/f").exists()
    # It was not sent, but linked.
    assert (place.copy / "new/f").stat().st_ino == inode
    assert place.moved_counts == (2, 2 * SIZE)


def test_a_directory_below_which_no_rule_matches_is_renamed(
    make_renaming: Callable[..., MovingSetup],
) -> None:
    place = make_renaming(rules=build_rules([parse_exclude(b"/other/*.tmp")]))
    place.write("old/f", "old/d/g")
    place.make_equal()
    inode = (place.copy / "old").stat().st_ino
    place.move("old", "new")
    carry(place, place.moved({"new": "old"}))
    assert (place.copy / "new").stat().st_ino == inode
    assert place.differences() == []


@pytest.mark.parametrize("rule", [b"P /a", b"P /a/f", b"P f"], ids=bytes.decode)
def test_a_copy_that_rules_may_protect_is_not_moved_away(
    make_renaming: Callable[..., MovingSetup], rule: bytes
) -> None:
    place = make_renaming(rules=build_rules([parse_filter(rule)]))
    place.write("a/f", "a/stays")
    place.make_equal()
    place.move("a/f", "new/f")
    carry(place, place.moved({"new/f": "a/f"}))
    assert place.moved_counts == (0, 0)
    assert (place.copy / "a/f").exists() == (b"f" in rule)
    assert (place.copy / "new/f").read_bytes() == (place.source / "new/f").read_bytes()


def test_no_copy_shares_its_inode_with_one_that_rules_protect(
    make: Callable[..., MovingSetup],
) -> None:
    place = make(rules=build_rules([parse_filter(b"P /old/f")]))
    carry(place, make_moved(place))
    assert place.moved_counts == (0, 0)
    place.write("old/d/h")
    place.make_equal_except({"old/f"})


@pytest.mark.parametrize("name", ["new*", "n?", "n[1]", "n\\", "n`x`", "n\nx", "n\rx"])
def test_names_that_a_remote_side_may_expand_are_sent(place: MovingSetup, name: str) -> None:
    carry(place, make_moved(place, new=name))
    assert place.moved_counts == (0, 0)
    assert place.differences() == []


FAILURES = [exit_with(12), exit_with(23), exit_with(4), kill_itself()]


@pytest.mark.parametrize("failure", FAILURES, ids=["12", "23", "4", "killed"])
@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("is_before", [True, False])
def test_trees_are_equal_whichever_run_fails(
    make: Callable[..., MovingSetup], failure: str, number: int, *, is_before: bool
) -> None:
    place = make(max_delete=1)
    moved = make_moved(place)
    for _ in range(number):
        place.faulty.add_fault(":")
    place.faulty.add_fault(failure if is_before else f'rsync "$@"; {failure}')
    result = carry(place, moved)
    if result.pending or result.failed:
        result = carry(place, union(result.pending, result.failed))
    if result.verdict is Verdict.HELD:
        # Not all of it was there under its new name.
        result = place.transfer.carry(moved, is_released=True)
    assert result.verdict is Verdict.DONE
    assert place.differences() == []
    assert (place.copy / "new/f").stat().st_nlink == 1


def test_moves_survive_a_destination_that_cannot_be_reached(place: MovingSetup) -> None:
    moved = make_moved(place)
    sent_before = place.bytes_sent
    for _ in range(2):
        place.faulty.add_fault(exit_with(10))
    result = carry(place, moved)
    assert result.verdict is Verdict.RETRY_LATER
    assert result.pending.moves is not None
    assert carry(place, result.pending).verdict is Verdict.DONE
    assert place.moved_counts == (2, 2 * SIZE)
    assert place.bytes_sent - sent_before < SIZE
    assert place.differences() == []


def test_a_daemon_that_refuses_links_is_asked_once(
    place: MovingSetup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    moved = make_moved(place)
    place.faulty.add_fault(":")
    place.faulty.add_fault(exit_with(4))
    carry(place, moved)
    assert place.differences() == []
    place.move("new", "newer")
    before = len(place.faulty.runs)
    carry(place, place.moved({"newer": "new"}))
    assert len(place.faulty.runs) == before + 1
    assert place.differences() == []
    assert caplog.text.count("--link-dest") == 1


# With --max-delete.


def test_the_old_place_of_a_moved_directory_does_not_count_as_deleted(
    make: Callable[..., MovingSetup],
) -> None:
    place = make(max_delete=0)
    assert carry(place, make_moved(place)).verdict is Verdict.DONE
    assert place.moved_counts == (2, 2 * SIZE)
    assert place.differences() == []


def test_moved_files_do_not_count_as_deleted(make: Callable[..., MovingSetup]) -> None:
    place = make(max_delete=0)
    place.write("a/1", "a/2", "b/x")
    place.make_equal()
    for name in "12":
        place.move(f"a/{name}", f"b/{name}")
    moved = place.moved({f"b/{name}": f"a/{name}" for name in "12"})
    assert carry(place, moved).verdict is Verdict.DONE
    assert place.differences() == []


def test_the_old_place_counts_if_less_is_there_under_the_new_name(
    make: Callable[..., MovingSetup],
) -> None:
    place = make(max_delete=0)
    place.write("old/f", "old/g", "old/lost")
    place.make_equal()
    place.move("old", "new")
    (place.source / "new/lost").unlink()
    result = carry(place, place.moved({"new": "old"}))
    assert result.verdict is Verdict.HELD
    assert (place.copy / "old/lost").exists()


def test_the_old_place_counts_if_something_is_lost_and_something_new_is_there(
    make: Callable[..., MovingSetup],
) -> None:
    place = make(max_delete=0)
    place.write("old/f", "old/g", "old/lost")
    place.make_equal()
    place.move("old", "new")
    (place.source / "new/lost").unlink()
    place.write("new/1", "new/d/2", size=1)
    result = carry(place, place.moved({"new": "old"}))
    assert result.verdict is Verdict.HELD
    assert (place.copy / "old/lost").exists()


def test_links_and_empty_directories_do_not_count_if_they_are_there_under_the_new_name(
    make: Callable[..., MovingSetup],
) -> None:
    place = make(max_delete=0)
    place.write("old/f", "old/g")
    (place.source / "old/empty").mkdir()
    (place.source / "old/link").symlink_to("f")
    place.make_equal()
    place.move("old", "new")
    assert carry(place, place.moved({"new": "old"})).verdict is Verdict.DONE
    assert place.differences() == []


@pytest.mark.parametrize(
    ("rule", "name", "is_held"),
    [(b"- *.tmp", "f", False), (b"- /new/x.tmp", "x.tmp", True), (b"- /a/x", "f", False)],
)
def test_what_rules_exclude_at_the_new_place_is_not_there(
    make: Callable[..., MovingSetup], rule: bytes, name: str, *, is_held: bool
) -> None:
    place = make(max_delete=0, rules=build_rules([parse_filter(rule)]))
    place.write("old/f", "old/g", f"old/{name}")
    place.make_equal()
    place.write("old/y.tmp")
    place.move("old", "new")
    result = carry(place, place.moved({"new": "old"}))
    assert result.verdict is (Verdict.HELD if is_held else Verdict.DONE)
    assert (place.copy / "old" / name).exists() == is_held


def test_the_old_place_counts_if_the_move_failed(make: Callable[..., MovingSetup]) -> None:
    place = make(max_delete=0)
    moved = make_moved(place)
    place.faulty.add_fault(":")
    place.faulty.add_fault(exit_with(12))
    assert carry(place, moved).verdict is Verdict.HELD
    assert (place.copy / "old/f").exists()


def test_other_deletions_count_beside_a_move(make: Callable[..., MovingSetup]) -> None:
    place = make(max_delete=0)
    make_moved(place)
    (place.source / "other").unlink()
    more = MutableChangeset()
    more.add(b"other", Scope.ENTRY)
    result = carry(place, place.moved({"new": "old"}, more=more))
    assert result.verdict is Verdict.HELD
    assert (place.copy / "other").exists()
    assert "1 would be deleted" in result.outcome.reason


# After a failure.

TOO_LARGE_TO_COMPARE = 5_000_000
"""Files of that size are compared by content only where that is necessary."""


def write_again(place: MovingSetup, name: str, like: str) -> Changeset:
    """Write other bytes to a file, of the same size and time as another one."""
    status = (place.source / like).stat()
    place.write(name, size=status.st_size)
    os.utime(place.source / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    changes = MutableChangeset()
    changes.add_new_content(os.fsencode(name), Scope.ENTRY)
    return changes


def test_an_old_name_used_again_is_not_moved_after_a_run_that_broke_off(
    make_renaming: Callable[..., MovingSetup],
) -> None:
    place = make_renaming()
    place.write("a", size=TOO_LARGE_TO_COMPARE)
    place.make_equal()
    place.move("a", "b")
    changes = place.moved({"b": "a"}, more=write_again(place, "a", like="b"))
    # It has sent one of the two.
    place.faulty.add_fault(f'rsync "$@"; rm {place.copy}/b; exit 12')
    result = carry(place, changes, unsettled=None)
    assert result.pending
    assert carry(place, result.pending).verdict is Verdict.DONE
    assert place.differences() == []


def test_a_chain_is_not_moved_after_a_run_that_broke_off(
    make_renaming: Callable[..., MovingSetup],
) -> None:
    place = make_renaming()
    place.write("a", size=TOO_LARGE_TO_COMPARE)
    write_again(place, "b", like="a")
    place.make_equal()
    place.move("b", "c")
    place.move("a", "b")
    place.faulty.add_fault(f'rsync "$@"; rm {place.copy}/c; exit 12')
    result = carry(place, place.moved({"c": "b", "b": "a"}), unsettled=None)
    assert carry(place, result.pending).verdict is Verdict.DONE
    assert place.differences() == []


def test_moves_are_still_known_after_a_run_that_broke_off(
    make_renaming: Callable[..., MovingSetup],
) -> None:
    place = make_renaming()
    moved = make_moved(place)
    place.faulty.add_fault(exit_with(12))
    result = carry(place, moved, unsettled=None)
    assert carry(place, result.pending).verdict is Verdict.DONE
    assert place.moved_counts == (2, 2 * SIZE)
    assert place.differences() == []


def test_a_source_that_is_replaced_during_a_run_leaves_no_moves(place: MovingSetup) -> None:
    moved = make_moved(place)
    other = place.source.with_name("other-source")
    place.faulty.add_rule("new", f"mv {place.source} {other}; mkdir {place.source}")
    result = carry(place, moved)
    assert result.verdict is Verdict.SOURCE_UNSAFE
    assert place.moved_counts[0] == 2
    assert result.pending.moves is None


def test_what_was_moved_counts_once_although_the_run_that_follows_is_repeated(
    place: MovingSetup,
) -> None:
    moved = make_moved(place)
    for fault in (":", ":", exit_with(12)):
        place.faulty.add_fault(fault)
    result = carry(place, moved)
    assert result.verdict is Verdict.RETRY_LATER
    assert result.pending.moves is None
    again = carry(place, result.pending)
    assert again.verdict is Verdict.DONE
    assert place.moved_counts == (2, 2 * SIZE)
    assert again.run is not None
    assert again.run.result.moved_files == 0
    assert place.differences() == []


@pytest.mark.parametrize("inplace", [(), ("--inplace",)], ids=["linked", "copied"])
def test_a_run_that_is_stopped_while_it_links_leaves_all_to_the_next_one(
    make: Callable[..., MovingSetup], inplace: tuple[str, ...]
) -> None:
    place = make(extra_options=inplace)
    moved = make_moved(place)
    # The first one makes the directory, the second one links.
    place.faulty.add_fault(":")
    place.faulty.add_fault('exec 3<&0; rsync "$@" <&3 & sleep 0.1; kill $!; kill $$')
    place.faulty.add_fault(exit_with(20))
    result = carry(place, moved)
    assert carry(place, result.pending).verdict is Verdict.DONE
    assert place.differences() == []
    assert (place.copy / "new/f").stat().st_nlink == 1


def test_changes_of_days_without_the_destination_are_carried_with_the_moves(
    make_renaming: Callable[..., MovingSetup],
) -> None:
    place = make_renaming()
    pending = make_moved(place)
    place.faulty.add_fault(exit_with(255))
    pending = carry(place, pending, unsettled=None).pending
    place.move("new", "newer")
    pending = union(pending, place.moved({"newer": "new"}))
    later = write_again(place, "old/f", like="newer/f")
    later.add_new_content(b"old", Scope.TREE)
    pending = union(pending, later.with_moves(NO_MOVES))
    more = write_again(place, "newer/d/g", like="newer/f").with_moves(NO_MOVES)
    pending = union(pending, more)
    assert carry(place, pending).verdict is Verdict.DONE
    assert place.moved_counts == (2, 2 * SIZE)
    assert place.differences() == []


def test_a_newer_copy_at_the_new_name_is_not_replaced_by_a_move(
    make_renaming: Callable[..., MovingSetup],
) -> None:
    place = make_renaming()
    moved = make_moved(place)
    (place.copy / "new").mkdir()
    (place.copy / "new/f").write_bytes(b"newer")
    (place.copy / "new/g").write_bytes(b"newer")
    assert carry(place, moved).verdict is Verdict.DONE
    assert place.differences() == []


# Directories that are rotated, at a local destination: what was deleted gets the name that is left.

TIME = 946_684_800_000_000_000
"""Of all files in directories that are rotated, in nanoseconds: only the moves tell them apart."""


class Rotation:
    """Four directories that are rotated: the last one is deleted, and the first one made again."""

    def __init__(self, place: MovingSetup, *, has_new_first: bool = True) -> None:
        self.place = place
        for number in range(4):
            self._write(f"d.{number}/f", f"d.{number}/e/g")
        self._write("d.3/only")
        place.make_equal()
        self.bytes_before = place.bytes_sent
        shutil.rmtree(place.source / "d.3")
        for number in (2, 1, 0):
            place.move(f"d.{number}", f"d.{number + 1}")
        events = MutableChangeset()
        if has_new_first:
            self._write("d.0/f", "d.0/e/g")
            events.add_new_content(b"d.0", Scope.TREE)
        pairs = {f"d.{number + 1}": f"d.{number}" for number in range(3)}
        self.changes = place.moved(pairs, is_new_name=False, more=events)

    def _write(self, *names: str) -> None:
        self.place.write(*names)
        for name in names:
            os.utime(self.place.source / name, ns=(TIME, TIME))


@pytest.fixture
def local(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., MovingSetup]]:
    """Return a function that makes a source and its local copy."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(moving(tmp_path, "local", request, **options))


@pytest.mark.parametrize("has_new_first", [True, False])
def test_of_rotated_directories_only_the_new_one_is_sent(
    local: Callable[..., MovingSetup], has_new_first: bool
) -> None:
    place = local()
    rotation = Rotation(place, has_new_first=has_new_first)
    assert carry(place, rotation.changes).verdict is Verdict.DONE
    assert place.differences() == []
    assert place.moved_counts == (6, 6 * SIZE)
    sent = place.bytes_sent - rotation.bytes_before
    assert sent // SIZE == (2 if has_new_first else 0)


def test_of_rotated_directories_what_was_deleted_counts(local: Callable[..., MovingSetup]) -> None:
    place = local(max_delete=0)
    result = carry(place, Rotation(place).changes)
    assert result.verdict is Verdict.HELD
    assert (place.copy / "d.0/only").exists()
    released = place.transfer.carry(result.pending, is_released=True, unsettled=SETTLED)
    assert released.verdict is Verdict.DONE
    assert place.differences() == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_after_a_crash_between_two_renames_rotated_directories_become_equal(
    local: Callable[..., MovingSetup], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    place, rename, calls = local(), renames.rename_below, []

    def rename_or_crash(*arguments: Any, **named: Any) -> bool:
        calls.append(arguments)
        if len(calls) == number:
            raise _CrashError
        return rename(*arguments, **named)

    rotation = Rotation(place)
    monkeypatch.setattr(renames, "rename_below", rename_or_crash)
    with pytest.raises(_CrashError):
        carry(place, rotation.changes)
    assert carry(place, rotation.changes.with_moves(None)).verdict is Verdict.DONE
    assert place.differences() == []


def test_after_a_failed_run_rotated_directories_become_equal(
    local: Callable[..., MovingSetup],
) -> None:
    place = local()
    rotation = Rotation(place)
    place.faulty.add_fault(exit_with(12))
    result = carry(place, rotation.changes)
    assert result.verdict is not Verdict.DONE
    assert carry(place, result.pending).verdict is Verdict.DONE
    assert place.differences() == []


class _CrashError(Exception):
    """The daemon is killed."""
