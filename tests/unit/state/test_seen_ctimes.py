"""A tree that was restored from an older image is found; whatever is done to a tree is not."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.trees import change_after

from pylsyncd.state.seen_ctimes import MAX_SEEN, SeenCtimes, find_older, is_older
from pylsyncd.system import walk

SECOND = 1_000_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree/d/deep").mkdir(parents=True)
    for name in ("a", "d/b", "d/deep/c"):
        (tmp_path / "tree" / name).touch()
    shutil.copytree(tmp_path / "tree", tmp_path / "older")
    for name in ("a", "d/b", "d/deep/c"):
        change_after(tmp_path / "tree" / name, tmp_path / "older/d/deep/c")
    return tmp_path / "tree"


def everything_seen(tree: Path) -> dict[bytes, int]:
    seen = SeenCtimes()
    with walk.opened_root(os.fsencode(tree)) as root:
        seen.look_through(root, [b""], lambda *_: False)
    return dict(seen.ctimes)


def older(tree: Path, ctimes: dict[bytes, int]) -> bytes | None:
    with walk.opened_root(os.fsencode(tree)) as root:
        return find_older(root, ctimes)


def test_the_newest_entry_of_each_directory_is_seen(tree: Path) -> None:
    (tree / "d/newest").touch()
    change_after(tree / "d/newest", tree / "d/b")
    # Of a directory that was changed last itself, that is seen.
    change_after(tree / "d/deep", tree / "d/deep/c")
    seen = everything_seen(tree)
    assert seen[b"d/newest"] == (tree / "d/newest").stat().st_ctime_ns
    assert seen[b"d/deep"] == (tree / "d/deep").stat().st_ctime_ns
    assert b"d/b" not in seen
    assert b"d/deep/c" not in seen


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: None, id="nothing"),
        pytest.param(lambda tree: (tree / "d/deep/c").unlink(), id="a file is deleted"),
        pytest.param(lambda tree: shutil.rmtree(tree / "d/deep"), id="a directory is deleted"),
        pytest.param(lambda tree: shutil.rmtree(tree / "d"), id="a tree is deleted"),
        pytest.param(lambda tree: (tree / "d").rename(tree / "e"), id="a tree is renamed"),
        pytest.param(lambda tree: (tree / "a").rename(tree / "d/b"), id="a file replaces another"),
        pytest.param(
            lambda tree: (
                (tree / "d").rename(tree / "e"),
                (tree / "../older/d").rename(tree / "d"),
            ),
            id="an older tree replaces another one",
        ),
        pytest.param(lambda tree: os.utime(tree / "a", (1, 1)), id="a time is set back"),
        pytest.param(
            lambda tree: (shutil.rmtree(tree / "d/deep"), (tree / "a").rename(tree / "d/deep")),
            id="a file replaces a directory",
        ),
        pytest.param(
            lambda tree: (shutil.rmtree(tree / "d"), (tree / "d").symlink_to(tree.parent)),
            id="a link replaces a directory",
        ),
    ],
)
def test_no_change_makes_a_tree_older(tree: Path, change: Callable[[Path], object]) -> None:
    with walk.opened_root(os.fsencode(tree)) as root:
        seen = SeenCtimes()
        seen.look_at(root, [b"a", b"d/b", b"d/deep/c", b"d/deep", b"d", b""])
        seen.look_through(root, [b""], lambda *_: False)
        change(tree)
        assert find_older(root, seen.ctimes) is None


def test_an_entry_that_is_older_than_it_was_is_found(tree: Path) -> None:
    seen = everything_seen(tree)
    later = time.time_ns() - 1
    assert older(tree, seen) is None
    assert older(tree, seen | {b"d/b": later}) == b"d/b"
    # It was made after the image: the directory above is older.
    assert older(tree, seen | {b"d/new/er": later}) == b"d/new/er"


def test_a_clock_that_was_set_back_proves_nothing(tree: Path) -> None:
    assert older(tree, {b"a": time.time_ns() + 10 * SECOND}) is None


@pytest.mark.parametrize(
    ("present", "seen", "expected"),
    [
        pytest.param(5 * SECOND + 7, 5 * SECOND + 7, False, id="the same"),
        pytest.param(5 * SECOND + 8, 5 * SECOND + 7, False, id="later"),
        pytest.param(5 * SECOND + 6, 5 * SECOND + 7, True, id="older"),
        pytest.param(5 * SECOND, 5 * SECOND + 7, False, id="without its nanoseconds"),
        pytest.param(4 * SECOND, 5 * SECOND + 7, True, id="older, in whole seconds"),
    ],
)
def test_a_ctime_is_older_unless_it_was_rounded(present: int, seen: int, *, expected: bool) -> None:
    assert is_older(present, seen) is expected


def test_excluded_entries_are_not_seen(tree: Path) -> None:
    seen = SeenCtimes()
    with walk.opened_root(os.fsencode(tree)) as root:
        seen.look_through(root, [b""], lambda path, _: path in {b"d", b"a"})
    assert set(seen.ctimes) == {b""}


def test_a_bounded_number_is_kept_the_last_ones_of_all_directories(tree: Path) -> None:
    seen = SeenCtimes()
    with walk.opened_root(os.fsencode(tree)) as root:
        for number in range(2 * MAX_SEEN):
            (tree / str(number)).mkdir()
            (tree / str(number) / "f").touch()
            seen.look_at(root, [b"%d/f" % number])
        # More files of the same directory replace the first one.
        for name in ("g", "h"):
            (tree / "127" / name).touch()
            seen.look_at(root, [b"127/%s" % name.encode()])
    assert len(seen.ctimes) == MAX_SEEN
    assert list(seen.ctimes)[-3:] == [b"126/f", b"127/g", b"127/h"]
    assert dict(SeenCtimes(seen.ctimes).ctimes) == dict(seen.ctimes)


def test_what_is_gone_is_seen_by_the_directory_above(tree: Path) -> None:
    seen = SeenCtimes()
    with walk.opened_root(os.fsencode(tree)) as root:
        # And of what was below a directory that is a file now, that file.
        seen.look_at(root, [b"d/gone/f", b"a/f"])
    assert dict(seen.ctimes) == {
        path: (tree / os.fsdecode(path)).stat().st_ctime_ns for path in (b"d", b"a")
    }


@given(st.dictionaries(st.binary(min_size=1, max_size=4), st.integers(0, 10), max_size=200))
def test_no_more_than_the_limit_is_kept(ctimes: dict[bytes, int]) -> None:
    assert len(SeenCtimes(ctimes).ctimes) <= MAX_SEEN
