"""A configuration file is read, or refused with all of its errors and their lines."""

import os
from pathlib import Path

import pytest
from support.configuration import errors_of, load_file, settings_of, sync_section

from pylsyncd.config import command_line_parser, loader
from pylsyncd.config.config_file import split_name
from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.model.errors import UsageError

SYNC = "[sync www]\nsource = src/./\ndestinations = dst/\n"


NO_SYNC = "p.conf: There is no section [sync NAME]: add one with a source and its destinations."

WRONG = """\
[sync www]
source = none
destinations =
  a:b
  ::x
  rsync://
rsync = ./none
exclude =
  ok
filter =
  - ok
  merge x
rsync_option = -r
"""

# The beginning of each error.
ERRORS = {
    "a misspelt key": (
        SYNC + "windwo = 10\n",
        ["p.conf:4: [sync www] windwo: Unknown option. Did you mean window?"],
    ),
    "a key like no other": (
        SYNC + "colour = red\n",
        ["p.conf:4: [sync www] colour: Unknown option."],
    ),
    "a misspelt key that is allowed in other sections only": (
        SYNC + "[destination dst]\nsourse = x\n",
        ["p.conf:5: [destination dst] sourse: Unknown option."],
    ),
    "a misspelt section": (
        SYNC + "[dest dst]\n[pylsync]\n[program:x]\n",
        [
            "p.conf:4: [dest dst]: Unknown section; use [pylsyncd], [sync NAME] or [dest",
            "p.conf:5: [pylsync]: Unknown section; use [pylsyncd], [sync NAME] or [dest",
            "p.conf:6: [program:x]: Unknown section; use [pylsyncd], [sync NAME] or [dest",
        ],
    ),
    "a section as in supervisord": (
        "[sync:www]\n",
        [
            NO_SYNC,
            "p.conf:1: [sync:www]: Unknown section; use [pylsyncd], [sync NAME] or [dest",
        ],
    ),
    "a section twice": (
        SYNC + "[pylsyncd]\n[sync www]\nnice = 20\n[pylsyncd]\n",
        [
            "p.conf:5: [sync www]: The section already exists in line 1: merge them.",
            "p.conf:6: [sync www] nice: Expected a whole number from 0 to 19, not '20'.",
            "p.conf:7: [pylsyncd]: The section already exists in line 4: merge them.",
        ],
    ),
    "a key twice, with a dash and with an underscore": (
        SYNC + "max-changes = none\nmax_changes = 2\n",
        [
            "p.conf:4: [sync www] max-changes: Expected a whole number of at least 1, not 'none'.",
            "p.conf:5: [sync www] max_changes: The option is already set in line 4: remove",
        ],
    ),
    "keys in the wrong section": (
        "[pylsyncd]\nsource = x\n" + SYNC + "daemon = yes\ncheck = yes\n"
        "[destination dst]\ndelete = no\nuser = root\n",
        [
            "p.conf:2: [pylsyncd] source: This option belongs in a section [sync NAME]: move it",
            "p.conf:6: [sync www] daemon: This option belongs in the section [pylsyncd]: move it",
            "p.conf:7: [sync www] check: This option belongs on the command line: move it",
            (
                "p.conf:9: [destination dst] delete: This option belongs in a section [sync NAME]: "
                "move it there."
            ),
            (
                "p.conf:10: [destination dst] user: This option belongs in the section [pylsyncd]: "
                "move it there."
            ),
        ],
    ),
    "lines that are neither section nor key": (
        "first = 1\nsecond = 2\n" + SYNC + "garbage\n  and more\n[open\n= 1\n",
        [
            "p.conf:1: first stands before the first section: write [pylsyncd] above it.",
            "p.conf:6: [sync www]: 'garbage' is neither KEY = VALUE nor a [section]: correct it,",
            "p.conf:8: [sync www]: '[open' is not a section: write [NAME] on a line of",
            "p.conf:9: [sync www]: '= 1' is neither KEY = VALUE nor a [section]: correct it, put",
        ],
    ),
    "a NUL": (
        SYNC + "window = 1\0\n",
        ["p.conf:4: [sync www]: The line contains a NUL byte: this is not a text file."],
    ),
    "an option and a section that are indented by mistake": (
        SYNC + "exclude =\n  *.tmp\n  max-delete = 3\n [sync media]\n",
        [
            "p.conf:6: [sync www] exclude: 'max-delete = 3' is indented, so it continues the value",
            "p.conf:7: [sync www] exclude: '[sync media]' is indented, so it continues the value",
        ],
    ),
    "two values of an option that takes one": (
        SYNC + "window = 5\n  6\nlogfile = x\n",
        [
            "p.conf:5: [sync www] window: The option takes one value: remove the line '6'.",
            "p.conf:6: [sync www] logfile: This option belongs in the section [pylsyncd]: move it",
        ],
    ),
    "an empty value of an option with a default": (
        SYNC + "window =\ndelete =\n",
        [
            (
                "p.conf:4: [sync www] window: The value is empty: remove the option to use the "
                "default, 60."
            ),
            (
                "p.conf:5: [sync www] delete: The value is empty: remove the option to use the "
                "default, yes."
            ),
        ],
    ),
    "a section without a name, or with an invalid one": (
        "[sync]\n[sync a/b]\n[sync a b]\n[destination ]\n[sync \x1b]\n",
        [
            "p.conf:1: [sync]: The section needs a name: [sync NAME].",
            "p.conf:2: [sync a/b]: The name of a sync must not contain blanks, slashes or",
            "p.conf:3: [sync a b]: The name of a sync must not contain blanks, slashes or",
            "p.conf:4: [destination]: The section needs a name: [destination NAME].",
            r"p.conf:5: [sync \x1b]: The name of the section contains unprintable characters:",
        ],
    ),
    "an empty sync": (
        "[sync www]\n",
        [
            "p.conf:1: [sync www]: The sync has no source: add source = DIRECTORY.",
            "p.conf:1: [sync www]: The sync has no destinations: add destinations = ",
        ],
    ),
    "a sync whose source is empty": (
        SYNC.replace("src/./", "") + SYNC.replace("www", "b"),
        ["p.conf:1: [sync www]: The sync has no source: add source = DIRECTORY."],
    ),
    "an unknown user and group": (
        "[pylsyncd]\nuser = no such\ngroup = nor that\n" + SYNC,
        [
            "p.conf:2: [pylsyncd] user: There is no user 'no such'",
            "p.conf:3: [pylsyncd] group: There is no group 'nor that'",
        ],
    ),
    "a destination without a sync": (
        "[destination dst]\n",
        [
            NO_SYNC,
            "p.conf:1: [destination dst]: Unknown destination.",
        ],
    ),
    "an empty file": ("", [NO_SYNC]),
    "an error in each of several values": (
        WRONG,
        [
            "p.conf:2: [sync www] source: The source {place}/none does not exist.",
            "p.conf:5: [sync www] destinations: The destination ::x has no host: correct it, or",
            "p.conf:6: [sync www] destinations: The destination rsync:// has no host: correct",
            "p.conf:7: [sync www] rsync: {place}/none cannot be run: No such file or directory.",
            (
                "p.conf:12: [sync www] filter: The filter rule 'merge x' makes rsync read further "
                "rules"
            ),
            "p.conf:13: [sync www] rsync_option: The rsync option -r is refused",
        ],
    ),
    "an unknown destination": (
        SYNC + "[destination dts]\n[destination www/bst]\n[destination elsewhere]\nnice = 20\n",
        [
            "p.conf:4: [destination dts]: Unknown destination. Did you mean dst?",
            "p.conf:5: [destination www/bst]: Unknown destination. Did you mean www/dst?",
            "p.conf:6: [destination elsewhere]: Unknown destination. The destinations are www/dst.",
            "p.conf:7: [destination elsewhere] nice: Expected a whole number from 0 to 19, not",
        ],
    ),
    "defaults that no sync uses": (
        "[pylsyncd]\nwindow = soon\nnice = much\n" + SYNC + "window = 3\nnice = 3\n",
        [
            "p.conf:2: [pylsyncd] window: Expected a time, such as 60, 0.5, 90s, 5min, ",
            "p.conf:3: [pylsyncd] nice: Expected a whole number from 0 to 19, not 'much'.",
        ],
    ),
    "a wrong default of two syncs, reported once": (
        "[pylsyncd]\nwindow = soon\n" + SYNC + SYNC.replace("www", "b").replace("dst", "dst2"),
        [
            "p.conf:2: [pylsyncd] window: Expected a time, such as 60, 0.5, 90s, 5min, ",
        ],
    ),
}


@pytest.mark.parametrize(("content", "expected"), ERRORS.values(), ids=ERRORS)
def test_all_errors_are_reported_at_once_with_their_lines(
    content: str, expected: list[str], place: Path
) -> None:
    for error, beginning in zip(errors_of(content), expected, strict=True):
        assert error.startswith(beginning.replace("{place}", str(place)))
        assert error.endswith((".", "?"))


@pytest.mark.parametrize(
    ("heading", "suggestion"),
    [
        ("pylsync", "[pylsyncd]"),
        ("Sync www", "[sync www]"),
        ("sync:www", "[sync www]"),
        ("destinations srv2", "[destination srv2]"),
        ("syncs", "[sync NAME]"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_similar_section_is_suggested_for_a_misspelt_one(heading: str, suggestion: str) -> None:
    (error,) = errors_of(f"{SYNC}[{heading}]\nwindow = 0\n")
    assert error.endswith(f"Did you mean {suggestion}?")


@pytest.mark.usefixtures("place")
def test_a_file_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match="Cannot read the configuration file none: No such"):
        loader.load_configuration(
            command_line_parser.parse_command_line(["-c", "none"]),
            loader.StartEnvironment.current(),
        )


def test_a_name_that_is_not_utf_8_is_kept_as_it_is(place: Path) -> None:
    os.mkdir(b"s\xff")
    content = b"[sync www]\nsource = s\xff/./\ndestinations = d\xfe/\nexclude = *.\xe9\n"
    (sync,) = settings_of(content).syncs
    assert sync.source.path == os.fsencode(place) + b"/s\xff"
    assert sync.destinations[0].destination.target == os.fsencode(place) + b"/d\xfe/"
    assert [pattern.pattern for pattern in sync.rules.ordered] == [b"*.\xe9"]


@pytest.mark.usefixtures("place")
def test_an_error_escapes_bytes_that_are_not_utf_8() -> None:
    section, key = errors_of(b"[sync w\xff]\n" + SYNC.encode() + b"k\xff\x1b = 1\n")
    assert section == (
        r"p.conf:1: [sync w\xff]: The name of the section contains unprintable characters: remove "
        "them."
    )
    assert key == r"p.conf:5: [sync www] k\xff\x1b: Unknown option."


@pytest.mark.usefixtures("place")
def test_a_comment_has_a_line_of_its_own_and_otherwise_belongs_to_the_value() -> None:
    (sync,) = settings_of(
        "# first\n; second\n" + SYNC + "exclude =\n   a b # c\n   # no\n\n   d ; e\n  ;no\n"
    ).syncs
    assert [pattern.pattern for pattern in sync.rules.ordered] == [b"a b # c", b"d ; e"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("srv2 = srv2:/a/", ("srv2", "srv2:/a/")),
        ("srv2=srv2:/a/", ("srv2", "srv2:/a/")),
        ("b.2-x_y = rsync://h/m", ("b.2-x_y", "rsync://h/m")),
        ("b=rsync://h/m", ("b", "rsync://h/m")),
        ("büro = host", ("büro", "host")),
        ("copy = copy", ("copy", "copy")),
        ("copy =copy", ("copy", "copy")),
        ("disk=/mnt/disk", ("disk", "/mnt/disk")),
        ("a = h:/x = y", ("a", "h:/x = y")),
        ("srv2:/a/", ("", "srv2:/a/")),
        ("a=b/c", ("", "a=b/c")),
        ("year=2024", ("", "year=2024")),
        ("./a = b", ("", "./a = b")),
        ("/a = b", ("", "/a = b")),
        ("h:a = b", ("", "h:a = b")),
    ],
)
def test_a_name_may_stand_before_a_destination(text: str, expected: tuple[str, str]) -> None:
    assert split_name(text) == expected


@pytest.mark.usefixtures("place")
def test_named_destinations_are_known_by_their_names_alone() -> None:
    settings = settings_of(
        "[sync web]\nsource = src/./\ndestinations =\n  one = h:/a\n  h:/b\n  two = ./dst/\n"
        "[destination one]\nwindow = 3\n[destination web/h]\nwindow = 4\n"
        "[destination ./dst/]\nwindow = 5\n"
    )
    destinations = settings.syncs[0].destinations
    assert [(each.name, each.window) for each in destinations] == [
        ("web/one", 3.0), ("web/h", 4.0), ("web/two", 5.0)
    ]  # fmt: skip
    assert [each.destination.notation for each in destinations] == ["h:/a", "h:/b", "./dst/"]


@pytest.mark.usefixtures("place")
def test_a_name_that_is_not_usable_is_refused_with_its_line() -> None:
    place = "[sync web] destinations"
    reason = "use one without blanks, quotes, brackets and @, or write ./ before a directory."
    assert errors_of(
        "[sync web]\nsource = src/./\ndestinations =\n  my srv = h:/a\n  = h:/b\n  c =\n"
    ) == [
        f"p.conf:4: {place}: 'my srv' cannot be the name of a destination: {reason}",
        f"p.conf:5: {place}: '' cannot be the name of a destination: {reason}",
        f"p.conf:6: {place}: The name c has no destination: write c = DESTINATION.",
    ]


@pytest.mark.usefixtures("place")
def test_a_byte_order_mark_and_windows_line_ends_are_ignored() -> None:
    plain = settings_of(SYNC)
    assert settings_of(b"\xef\xbb\xbf" + SYNC.replace("\n", "\r\n").encode()) == plain


def test_relative_paths_start_from_the_directory_of_the_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "secret").touch(0o600)
    settings = settings_of("[pylsyncd]\npidfile = my.pid\n" + SYNC + "password_file = secret\n")
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    command_line = command_line_parser.parse_command_line(["-c", "../p.conf"])
    monkeypatch.chdir("/")
    assert (
        loader.load_configuration(command_line, loader.StartEnvironment.current()).settings
        == settings
    )
    assert settings.process.pidfile == f"{place}/my.pid"
    assert settings.syncs[0].source.path == os.fsencode(place / "src")
    assert settings.syncs[0].destinations[0].rsync.password_file == f"{place}/secret"


MISSING = sync_section("one", "none/./", "srv:") + sync_section("two", "a/./", "srv2:")


def test_a_missing_source_is_left_to_the_start_of_its_sync(place: Path) -> None:
    one, two = settings_of(MISSING).syncs
    assert one.source.path == os.fsencode(place / "none")
    assert (one.name, two.name) == ("one", "two")


@pytest.mark.parametrize("words", [["--once"], ["--check"], ["--explain=/"]])
def test_a_missing_source_is_an_error_of_what_ends_by_itself(place: Path, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_file(MISSING, *words)
    assert caught.value.messages == (
        f"p.conf:2: [sync one] source: The source {place}/none does not exist.",
    )
