"""What a run can have failed at: the paths of its list, and what stands below or above them."""

import pytest

from pylsyncd.model.paths import RelativePath
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rsync.carried_paths import MAX_FAILED_ENTRIES, CarriedPaths
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude

ENTRY, LISTING, TREE = Scope
NO_RULES = Rules()


def failing(carried: CarriedPaths, path: bytes, scope: Scope = TREE) -> list[Change] | None:
    return carried.failing_with(RelativePath(path), scope)


@pytest.mark.parametrize(
    ("path", "scope", "expected"),
    [
        pytest.param(b"f", TREE, [(b"f", TREE)], id="a-listed-entry"),
        pytest.param(b"f", ENTRY, [(b"f", ENTRY)], id="its-attributes"),
        pytest.param(b"d", TREE, [(b"d", TREE)], id="a-listed-directory"),
        pytest.param(b"d/x", TREE, [(b"d/x", TREE)], id="below-a-listed-directory"),
        pytest.param(b"d/x/y/z", TREE, [(b"d/x/y/z", TREE)], id="far-below-one"),
        pytest.param(b"f/x/y", TREE, [(b"f", ENTRY)], id="below-an-entry"),
        pytest.param(b"p", ENTRY, [(b"p", ENTRY)], id="the-attributes-of-an-implied-directory"),
        pytest.param(b"p", TREE, [(b"p/q/e", ENTRY), (b"p/q/l", LISTING)], id="an-implied-one"),
        pytest.param(b"p/q", TREE, [(b"p/q/e", ENTRY), (b"p/q/l", LISTING)], id="the-next-one"),
        pytest.param(b"", ENTRY, [(b"", ENTRY)], id="the-roots-attributes"),
        pytest.param(b"", LISTING, None, id="the-root"),
        pytest.param(b"", TREE, None, id="everything"),
        pytest.param(b"other", TREE, [], id="another-path"),
        pytest.param(b"p/x", TREE, [], id="beside-an-entry"),
    ],
)
def test_a_listed_run_fails_at_its_entries(
    path: bytes, scope: Scope, expected: list[tuple[bytes, Scope]] | None
) -> None:
    carried = CarriedPaths([b"d/", b"f", b"p/q/e", b"p/q/l/"], NO_RULES)
    assert failing(carried, path, scope) == expected


def test_entries_below_an_implied_directory_fail_with_it_although_one_above_is_listed() -> None:
    carried = CarriedPaths([b"p", b"p/d/", b"p/q/e"], NO_RULES)
    assert failing(carried, b"p/q") == [(b"p/q/e", ENTRY)]
    assert failing(carried, b"p/q", ENTRY) == [(b"p/q", ENTRY)]
    assert failing(carried, b"p/gone") == [(b"p", ENTRY)]


@pytest.mark.parametrize("entries", [None, [b""]], ids=["full sync", "root listed"])
def test_a_run_that_compares_the_root_may_fail_anywhere(entries: list[bytes] | None) -> None:
    carried = CarriedPaths(entries, NO_RULES)
    assert failing(carried, b"a/b") == [(b"a/b", TREE)]
    assert failing(carried, b"", LISTING) == [(b"", LISTING)]
    assert failing(carried, b"", TREE) is None


def test_a_run_does_not_fail_at_what_it_left_out() -> None:
    carried = CarriedPaths([b"", b"u"], NO_RULES, {b"u", b""})
    assert failing(carried, b"u") == failing(carried, b"u/x") == []
    assert failing(carried, b"v") == [(b"v", TREE)]


def test_a_run_does_not_fail_at_what_the_rules_exclude() -> None:
    rules = build_rules([parse_exclude(b"/s/"), parse_exclude(b"x")])
    carried = CarriedPaths(None, rules)
    assert failing(carried, b"s/key") == failing(carried, b"a/x") == failing(carried, b"x/a") == []
    # Only a directory of that name is excluded.
    assert failing(carried, b"s") == [(b"s", TREE)]


def test_an_excluded_path_that_the_list_names_may_fail() -> None:
    # The list names it for deletion.
    carried = CarriedPaths([b"x"], build_rules([parse_exclude(b"x")]))
    assert failing(carried, b"x") == [(b"x", TREE)]


def test_too_many_entries_that_fail_together_fail_as_a_tree() -> None:
    entries = sorted(b"d/%d" % number for number in range(MAX_FAILED_ENTRIES + 1))
    assert failing(CarriedPaths(entries, NO_RULES), b"d") == [(b"d", TREE)]
    assert len(failing(CarriedPaths(entries[1:], NO_RULES), b"d") or ()) == MAX_FAILED_ENTRIES
