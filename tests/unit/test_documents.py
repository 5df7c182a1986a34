"""README and CHANGES are true: what they name exists, and what they show can be run.

All options are in the manual pages, which are made from the same table as ``--help``.
"""

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

from pylsyncd.config import command_line_parser, loader
from pylsyncd.config.options import OPTIONS
from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.control import command_line, protocol

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README").read_text()
CHANGES = (REPOSITORY / "CHANGES").read_text()

BESIDE = {"--help", "--version"}
FLAGS = {flag for option in OPTIONS for flag in option.flags}

# What only the machine of the reader has.
_ABSENT = re.compile("does not exist|Cannot read")


def shown(program: str) -> list[list[str]]:
    """Return the arguments of the examples that run a program, without what is said of them."""
    lines = re.findall(rf"^    {program} (.*)$", README, re.MULTILINE)
    return [shlex.split(re.split(r"  +", line)[0]) for line in lines if "[" not in line]


def test_help_has_all_options_and_no_others() -> None:
    usage = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    told = set(re.findall(r"^  (?:-\w, )?(?:-\w \S+, )?(--[a-z-]+)", usage, re.MULTILINE))
    assert told == {option.long_flag for option in OPTIONS if option.flags} | BESIDE


def test_the_readme_has_the_options_that_everybody_needs_as_they_are_written() -> None:
    section = README[README.index("\nOptions\n") : README.index("\nSignals\n")]
    documented = re.findall(r"^    ((?:-\w, )?--[a-z-]+)(?: ([A-Z]+))?", section, re.MULTILINE)
    written = {", ".join(option.flags): option.metavar or "" for option in OPTIONS if option.flags}
    assert {flags: value for flags, value in documented if written.get(flags) != value} == {}
    assert {"-w, --window", "-x, --exclude", "--rsync-option"} <= {flags for flags, _ in documented}


def test_the_readme_names_no_option_that_there_is_not() -> None:
    of_others = {"--relative", "--numeric-ids", "--now"}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", README))
    assert named <= FLAGS | BESIDE | of_others


def test_changes_name_no_option_that_there_is_not() -> None:
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", CHANGES))
    assert named <= FLAGS


def test_the_commands_that_the_readme_shows_are_understood() -> None:
    of_daemon, of_control = shown("pylsyncd"), shown("pylsyncctl")
    assert len(of_daemon) > 3
    assert len(of_control) > 3
    for words in of_daemon:
        request = command_line_parser.parse_command_line(words)
        assert request.positionals or request.config_path
    for words in of_control:
        assert command_line.make_parser().parse_args(words).command in protocol.COMMANDS


def test_the_configuration_that_the_readme_shows_has_no_fault(tmp_path: Path) -> None:
    found = re.search(r"^    \[pylsyncd\]\n(?:(?:    .*)?\n)+", README, re.MULTILINE)
    assert found
    path = tmp_path / "pylsyncd.conf"
    path.write_text(textwrap.dedent(found[0]))
    assert path.read_text().count("[sync ") == 2
    faults: tuple[str, ...] = ()
    try:
        loader.load_configuration(
            command_line_parser.parse_command_line(["-c", str(path)]),
            loader.StartEnvironment({}, 0),
        )
    except ConfigurationError as error:
        faults = error.messages
    assert not [fault for fault in faults if not _ABSENT.search(fault)]


def test_the_files_that_the_readme_names_are_there() -> None:
    named = re.findall(r"(?:contrib|tests|docs)/[\w./@-]*\w", README)
    assert "contrib/systemd/pylsyncd.service" in named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_tests_that_hold_the_boundaries_are_there() -> None:
    text = (REPOSITORY / "docs" / "security.rst").read_text()
    named = set(re.findall(r"tests/[\w/]+\.py", text))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []
