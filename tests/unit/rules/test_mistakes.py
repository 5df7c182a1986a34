"""A rule that can never match is reported, with what to write instead."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from support.filtering import TREE, entries_sent_by_rsync, make_tree, patterns

from pylsyncd.model import paths
from pylsyncd.rules.excludes import build_rules
from pylsyncd.rules.filters import parse_exclude, parse_exclude_lines, parse_filter
from pylsyncd.rules.mistakes import find_never_matching_rules

SOURCE = b"/var/www/html"
BEGIN = "patterns are relative to the source, /var/www/html, and this one"
EMPTY = "no path has an empty or '.' component"
BRACKETS = "it has brackets without an end"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"/var/www/html/cache", f"{BEGIN} begins with its absolute path: write '/cache' instead"),
        (b"/var/www/html/a/*/", f"{BEGIN} begins with its absolute path: write '/a/*/' instead"),
        (b"/var/www/html/**", f"{BEGIN} begins with its absolute path: write '/**' instead"),
        (b"/var/*/html/a", f"{BEGIN} begins with its absolute path: write '/a' instead"),
        (b"/var/www/html", f"{BEGIN} begins with its absolute path: remove the rule"),
        (b"/var/www/html/", f"{BEGIN} begins with its absolute path: remove the rule"),
        (b"/var//www/./html/a", f"{BEGIN} begins with its absolute path: write '/a' instead"),
        (b"/var/www/other/a", f"{BEGIN} is a path outside it: remove the rule"),
        (b"./a", f"{EMPTY}: write '/a' instead of './a'"),
        (b"./a/", f"{EMPTY}: write '/a/' instead of './a/'"),
        (b"a/./b", f"{EMPTY}: write 'a/b' instead"),
        (b"a//b", f"{EMPTY}: write 'a/b' instead"),
        (b"/a//**", f"{EMPTY}: write '/a/**' instead"),
        (b"//a", f"{EMPTY}: write '/a' instead"),
        (b"a/.", f"{EMPTY}: write 'a/' instead"),
        (b"a//", f"{EMPTY}: write 'a/' instead"),
        (b".", f"{EMPTY}: remove the rule"),
        (b"./", f"{EMPTY}: remove the rule"),
        (b"/", f"{EMPTY}: remove the rule"),
        (b"../a", "no path in the source contains '..'"),
        (b"a/../b", "no path in the source contains '..'"),
        (b"a[b", BRACKETS),
        (b"[[:foo:]]", BRACKETS),
        (b"*\\", BRACKETS),
        (b"[a/]b", "a slash in brackets matches nothing"),
    ],
)
def test_a_rule_that_never_matches_is_reported_with_its_correction(text: bytes, fault: str) -> None:
    [warning] = find_never_matching_rules(build_rules([parse_exclude(text)]), SOURCE)
    assert warning.startswith(
        f"The pattern of the rule '--exclude={paths.printable(text)}' can match "
    )
    assert f"can match nothing: {fault}" in warning
    assert warning.endswith(".")
    [warning] = find_never_matching_rules(build_rules([parse_filter(b"+! " + text)]), SOURCE)
    assert fault in warning


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"/cache",
            b"cache",
            b"/var",
            b"/var/",
            b"/var/log/a",
            b"/var/*",
            b"/html/a",
            b"/var/www",
        ),
        *(b"var/www/html/a", b"/var/**/a", b"**/var/www/html", b"/*/www/html/a", b"/**", b"/*/"),
        *(b"a/***", b"**/a", b"*/", b".a", b"a.", b"...", b"..a/b", b"a/.b", b"?", b"[.]", b"a\\"),
    ],
)
def test_a_rule_that_may_match_is_not_reported(text: bytes) -> None:
    assert find_never_matching_rules(build_rules([parse_exclude(text)]), SOURCE) == []


def test_a_source_may_contain_its_own_name(tmp_path: Path) -> None:
    source = os.fsencode(tmp_path)
    some = build_rules([parse_exclude(source + b"/cache")])
    first = tmp_path.parts[1]
    assert len(find_never_matching_rules(some, source, os.path.lexists)) == 1
    (tmp_path / first).mkdir()
    assert find_never_matching_rules(some, source, os.path.lexists) == []


def test_the_root_directory_as_a_source_has_no_absolute_patterns() -> None:
    assert find_never_matching_rules(build_rules([parse_exclude(b"/proc")]), b"/") == []
    assert len(find_never_matching_rules(build_rules([parse_exclude(b"/app/a")]), b"/app")) == 1


def test_rules_for_extended_attributes_are_not_checked_as_paths() -> None:
    assert find_never_matching_rules(build_rules([parse_filter(b"-x user..")]), SOURCE) == []


def test_each_useless_rule_is_reported_once_and_in_order() -> None:
    some = build_rules([parse_exclude_lines(b"./a\nb\n/var/www/html/c\n", "rules")])
    first, second = find_never_matching_rules(some, SOURCE)
    assert "'- ./a' (rules, line 1)" in first
    assert "'- /var/www/html/c' (rules, line 3)" in second


@given(text=patterns())
def test_a_reported_rule_matches_nothing(text: bytes) -> None:
    some = build_rules([parse_filter(b"- " + text)])
    if find_never_matching_rules(some, b"/"):
        kinds = {path.removesuffix(b"/"): path.endswith(b"/") for path in TREE}
        assert not any(some.matches(p, is_directory=kind) for p, kind in kinds.items())


def test_a_reported_rule_matches_nothing_in_rsync(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", *TREE)
    texts = [b"./a", b"a//", b"a/.", b"/", b".", b"..", b"a[", b"[a/]b", b"**/./a", b"a//***"]
    assert all(
        find_never_matching_rules(build_rules([parse_exclude(text)]), b"/") for text in texts
    )
    assert entries_sent_by_rsync([[b"--exclude=" + text] for text in texts], tree) == [TREE] * len(
        texts
    )
