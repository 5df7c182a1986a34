"""Paths, each with a scope, and sets of them."""

import pytest

from pylsyncd.model.scoped_paths import Change, MutableScopedPaths, Scope

ENTRY, LISTING, TREE = Scope


@pytest.mark.parametrize(
    ("change", "other", "expected"),
    [
        (Change(b"a", TREE), Change(b"a/b/c", TREE), True),
        (Change(b"a", TREE), Change(b"a-b", ENTRY), False),
        (Change(b"a", LISTING), Change(b"a", ENTRY), True),
        (Change(b"a", ENTRY), Change(b"a", LISTING), False),
        (Change(b"a", LISTING), Change(b"a/b", ENTRY), True),
        (Change(b"a", LISTING), Change(b"a/b", LISTING), False),
        (Change(b"a", LISTING), Change(b"a/b/c", ENTRY), False),
        (Change(b"", LISTING), Change(b"a", ENTRY), True),
        (Change(b"a", ENTRY), Change(b"a/b", ENTRY), False),
    ],
)
def test_a_change_covers_what_its_scope_reaches(
    change: Change, other: Change, expected: bool
) -> None:
    assert change.covers(other) is expected


@pytest.mark.parametrize("one_scope", list(Scope))
@pytest.mark.parametrize("one_path", [b"", b"a", b"a/b", b"a/b/c", b"ab"])
@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"a/b/c", b"ab", b"b"])
def test_a_set_includes_what_one_of_its_paths_covers(
    path: bytes, one_path: bytes, one_scope: Scope
) -> None:
    some = MutableScopedPaths()
    some.add(one_path, one_scope)
    one = Change(one_path, one_scope)
    assert some.includes_entry(path) == one.covers(Change(path, ENTRY))
    assert some.includes_listing(path) == one.covers(Change(path, LISTING))
    assert some.includes_tree(path) == one.covers(Change(path, TREE))
