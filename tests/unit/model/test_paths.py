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
def test_a_directory_covers_itself_and_what_is_below(
    directory: bytes, path: bytes, expected: bool
) -> None:
    assert paths.covers(directory, path) is expected


def test_splitting_and_joining_are_opposites() -> None:
    for path in (b"", b"a", b"a/b", b"a/b/c"):
        assert paths.join(*paths.split(path)) == path


def test_ancestors_come_nearest_first_and_end_with_the_root() -> None:
    assert list(paths.ancestors(b"a/b/c")) == [b"a/b", b"a", b""]
    assert list(paths.ancestors(b"")) == []


def test_in_tree_order_nothing_stands_between_a_directory_and_what_is_below() -> None:
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
def test_a_shown_path_is_one_harmless_line(path: bytes, shown: str) -> None:
    assert paths.printable(path) == shown
