"""The log on a terminal and elsewhere: columns, colours, footer, and escaped control characters."""

import io
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.terminals import PseudoTerminal
from support.waiting import DEADLINE, wait_until

from pylsyncd.system.logs import NOTICE
from pylsyncd.terminal import log_handler
from pylsyncd.terminal.colours import Palette
from pylsyncd.terminal.log_handler import TerminalHandler, make_log_handler, rewraps_lines

COLOURFUL = {"TERM": "xterm-256color"}
LEVELS = (logging.DEBUG, logging.INFO, NOTICE, logging.WARNING, logging.ERROR)
SEQUENCE = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def logger(handler: logging.Handler) -> Iterator[logging.Logger]:
    log = logging.getLogger("test.terminal")
    log.propagate = False
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()


def terminal_output(environ: dict[str, str], write: Callable[[logging.Logger], object]) -> str:
    with PseudoTerminal() as terminal, logger(make_log_handler(terminal.stream, environ)) as log:
        write(log)
        log.warning("the end")
        terminal.wait_for("the end.*\n")
        return terminal.output.replace("\r\n", "\n")


def plain_output(write: Callable[[logging.Logger], object]) -> str:
    stream = io.StringIO()
    with logger(make_log_handler(stream, COLOURFUL)) as log:
        write(log)
    return stream.getvalue()


def all_levels(log: logging.Logger) -> None:
    for level in LEVELS:
        log.log(level, "[web1] something")


# -- without a terminal ----------------------------------------------------------------------------


def test_a_stream_that_is_not_a_terminal_gets_plain_lines() -> None:
    text = plain_output(lambda log: log.log(NOTICE, "[%s] synced %d files", "web1", 3))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[web1\] synced 3 files\n", text)


def test_the_journal_gets_lines_with_a_priority(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        with logger(make_log_handler(stream, environ)) as log:
            log.warning("said")
        assert (tmp_path / "journal").read_text() == "<4>said\n"


def test_plain_lines_are_not_wrapped() -> None:
    words = " ".join(["word"] * 1000)
    assert plain_output(lambda log: log.info(words)).endswith(f"{words}\n")


@pytest.mark.parametrize(
    "term", [{"TERM": "dumb"}, {"TERM": ""}, {}], ids=["dumb", "empty", "unset"]
)
def test_a_terminal_without_escape_sequences_gets_plain_lines(term: dict[str, str]) -> None:
    text = terminal_output(term, all_levels)
    assert "\x1b" not in text
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[web1\] something\n", text)


# -- colours --------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["xterm-256color", "linux"])
def test_each_level_has_a_colour_of_its_own(term: str) -> None:
    lines = terminal_output({"TERM": term}, all_levels).splitlines()
    found = dict(zip(LEVELS, lines, strict=False))
    # The last sequence before the text.
    colours = {
        level: SEQUENCE.findall(line.split("something")[0])[-1] for level, line in found.items()
    }
    assert len({colours[level] for level in (NOTICE, logging.WARNING, logging.ERROR)}) == 3
    assert SEQUENCE.sub("", found[logging.WARNING]).endswith(" ! [web1] something")


def test_with_no_color_there_are_columns_without_colours() -> None:
    text = terminal_output({**COLOURFUL, "NO_COLOR": "1"}, all_levels)
    assert "\x1b" not in text
    assert re.match(r"\d\d:\d\d:\d\d \. \[web1\] something\n", text)


def test_a_new_day_starts_with_a_separator() -> None:
    def write(log: logging.Logger) -> None:
        for moment in (1_700_000_000.0, 1_700_000_001.0, 1_700_100_000.0):
            record = log.makeRecord(log.name, logging.INFO, "", 0, "text", (), None)
            record.created = moment
            log.handle(record)

    text = terminal_output(COLOURFUL, write)
    day = time.strftime("%Y-%m-%d", time.localtime(1_700_100_000))
    assert f" text\n---- {day} ----\n" in text


# -- untrusted text -------------------------------------------------------------------------------


HOSTILE = "a\x1b[2Jb\nc\rd\x9be\u202ef"


@pytest.mark.parametrize("environ", [COLOURFUL, {"TERM": "dumb"}], ids=["columns", "plain"])
def test_control_characters_in_messages_are_escaped(environ: dict[str, str]) -> None:
    text = terminal_output(environ, lambda log: log.info("[%s] %s", HOSTILE, HOSTILE))
    shown = r"a\x1b[2Jb\nc\rd\x9be\u202ef"
    assert f"{shown}" in SEQUENCE.sub("", text).splitlines()[0]
    assert set(SEQUENCE.sub("", text)) & set("\x1b\r\x9b\u202e") == set()


@pytest.mark.parametrize("environ", [COLOURFUL, {"TERM": "dumb"}], ids=["columns", "plain"])
def test_control_characters_in_tracebacks_are_escaped(environ: dict[str, str]) -> None:
    def write(log: logging.Logger) -> None:
        try:
            int(HOSTILE)
        except ValueError:
            log.exception("It failed.")
        try:
            os.stat(f"/no/{HOSTILE}")
        except OSError as error:
            log.warning("%s", error, exc_info=ValueError(HOSTILE))

    text = SEQUENCE.sub("", terminal_output(environ, write))
    assert " ValueError: a\\x1b[2Jb\n" in text
    assert "\x1b" not in text


# -- the footer -----------------------------------------------------------------------------------


def draw(terminal: PseudoTerminal, lines: list[str], handler: TerminalHandler) -> None:
    before = len(terminal.output)
    handler.draw_footer(lines, 20)
    if lines:
        terminal.wait_for(re.escape(lines[-1]), after=before)


def test_log_lines_appear_above_the_footer(monkeypatch: pytest.MonkeyPatch) -> None:
    with PseudoTerminal() as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        with logger(handler) as log:
            monkeypatch.setattr(log_handler, "_FOOTER_REDRAW_INTERVAL", 0.0)
            draw(terminal, ["one", "two"], handler)
            log.info("first")
            terminal.wait_for("first.*\n.*one.*\n.*two")
            assert terminal.screen[1:] == ["one", "two"]
            log.info("second")
            draw(terminal, ["three", "four"], handler)
            draw(terminal, ["five"], handler)
            # Too soon after the second line to draw the footer again.
            monkeypatch.setattr(log_handler, "_FOOTER_REDRAW_INTERVAL", 3600.0)
            log.info("third")
            terminal.wait_for("third")
            assert [line[11:] for line in terminal.screen] == ["first", "second", "third"]
            draw(terminal, ["six"], handler)
            assert terminal.screen[-1] == "six"
            draw(terminal, [], handler)
            log.info("the end")
            terminal.wait_for("the end")
            assert [line[11:] for line in terminal.screen][2:] == ["third", "the end"]


def test_a_flood_of_log_lines_hides_the_footer() -> None:
    with PseudoTerminal() as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        with logger(handler) as log:
            draw(terminal, ["footer"], handler)
            began = time.monotonic()
            for number in range(2000):
                log.debug("line %d", number)
            taken = time.monotonic() - began
            draw(terminal, ["again"], handler)
            assert [line[11:] for line in terminal.screen[:-1]] == [
                f"line {n}" for n in range(2000)
            ]
            assert terminal.screen[-1] == "again"
            assert terminal.output.count("footer") <= 2 + taken / 0.05


def test_an_unchanged_footer_is_not_redrawn() -> None:
    with PseudoTerminal() as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        draw(terminal, ["one"], handler)
        before = terminal.output
        handler.draw_footer(["one"], 20)
        draw(terminal, ["two"], handler)
        assert terminal.output[len(before) :].count("one") == 0


def test_the_cursor_is_never_hidden() -> None:
    with PseudoTerminal() as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        draw(terminal, ["one"], handler)
        assert "\x1b[?" not in terminal.output


def test_a_footer_from_before_the_process_was_stopped_is_not_erased(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with PseudoTerminal() as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        draw(terminal, ["one"], handler)
        # Nothing was drawn for longer than that: what is there by now may be the shell's.
        monkeypatch.setattr(log_handler, "_FOOTER_LIFETIME", 0.0)
        draw(terminal, ["two"], handler)
        assert terminal.screen == ["one", "two"]


def without_times(lines: Sequence[str]) -> list[str]:
    return [line[11:] if ":" in line else line for line in lines]


def test_in_a_window_that_became_narrower_old_lines_are_erased_and_the_log_is_not() -> None:
    with PseudoTerminal(100, 30) as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        with logger(handler) as log:
            log.info("before")
            draw(terminal, ["one", "two"], handler)
            terminal.resize(10, 30)
            log.info("after")
            terminal.wait_for("after")
            # The terminal would wrap lines that are drawn for another width.
            assert without_times(terminal.screen) == ["before", "after"]
            draw(terminal, ["three"], handler)
            assert without_times(terminal.screen) == ["before", "after", "three"]


@pytest.mark.parametrize(("wraps", "rows"), [(False, 2), (True, 5)])
def test_lines_that_a_terminal_has_rewrapped_are_all_erased(rows: int, *, wraps: bool) -> None:
    with PseudoTerminal(100, 30) as terminal:
        handler = TerminalHandler(terminal.stream, Palette(), rewraps_lines=wraps)
        draw(terminal, ["x" * 31, "\x1b[1myyy\x1b[0m"], handler)
        terminal.resize(10, 30)
        draw(terminal, ["three"], handler)
        terminal.wait_for(rf"\x1b\[{rows}Athree")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"VTE_VERSION": "7600"}, True),
        ({"TERM_PROGRAM": "vscode"}, True),
        ({"TERM_PROGRAM": "other"}, False),
        ({"TMUX": "t", "XTERM_VERSION": "1"}, True),
        ({"VTE_VERSION": "7600", "XTERM_VERSION": "1"}, False),
        ({"TMUX": "t", "STY": "1"}, False),
    ],
)
def test_terminals_that_rewrap_lines_are_known_by_their_variables(
    environ: dict[str, str], *, expected: bool
) -> None:
    assert rewraps_lines(environ) is expected


def test_drawing_does_not_wait_for_a_terminal_that_accepts_no_output() -> None:
    with PseudoTerminal() as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        draw(terminal, ["one"], handler)
        terminal.press(b"\x13")
        os.set_blocking(terminal.stream.fileno(), False)
        wait_until(lambda: not _accepts_output(terminal), message="Ctrl-S has no effect")
        os.set_blocking(terminal.stream.fileno(), True)
        drawing = threading.Thread(target=handler.draw_footer, args=(["two"], 20))
        drawing.start()
        drawing.join(DEADLINE)
        is_waiting = drawing.is_alive()
        terminal.press(b"\x11")
        drawing.join()
        assert not is_waiting
        assert "two" not in terminal.output
        draw(terminal, ["three"], handler)


def _accepts_output(terminal: PseudoTerminal) -> bool:
    try:
        os.write(terminal.stream.fileno(), b"\x1b[0m")
    except BlockingIOError:
        return False
    return True


def test_writing_to_a_terminal_that_hung_up_is_no_error() -> None:
    with PseudoTerminal() as terminal:
        handler = TerminalHandler(terminal.stream, Palette())
        draw(terminal, ["one"], handler)
        terminal.hang_up()
        with logger(handler) as log:
            log.info("unread")
            handler.draw_footer(["unread"], 20)
            handler.draw_footer([], 20)
