"""Rules of --filter and --include are parsed as rsync does, or refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.filtering import (
    TREE,
    entries_deleted_by_rsync,
    entries_of,
    entries_sent_by_rsync,
    included_entries,
    make_tree,
    patterns,
    prefixed_patterns,
    rsync,
)
from support.rsync_features import CANNOT_DELETE_BY_NAME, DELETE_OPTIONS, can_delete_by_name

from pylsyncd.model.errors import UsageError
from pylsyncd.model.paths import covers
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import (
    MAX_PATTERN_BYTES,
    ClearRules,
    RuleStep,
    parse_exclude,
    parse_exclude_lines,
    parse_filter,
    parse_include,
    parse_include_lines,
)
from pylsyncd.rules.patterns import FilterRule


def filters(*texts: bytes) -> Rules:
    return build_rules(map(parse_filter, texts))


@pytest.fixture(scope="module")
def fixed_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("fixed") / "tree", *TREE)


# The notation

READ = [
    (b"- a", FilterRule(b"a")),
    (b"-_a", FilterRule(b"a")),
    (b"-, a", FilterRule(b"a")),
    (b"-,_a", FilterRule(b"a")),
    (b"exclude a", FilterRule(b"a")),
    (b"exclude_a", FilterRule(b"a")),
    (b"exclude, a", FilterRule(b"a")),
    (b"exclude,_a", FilterRule(b"a")),
    (b"-  a", FilterRule(b" a")),
    (b"- _a", FilterRule(b"_a")),
    (b"-_ a", FilterRule(b" a")),
    (b"- a ", FilterRule(b"a ")),
    (b"- a_b c", FilterRule(b"a_b c")),
    (b"- -a", FilterRule(b"-a")),
    (b"- - a", FilterRule(b"- a")),
    (b"- + a", FilterRule(b"+ a")),
    (b"- !", FilterRule(b"!")),
    (b"- !a", FilterRule(b"!a")),
    (b"- a\nb", FilterRule(b"a\nb")),
    (b"+ a", FilterRule(b"a", is_include=True)),
    (b"+ !", FilterRule(b"!", is_include=True)),
    (b"include_a", FilterRule(b"a", is_include=True)),
    (b"include,! a", FilterRule(b"a", True, b"!")),  # noqa: FBT003 - the table would not fit
    (b"-! a", FilterRule(b"a", modifiers=b"!")),
    (b"-!_a", FilterRule(b"a", modifiers=b"!")),
    (b"-!! a", FilterRule(b"a", modifiers=b"!")),
    (b"-! !", FilterRule(b"!", modifiers=b"!")),
    (b"-p!p a", FilterRule(b"a", modifiers=b"!p")),
    (b"-p a/", FilterRule(b"a/", modifiers=b"p")),
    (b"-s a", FilterRule(b"a", modifiers=b"s")),
    (b"-r a", FilterRule(b"a", modifiers=b"r")),
    (b"-sr a", FilterRule(b"a")),
    (b"-,rs a", FilterRule(b"a")),
    (b"exclude,rps a", FilterRule(b"a", modifiers=b"p")),
    (b"-x a", FilterRule(b"a", modifiers=b"x")),
    (b"-x! a", FilterRule(b"a", modifiers=b"!x")),
    (b"+xs a", FilterRule(b"a", True, b"sx")),  # noqa: FBT003
    (b"H a", FilterRule(b"a", modifiers=b"s")),
    (b"hide a", FilterRule(b"a", modifiers=b"s")),
    (b"H!_a", FilterRule(b"a", modifiers=b"!s")),
    (b"hide,p a", FilterRule(b"a", modifiers=b"ps")),
    (b"S a", FilterRule(b"a", True, b"s")),  # noqa: FBT003
    (b"show_a", FilterRule(b"a", True, b"s")),  # noqa: FBT003
    (b"P a", FilterRule(b"a", modifiers=b"r")),
    (b"protect_a", FilterRule(b"a", modifiers=b"r")),
    (b"P,p a", FilterRule(b"a", modifiers=b"pr")),
    (b"R a", FilterRule(b"a", True, b"r")),  # noqa: FBT003
    (b"risk,! a", FilterRule(b"a", True, b"!r")),  # noqa: FBT003
    (b"!", ClearRules()),
    (b"!,", ClearRules()),
    (b"clear", ClearRules()),
    (b"clear,", ClearRules()),
]


@pytest.mark.parametrize(("text", "step"), READ, ids=[repr(text)[1:] for text, _ in READ])
def test_a_filter_is_parsed_into_its_parts(text: bytes, step: RuleStep) -> None:
    assert parse_filter(text) == (step,)


def test_rsync_parses_filters_as_pylsyncd_does(fixed_tree: Path) -> None:
    # An include has an effect only if everything else is excluded.
    behind = [[b"- *"] if isinstance(s, FilterRule) and s.is_include else [] for _, s in READ]
    texts = [[text, *more] for (text, _), more in zip(READ, behind, strict=True)]
    given = [[b"--filter=" + text for text in some] for some in texts]
    ours = [filters(*some) for some in texts]
    assert entries_sent_by_rsync(given, fixed_tree) == [
        included_entries(some, TREE) for some in ours
    ]
    assert entries_deleted_by_rsync(given, fixed_tree) == [_deleted_by(some, TREE) for some in ours]


MALFORMED = [
    (b"", "does not begin"),
    (b"-", "has no pattern"),
    (b"- ", "has no pattern"),
    (b"-_", "has no pattern"),
    (b"-,", "has no pattern"),
    (b"-!", "has no pattern"),
    (b"H", "has no pattern"),
    (b"exclude", "has no pattern"),
    (b"exclude,", "has no pattern"),
    (b"-a", "has the unknown modifier 'a'"),
    (b"-,a", "has the unknown modifier 'a'"),
    (b"-,,a", "has the unknown modifier ','"),
    (b"-s,r a", "has the unknown modifier ','"),
    (b"-\ta", r"has the unknown modifier '\\t'"),
    (b"-- a", "has the unknown modifier '-'"),
    (b"-+ a", r"has the unknown modifier '\+'"),
    (b"-e a", "has the unknown modifier 'e'"),
    (b"-n a", "has the unknown modifier 'n'"),
    (b"-w a", "has the unknown modifier 'w'"),
    (b"exclude\ta", r"has the unknown modifier '\\t'"),
    (b"exclude,s,r a", "has the unknown modifier ','"),
    (b"Hs a", "names its side twice"),
    (b"hide,r a", "names its side twice"),
    (b"Pr a", "names its side twice"),
    (b"a", "does not begin"),
    (b"*.tmp", "does not begin"),
    (b" - a", "does not begin"),
    (b"excludea", "does not begin"),
    (b"exclude! a", "does not begin"),
    (b"EXCLUDE a", "does not begin"),
    (b"ex a", "does not begin"),
    (b"#a", "does not begin"),
    (b"! ", "has text after it"),
    (b"!a", "has text after it"),
    (b"!_", "has text after it"),
    (b"clear a", "has text after it"),
    (b"clear,p", "has text after it"),
]
ONLY_OURS = [
    (b"merge /etc/rules", "makes rsync read further rules from a file.*--exclude-from"),
    (b". /etc/rules", "makes rsync read further rules from a file"),
    (b"merge,- /etc/rules", "makes rsync read further rules from a file"),
    (b".", "makes rsync read further rules from a file"),
    (b"dir-merge .rules", "files within the source.*--exclude-from"),
    (b": .rules", "files within the source"),
    (b":C", "files within the source"),
    (b"-/ a", "absolute paths.*relative to the source"),
    (b"exclude,p/ /a", "absolute paths"),
    (b"-C", "environment and the home directory"),
    (b"exclude,C", "environment and the home directory"),
    (b"- a\0b", "holds a NUL byte"),
    (b"- " + b"a" * (MAX_PATTERN_BYTES + 1), "longer than the 4095 bytes"),
]


@pytest.mark.parametrize(("text", "fault"), [*MALFORMED, *ONLY_OURS])
def test_a_filter_that_pylsyncd_cannot_apply_is_refused(text: bytes, fault: str) -> None:
    with pytest.raises(UsageError, match=f"^The filter rule '.*' .*{fault}.*[.]$"):
        parse_filter(text)


@pytest.mark.parametrize("text", [text for text, _ in MALFORMED if text])
def test_rsync_also_refuses_a_malformed_filter(text: bytes, tmp_path: Path) -> None:
    assert rsync("--list-only", b"--filter=" + text, f"{tmp_path}/") == 1


def test_rsync_drops_a_filter_that_is_one_byte_longer(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", b"a")
    [longest] = filters(b"hide " + b"*" * MAX_PATTERN_BYTES).arguments()
    assert entries_sent_by_rsync([[longest], [longest + b"*"]], source) == [set(), {b"a"}]


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (b"a", FilterRule(b"a", is_include=True)),
        (b"+ a", FilterRule(b"a", is_include=True)),
        (b"- a", FilterRule(b"a")),
        (b"-a", FilterRule(b"-a", is_include=True)),
        (b"- - a", FilterRule(b"- a")),
        (b"!", ClearRules()),
        (b"!a", FilterRule(b"!a", is_include=True)),
        (b"! ", FilterRule(b"! ", is_include=True)),
    ],
)
def test_an_include_is_an_exclude_with_the_other_sign(text: bytes, step: RuleStep) -> None:
    assert parse_include(text) == (step,)
    assert parse_include_lines(b"# none\n" + text + b"\n") == (step,)


@pytest.mark.parametrize("text", [b"", b"+ ", b"- "])
def test_an_include_without_a_pattern_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match=r"^The include rule '.*' has no pattern: "):
        parse_include(text)


def test_a_filter_clears_the_rules_of_all_earlier_options() -> None:
    steps = [parse_exclude(b"a"), parse_filter(b"P b"), parse_filter(b"clear"), parse_include(b"c")]
    assert build_rules(steps).arguments() == [b"--include=c"]


def test_a_rule_has_its_origin() -> None:
    steps = [
        parse_exclude(b"*.o"),
        parse_include(b"+ a\n"),
        parse_filter(b"P,p x"),
        parse_exclude_lines(b"# first\r\n\r\nb\r\n!\r\rc\n\nd", "rules"),
        parse_filter(b"- e", "file, section [sync a]"),
    ]
    origins = [step.origin for read in steps for step in read if isinstance(step, FilterRule)]
    assert origins == [
        *("--exclude=*.o", "--include=+ a\\n", "--filter=P,p x"),
        *("rules, line 3", "rules, line 6", "rules, line 8", "file, section [sync a]"),
    ]


def test_rules_with_different_origins_are_equal() -> None:
    assert parse_exclude(b"a") == parse_exclude_lines(b"a", "rules") == parse_filter(b"- a")


def test_an_error_in_a_file_is_reported_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"^rules, line 3: The exclude rule '- ' has no pattern"):
        parse_exclude_lines(b"a\n\n- \n", "rules")
    with pytest.raises(UsageError, match=r"^line 1: The include rule"):
        parse_include_lines(b"+ \n")


# The meaning


@pytest.mark.parametrize(
    ("texts", "sent", "deleted"),
    [
        pytest.param(b"-_x", b"a/ a/y y", b"a/y y", id="exclude: both"),
        pytest.param(b"H_x", b"a/ a/y y", b"a/ a/x a/y x y", id="hide: not sent, not protected"),
        pytest.param(b"P_x", b"a/ a/x a/y x y", b"a/y y", id="protect: sent, and kept"),
        pytest.param(b"R_x -_*", b"", b"x", id="risk: excluded, and deleted"),
        pytest.param(b"S_x -_*", b"x", b"", id="show: sent, and kept"),
        pytest.param(b"P_a/", b"a/ a/x a/y x y", b"x y", id="a directory with its content"),
        pytest.param(b"P_/a/x", b"a/ a/x a/y x y", b"a/y x y", id="not empty, it stays"),
        pytest.param(b"-p_/a/x", b"a/ a/y x y", b"a/ a/x a/y x y", id="perishable: it goes"),
        pytest.param(b"-p_/x", b"a/ a/x a/y y", b"a/ a/x a/y y", id="perishable at the top"),
        pytest.param(b"-!_*/", b"a/", b"", id="all but directories"),
        pytest.param(b"-!_/a/***", b"a/ a/x a/y", b"a/ a/x a/y", id="all but a directory"),
        pytest.param(b"-!_y", b"y", b"y", id="and the directories on the way"),
        pytest.param(b"-!_//", b"", b"", id="what matches nothing"),
        pytest.param(b"+!_y -_*", b"a/ a/x x", b"a/x x", id="include all but"),
        pytest.param(b"-x_x -x!_y", b"a/ a/x a/y x y", b"a/ a/x a/y x y", id="not about names"),
    ],
)
def test_sides_and_modifiers_have_rsyncs_meaning(
    texts: bytes, sent: bytes, deleted: bytes, tmp_path: Path
) -> None:
    tree = {b"a/", b"a/x", b"a/y", b"x", b"y"}
    make_tree(tmp_path / "tree", *tree)
    ours = filters(*texts.split())
    assert included_entries(ours, tree) == set(sent.split())
    assert entries_sent_by_rsync([ours.arguments()], tmp_path / "tree") == [set(sent.split())]
    assert _deleted_by(ours, tree) == set(deleted.split())
    assert entries_deleted_by_rsync([ours.arguments()], tmp_path / "tree") == [set(deleted.split())]


def _deleted_by(rules: Rules, entries: set[bytes]) -> set[bytes]:
    """Return the paths that an empty source deletes according to `Rules.protects`."""
    lasting = Rules(tuple(one for one in rules.ordered if b"p" not in one.modifiers))
    bare = {entry.removesuffix(b"/"): entry.endswith(b"/") for entry in entries}
    safe = {
        path
        for path, is_directory in bare.items()
        if (lasting if b"/" in path else rules).protects(path, is_directory=is_directory)
    }
    # Paths in a directory that stays, and directories of paths that stay.
    safe |= {path for path in bare if any(covers(above, path) for above in safe)}
    safe |= {path for path in bare if any(covers(path, below) for below in safe)}
    return {entry for entry in entries if entry.removesuffix(b"/") not in safe}


FRONTS = [
    *(b"- ", b"-_", b"+ ", b"exclude ", b"include_", b"-! ", b"-,! ", b"+! ", b"include,!_"),
    *(b"H ", b"hide,! ", b"S ", b"P ", b"protect_", b"P! ", b"R ", b"risk,! ", b"-s "),
    *(b"+r ", b"-rs ", b"-p ", b"P,p ", b"-x ", b"+x! ", b"-!p ", b"-rp "),
]
FILTERS = st.one_of(
    *[st.builds(bytes.__add__, st.sampled_from(FRONTS), patterns())] * 6,
    st.sampled_from([b"!", b"clear"]),
)
OPTIONS = st.one_of(
    st.tuples(st.just(b"--exclude="), prefixed_patterns()),
    st.tuples(st.just(b"--include="), prefixed_patterns()),
    *[st.tuples(st.just(b"--filter="), FILTERS)] * 2,
)
PARSERS = {b"--exclude=": parse_exclude, b"--include=": parse_include, b"--filter=": parse_filter}


@settings(max_examples=25)
@given(rule_sets=st.lists(st.lists(OPTIONS, min_size=1, max_size=5), max_size=6))
def test_rsync_interprets_any_mixture_of_options_as_pylsyncd_does(
    fixed_tree: Path, rule_sets: list[list[tuple[bytes, bytes]]]
) -> None:
    given_so = [[option + text for option, text in some] for some in rule_sets]
    ours = [build_rules(PARSERS[option](text) for option, text in some) for some in rule_sets]
    assert entries_sent_by_rsync(given_so, fixed_tree) == [
        included_entries(some, TREE) for some in ours
    ]
    deleted = [_deleted_by(some, TREE) for some in ours]
    assert entries_deleted_by_rsync([some.arguments() for some in ours], fixed_tree) == deleted


@given(options=st.lists(OPTIONS))
def test_every_rule_can_be_parsed_from_its_rsync_argument(
    options: list[tuple[bytes, bytes]],
) -> None:
    ours = build_rules(PARSERS[option](text) for option, text in options)
    names = [(argument.partition(b"=")[0] + b"=") for argument in ours.arguments()]
    texts = [argument.partition(b"=")[2] for argument in ours.arguments()]
    again = build_rules(PARSERS[name](text) for name, text in zip(names, texts, strict=True))
    assert again == ours
    by_filter = [parse_filter(one.as_filter) for one in ours.ordered]
    assert build_rules(by_filter) == ours


def test_only_rules_that_affect_sending_depend_on_the_directory() -> None:
    assert not filters(b"P /a/b", b"-x a/b", b"- c").depends_on_directory
    assert filters(b"H /a/b").depends_on_directory
    assert filters(b"-! a/b").depends_on_directory


def test_rules_for_one_side_are_rules() -> None:
    some = filters(b"P a")
    assert some
    assert not some.excludes(b"a", is_directory=False)
    assert some.protects(b"a", is_directory=False)
    assert some != replace(some, ordered=(FilterRule(b"a"),))


def test_the_root_is_never_excluded_and_never_protected() -> None:
    some = filters(b"-! a", b"P! */", b"H *")
    assert not some.excludes(b"", is_directory=True)
    assert not some.protects(b"", is_directory=True)


# The behaviour of rsync with lists, because of which a vanished path is not always listed


def _sync_listed(rules: Rules, listed: bytes, source: Path, destination: Path) -> set[bytes]:
    status = rsync(
        *("--dirs", "--times", *DELETE_OPTIONS, "--from0", "--files-from=-"),
        *rules.arguments(),
        *(f"{source}/", f"{destination}/"),
        names=listed + b"\0",
    )
    assert status == 0
    return entries_of(destination)


@pytest.mark.parametrize(
    ("text", "listed", "at_destination", "left"),
    [
        pytest.param(b"P x", b"./x", b"x", b"x", id="a protected file is kept by name"),
        pytest.param(b"P x", b"./x", b"x/ x/f", b"x/ x/f", id="and a directory"),
        pytest.param(b"P x/", b"./x", b"x/ x/f", b"", id="not so one protected as a directory"),
        pytest.param(b"P x/", b"./", b"x/ x/f y", b"x/ x/f", id="but when its parent is listed"),
        pytest.param(b"P f", b"./x", b"x/ x/f x/g", b"x/ x/f", id="what is protected within"),
        pytest.param(b"P,p f", b"./x", b"x/ x/f x/g", b"", id="unless it is perishable"),
        pytest.param(b"P! y", b"./x", b"x", b"x", id="by what does not match"),
        pytest.param(b"H x", b"./x", b"x", b"", id="what is only hidden is deleted by name"),
        pytest.param(b"H x/", b"./", b"x/ x/f", b"", id="and when its parent is listed"),
        pytest.param(b"R x", b"./x", b"x", b"", id="what is at risk is deleted"),
    ],
)
def test_rsync_deletes_copies_of_a_vanished_name_as_expected(
    text: bytes, listed: bytes, at_destination: bytes, left: bytes, tmp_path: Path
) -> None:
    if listed != b"./" and not can_delete_by_name():
        pytest.skip(CANNOT_DELETE_BY_NAME)
    source = make_tree(tmp_path / "source")
    destination = make_tree(tmp_path / "destination", *at_destination.split())
    assert _sync_listed(filters(text), listed, source, destination) == set(left.split())


def test_rules_for_one_side_arrive_at_a_remote_receiver(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    shell.chmod(0o700)
    source = make_tree(tmp_path / "source", b"sent", b"hidden")
    kept = {b" a", b"_b", b"!", b"c\nd", b"\xff"}
    destination = make_tree(tmp_path / "destination", b"gone", b"hidden", *kept)
    rules = build_rules(
        [*[parse_filter(b"P " + name) for name in sorted(kept)], parse_filter(b"H hid*")]
    )
    arguments = rules.arguments()
    assert rsync("-r", "--delete", *arguments, f"-e{shell}", f"{source}/", f"h:{destination}/") == 0
    assert entries_of(destination) == {b"sent", *kept}
