"""The notation of the configuration file, and all that may be wrong with it."""

import configparser
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.config import command_line_parser, ini_parser, loader
from pylsyncd.config.said import ConfigurationError
from pylsyncd.config.settings import Settings
from pylsyncd.model.errors import UsageError

SYNC = "[sync www]\nsource = src/./\ndestinations = dst/\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(content: str | bytes) -> Settings:
    Path("p.conf").write_bytes(os.fsencode(content) if isinstance(content, str) else content)
    return loader.load_configuration(
        command_line_parser.parse_command_line(["-c", "p.conf"]), loader.StartEnvironment.current()
    ).settings


def faults(content: str | bytes) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(content)
    assert str(caught.value) == "\n".join(caught.value.messages)
    return list(caught.value.messages)


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

# The beginning of each fault.
FAULTS = {
    "a misspelt key": (
        SYNC + "windwo = 10\n",
        ["p.conf:4: [sync www] windwo: There is no such option. Did you mean window?"],
    ),
    "a key like no other": (
        SYNC + "colour = red\n",
        ["p.conf:4: [sync www] colour: There is no such option."],
    ),
    "a misspelt key is likely to be one that may stand there": (
        SYNC + "[destination dst]\nsourse = x\n",
        ["p.conf:5: [destination dst] sourse: There is no such option."],
    ),
    "a misspelt section": (
        SYNC + "[dest dst]\n[pylsync]\n[program:x]\n",
        [
            "p.conf:4: [dest dst]: There is no such section, only [pylsyncd], [sync NAME] and",
            "p.conf:5: [pylsync]: There is no such section, only [pylsyncd], [sync NAME] and",
            "p.conf:6: [program:x]: There is no such section, only [pylsyncd], [sync NAME] and",
        ],
    ),
    "a section in the manner of supervisord": (
        "[sync:www]\n",
        [
            "p.conf: There is no [sync NAME] section, so nothing to do.",
            "p.conf:1: [sync:www]: There is no such section, only [pylsyncd], [sync NAME] and",
        ],
    ),
    "a section twice": (
        SYNC + "[pylsyncd]\n[sync www]\nnice = 20\n[pylsyncd]\n",
        [
            "p.conf:5: [sync www]: It is there already, from line 1 on: join them.",
            "p.conf:6: [sync www] nice: A whole number from 0 to 19 is needed, not '20'.",
            "p.conf:7: [pylsyncd]: It is there already, from line 4 on: join them.",
        ],
    ),
    "a key twice, with a dash or not": (
        SYNC + "max-changes = none\nmax_changes = 2\n",
        [
            "p.conf:4: [sync www] max-changes: A whole number from 1 on is needed, not 'none'.",
            "p.conf:5: [sync www] max_changes: It is said already in line 4: leave one of them",
        ],
    ),
    "keys in the wrong section": (
        "[pylsyncd]\nsource = x\n" + SYNC + "daemon = yes\ncheck = yes\n"
        "[destination dst]\ndelete = no\nuser = root\n",
        [
            "p.conf:2: [pylsyncd] source: This belongs in a section [sync NAME], not here.",
            "p.conf:6: [sync www] daemon: This belongs in the section [pylsyncd], not here.",
            "p.conf:7: [sync www] check: This belongs on the command line, not here.",
            "p.conf:9: [destination dst] delete: This belongs in a section [sync NAME], not here.",
            "p.conf:10: [destination dst] user: This belongs in the section [pylsyncd], not here.",
        ],
    ),
    "lines that are nothing": (
        "first = 1\nsecond = 2\n" + SYNC + "garbage\n  and more\n[open\n= 1\n",
        [
            "p.conf:1: first stands before all sections: write [pylsyncd] above it.",
            "p.conf:6: [sync www]: 'garbage' is neither KEY = VALUE nor a [section]: correct it,",
            "p.conf:8: [sync www]: '[open' is no [NAME] on a line of its own: correct it.",
            "p.conf:9: [sync www]: '= 1' is neither KEY = VALUE nor a [section]: correct it, put",
        ],
    ),
    "a NUL": (
        SYNC + "window = 1\0\n",
        ["p.conf:4: [sync www]: The line holds a NUL, which no text does: is this the right file?"],
    ),
    "an option that is indented by mistake": (
        SYNC + "exclude =\n  *.tmp\n  max-delete = 3\n [sync media]\n",
        [
            "p.conf:6: [sync www] exclude: 'max-delete = 3' continues this value, since it is",
            "p.conf:7: [sync www] exclude: '[sync media]' continues this value, since it is",
        ],
    ),
    "two values for one": (
        SYNC + "window = 5\n  6\nlogfile = x\n",
        [
            "p.conf:5: [sync www] window: It takes one value, but '6' continues it: leave that",
            "p.conf:6: [sync www] logfile: This belongs in the section [pylsyncd], not here.",
        ],
    ),
    "nothing where a default is": (
        SYNC + "window =\ndelete =\n",
        [
            "p.conf:4: [sync www] window: It is empty: leave it out for the default, 60.",
            "p.conf:5: [sync www] delete: It is empty: leave it out for the default, yes.",
        ],
    ),
    "a sync without a name, or with a bad one": (
        "[sync]\n[sync a/b]\n[sync a b]\n[destination ]\n[sync \x1b]\n",
        [
            "p.conf:1: [sync]: The section needs a name: [sync NAME].",
            "p.conf:2: [sync a/b]: The name of a sync has neither blanks nor / nor brackets:",
            "p.conf:3: [sync a b]: The name of a sync has neither blanks nor / nor brackets:",
            "p.conf:4: [destination]: The section needs a name: [destination NAME].",
            r"p.conf:5: [sync \x1b]: The name of the section cannot be printed: choose another",
        ],
    ),
    "a sync with nothing in it": (
        "[sync www]\n",
        [
            "p.conf:1: [sync www]: It has no source.",
            "p.conf:1: [sync www]: It has no destinations.",
        ],
    ),
    "a sync whose source is empty": (
        SYNC.replace("src/./", "") + SYNC.replace("www", "b"),
        ["p.conf:1: [sync www]: It has no source."],
    ),
    "a user and a group that there are not": (
        "[pylsyncd]\nuser = no such\ngroup = nor that\n" + SYNC,
        [
            "p.conf:2: [pylsyncd] user: There is no user 'no such'",
            "p.conf:3: [pylsyncd] group: There is no group 'nor that'",
        ],
    ),
    "a destination where there are none": (
        "[destination dst]\n",
        [
            "p.conf: There is no [sync NAME] section, so nothing to do.",
            "p.conf:1: [destination dst]: There is no such destination.",
        ],
    ),
    "an empty file": ("", ["p.conf: There is no [sync NAME] section, so nothing to do."]),
    "faults of each value, in the line of each": (
        WRONG,
        [
            "p.conf:2: [sync www] source: The source {place}/none does not exist.",
            "p.conf:5: [sync www] destinations: The destination ::x has no host: correct it, or",
            "p.conf:6: [sync www] destinations: The destination rsync:// has no host: correct",
            "p.conf:7: [sync www] rsync: {place}/none cannot be run: No such file or directory.",
            "p.conf:12: [sync www] filter: The filter rule 'merge x' reads further rules",
            "p.conf:13: [sync www] rsync_option: The rsync option -r is refused",
        ],
    ),
    "a destination that there is not": (
        SYNC + "[destination dts]\n[destination www/bst]\n[destination elsewhere]\nnice = 20\n",
        [
            "p.conf:4: [destination dts]: There is no such destination. Did you mean dst?",
            "p.conf:5: [destination www/bst]: There is no such destination. Did you mean www/dst?",
            "p.conf:6: [destination elsewhere]: There is no such destination. There are www/dst.",
            "p.conf:7: [destination elsewhere] nice: A whole number from 0 to 19 is needed, not",
        ],
    ),
    "what no sync uses": (
        "[pylsyncd]\nwindow = soon\nnice = much\n" + SYNC + "window = 3\nnice = 3\n",
        [
            "p.conf:2: [pylsyncd] window: A number of seconds is needed, such as 60 or 0.5, not",
            "p.conf:3: [pylsyncd] nice: A whole number from 0 to 19 is needed, not 'much'.",
        ],
    ),
    "the same default for two syncs is wrong once": (
        "[pylsyncd]\nwindow = soon\n" + SYNC + SYNC.replace("www", "b").replace("dst", "dst2"),
        [
            "p.conf:2: [pylsyncd] window: A number of seconds is needed, such as 60 or 0.5, not",
        ],
    ),
}


@pytest.mark.parametrize(("content", "expected"), FAULTS.values(), ids=FAULTS)
def test_all_faults_are_told_at_once_each_with_its_line(
    content: str, expected: list[str], place: Path
) -> None:
    found = faults(content)
    for fault, beginning in zip(found, expected, strict=True):
        assert fault.startswith(beginning.replace("{place}", str(place)))
        assert fault.endswith((".", "?"))


@pytest.mark.parametrize(
    ("heading", "likely"),
    [
        ("pylsync", "[pylsyncd]"),
        ("Sync www", "[sync www]"),
        ("sync:www", "[sync www]"),
        ("destinations srv2", "[destination srv2]"),
        ("syncs", "[sync NAME]"),
    ],
)
@pytest.mark.usefixtures("place")
def test_for_a_misspelt_section_the_likely_one_is_named(heading: str, likely: str) -> None:
    (fault,) = faults(f"{SYNC}[{heading}]\nwindow = 0\n")
    assert fault.endswith(f"Did you mean {likely}?")


@pytest.mark.usefixtures("place")
def test_a_file_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match="The configuration file none cannot be read: No such"):
        loader.load_configuration(
            command_line_parser.parse_command_line(["-c", "none"]),
            loader.StartEnvironment.current(),
        )


def test_a_name_that_is_not_utf_8_is_the_name_that_was_written(place: Path) -> None:
    os.mkdir(b"s\xff")
    content = b"[sync www]\nsource = s\xff/./\ndestinations = d\xfe/\nexclude = *.\xe9\n"
    (sync,) = read(content).syncs
    assert sync.source.path == os.fsencode(place) + b"/s\xff"
    assert sync.destinations[0].destination.target == os.fsencode(place) + b"/d\xfe/"
    assert [pattern.pattern for pattern in sync.rules.ordered] == [b"*.\xe9"]


@pytest.mark.usefixtures("place")
def test_a_fault_shows_what_is_not_utf_8_escaped() -> None:
    found = faults(b"[sync w\xff]\n" + SYNC.encode() + b"k\xff\x1b = 1\n")
    assert found == [
        "p.conf:1: [sync w\\xff]: The name of the section cannot be printed: choose another one.",
        "p.conf:5: [sync www] k\\xff\\x1b: There is no such option.",
    ]


@pytest.mark.usefixtures("place")
def test_comments_have_lines_of_their_own_and_all_else_is_value() -> None:
    (sync,) = read(
        "# first\n; second\n" + SYNC + "exclude =\n   a b # c\n   # no\n\n   d ; e\n  ;no\n"
    ).syncs
    assert [pattern.pattern for pattern in sync.rules.ordered] == [b"a b # c", b"d ; e"]


@pytest.mark.usefixtures("place")
def test_a_byte_order_mark_and_the_line_ends_of_others_do_not_matter() -> None:
    plain = read(SYNC)
    assert read(b"\xef\xbb\xbf" + SYNC.replace("\n", "\r\n").encode()) == plain


def test_relative_paths_begin_in_the_directory_of_the_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "secret").touch(0o600)
    made = read("[pylsyncd]\npidfile = my.pid\n" + SYNC + "password_file = secret\n")
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    request = command_line_parser.parse_command_line(["-c", "../p.conf"])
    monkeypatch.chdir("/")
    assert loader.load_configuration(request, loader.StartEnvironment.current()).settings == made
    assert made.process.pidfile == f"{place}/my.pid"
    assert made.syncs[0].source.path == os.fsencode(place / "src")
    assert made.syncs[0].destinations[0].rsync.password_file == f"{place}/secret"


# -- the notation, compared with configparser's ---------------------------------------------------

words = st.text("abz=#;[] :\té\udcff", min_size=1, max_size=8)
keys = st.from_regex(r"[a-z][a-z_-]{0,3}", fullmatch=True)
indents = st.sampled_from(["  ", "\t", " \t "])
blank_lines = st.sampled_from(["", "", "", "\n", "# comment\n", "  ; comment\n", "\t\n"])


@st.composite
def files(draw: st.DrawFn) -> str:
    """Return a file in which every line is fine."""
    text = draw(blank_lines)
    for title in draw(
        st.lists(st.from_regex(r"[a-z]{1,3}( [a-z]{1,2})?", fullmatch=True), unique=True)
    ):
        text += f"[{title}]\n" + draw(blank_lines)
        unique = st.lists(keys, max_size=4, unique_by=ini_parser.normalize_key)
        for key in draw(unique):
            text += f"{key}{draw(st.sampled_from(['=', ' = ', ' =']))}{draw(words)}\n"
            for more in draw(st.lists(words, max_size=3)):
                text += draw(indents) + f"{more}\n" + draw(blank_lines)
    return text


@given(files())
def test_a_fine_file_is_read_as_configparser_reads_it(text: str) -> None:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), default_section="\0")
    parser.optionxform = ini_parser.normalize_key  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    sections, found = ini_parser.parse_ini(text)
    assert not found
    ours = {
        section.title: {
            ini_parser.normalize_key(entry.key): [line for _, line in entry.lines]
            for entry in section.entries
        }
        for section in sections
    }
    theirs = {
        title: {key: value.split("\n") for key, value in parser[title].items()}
        for title in parser.sections()
    }
    assert {
        title: {key: list(filter(None, value)) for key, value in section.items()}
        for title, section in theirs.items()
    } == ours


@given(st.text(st.sampled_from("ab=#[]; \n\t\r\0é\udcff-"), max_size=60))
def test_whatever_a_file_holds_each_line_of_it_is_read_or_a_fault(text: str) -> None:
    sections, found = ini_parser.parse_ini(text)
    told = {fault.line for fault in found}
    for section in sections:
        told.add(section.line)
        for entry in section.entries:
            told |= {entry.line, *(line for line, _ in entry.lines)}
    for number, line in enumerate(text.split("\n"), start=1):
        if number not in told and line.strip(" \t\r") and not re.match(r"[ \t\r]*[#;]", line):
            # Below a line that is a fault, or before all sections after the first such line.
            assert told or line[0] in " \t\r"
            assert any(other < number for other in told)
