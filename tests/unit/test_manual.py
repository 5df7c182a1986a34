"""The manual pages say what the program does: all of it, and nothing that it does not."""

import dataclasses
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.notices import notice

from pylsyncd.config import command_line_parser, loader
from pylsyncd.config.options import FILE_OPTIONS, OPTIONS, OPTIONS_BY_KEY
from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.control import command_line, protocol
from pylsyncd.model import status
from pylsyncd.report.hook_events import HookEvent
from pylsyncd.rsync import outcomes

DOCS = Path(__file__).resolve().parents[2] / "docs"

DAEMON, CONTROL, FILE, LSYNCD = (
    "pylsyncd.8",
    "pylsyncctl.8",
    "pylsyncd.conf.5",
    "pylsyncd-lsyncd.7",
)

# What the pages say of rsync's options, with two dashes before each.
OF_RSYNC = (
    "acls backup bwlimit chmod compress copy-dest fake-super hard-links iconv ignore-errors "
    "inplace link-dest max-size no-group no-owner no-perms numeric-ids relative version xattrs"
)

_ESCAPES = {
    r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\(ti": "~", r"\(ha": "^", r"\(ga": "`", r"\e": "\\",
    r"\&": "",
}  # fmt: skip


def _made(directory: Path, **environment: str) -> Mapping[str, str]:
    if importlib.util.find_spec("docutils") is None:
        pytest.skip("docutils is not installed, which makes the pages")
    run = subprocess.run(
        [sys.executable, DOCS / "manual.py", directory],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return {path.name: path.read_text() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manual")


@pytest.fixture(scope="module")
def pages(directory: Path) -> Mapping[str, str]:
    return _made(directory)


def plain(page: str) -> str:
    """Return a page as its reader sees it, but for the places where its lines end."""
    text = re.sub(r"\\f[BIRP]|\\%", "", page)
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return text


def section(page: str, name: str) -> str:
    found = re.search(rf"^\.SH {name}\n(.*?)(?=^\.SH |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def terms(text: str) -> list[str]:
    """Return what is explained there."""
    return re.findall(r"^\.B (.*)$", plain(text), re.MULTILINE)


def flags(text: str) -> set[str]:
    """Return the long flags that are written so that they stand out."""
    return set(re.findall(r"\\fB(\\-\\-(?:[a-z]|\\-)+)", text))


def blocks(page: str) -> list[str]:
    """Return what is shown as it would be written."""
    found = re.findall(r"^\.EX\n(.*?)^\.EE$", page, re.MULTILINE | re.DOTALL)
    return [plain(block) for block in found]


@pytest.mark.parametrize("name", [DAEMON, CONTROL, FILE, LSYNCD])
def test_a_page_is_called_by_its_name_and_section(pages: Mapping[str, str], name: str) -> None:
    title, _, number = name.rpartition(".")
    assert f'.TH "{title}" "{number}" "20' in plain(pages[name])
    assert section(plain(pages[name]), "NAME").startswith(f"{title} \\- ".replace("\\-", "-"))


def test_there_are_these_pages_and_no_others(pages: Mapping[str, str]) -> None:
    assert set(pages) == {DAEMON, CONTROL, FILE, LSYNCD}


def test_the_options_of_the_daemon_are_those_of_the_table(pages: Mapping[str, str]) -> None:
    found = terms(section(pages[DAEMON], "OPTIONS"))
    expected = [
        ", ".join(option.flags) + (f" {option.metavar}" if option.metavar else "")
        for option in OPTIONS
        if option.flags
    ]
    assert sorted(found) == sorted(expected)
    text = " ".join(plain(pages[DAEMON]).split())
    flagged = [option for option in OPTIONS if option.flags]
    assert not [each.key for each in flagged if (each.flag_help or each.help) not in text]


def test_the_keys_of_the_file_are_those_of_the_table(pages: Mapping[str, str]) -> None:
    found = [term.partition(" = ")[0] for term in terms(pages[FILE]) if " = " in term]
    assert sorted(found) == sorted(option.key for option in FILE_OPTIONS)
    text = " ".join(plain(pages[FILE]).split())
    assert not [option.key for option in FILE_OPTIONS if option.help not in text]


def test_a_key_stands_below_the_section_that_it_belongs_in(pages: Mapping[str, str]) -> None:
    for name, scope in {
        r"THE SECTION \[pylsyncd\]": "PROCESS",
        r"THE SECTIONS \[sync NAME\]": "SYNC",
        r"THE SECTIONS \[destination NAME\]": "DESTINATION",
    }.items():
        keys = [term.partition(" = ")[0] for term in terms(section(pages[FILE], name))]
        assert {OPTIONS_BY_KEY[key].scope.name for key in keys} == {scope}


@pytest.mark.parametrize("name", [DAEMON, FILE, LSYNCD])
def test_a_page_names_no_option_that_there_is_not(pages: Mapping[str, str], name: str) -> None:
    ours = {"--help", *(flag for option in OPTIONS for flag in option.flags)}
    # What is said of the other command stands behind its name.
    text = re.sub(r"\\fBpylsyncctl [^\n]*?\\fP", "", pages[name])
    named = {plain(flag) for flag in flags(text)}
    assert named - ours <= {f"--{option}" for option in OF_RSYNC.split()}


def test_what_lsyncd_is_mapped_to_exists(pages: Mapping[str, str]) -> None:
    words = set(re.findall(r"\\fI([a-z]+_[a-z_]+)\\fP", pages[LSYNCD]))
    assert len(words) > 10
    assert words <= {option.key for option in FILE_OPTIONS}


def test_every_reason_for_a_failure_is_explained(pages: Mapping[str, str]) -> None:
    explained = terms(section(pages[DAEMON], "DIAGNOSTICS"))
    reasons = {row.outcome.reason.partition(": ")[0] for row in outcomes._TABLE}  # noqa: SLF001
    assert set(explained) == reasons


def test_every_variable_of_a_hook_is_explained(pages: Mapping[str, str]) -> None:
    expected = {os.fsdecode(name) for name in HookEvent(notice()).variables("www", 1)}
    assert len(expected) > 10
    assert set(re.findall("PYLSYNCD_[A-Z]+", pages[FILE])) == expected


def test_every_field_of_the_status_file_is_named(pages: Mapping[str, str]) -> None:
    text = section(pages[FILE], "THE STATUS FILE")
    for kind in (status.Status, status.SyncStatus, status.DestinationStatus):
        for field in dataclasses.fields(kind):
            assert rf"\fI{field.name}\fP" in text, field.name


def test_every_metric_is_named_and_no_others(pages: Mapping[str, str]) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    from pylsyncd.report import metric_families  # noqa: PLC0415  # it imports the optional library

    sync = status.SyncStatus("www", "/var/www", destinations=(_destination(),))
    said = metric_families.format_metrics(
        lambda: status.Status("1", 1, 1.0, 1.0, 1, (sync,))
    ).decode()
    metrics = set(re.findall(r"^# TYPE (\S+) ", said, re.MULTILINE))
    assert set(re.findall(r"pylsyncd_[a-z_]+", plain(pages[FILE]))) == metrics


def _destination() -> status.DestinationStatus:
    return status.DestinationStatus("srv2", "srv2:", status.Condition.IN_SYNC)


def test_every_command_of_the_control_is_explained(pages: Mapping[str, str]) -> None:
    explained = {term.split()[0] for term in terms(section(pages[CONTROL], "COMMANDS"))}
    assert {word for word in explained if not word.startswith("-")} == set(protocol.COMMANDS)


def _examples(page: str, program: str) -> list[list[str]]:
    """Return the arguments of the examples that run a program."""
    lines = "".join(blocks(page)).replace("\\\n", " ").splitlines()
    runs = [re.split(r"\s(?:\|\||>)", line.strip())[0] for line in lines]
    return [shlex.split(line)[1:] for line in runs if line.split()[:1] == [program]]


def test_the_examples_of_the_daemon_are_understood(pages: Mapping[str, str]) -> None:
    examples = [words for page in pages.values() for words in _examples(page, "pylsyncd")]
    assert len(examples) > 5
    for words in examples:
        request = command_line_parser.parse_command_line(words)
        assert request.positionals or request.config_path


def test_the_examples_of_the_control_are_understood(pages: Mapping[str, str]) -> None:
    examples = [words for page in pages.values() for words in _examples(page, "pylsyncctl")]
    assert len(examples) > 5
    for words in examples:
        assert command_line.make_parser().parse_args(words).command in protocol.COMMANDS


# What only the machine of the reader has.
_ABSENT = re.compile(
    "does not exist|Cannot read|There is no user|A daemon in the background needs a log"
)


@pytest.mark.parametrize("name", [DAEMON, CONTROL, FILE, LSYNCD])
def test_the_files_that_a_page_shows_have_no_fault(
    pages: Mapping[str, str], name: str, tmp_path: Path
) -> None:
    files = [block for block in blocks(pages[name]) if re.search(r"(?m)^ *\[.*\]$", block)]
    assert bool(files) == (name in {FILE, LSYNCD})
    for content in files:
        path = tmp_path / "pylsyncd.conf"
        path.write_text(textwrap.dedent(content))
        faults: tuple[str, ...] = ()
        try:
            loader.load_configuration(
                command_line_parser.parse_command_line(["-c", str(path)]),
                loader.StartEnvironment({}, 0),
            )
        except ConfigurationError as error:
            faults = error.messages
        assert not [fault for fault in faults if not _ABSENT.search(fault)]


@pytest.mark.parametrize("command", ["mandoc -Tlint -Wwarning", "groff -ww -t -man -Tutf8"])
def test_readers_of_manual_pages_have_nothing_to_complain_of(
    pages: Mapping[str, str], directory: Path, command: str
) -> None:
    program, *options = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for name in pages:
        run = subprocess.run(
            [program, *options, name], cwd=directory, capture_output=True, text=True, check=False
        )
        complaints = run.stdout if program == "mandoc" else run.stderr
        assert (run.returncode, complaints) == (0, "")


def test_pages_are_the_same_whenever_they_are_made(tmp_path: Path) -> None:
    made = [_made(tmp_path / name, SOURCE_DATE_EPOCH="86400") for name in "ab"]
    assert made[0] == made[1]
    assert '"1970\\-01\\-02"' in made[0][DAEMON] or '"1970-01-02"' in made[0][DAEMON]
