"""The command line is parsed into raw options, or refused with a suggestion."""

from pathlib import Path

import pytest
from support.configuration import sync_section

from pylsyncd.config import process_options
from pylsyncd.config.command_line_parser import parse_command_line
from pylsyncd.model.errors import UsageError

pytestmark = pytest.mark.usefixtures("place")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-c", "p.conf", "a/./", "srv:"], "remove a/./ srv:"),
        (["-c", "p.conf", "-w", "3"], "--window cannot be combined with -c: set window = 3"),
        (["-c", "p.conf", "-i"], "initial_sync = yes"),
        (["--checksum", "a/./", "srv:"], "--checksum requires --check"),
        (["--check", "--explain", "x", "a/./", "srv:"], "--check and --explain cannot be combined"),
    ],
)
def test_options_that_cannot_be_combined_are_refused(words: list[str], message: str) -> None:
    Path("p.conf").write_text(sync_section("one", "a/./", "srv:"))
    with pytest.raises(UsageError, match=message):
        parse_command_line(words)


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["a", "x:", "-w", "3", "y:", "-i", "z:"], ["a", "x:", "y:", "z:"]),
        (["-i", "a", "--", "x:"], ["a", "x:"]),
        (["a", "-i", "x:", "--", "y:"], ["a", "x:", "y:"]),
        (["--", "-a", "-x"], ["-a", "-x"]),
    ],
    ids=" ".join,
)
def test_options_may_stand_between_the_destinations(words: list[str], places: list[str]) -> None:
    assert [text for raw in parse_command_line(words).positionals for text in raw.texts] == places


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-c", "p.conf", "--logfil=x"], "Unknown option: --logfil=x. Did you mean --logfile?"),
        (["-c", "p.conf", "--xyz"], r"Unknown option: --xyz\.$"),
    ],
)
def test_a_similar_flag_is_suggested_for_an_unknown_one(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_command_line(words)


def test_a_syntax_error_ends_the_program_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_command_line(["--windw=3", "a", "srv:"])
    assert caught.value.code == 2
    assert "Did you mean --window?\nTry pylsyncd --help.\n" in capsys.readouterr().err


def test_a_configuration_file_is_found_from_the_current_directory(place: Path) -> None:
    command_line = parse_command_line(["-c", "x/../p.conf"])
    assert command_line.config_path == f"{place}/p.conf"
    assert command_line.config_as_written == "x/../p.conf"
    assert command_line.positionals == ()


@pytest.mark.parametrize("flag", ["--dry-run", "--check", "--explain=x"])
def test_no_state_is_kept_by_a_run_that_changes_no_destination(flag: str) -> None:
    assert parse_command_line(["a", "srv:"]).should_keep_state
    assert not parse_command_line([flag, "a", "srv:"]).should_keep_state


@pytest.mark.parametrize(
    ("words", "is_verbose"),
    [
        ([], False),
        (["-q"], False),
        (["-v"], True),
        (["-d"], True),
        (["--log-level=debug", "--log-level=error"], False),
    ],
    ids=repr,
)
def test_the_last_log_level_decides_whether_a_command_line_is_verbose(
    words: list[str], is_verbose: bool
) -> None:
    assert parse_command_line([*words, "a", "srv:"]).is_verbose is is_verbose


def test_an_option_of_the_command_line_has_its_last_value() -> None:
    command_line = parse_command_line(["--explain", "x", "--explain", "y", "a", "srv:"])
    assert command_line.option_value(process_options.EXPLAIN) == "y"
    assert command_line.option_value(process_options.CONFIG) is None


def test_a_known_flag_is_not_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_command_line(["-v", "--log-level=error", "a", "srv:"])
    assert "--log-level: not allowed with argument -v/--verbose\n" in capsys.readouterr().err
