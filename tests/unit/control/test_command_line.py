"""The command line of pylsyncctl: what it accepts, and its defaults."""

import pytest

from pylsyncd.control.command_line import CommandLineError, make_parser
from pylsyncd.control.protocol import COMMANDS, MAX_WAIT_SECONDS
from pylsyncd.model.errors import UsageError


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_protocol_can_be_typed(command: str) -> None:
    arguments = {"release": ["srv2"], "log-level": ["debug"]}.get(command, [])
    options = make_parser().parse_args([command, *arguments])
    assert options.command == command
    assert options.socket is None


def test_every_command_has_names_and_a_level() -> None:
    options = make_parser().parse_args(["reload"])
    assert (options.names, options.level) == ([], "")


def test_defaults_are_those_of_the_manual() -> None:
    status = make_parser().parse_args(["status"])
    assert (status.max_lag, status.warn_lag, status.watch, status.file) == (600.0, None, None, None)
    assert make_parser().parse_args(["status", "--watch"]).watch == 2.0
    assert make_parser().parse_args(["wait"]).timeout == MAX_WAIT_SECONDS


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", ""])
def test_what_is_not_a_time_is_an_error(text: str) -> None:
    with pytest.raises(CommandLineError, match=r"--timeout: Expected a time, .* not '.*'\.\Z"):
        make_parser().parse_args(["wait", f"--timeout={text}"])


def test_every_time_may_have_units() -> None:
    words = ["status", "--watch", "1min", "--max-lag", "1h", "--warn-lag=5min"]
    status = make_parser().parse_args(words)
    assert (status.watch, status.max_lag, status.warn_lag) == (60.0, 3600.0, 300.0)
    assert make_parser().parse_args(["wait", "--timeout", "1.5h"]).timeout == 5400.0


@pytest.mark.parametrize(
    "words", [[], ["dance"], ["release"], ["log-level", "loud"], ["status", "--js"]]
)
def test_a_wrong_command_line_is_raised_and_does_not_end_the_process(words: list[str]) -> None:
    with pytest.raises(UsageError):
        make_parser().parse_args(words)
