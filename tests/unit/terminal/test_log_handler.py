"""The log in a terminal and elsewhere: columns, colours, and nothing that strangers write raw."""

import io
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support.terminals import PseudoTerminal

from pylsyncd.system.logs import NOTICE
from pylsyncd.terminal.colours import Palette, choose_palette
from pylsyncd.terminal.log_columns import LogLayout, wrap
from pylsyncd.terminal.log_handler import TerminalHandler, make_log_handler

COLOURFUL = {"TERM": "xterm-256color"}
LEVELS = (logging.DEBUG, logging.INFO, NOTICE, logging.WARNING, logging.ERROR)
SEQUENCE = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def logger(given: logging.Handler) -> Iterator[logging.Logger]:
    log = logging.getLogger("test.terminal")
    log.propagate = False
    log.setLevel(logging.DEBUG)
    log.addHandler(given)
    try:
        yield log
    finally:
        log.removeHandler(given)
        given.close()


def written(environ: dict[str, str], write: Callable[[logging.Logger], object]) -> str:
    with PseudoTerminal() as terminal, logger(make_log_handler(terminal.stream, environ)) as log:
        write(log)
        log.warning("the end")
        terminal.wait_for("the end.*\n")
        return terminal.output.replace("\r\n", "\n")


def to_a_file(write: Callable[[logging.Logger], object]) -> str:
    stream = io.StringIO()
    with logger(make_log_handler(stream, COLOURFUL)) as log:
        write(log)
    return stream.getvalue()


def all_levels(log: logging.Logger) -> None:
    for level in LEVELS:
        log.log(level, "[web1] something")


# -- elsewhere ------------------------------------------------------------------------------------


def test_what_is_no_terminal_gets_plain_lines() -> None:
    text = to_a_file(lambda log: log.log(NOTICE, "[%s] synced %d files", "web1", 3))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[web1\] synced 3 files\n", text)


def test_a_plain_line_is_as_long_as_it_is() -> None:
    words = " ".join(["word"] * 1000)
    assert to_a_file(lambda log: log.info(words)).endswith(f"{words}\n")


@pytest.mark.parametrize(
    "term", [{"TERM": "dumb"}, {"TERM": ""}, {}], ids=["dumb", "empty", "unset"]
)
def test_a_terminal_that_obeys_nothing_gets_plain_lines(term: dict[str, str]) -> None:
    text = written(term, all_levels)
    assert "\x1b" not in text
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[web1\] something\n", text)


# -- colours --------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["xterm-256color", "linux"])
def test_levels_have_colours_of_their_own(term: str) -> None:
    lines = written({"TERM": term}, all_levels).splitlines()
    found = dict(zip(LEVELS, lines, strict=False))
    # The last one before the text.
    colours = {
        level: SEQUENCE.findall(line.split("something")[0])[-1] for level, line in found.items()
    }
    assert len({colours[level] for level in (NOTICE, logging.WARNING, logging.ERROR)}) == 3
    assert SEQUENCE.sub("", found[logging.WARNING]).endswith(" ! [web1] something")


def test_with_no_color_there_are_columns_and_no_colours() -> None:
    text = written({**COLOURFUL, "NO_COLOR": "1"}, all_levels)
    assert "\x1b" not in text
    assert re.match(r"\d\d:\d\d:\d\d \. \[web1\] something\n", text)


def test_an_empty_no_color_means_nothing() -> None:
    assert choose_palette({**COLOURFUL, "NO_COLOR": ""}).name_sequences


def test_a_destination_keeps_its_colour_and_shares_it_with_no_other() -> None:
    first, second = choose_palette(COLOURFUL), choose_palette(COLOURFUL)
    names = [f"web{number}" for number in range(len(first.name_sequences))]
    assert len({first.for_name(name) for name in names}) == len(names)
    assert [first.for_name(name) for name in names] == [first.for_name(name) for name in names]
    # In the next session, too, at least for the one that comes first.
    assert second.for_name(names[0]) == first.for_name(names[0])


def test_there_is_a_colour_for_every_destination_however_many_there_are() -> None:
    colours = choose_palette(COLOURFUL)
    assert all(colours.for_name(f"web{number}") in colours.name_sequences for number in range(50))


def luminance(number: int) -> float:
    """Return the relative luminance (WCAG 2.1) of one of the 256 colours of xterm."""
    if number >= 232:
        parts = [8 + 10 * (number - 232)] * 3
    else:
        steps = (0, 95, 135, 175, 215, 255)
        number -= 16
        parts = [steps[number // 36], steps[number // 6 % 6], steps[number % 6]]
    linear = [
        part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_can_be_read_on_white_and_on_black() -> None:
    colours = choose_palette(COLOURFUL)
    sequences = [*colours.name_sequences, *colours.level_sequences.values()]
    numbers = {int(found) for text in sequences for found in re.findall(r"38;5;(\d+)m", text)}
    assert len(numbers) > 8
    for number in numbers:
        light = luminance(number)
        assert (light + 0.05) / 0.05 >= 3, f"{number} on black"
        assert 1.05 / (light + 0.05) >= 3, f"{number} on white"


# -- columns --------------------------------------------------------------------------------------


def laid_out(columns: LogLayout, message: str, width: int = 60) -> list[str]:
    return columns.format_message("12:00:00", logging.INFO, message, width).split("\n")


def test_texts_stand_below_each_other() -> None:
    columns = LogLayout(Palette())
    columns.format_message("12:00:00", logging.INFO, "[server22] x", 80)
    assert laid_out(columns, "[web1] text") == ["12:00:00   [web1]     text"]
    assert laid_out(columns, "[server22] text") == ["12:00:00   [server22] text"]
    assert laid_out(columns, "text") == ["12:00:00   text"]


def test_one_long_name_does_not_push_all_others_aside() -> None:
    columns = LogLayout(Palette())
    assert laid_out(columns, f"[{'x' * 90}] text") == [f"12:00:00   [{'x' * 90}] text"]
    assert laid_out(columns, "[web1] text") == ["12:00:00   [web1]               text"]


def test_the_paths_of_events_stand_below_each_other() -> None:
    columns = LogLayout(Palette())
    lines = [
        laid_out(columns, f"event {mask} path")[0]
        for mask in ("CREATE|ISDIR", "MOVED_FROM|ISDIR", "MODIFY")
    ]
    assert len({line.index("path") for line in lines}) == 1


def test_a_long_list_is_broken_at_blanks_and_indented() -> None:
    words = [f"dir/file{number}" for number in range(30)]
    lines = laid_out(LogLayout(Palette()), f"[web1] list of 30: {' '.join(words)}")
    assert len(lines) > 5
    assert max(map(len, lines)) <= 60
    assert all(line.startswith(" " * 13 + "dir/") for line in lines[1:])
    assert " ".join(" ".join(lines).split()).endswith(" ".join(words))


def test_a_word_that_is_too_long_stays_whole() -> None:
    long = "x" * 100
    assert wrap(f"a {long} b", 30, 30) == ["a", long, "b"]
    assert wrap(long, 30, 30) == [long]
    assert wrap("", 30, 30) == [""]


def test_a_command_can_be_copied_as_it_is() -> None:
    command = "rsync " + " ".join(f"--exclude={number}" for number in range(30))
    assert len(laid_out(LogLayout(Palette()), f"[web1] running: {command}")) == 1


def test_a_new_day_is_told() -> None:
    def write(log: logging.Logger) -> None:
        for moment in (1_700_000_000.0, 1_700_000_001.0, 1_700_100_000.0):
            record = log.makeRecord(log.name, logging.INFO, "", 0, "text", (), None)
            record.created = moment
            log.handle(record)

    text = written(COLOURFUL, write)
    day = time.strftime("%Y-%m-%d", time.localtime(1_700_100_000))
    assert f" text\n---- {day} ----\n" in text


# -- strangers ------------------------------------------------------------------------------------

HOSTILE = "a\x1b[2Jb\nc\rd\x9be\u202ef"


@pytest.mark.parametrize("environ", [COLOURFUL, {"TERM": "dumb"}], ids=["columns", "plain"])
def test_nothing_in_a_message_reaches_the_terminal_raw(environ: dict[str, str]) -> None:
    text = written(environ, lambda log: log.info("[%s] %s", HOSTILE, HOSTILE))
    shown = r"a\x1b[2Jb\nc\rd\x9be\u202ef"
    assert f"{shown}" in SEQUENCE.sub("", text).splitlines()[0]
    assert set(SEQUENCE.sub("", text)) & set("\x1b\r\x9b\u202e") == set()


@pytest.mark.parametrize("environ", [COLOURFUL, {"TERM": "dumb"}], ids=["columns", "plain"])
def test_nothing_in_a_traceback_reaches_the_terminal_raw(environ: dict[str, str]) -> None:
    def write(log: logging.Logger) -> None:
        try:
            int(HOSTILE)
        except ValueError:
            log.exception("It failed.")
        try:
            os.stat(f"/no/{HOSTILE}")
        except OSError as error:
            log.warning("%s", error, exc_info=ValueError(HOSTILE))

    text = SEQUENCE.sub("", written(environ, write))
    assert " ValueError: a\\x1b[2Jb\n" in text
    assert "\x1b" not in text


# -- what stands below the log --------------------------------------------------------------------


def drawn(terminal: PseudoTerminal, lines: list[str], given: TerminalHandler) -> None:
    before = len(terminal.output)
    given.draw_footer(lines, 20)
    if lines:
        terminal.wait_for(re.escape(lines[-1]), after=before)


def test_log_lines_come_above_what_stands_below() -> None:
    with PseudoTerminal() as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        with logger(given) as log:
            drawn(terminal, ["one", "two"], given)
            log.info("first")
            terminal.wait_for("first.*\n.*one.*\n.*two")
            assert terminal.screen[1:] == ["one", "two"]
            log.info("second")
            drawn(terminal, ["three", "four"], given)
            drawn(terminal, ["five"], given)
            log.info("third")
            terminal.wait_for("third")
            assert [line[11:] for line in terminal.screen] == ["first", "second", "third"]
            drawn(terminal, ["six"], given)
            assert terminal.screen[-1] == "six"
            drawn(terminal, [], given)
            log.info("the end")
            terminal.wait_for("the end")
            assert [line[11:] for line in terminal.screen][2:] == ["third", "the end"]


def test_in_a_flood_of_lines_what_stands_below_gives_way() -> None:
    with PseudoTerminal() as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        with logger(given) as log:
            drawn(terminal, ["below"], given)
            began = time.monotonic()
            for number in range(2000):
                log.debug("line %d", number)
            taken = time.monotonic() - began
            drawn(terminal, ["again"], given)
            assert [line[11:] for line in terminal.screen[:-1]] == [
                f"line {n}" for n in range(2000)
            ]
            assert terminal.screen[-1] == "again"
            assert terminal.output.count("below") <= 2 + taken / 0.05


def test_what_has_not_changed_is_not_drawn_again() -> None:
    with PseudoTerminal() as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        drawn(terminal, ["one"], given)
        before = terminal.output
        given.draw_footer(["one"], 20)
        drawn(terminal, ["two"], given)
        assert terminal.output[len(before) :].count("one") == 0


def test_the_cursor_is_never_hidden() -> None:
    with PseudoTerminal() as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        drawn(terminal, ["one"], given)
        assert "\x1b[?" not in terminal.output


def test_what_was_drawn_before_the_process_was_stopped_is_not_wiped_out() -> None:
    with PseudoTerminal() as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        drawn(terminal, ["one"], given)
        # As long as nothing is drawn: what is there by then may be the shell's.
        stopped = time.monotonic()
        while time.monotonic() < stopped + 1.1:
            time.sleep(0.1)
        drawn(terminal, ["two"], given)
        assert terminal.screen == ["one", "two"]


def test_in_a_window_that_became_narrower_nothing_of_the_log_is_wiped_out() -> None:
    with PseudoTerminal(100, 30) as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        with logger(given) as log:
            log.info("before")
            drawn(terminal, ["one"], given)
            terminal.resize(10, 30)
            log.info("after")
            terminal.wait_for("after")
            # Better to leave a line behind than to wipe out one of the log.
            lines = [line[11:] if ":" in line else line for line in terminal.screen]
            assert lines == ["before", "one", "after"]


def test_a_terminal_that_takes_nothing_is_not_waited_for() -> None:
    with PseudoTerminal() as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        drawn(terminal, ["one"], given)
        terminal.press(b"\x13")
        deadline = time.monotonic() + 20
        os.set_blocking(terminal.stream.fileno(), False)
        while _takes(terminal):
            assert time.monotonic() < deadline, "Ctrl-S has no effect"
            time.sleep(0.01)
        os.set_blocking(terminal.stream.fileno(), True)
        drawing = threading.Thread(target=given.draw_footer, args=(["two"], 20))
        drawing.start()
        drawing.join(5)
        is_waiting = drawing.is_alive()
        terminal.press(b"\x11")
        drawing.join()
        assert not is_waiting
        assert "two" not in terminal.output
        drawn(terminal, ["three"], given)


def _takes(terminal: PseudoTerminal) -> bool:
    try:
        os.write(terminal.stream.fileno(), b"\x1b[0m")
    except BlockingIOError:
        return False
    return True


def test_a_terminal_that_has_gone_is_no_error() -> None:
    with PseudoTerminal() as terminal:
        given = TerminalHandler(terminal.stream, Palette())
        drawn(terminal, ["one"], given)
        terminal.hang_up()
        with logger(given) as log:
            log.info("nobody reads this")
            given.draw_footer(["nor this"], 20)
            given.draw_footer([], 20)
