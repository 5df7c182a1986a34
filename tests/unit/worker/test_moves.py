"""What is moved in the source is moved at the destination, if that is certain to be right.

With a real rsync daemon, where nothing but a run to link files can do it.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.moving import SIZE, MovingSetup, start_server

from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.scoped_paths import MutableScopedPaths, Scope
from pylsyncd.rsync.outcomes import Verdict
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
    caplog.set_level("INFO")
    result = carry(place, make_moved(place))
    assert result.verdict is Verdict.DONE
    assert result.run is not None
    assert (result.run.result.moved_files, result.run.result.moved_bytes) == (2, 2 * SIZE)
    assert place.moved_counts == (2, 2 * SIZE)
    assert place.bytes_sent < 4 * SIZE
    assert place.differences() == []
    assert (place.copy / "new/f").stat().st_nlink == 1
    assert "moved 2 files (1.4 MB not sent), " in caplog.text


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


@pytest.mark.parametrize("options", [("--inplace",), ("--inplace", "--whole-file")])
def test_files_that_are_written_in_place_are_copied_instead_of_linked(
    make: Callable[..., MovingSetup], options: tuple[str, ...]
) -> None:
    place = make(extra_options=options)
    moved = make_moved(place)
    sent_before = place.bytes_sent
    # A new file comes to the old place while rsync links.
    place.faulty.add_rule("d/g", f"mkdir {place.source}/old; echo x >{place.source}/old/f")
    result = carry(place, moved)
    assert result.verdict is Verdict.DONE
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
