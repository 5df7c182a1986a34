"""Each pattern matches the names that it matches in rsync."""

import time
from typing import NamedTuple, cast

import pytest
from _pytest.mark.structures import ParameterSet
from support.filtering import entries_of, entries_sent_from, included_entries, make_tree

from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.rules.patterns import FilterRule


def rules(*texts: bytes) -> Rules:
    return build_rules(map(parse_exclude, texts))


def options(texts: tuple[bytes, ...]) -> list[bytes]:
    return [b"--exclude=" + text for text in texts]


Names = bytes | tuple[bytes, ...]
"""A tuple, or one string if no name contains a blank."""


class Row(NamedTuple):
    """Rules in the order of the command line, and their effect on a tree of these entries."""

    texts: tuple[bytes, ...]
    excluded: set[bytes]
    kept: set[bytes]


def row(title: str, texts: bytes | tuple[bytes, ...], excluded: Names, kept: Names) -> ParameterSet:
    texts = texts if isinstance(texts, tuple) else (texts,)
    return pytest.param(Row(texts, _names(excluded), _names(kept)), id=title)


def _names(written: Names) -> set[bytes]:
    return set(written.split() if isinstance(written, bytes) else written)


# fmt: off
ROWS = [
    # Without wildcards.
    row("a name matches the last name, at any depth", b"a", b"a b/a c/a/ c/a/f", b"ab ba b/ c/"),
    row("a name does not match in part", b"a", b"", b"aa ab ba a.b"),
    row("a slash at the end: directories only", b"a/", b"a/ a/f b/a/", b"b/ c/ c/a"),
    row("a slash at the front: from the root", b"/a", b"a", b"b/ b/a"),
    row("anchored, directories only", b"/a/", b"a/ a/f", b"b/ b/a/ c"),
    row("anchored, deeper", b"/a/b", b"a/b", b"a/ a/c c/ c/a/ c/a/b"),
    row("an inner slash: the last names of the path", b"a/b", b"a/b c/a/b", b"a/ c/ c/a/ ca/ ca/b"),
    row("an inner slash, directories only", b"a/b/", b"c/a/b/ c/a/b/f", b"c/ c/a/ a/ a/b"),
    row("a backslash is itself", b"a\\b", (b"a\\b",), b"ab"),
    row("an escape that no wildcard needs", b"a\\ b", (b"a\\ b",), (b"a b",)),
    row("closing brackets and braces are themselves", b"a]{b}", b"a]{b}", b"ab"),
    row("blanks count", b" a ", (b" a ",), b"a"),
    row("a blank at the end", b"a ", (b"a ",), b"a"),
    row("no comments", b"#a", b"#a", b"a"),
    row("bytes that are not UTF-8", b"\xff\xfe", (b"\xff\xfe",), (b"\xff", b"\xc3\xbf")),
    row("a newline", b"a\nb", (b"a\nb",), b"a b"),
    row("a slash alone matches nothing", b"/", b"", b"a b/ b/a"),
    row("two slashes match nothing", b"//", b"", b"a b/ b/a"),
    row("a double slash within matches nothing", b"a//b", b"", b"a/ a/b"),
    row("a double slash at the end matches nothing", b"a//", b"", b"a/ b/ b/a"),
    row("a dot matches nothing", b".", b"", b"a .b"),
    row("dot slash matches nothing", b"./a", b"", b"a b/ b/a"),
    row("the file below a directory's name", b"a/f", b"a/f", b"a/ a/g f"),
    # Stars and question marks.
    row("a star", b"*.tmp", b"x.tmp .tmp a/y.tmp", b"x.tmp~ a/ tmp"),
    row("a star matches a leading dot", b"*", b".a a b/ b/c", b""),
    row("a star matches a newline", b"a*b", (b"a\nb", b"ab"), b"a"),
    row("a star matches no slash", b"/a*b", b"ab axb", b"a/ a/b ax/ ax/b"),
    row("a star as a name", b"a/*/b", b"a/x/b c/a/x/b", b"a/ a/x/ a/b c/ c/a/ c/a/x/"),
    row("below the root only", b"/*", b"a b/ b/c", b""),
    row("the content of a directory", b"a/*", b"a/b a/c/ a/c/d e/a/b", b"a/ e/ e/a/"),
    row("directories only", b"*/", b"a/ a/b", b"b"),
    row("several stars", b"*a*b*", b"ab xaxbx xaab", b"ba b a"),
    row("a star tries on", b"*ab", b"ab aab abab xaxab", b"aba"),
    row("a question mark", b"a?", (b"ab", b"a.", b"a\xff", b"a\n"), b"a abc"),
    row("a question mark is one byte", b"a??", ("aä".encode(),), ("aäö".encode(),)),
    row("a question mark matches no slash", b"/a?b", b"axb", b"a/ a/b"),
    row("two stars match slashes", b"/a**b", b"ab a/b a/x/b axx/b", b"a/ a/x/ axx/ c/ c/b"),
    row("two stars, after any slash", b"a**b", b"ab c/a/b c/a/x/b", b"c/ c/a/ c/a/x/ ca/ ca/b"),
    row("two stars match a newline", b"/a**c", (b"a\n/c",), (b"a\n/", b"b\n/", b"b\n/c")),
    row("two stars at the front and a slash", b"**/a", b"a b/a b/c/a", b"b/ b/c/ ba"),
    row("anchored, two stars and a slash", b"/**/a", b"b/a b/c/a", b"a b/ b/c/"),
    row("two stars at the front", b"**a", b"a ba b/a/ b/a/f ca/", b"b/ f ab"),
    row("two stars at the end", b"a/**", b"a/b a/c/ a/c/d e/a/b", b"a/ e/ e/a/ ea/ ea/b"),
    row("two stars in between", b"/a/**/b", b"a/x/b a/x/y/b", b"a/ a/b a/x/ a/x/y/"),
    row("two stars in between, unanchored", b"a/**/b", b"c/a/x/b", b"c/ c/a/ c/a/b c/a/x/"),
    row("two stars alone", b"**", b"a b/ b/c", b""),
    row("two stars, directories only", b"**/", b"a/ a/b", b"b"),
    row("two stars as part of a name", b"a**", b"a ab/ c/a c/ab", b"c/ ba"),
    row("an escaped star before a star", b"\\**", b"* *a b/*", b"a b/"),
    row("three stars: a directory with its content", b"a/***", b"a/ a/b c/a/ c/a/d/", b"c/ d/ d/a"),
    row("three stars, anchored", b"/a/***", b"a/ a/b", b"c/ c/a/ c/a/b"),
    row("three stars as part of a name", b"a***", b"a ab/ c/a", b"c/"),
    row("three stars after a star", b"*/***", b"a/ a/b", b"c"),
    row("three stars within", b"/a***b", b"ab a/b", b"a/ c"),
    row("three stars, directories only", b"a/***/", b"a/ a/b a/c/", b"c/ c/a"),
    row("four stars", b"/a/****", b"a/ a/b", b"c"),
    # Brackets.
    row("a set", b"[ab]", b"a b c/a", b"c/ d ab"),
    row("a range", b"[a-c]x", b"ax bx cx", b"dx -x"),
    row("a range upside down has its first", b"[c-a]x", b"cx", b"ax bx -x"),
    row("not, by an exclamation mark", b"[!ab]", b"c !", b"a b"),
    row("not, by a caret", b"[^ab]", b"c ^", b"a b"),
    row("a caret that is not first", b"[a^]", b"a ^", b"b"),
    row("not this caret", b"[!^]", b"a !", b"^"),
    row("a closing bracket first", b"[]a]", b"] a", b"b"),
    row("not a closing bracket", b"[!]a]", b"b", b"] a"),
    row("a hyphen first", b"[-a]", b"- a", b"b"),
    row("a hyphen last", b"[a-]", b"- a", b"b"),
    row("a range from a hyphen", b"[--.]x", b"-x .x", b",x 0x"),
    row("a hyphen after a range", b"[a-c-e]", b"a b c - e", b"d"),
    row("a hyphen after a class", b"[[:digit:]-z]", b"1 - z", b"a"),
    row("a backslash in brackets escapes", b"[\\]a]", b"] a", (b"\\",)),
    row("two backslashes in brackets", b"[\\\\]", (b"\\",), b"a"),
    row("a range up to an escape", b"[Z-\\]]", (b"Z", b"[", b"\\", b"]"), b"^ Y"),
    row("a range from an escape", b"[\\a-c]", b"a b c", (b"\\",)),
    row("bytes in brackets", b"[\x80-\xff]", (b"\x80", b"\xff"), (b"a", b"\x7f")),
    row("not a set includes bytes and newlines", b"[!a]", (b"\xff", b"\n"), b"a"),
    row("an opening bracket in brackets", b"[[]", b"[", b"]"),
    row("a slash in brackets matches nothing", b"[a/]b", b"", b"ab a/ a/b"),
    row("a slash in brackets, anchored", b"/[a/]b", b"ab", b"a/ a/b cb"),
    row("a slash in brackets, with two stars", b"[a/]b**", b"ab abc", b"a/ a/b"),
    row("not a set does not match a slash", b"/a[!x]b", b"acb", b"a/ a/b"),
    row("two stars in brackets", b"[**]", b"* b/*", b"b/ a **"),
    row("a class", b"[[:alpha:]]", b"a Z", (b"1", b"\xe4", b"_")),
    row("a class and more", b"[x[:digit:]y]", b"x y 7", b"z"),
    row("not a class", b"[![:alnum:]]", (b"_", b"\xe4"), b"a 1"),
    row("an upper case class", b"[[:upper:]]*", b"A Ab", b"a aB"),
    row("an unknown class matches nothing", b"[a[:foo:]]", b"", b"a f"),
    row("an empty class matches nothing", b"[a[::]]", b"", b"a :"),
    row("a class that is not closed is a set", b"[[:a]", b"[ : a", b"b"),
    row("a class without a second colon is a set", b"[[:alpha]]", b"a] :]", b"a ]"),
    row("brackets that are not closed match nothing", b"a[", b"", b"a a["),
    row("brackets that an escape keeps open", b"[a\\]", b"", (b"a", b"\\")),
    row("an escape at the end of brackets", b"[a-\\", b"", b"a"),
    row("empty brackets match nothing", b"[]", b"", b"[] a"),
    row("not of empty brackets", b"[!]", b"", b"[!] a !"),
    # Escapes, where there are wildcards.
    row("an escaped star", b"a\\*", b"a*", (b"ab", b"a\\*")),
    row("an escaped question mark", b"\\?", b"?", (b"a", b"\\?")),
    row("an escaped bracket", b"\\[a]", b"[a]", b"a"),
    row("a needless escape before a star", b"\\a\\b*", b"ab abc", (b"a\\b",)),
    row("a doubled backslash before a star", b"a\\\\b*", (b"a\\b", b"a\\bc"), b"ab"),
    row("an escaped slash", b"a\\/*", b"a/b c/a/b", b"a/ c/ c/a/"),
    row("a lone backslash at the end matches nothing", b"*\\", b"", (b"a", b"a\\")),
    row("a backslash before the last slash", b"*\\/", b"", (b"a/", b"a\\/")),
    row("an escaped newline", b"*\\\n", (b"a\n",), b"a n"),
    # Prefixes, order and clearing.
    row("a minus as a prefix", b"- a", b"a", (b"- a", b"b")),
    row("a plus as a prefix", (b"+ a", b"*"), b"b ab", b"a"),
    row("a prefix needs a blank", (b"-a", b"+b"), b"-a +b", b"a b"),
    row("an underscore is no blank", b"-_a", b"-_a", b"a"),
    row("a tab is no blank", b"-\ta", (b"-\ta",), b"a"),
    row("one prefix only", b"- - a", (b"- a",), b"a"),
    row("a plus behind a minus", b"- + a", (b"+ a",), b"a"),
    row("modifiers are names", (b"-! a", b"P b", b"-,s c"), (b"-! a", b"P b", b"-,s c"), b"a b c"),
    row("the first rule decides", (b"+ a", b"a", b"b", b"+ b"), b"b", b"a"),
    row("an include of no effect", b"+ a", b"", b"a b"),
    row("an include below an excluded directory", (b"+ /a/b", b"a"), b"a/ a/b", b"b"),
    row("one branch", (b"+ /a/", b"+ /a/b", b"*"), b"a/c d/ d/a/", b"a/ a/b"),
    row("one kind of file", (b"+ */", b"+ *.c", b"*"), b"a/x.h x.o", b"a/ a/x.c y.c b/"),
    row("an include by name, an exclude by path", (b"+ keep", b"/a/*"), b"a/x", b"a/ a/keep b"),
    row("includes and excludes by turns", (b"a", b"+ a*", b"ab*", b"+ *", b"b"), b"a", b"ab abc b"),
    row("clear", (b"a", b"!", b"b"), b"b", b"a"),
    row("clear everything", (b"a", b"b", b"!"), b"", b"a b"),
    row("clear needs to be alone", (b"a", b"!b"), b"a !b", b"b"),
    row("clear with a blank is a name", (b"a", b"! "), (b"a", b"! "), b"b"),
    row("an exclamation mark as a name", (b"a", b"- !"), b"a !", b"b"),
]
# fmt: on


@pytest.mark.parametrize("case", ROWS)
def test_rules_exclude_what_the_table_says(case: Row) -> None:
    assert included_entries(rules(*case.texts), case.excluded | case.kept) == case.kept


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[set[bytes]]]:
    """Return what rsync copies for each row, with the rules as written and as arguments()."""
    runs = []
    for number, parameters in enumerate(ROWS):
        case = cast("Row", parameters.values[0])
        source = make_tree(
            tmp_path_factory.mktemp(f"row-{number}") / "source", *case.excluded, *case.kept
        )
        assert entries_of(source) == case.excluded | case.kept
        runs += [(options(case.texts), source), (rules(*case.texts).arguments(), source)]
    sent = entries_sent_from(runs)
    return {str(case.id): sent[2 * number : 2 * number + 2] for number, case in enumerate(ROWS)}


@pytest.mark.parametrize("case", ROWS)
def test_rsync_copies_as_the_table_says(
    case: Row, copied: dict[str, list[set[bytes]]], request: pytest.FixtureRequest
) -> None:
    assert copied[request.node.callspec.id] == [case.kept, case.kept]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"*a*a*a*a*a*a*a*a*a*b", b"a" * 255),
        (b"**a*a**a*a**a*a*a*b**c", b"/".join([b"a" * 255] * 15)),
        (b"x**a*a**a*a**a*a*a*b**c", b"/".join([b"xa" * 127] * 15)),
        (b"/" + b"*/" * 20 + b"a**b", b"/".join([b"a"] * 2000)),
    ],
)
def test_no_name_makes_a_rule_slow(text: bytes, path: bytes) -> None:
    some = rules(text)
    start = time.process_time()
    assert not some.matches(path, is_directory=False)
    assert time.process_time() - start < 1  # it would take hours if every star tried every position


@pytest.mark.parametrize(
    ("rule", "argument"),
    [
        (FilterRule(b"a"), b"--exclude=a"),
        (FilterRule(b"a", is_include=True), b"--include=a"),
        (FilterRule(b"- a"), b"--exclude=- - a"),
        (FilterRule(b"!", is_include=True), b"--exclude=+ !"),
        (FilterRule(b"a", modifiers=b"p"), b"--filter=-p a"),
    ],
    ids=["exclude", "include", "looks like a prefix", "looks like clear", "with a modifier"],
)
def test_a_rule_has_an_argument_that_rsync_cannot_misread(
    rule: FilterRule, argument: bytes
) -> None:
    assert rule.argument() == argument
