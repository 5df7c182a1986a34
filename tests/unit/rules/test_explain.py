"""What a person is told about rules: which one decides, and which cannot match anything."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.filtering import TREE, make_tree, patterns, prefixed_patterns, sent_by_rsync

from pylsyncd.model import paths
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.explain import explain
from pylsyncd.rules.filters import parse_exclude, parse_exclude_lines, parse_filter, parse_include
from pylsyncd.rules.mistakes import find_never_matching_rules

RULES = build_rules(
    [
        parse_exclude(b"*.o"),
        parse_exclude(b"/build/"),
        parse_include(b"keep.o"),
        parse_include(b"/build/notes"),
        parse_exclude_lines(b"# what editors leave\n*~\n+ cache\n", "/etc/rules"),
        parse_filter(b"P *.log"),
        parse_filter(b"P,p core"),
        parse_filter(b"hide /tmp"),
        parse_filter(b"H! [a-z]*"),
        parse_filter(b"- \xff\n"),
    ]
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", "The source itself is always synced: rules apply only to what is in it."),
        (b"a/x.c", "a/x.c is synced: no rule matches it."),
        (b"a/", "a/ is synced: no rule matches it."),
        (b"a/x.o", "a/x.o is not synced: the rule '--exclude=*.o' excludes it."),
        (b"keep.o", "keep.o is not synced: the rule '--exclude=*.o' excludes it."),
        (b"build", "build is synced: no rule matches it."),
        (b"build/", "build/ is not synced: the rule '--exclude=/build/' excludes it."),
        pytest.param(
            b"build/x/y",
            "build/x/y is not synced: the rule '--exclude=/build/' excludes the directory build/ "
            "above it.",
        ),
        pytest.param(
            b"build/notes",
            "build/notes is not synced: the rule '--exclude=/build/' excludes the directory build/ "
            "above it. The rule '--include=/build/notes' has no effect, because rsync does not "
            "enter an excluded directory: include build/ as well, in an earlier rule.",
        ),
        (b"x~", "x~ is not synced: the rule '- *~' (/etc/rules, line 2) excludes it."),
        (b"cache/", "cache/ is synced: the rule '+ cache' (/etc/rules, line 3) includes it."),
        pytest.param(
            b"a.log",
            "a.log is synced: no rule matches it. Once a.log is gone from the source, its copies "
            "are kept: the rule '--filter=P *.log' protects them.",
        ),
        pytest.param(
            b"a/core",
            "a/core is synced: no rule matches it. Once a/core is gone from the source, its copies "
            "are kept: the rule '--filter=P,p core' protects them, unless their directory is "
            "deleted as well.",
        ),
        pytest.param(
            b"tmp/x",
            "tmp/x is not synced: the rule '--filter=hide /tmp' excludes the directory tmp/ above "
            "it. No rule protects a copy of tmp/ at a destination from deletion.",
        ),
        pytest.param(
            b"X",
            "X is not synced: the rule '--filter=H! [a-z]*' excludes it, because its pattern "
            "does not match. No rule protects a copy of X at a destination from deletion.",
        ),
    ],
)
def test_the_deciding_rule_is_named(path: bytes, expected: str) -> None:
    bare = path.removesuffix(b"/")
    assert explain(RULES, bare, is_directory=path.endswith(b"/")) == expected


def test_the_topmost_excluded_directory_is_named() -> None:
    some = build_rules([parse_exclude(b"a/"), parse_exclude(b"b/")])
    said = explain(some, b"b/a/b/a/x", is_directory=False)
    assert "the rule '--exclude=b/' excludes the directory b/ above" in said


def test_names_are_shown_without_control_characters() -> None:
    some = build_rules([parse_filter(b"- \x1b[[]31m*", "rules")])
    said = explain(some, b"\x1b[31m\n\xff", is_directory=False)
    assert said.isprintable()


def _parse(texts: list[tuple[bool, bytes]]) -> Rules:
    return build_rules(
        parse_filter(b"H " + t) if one_sided else parse_exclude(t) for one_sided, t in texts
    )


@given(
    texts=st.lists(st.tuples(st.booleans(), prefixed_patterns())),
    entry=st.sampled_from(sorted(TREE)),
)
def test_an_explanation_never_contradicts_the_rules(
    texts: list[tuple[bool, bytes]], entry: bytes
) -> None:
    some = _parse(texts)
    path, is_directory = entry.removesuffix(b"/"), entry.endswith(b"/")
    said = explain(some, path, is_directory=is_directory)
    assert ("is not synced: " in said) == some.excludes(path, is_directory=is_directory)


# -- rules in vain --------------------------------------------------------------------------------

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
    assert sent_by_rsync([[b"--exclude=" + text] for text in texts], tree) == [TREE] * len(texts)
