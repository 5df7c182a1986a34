"""What a command prints goes to the log in lines, bounded and safe for a terminal."""

import logging

import pytest

from pylsyncd.report.hook_output import MAX_FIRST_LINES, MAX_LAST_LINES, HookOutput
from pylsyncd.system.logs import NOTICE


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture) -> HookOutput:
    caplog.set_level(NOTICE, "pylsyncd")
    return HookOutput("[web1] hook batch")


def test_lines_are_logged_as_they_come_and_an_unfinished_one_at_the_end(
    output: HookOutput, caplog: pytest.LogCaptureFixture
) -> None:
    for chunk in (b"o", b"ne\n\n  \ntwo\nth", b"ree"):
        output.add(chunk)
    assert caplog.messages == ["[web1] hook batch: one", "[web1] hook batch: two"]
    output.log_remaining()
    assert caplog.messages[2:] == ["[web1] hook batch: three"]
    assert {record.levelno for record in caplog.records} == {NOTICE}


def test_of_a_flood_the_first_lines_the_last_lines_and_the_count_are_logged(
    output: HookOutput, caplog: pytest.LogCaptureFixture
) -> None:
    count = MAX_FIRST_LINES + MAX_LAST_LINES + 7
    output.add(b"".join(b"%d\n" % number for number in range(count)))
    output.log_remaining()
    shown = [message.removeprefix("[web1] hook batch: ") for message in caplog.messages]
    first = [str(number) for number in range(MAX_FIRST_LINES)]
    last = [str(number) for number in range(count - MAX_LAST_LINES, count)]
    assert shown == [*first, "(7 lines more)", *last]


def test_a_long_line_is_cut_off_and_control_characters_are_escaped(
    output: HookOutput, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        output.add(b"\x1b" + b"x" * 100_000)
    output.log_remaining()
    assert caplog.messages == [r"[web1] hook batch: \x1b" + "x" * 999 + " ..."]


def test_nothing_is_logged_for_a_silent_command(
    output: HookOutput, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pylsyncd")
    output.log_remaining()
    assert caplog.messages == []
