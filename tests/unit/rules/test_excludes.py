"""Rules mean the same to pylsyncd and to rsync, which is run with each of them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.filtering import (
    TREE,
    entries_of,
    entries_sent_by_rsync,
    included_entries,
    make_tree,
    prefixed_patterns,
    rsync,
)
from support.rsync_features import (
    CANNOT_DELETE_BY_NAME,
    DELETE_OPTIONS,
    can_delete_by_name,
    needs_deletion_by_name,
)

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import (
    MAX_PATTERN_BYTES,
    ClearRules,
    parse_exclude,
    parse_exclude_lines,
    parse_filter,
    parse_include_lines,
)
from pylsyncd.rules.patterns import FilterRule


def rules(*texts: bytes) -> Rules:
    return build_rules(map(parse_exclude, texts))


def options(texts: tuple[bytes, ...]) -> list[bytes]:
    return [b"--exclude=" + text for text in texts]


# Any rules at all, on a fixed tree.


@pytest.fixture(scope="module")
def fixed_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("fixed") / "source", *TREE)


RULE_SETS = st.lists(st.lists(prefixed_patterns(), min_size=1, max_size=4), max_size=6)


@settings(max_examples=15)
@given(rule_sets=RULE_SETS)
def test_rsync_interprets_any_rules_as_pylsyncd_does(
    fixed_tree: Path, rule_sets: list[list[bytes]]
) -> None:
    ours = [rules(*texts) for texts in rule_sets]
    expected = [included_entries(some, TREE) for some in ours]
    as_given = [options(tuple(texts)) for texts in rule_sets]
    assert entries_sent_by_rsync(as_given, fixed_tree) == expected
    assert entries_sent_by_rsync([some.arguments() for some in ours], fixed_tree) == expected


@settings(max_examples=15)
@given(rule_sets=RULE_SETS)
def test_rsync_interprets_a_file_of_any_rules_as_pylsyncd_does(
    fixed_tree: Path, rule_sets: list[list[bytes]]
) -> None:
    contents = [b"\r\n".join(texts) for texts in rule_sets]
    with TemporaryDirectory(dir=fixed_tree.parent) as scratch:
        for option, parse in (("exclude", parse_exclude_lines), ("include", parse_include_lines)):
            expected = [
                included_entries(build_rules([parse(content)]), TREE) for content in contents
            ]
            files = [Path(scratch, str(number)) for number in range(len(contents))]
            for file, content in zip(files, contents, strict=True):
                file.write_bytes(content)
            arguments = [[b"--%b-from=%b" % (option.encode(), bytes(file))] for file in files]
            assert entries_sent_by_rsync(arguments, fixed_tree) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"a\nb\n", [b"a", b"b"], id="lines"),
        pytest.param(b"a\nb", [b"a", b"b"], id="no newline at the end"),
        pytest.param(b"a\r\nb\r\n", [b"a", b"b"], id="lines as Windows ends them"),
        pytest.param(b"a\rb", [b"a", b"b"], id="a carriage return ends a line"),
        pytest.param(
            b"\n\n a \n\n", [b" a "], id="empty lines are skipped, blanks belong to names"
        ),
        pytest.param(b" \n\t\n", [b" ", b"\t"], id="blanks alone are names"),
        pytest.param(b"#x\n;y\n #z\n- #a\nb#\n", [b" #z", b"#a", b"b#"], id="comments"),
        pytest.param(b"a\n!\n!b\n! \n", [b"!b", b"! "], id="clear"),
        pytest.param(b"- a\n-b\n- - c\n", [b"a", b"-b", b"- c"], id="prefixes"),
        pytest.param(b"\xff\xfe\n\xef\xbb\xbfa\n", [b"\xff\xfe", b"\xef\xbb\xbfa"], id="bytes"),
    ],
)
def test_a_file_of_rules_is_parsed_as_rsync_does(
    content: bytes, expected: list[bytes], tmp_path: Path
) -> None:
    ours = build_rules([parse_exclude_lines(content)])
    assert ours == Rules(tuple(map(FilterRule, expected)))
    listed = tmp_path / "rules"
    listed.write_bytes(content)
    names = {b"a", b"b", b"x", b"y", b"!", b"z", b"other", *expected}
    source = make_tree(tmp_path / "source", *names)
    [kept] = entries_sent_by_rsync([[b"--exclude-from=" + bytes(listed)]], source)
    assert kept == names - set(expected) == included_entries(ours, names)


def test_a_file_may_include() -> None:
    assert build_rules([parse_exclude_lines(b"+ a\n*\n")]).ordered == (
        FilterRule(b"a", is_include=True),
        FilterRule(b"*"),
    )


def test_options_and_files_keep_the_order_of_the_command_line() -> None:
    built = build_rules([parse_exclude(b"a"), parse_exclude_lines(b"+ b\nc"), parse_exclude(b"d")])
    assert built.arguments() == [b"--exclude=a", b"--include=b", b"--exclude=c", b"--exclude=d"]


def test_a_file_clears_the_rules_of_earlier_options() -> None:
    assert parse_exclude(b"!") == (ClearRules(),)
    built = build_rules([parse_exclude(b"a"), parse_exclude_lines(b"b\n!\nc"), parse_exclude(b"d")])
    assert built.arguments() == [b"--exclude=c", b"--exclude=d"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "'' has no pattern"),
        (b"- ", "'- ' has no pattern"),
        (b"+ ", r"'\+ ' has no pattern"),
        (b"a\0b", "holds a NUL"),
        (b"a" * (MAX_PATTERN_BYTES + 1), "longer than the 4095 bytes"),
    ],
)
def test_a_rule_that_rsync_cannot_apply_is_refused(text: bytes, fault: str) -> None:
    with pytest.raises(UsageError, match=f"^The exclude rule .*{fault}.*: .*[.]$"):
        parse_exclude(text)
    if text:
        with pytest.raises(UsageError, match=fault):
            parse_exclude_lines(b"x\n" + text + b"\n")


def test_rsync_drops_a_pattern_that_is_one_byte_longer(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", b"a")
    [longest] = rules(b"*" * MAX_PATTERN_BYTES).arguments()
    assert entries_sent_by_rsync([[longest], [longest + b"*"]], source) == [set(), {b"a"}]


def test_the_root_is_never_excluded() -> None:
    everything = rules(b"*", b"**", b"/***", b".", b"/", b"**/")
    assert not everything.excludes(b"", is_directory=True)
    assert not everything.matches(b"", is_directory=True)


def test_only_excludes_considers_the_directories_above() -> None:
    some = rules(b"a/")
    assert some.excludes(b"x/a/y/z", is_directory=False)
    assert not some.matches(b"x/a/y/z", is_directory=False)
    assert some.matches(b"x/a", is_directory=True)


def test_empty_rules_exclude_nothing_and_are_false() -> None:
    assert not Rules()
    assert not Rules().excludes(b"a/b", is_directory=True)
    assert Rules().arguments() == []
    assert rules(b"+ a")


def test_rules_are_equal_if_they_are_written_alike() -> None:
    assert rules(b"a", b"+ b/") == rules(b"x", b"!", b"- a", b"+ b/")
    assert hash(rules(b"a")) == hash(rules(b"a"))
    assert rules(b"a", b"b") != rules(b"b", b"a")
    assert rules(b"- a") != rules(b"+ a")


@pytest.mark.parametrize("text", [b"a", b"a/", b"*.tmp", b"?", b"[ab]/", b"a\\b", b".", b"+ *"])
def test_a_name_pattern_does_not_depend_on_the_directory(text: bytes) -> None:
    assert not rules(text).depends_on_directory


@pytest.mark.parametrize(
    "text", [b"/a", b"/a/", b"a/b", b"a/*", b"**", b"a**", b"**/a", b"a/***", b"[a/]", b"+ /a"]
)
def test_a_path_pattern_depends_on_the_directory(text: bytes) -> None:
    assert rules(b"x", text, b"y/").depends_on_directory


@given(
    texts=st.lists(prefixed_patterns()),
    path=st.sampled_from(sorted(TREE)),
    is_directory=st.booleans(),
)
def test_rules_independent_of_the_directory_decide_by_name_and_kind(
    texts: list[bytes], path: bytes, *, is_directory: bool
) -> None:
    some = rules(*(text for text in texts if not rules(text).depends_on_directory))
    assert not some.depends_on_directory
    path = path.removesuffix(b"/")
    name = path.rpartition(b"/")[2]
    verdict = some.matches(name, is_directory=is_directory)
    assert some.matches(path, is_directory=is_directory) == verdict
    assert some.matches(b"else/where/" + name, is_directory=is_directory) == verdict


@pytest.mark.parametrize(
    ("text", "may_match"),
    [
        (b"*.tmp", True), (b"x", True), (b"a/x", True), (b"**/x", True), (b"/**", True),
        (b"/a/b/c", True), (b"/a/*/c", True), (b"/a/b/", False), (b"/a/b", False),
        (b"/x/b/c", False),
        (b"/a/x/c", False), (b"/a/b/**", True), (b"/a/b/***", True), (b"/a/x/**", False),
        (b"/a/b**", True), (b"/[xy]/b/c", True), (b"+ *", False), (b"+ /a/b/c", False),
        (b"/a", False),
        (b"/?/b*/c", True), (b"/?/c*/c", False), (b"/a.b/b/c", False),
    ],
)  # fmt: skip
def test_a_rule_may_match_below_a_directory(text: bytes, *, may_match: bool) -> None:
    assert rules(b"+ q", text).may_exclude_below(b"a/b") == may_match


@pytest.mark.parametrize(
    ("text", "may_match"),
    [
        (b"P /a/b/c", True), (b"H /a/b/c", True), (b"P /x", False), (b"-! /x", True),
        (b"-x user.*", False), (b"R /a/b/c", False),
    ],
)  # fmt: skip
def test_a_rule_of_either_side_may_match_below_a_directory(text: bytes, *, may_match: bool) -> None:
    assert build_rules([parse_filter(text)]).may_exclude_below(b"a/b") == may_match


@given(
    texts=st.lists(prefixed_patterns(), max_size=3),
    path=st.sampled_from(sorted(TREE)),
    is_directory=st.booleans(),
)
def test_rules_that_match_nothing_below_a_directory_exclude_nothing_there(
    texts: list[bytes], path: bytes, *, is_directory: bool
) -> None:
    some = rules(*texts)
    path = path.removesuffix(b"/")
    is_excluded = some.matches(path, is_directory=is_directory)
    for directory in paths.ancestors(path):
        assert not directory or some.may_exclude_below(directory) or not is_excluded


# The behaviour of rsync that makes pylsyncd filter as well.


def test_rules_arrive_unchanged_at_a_remote_receiver(tmp_path: Path) -> None:
    odd = {b"- a", b"+ a", b"!", b" a", b"a ", b"_a", b"a\nb", b"#a", b"\xff", b"-,s", b"=", b"'$x"}
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    shell.chmod(0o700)
    source = make_tree(tmp_path / "source", b"sent")
    destination = make_tree(tmp_path / "destination", b"deleted", *odd)
    arguments = Rules(tuple(map(FilterRule, sorted(odd)))).arguments()
    assert rsync("-r", "--delete", *arguments, f"-e{shell}", f"{source}/", f"h:{destination}/") == 0
    assert entries_of(destination) == {b"sent", *odd}


def sync_listed(
    text: bytes, listed: bytes, source: Path, destination: Path
) -> tuple[int, set[bytes]]:
    """Run rsync with a list; return its exit status and the destination's content."""
    status = rsync(
        *("--dirs", "--times", *DELETE_OPTIONS, "--from0", "--files-from=-"),
        *rules(text).arguments(),
        *(f"{source}/", f"{destination}/"),
        names=listed + b"\0",
    )
    return status, entries_of(destination)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"/d/", {b"d/", b"d/f"}, id="implied parents are not filtered"),
        pytest.param(b"/d/***", set(), id="unless the listed name is excluded, too"),
        pytest.param(b"f", set(), id="then they are not implied"),
    ],
)
def test_rsync_sends_a_listed_name_below_an_excluded_directory(
    text: bytes, expected: set[bytes], tmp_path: Path
) -> None:
    source = make_tree(tmp_path / "source", b"d/f", b"d/g")
    destination = make_tree(tmp_path / "destination")
    assert sync_listed(text, b"./d/f", source, destination) == (0, expected)
    assert rules(text).excludes(b"d/f", is_directory=False)


@pytest.mark.parametrize(
    ("text", "listed", "at_destination", "left"),
    [
        pytest.param(b"x", b"./x", b"x", b"x", id="a rule keeps a listed file"),
        pytest.param(b"x", b"./x", b"x/ x/f", b"x/ x/f", id="and a listed directory"),
        pytest.param(b"x/", b"./x", b"x", b"", id="one for directories keeps no listed file"),
        pytest.param(b"x/", b"./x", b"x/ x/f", b"", id="and not even a listed directory"),
        pytest.param(b"x/", b"./x/", b"x/ x/f", b"", id="not with a slash, either"),
        pytest.param(b"x/", b"./", b"x/ x/f y", b"x/ x/f", id="if its parent is listed, it does"),
        pytest.param(b"x/", b"./", b"x y", b"", id="if its parent is listed, a file goes"),
        pytest.param(b"f", b"./x", b"x/ x/f x/g", b"x/ x/f", id="a rule keeps a file within"),
    ],
)
def test_rsync_deletes_copies_of_a_missing_excluded_name_as_expected(
    text: bytes, listed: bytes, at_destination: bytes, left: bytes, tmp_path: Path
) -> None:
    if listed != b"./" and not can_delete_by_name():
        pytest.skip(CANNOT_DELETE_BY_NAME)
    source = make_tree(tmp_path / "source")
    destination = make_tree(tmp_path / "destination", *at_destination.split())
    assert sync_listed(text, listed, source, destination) == (0, set(left.split()))


@needs_deletion_by_name
@pytest.mark.parametrize(
    ("in_source", "status"),
    [pytest.param(b"d/", 0, id="there"), pytest.param(b"e/", 24, id="gone")],
)
def test_rsync_deletes_a_listed_missing_name_below_an_excluded_directory(
    in_source: bytes, status: int, tmp_path: Path
) -> None:
    source = make_tree(tmp_path / "source", in_source)
    destination = make_tree(tmp_path / "destination", b"d/f", b"d/g")
    assert sync_listed(b"d", b"./d/f", source, destination) == (status, {b"d/", b"d/g"})
