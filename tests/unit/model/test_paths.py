"""Relations between relative paths."""

import pytest

from pylsyncd.model import paths


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
