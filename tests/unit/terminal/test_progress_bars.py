"""The footer with a bar for each task, on a real pseudo terminal."""

import contextlib
import io
import os
import re
from pathlib import Path

import pytest
from support.terminals import HALF, PseudoTerminal, displayed
from support.waiting import wait_until

from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.rules.excludes import Rules
from pylsyncd.terminal import progress as progress_module
from pylsyncd.terminal.colours import Palette, choose_palette
from pylsyncd.terminal.log_handler import TerminalHandler
from pylsyncd.terminal.progress import ProgressDisplay
from pylsyncd.terminal.progress_bars import ProgressBars
from pylsyncd.terminal.progress_tasks import (
    Task,
)
from pylsyncd.terminal.source_size import CountedSource, SourceSize


def test_a_destination_is_shown_with_a_bar_and_numbers() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("web1.*\n")
        expected = r"web1  ━━━━━━━━━              45%    1,204 files    4\.7 GB  12\.3 MB/s   0:00"
        assert re.fullmatch(expected, terminal.screen[-1])


@pytest.mark.parametrize(("columns", "shown"), [(100, "500 of 2,000 files"), (50, "")])
def test_the_total_and_what_is_left_are_shown(columns: int, shown: str) -> None:
    with PseudoTerminal(columns) as terminal:
        bars = ProgressBars(TerminalHandler(terminal.stream, Palette()))
        progress = RsyncProgress(25_000_000, 50, 1e6, 500, 20, 520)
        size = SourceSize(entries=2050, files=2000, total_bytes=100_000_000)
        bars.show([Task("web1", progress, 0.0, 100.0, size=size)], 100.0)
        terminal.wait_for(f"web1.* 25%.*{shown}.*5:00 left")
        (line,) = terminal.screen
        assert len(line) < columns


def test_a_source_is_counted_for_a_task_that_takes_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_MIN_COUNTED_DURATION", 0.0)
    (tmp_path / "f").write_bytes(b"x" * 100)
    source = CountedSource(os.fsencode(tmp_path), Rules())
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", RsyncProgress(50, 50, 1.0, 1, 0, 1), source)
        terminal.wait_for(r"web1.*50%.* 1 of 1 files +50 B of 100 B")


def test_a_task_is_shown_after_half_a_second() -> None:
    with PseudoTerminal() as terminal:
        bars = ProgressBars(TerminalHandler(terminal.stream, Palette()))
        bars.show([Task("web1", HALF, 100.0, 100.0)], 100.4)
        bars.show([Task("web2", HALF, 100.0, 100.0)], 100.5)
        terminal.wait_for("1,204 files")
        assert "web1" not in terminal.output


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 30, 5, 1])
def test_no_line_is_wider_than_the_window(columns: int) -> None:
    with displayed(columns) as (terminal, display, _):
        display.update_transfer("a-rather-long-name.of.some.server.example.com:/srv/www", HALF)
        display.update_transfer("w", RsyncProgress())
        terminal.wait_for("w.*\n")
        wait_until(lambda: len(terminal.screen) == 2)
        assert all(0 < len(line) < max(columns, 2) for line in terminal.screen)


def test_in_80_columns_a_long_name_is_cut_so_that_all_columns_fit() -> None:
    with displayed(80) as (terminal, display, _):
        display.update_transfer("a-rather-long-name.of.some.server.example.com:/srv/www", HALF)
        terminal.wait_for(
            r"a-rather-long…  ━{4}╸ +45%    1,204 files    4\.7 GB  12\.3 MB/s   0:00"
        )


def test_at_least_half_of_the_window_is_left_to_the_log() -> None:
    with displayed(lines=8) as (terminal, display, _):
        for number in range(20):
            display.update_transfer(f"web{number}", HALF)
        terminal.wait_for("and 17 more")
        wait_until(lambda: len(terminal.screen) == 4)


def test_the_bars_follow_a_resized_window() -> None:
    with displayed(100) as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("━.*12.3 MB/s")
        terminal.resize(50, 30)
        before = len(terminal.output)
        terminal.wait_for(r"web1   45%    1,204 files", after=before)


def test_a_destination_has_the_same_colour_in_its_bar_and_in_the_log() -> None:
    palette = choose_palette({"TERM": "xterm-256color"})
    with displayed(palette=palette) as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for(re.escape(palette.for_name("web1")) + "web1")
        terminal.wait_for(re.escape(palette.for_name("web1")) + "━")


def test_an_ascii_stream_gets_ascii_bars() -> None:
    with PseudoTerminal() as terminal:
        binary = os.fdopen(os.dup(terminal.stream.fileno()), "wb")
        raw = io.TextIOWrapper(binary, encoding="ascii", errors="backslashreplace")
        with raw:
            display = ProgressDisplay(TerminalHandler(raw, Palette()))
            with contextlib.ExitStack() as stack:
                stack.callback(display.stop)
                display.update_transfer("web1", HALF)
                terminal.wait_for("web1  ---------              45%")
