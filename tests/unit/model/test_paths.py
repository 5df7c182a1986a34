"""Relations between relative paths."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.model import paths
from pylsyncd.model.paths import PathError, RelativePath


@pytest.mark.parametrize(
    ("directory", "path", "expected"),
    [
        (b"", b"", True),
        (b"", b"a", True),
        (b"a", b"a", True),
        (b"a", b"a/b", True),
        (b"a/b", b"a/bc", False),
        (b"a/b", b"a", False),
        (b"a", b"a-b", False),
    ],
)
def test_a_directory_covers_itself_and_everything_below(
    directory: bytes, path: bytes, expected: bool
) -> None:
    assert paths.covers(directory, path) is expected


def test_splitting_and_joining_are_opposites() -> None:
    for path in (b"", b"a", b"a/b", b"a/b/c"):
        assert paths.join(*paths.split(path)) == path


def test_ancestors_come_nearest_first_and_end_with_the_root() -> None:
    assert list(paths.ancestors(b"a/b/c")) == [b"a/b", b"a", b""]
    assert list(paths.ancestors(b"")) == []


def test_in_tree_order_a_directory_is_directly_before_everything_below() -> None:
    scattered = [b"a/b", b"a-b", b"a", b"b", b"a/b/c", b""]
    assert sorted(scattered, key=paths.tree_sort_key) == [b"", b"a", b"a/b", b"a/b/c", b"a-b", b"b"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"plain name", "plain name"),
        ("Grüße/日本".encode(), "Grüße/日本"),
        (b"a\nb", r"a\nb"),
        (b"\x1b[31m", r"\x1b[31m"),
        (b"\xff", r"\xff"),
        (b"\\xff", r"\\xff"),
        ("right\u202eleft".encode(), r"right\u202eleft"),
        (b"", "."),
    ],
)
def test_a_printable_path_is_one_line_without_control_characters(path: bytes, shown: str) -> None:
    assert paths.printable(path) == shown


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [
        (b"a/b", b"a", b"b"),
        (b"a", b"a", b""),
        (b"a/b", b"", b"a/b"),
        (b"a-b", b"a", None),
        (b"/a/b", b"/a", b"b"),
        (b"/a", b"", b"a"),
    ],
)
def test_a_path_is_relative_to_the_directories_that_cover_it(
    path: bytes, directory: bytes, expected: bytes | None
) -> None:
    assert paths.relative_to(path, directory) == expected


NAMES = [b"...", b"..a", b"a..", b".a", b"a.", b" ", b"\n", b"\xff", b"-", b"a\\b"]


@pytest.mark.parametrize(
    "path", [b"", b"a", b"a/b", *NAMES, b"a/.../b", b"x" * paths.MAX_PATH_BYTES]
)
def test_a_relative_path_is_the_root_or_below_it(path: bytes) -> None:
    assert RelativePath(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *(b".", b"..", b"/", b"//", b"/a", b"a/", b"a//b", b"./a", b"a/.", b"a/./b"),
        *(b"../a", b"a/..", b"a/../b", b"a/../../b", b"\0", b"a\0b", b"a/\0"),
        b"x" * (paths.MAX_PATH_BYTES + 1),
    ],
)
def test_no_other_text_is_a_relative_path(path: bytes) -> None:
    with pytest.raises(PathError, match="is not a path below the source"):
        RelativePath(path)


parts = st.lists(
    st.sampled_from([b"a", b"", b".", b"..", b"...", b".a", b"a\0", b"\n"]), max_size=5
)


@given(parts.map(b"/".join) | st.binary(max_size=20))
def test_a_relative_path_leads_nowhere_else(path: bytes) -> None:
    is_below = b"\0" not in path and (not path or os.path.normpath(b"/top/" + path)[5:] == path)
    assert paths.is_relative(path) is is_below


@given(st.sets(st.sampled_from([b"a", b"b", b"", b".", b"..", b"a/b", b"/", b"a\0", *NAMES])))
def test_names_are_checked_together_as_one_by_one(names: set[bytes]) -> None:
    one_by_one = [name and b"/" not in name and paths.is_relative(name) for name in names]
    assert paths.are_names(names) is all(one_by_one)


@given(st.lists(parts.map(b"/".join), max_size=4))
def test_paths_are_checked_together_as_one_by_one(some: list[bytes]) -> None:
    one_by_one = [path and paths.is_relative(path) for path in some]
    assert paths.are_relative(some) is all(one_by_one)
