"""An explanation names the rule that decides about a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.filtering import TREE, prefixed_patterns

from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.explain import explain
from pylsyncd.rules.filters import parse_exclude, parse_exclude_lines, parse_filter, parse_include

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
    text = explain(some, b"b/a/b/a/x", is_directory=False)
    assert "the rule '--exclude=b/' excludes the directory b/ above" in text


def test_names_are_shown_without_control_characters() -> None:
    some = build_rules([parse_filter(b"- \x1b[[]31m*", "rules")])
    text = explain(some, b"\x1b[31m\n\xff", is_directory=False)
    assert text.isprintable()


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
    text = explain(some, path, is_directory=is_directory)
    assert ("is not synced: " in text) == some.excludes(path, is_directory=is_directory)
