"""Changes are split into what goes first, the last files, and what may have to be deleted."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.limits import checked_permissions

from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rsync.publishing_order import OrderedChanges, split_last
from pylsyncd.rules import excludes, filters
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk

ENTRY, LISTING, TREE = Scope.ENTRY, Scope.LISTING, Scope.TREE


def rules(*patterns: bytes) -> Rules:
    return excludes.build_rules(filters.parse_exclude(pattern) for pattern in patterns)


Split = Callable[..., OrderedChanges]


@pytest.fixture
def split(tmp_path: Path) -> Iterator[Split]:
    for name in ("blobs", "site/deep", "site/index.d", "current.d"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "index",
        "blobs/1",
        "site/index",
        "site/deep/index",
        "site/page",
        "site/index.d/x",
    ):
        (tmp_path / name).touch()
    (tmp_path / "current").symlink_to("blobs")
    with walk.opened_root(os.fsencode(tmp_path)) as root:

        def split(*changes: Change, excluded: Rules | None = None) -> OrderedChanges:
            return split_last(
                root, changed(*changes), rules(b"index", b"/current", b"index.d/"),
                excluded or Rules(), frozenset([b"site/deep/index"]),
            )  # fmt: skip

        yield split


def changed(*changes: Change) -> MutableChangeset:
    some = MutableChangeset()
    for change in changes:
        some.add_new_content(*change)
    return some


def test_entries_go_first_or_last_and_missing_ones_are_deleted_afterwards(split: Split) -> None:
    names = (b"index", b"current", b"blobs/1", b"blobs/2", b"gone/index", b"site/index.d/x")
    ordered = split(*(Change(name, ENTRY) for name in names))
    assert entries(ordered.data) == {b"blobs/1", b"blobs/2"}
    assert entries(ordered.last) == {b"index", b"current", b"gone/index", b"site/index.d/x"}
    assert entries(ordered.deletions) == {b"blobs/2"}
    assert ordered.present == {b"index", b"current", b"site/index.d/x"}
    assert ordered.arriving == [b"blobs/1"]


def test_only_what_is_there_is_to_arrive(split: Split) -> None:
    ordered = split(
        Change(b"", ENTRY), Change(b"gone", TREE), Change(b"gone too", LISTING),
        Change(b"blobs", LISTING), Change(b"site/deep", TREE),
    )  # fmt: skip
    assert sorted(ordered.arriving) == [b".", b"blobs", b"site/deep"]


@pytest.mark.parametrize("scope", Scope)
def test_what_is_reached_through_a_symlink_is_missing(
    split: Split, tmp_path: Path, scope: Scope
) -> None:
    (tmp_path / "replaced").symlink_to("site")
    ordered = split(Change(b"replaced/index", scope), Change(b"replaced/deep", scope))
    assert not ordered.present
    assert not ordered.arriving


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change(b"site", LISTING), Change(b"site", LISTING)),
        (Change(b"site", TREE), Change(b"site", TREE)),
        (Change(b"", TREE), Change(b"site", TREE)),
    ],
)
def test_a_directory_whose_last_files_are_unknown_goes_last(
    split: Split, tmp_path: Path, change: Change, expected: Change
) -> None:
    (tmp_path / "site").chmod(0)
    with checked_permissions():
        ordered = split(change)
    (tmp_path / "site").chmod(0o700)
    assert change in set(ordered.data)
    assert expected in set(ordered.last)


def entries(changeset: Changeset) -> set[bytes]:
    assert {scope for _, scope in changeset} <= {ENTRY}
    return {path for path, _ in changeset}


def test_a_listing_has_its_last_files_as_entries(split: Split) -> None:
    ordered = split(Change(b"site", LISTING))
    assert set(ordered.data) == set(ordered.deletions) == {Change(b"site", LISTING)}
    assert entries(ordered.last) == {b"site/index", b"site/index.d"} == ordered.present


def test_a_tree_has_its_last_files_at_any_depth_without_what_the_run_leaves_out(
    split: Split,
) -> None:
    ordered = split(Change(b"site", TREE))
    assert set(ordered.data) == set(ordered.deletions) == {Change(b"site", TREE)}
    assert set(ordered.last) == {Change(b"site/index", ENTRY), Change(b"site/index.d", TREE)}
    assert not split(Change(b"site", TREE), excluded=rules(b"index*")).last


@pytest.mark.parametrize("scope", [LISTING, TREE])
def test_a_directory_that_goes_last_does_so_with_all_below_it(split: Split, scope: Scope) -> None:
    ordered = split(Change(b"site/index.d", scope))
    assert (set(ordered.last), set(ordered.data)) == ({Change(b"site/index.d", scope)}, set())


def test_the_hint_of_a_new_content_stays_with_each_part(split: Split) -> None:
    ordered = split(Change(b"index", ENTRY), Change(b"blobs/1", ENTRY), Change(b"site", TREE))
    assert set(ordered.last.new_content) == set(ordered.last)
    assert set(ordered.data.new_content) == set(ordered.data)
