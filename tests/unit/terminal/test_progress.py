"""The progress display, on a real pseudo terminal and in log lines."""

import logging
import subprocess
import sys
import threading
import time

import pytest
from support.terminals import HALF, displayed
from support.waiting import DEADLINE, wait_until

from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.system.logs import NOTICE
from pylsyncd.terminal import progress
from pylsyncd.terminal.progress import NoProgress, ProgressDisplay, ProgressLog
from pylsyncd.terminal.progress_tasks import (
    Task,
)


def test_a_long_task_is_logged_every_ten_seconds_and_a_short_one_not_at_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = ProgressLog()
    with caplog.at_level(logging.INFO):
        logged = []
        for second in range(36):
            lines.show([Task("web1", HALF, 0.0, float(second))], float(second))
            logged += [second] * len(caplog.records)
            assert all(record.levelno == NOTICE for record in caplog.records)
            caplog.clear()
        assert logged == [10, 20, 30]
        # A later task of the same name waits as long again.
        lines.show([], 36.0)
        lines.show([Task("web1", HALF, 36.0, 36.0)], 45.0)
        assert not caplog.records


def test_without_a_terminal_a_short_task_writes_nothing() -> None:
    code = (
        "import logging, sys, time\n"
        "from pylsyncd.terminal import log_handler, progress\n"
        "from pylsyncd.rsync.output import RsyncProgress\n"
        "handler = log_handler.make_log_handler(sys.stderr, {'TERM': 'xterm'})\n"
        "display = progress.ProgressDisplay(handler)\n"
        "display.update_transfer('web1', RsyncProgress())\n"
        "time.sleep(1)\n"
        "display.stop()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_without_progress_all_calls_do_nothing() -> None:
    display = NoProgress()
    display.update_watch_setup("", 1, 2)
    display.finish_watch_setup("")
    display.update_transfer("web1", HALF)
    display.finish_transfer("web1")
    display.stop()


def test_watched_directories_are_counted_during_the_watch_setup() -> None:
    with displayed() as (terminal, display, _):
        for number in (1000, 20_000):
            display.update_watch_setup("www", number, 524_288)
        terminal.wait_for("www  20,000 directories watched, limit 524,288")
        display.finish_watch_setup("www")
        wait_until(lambda: terminal.screen == [])


def test_lines_change_with_the_progress_and_disappear_at_the_end() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", RsyncProgress())
        terminal.wait_for("web1  comparing")
        display.update_transfer("web1", HALF)
        display.update_transfer("web2", RsyncProgress())
        terminal.wait_for("1,204 files")
        wait_until(lambda: len(terminal.screen) == 2)
        display.finish_transfer("web1")
        wait_until(lambda: [line[:4] for line in terminal.screen] == ["web2"])
        display.finish_transfer("web2")
        wait_until(lambda: terminal.screen == [])


def test_log_lines_appear_above_the_display() -> None:
    with displayed() as (terminal, display, handler):
        log = logging.getLogger("test.progress")
        log.propagate = False
        log.setLevel(logging.DEBUG)
        log.addHandler(handler)
        try:
            display.update_transfer("web1", HALF)
            terminal.wait_for("1,204 files")
            for number in range(5):
                before = len(terminal.output)
                log.info("line %d", number)
                terminal.wait_for("1,204 files", after=before)
            assert [line[11:17] for line in terminal.screen[:-1]] == [f"line {n}" for n in range(5)]
            assert terminal.screen[-1].startswith("web1")
        finally:
            log.removeHandler(handler)


def test_tasks_that_end_at_once_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine, a task may last as long as the time between two updates.
    monkeypatch.setattr(progress, "_UPDATE_INTERVAL", 3600.0)
    with displayed() as (terminal, display, _):
        for number in range(100):
            display.update_transfer(f"web{number}", HALF)
            display.finish_transfer(f"web{number}")
    assert terminal.output == ""


def test_stopping_during_a_task_clears_the_terminal() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("1,204 files")
    assert terminal.screen == []
    assert "\x1b[?" not in terminal.output
    # Updates after the end are ignored.
    display.update_transfer("web1", HALF)
    display.stop()


def test_a_terminal_that_hangs_up_does_not_stop_the_display() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("1,204 files")
        terminal.hang_up()
        display.update_transfer("web1", RsyncProgress(is_list_complete=True))
        display.stop()
    assert "progress display" not in {thread.name for thread in threading.enumerate()}


def test_a_terminal_that_accepts_no_output_delays_nothing() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("1,204 files")
        terminal.press(b"\x13")
        began = time.monotonic()
        for number in range(1000):
            display.update_transfer("web1", RsyncProgress(number))
        display.stop()
        assert time.monotonic() - began < DEADLINE
        terminal.press(b"\x11")


def test_many_threads_may_update_the_display() -> None:
    def use(display: ProgressDisplay, name: str) -> None:
        for number in range(200):
            display.update_watch_setup(name, number, 0)
            display.update_transfer(name, RsyncProgress(number))
            display.finish_watch_setup(name)
        display.finish_transfer(name)

    with displayed() as (terminal, display, _):
        threads = [
            threading.Thread(target=use, args=(display, f"web{number}")) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        display.update_transfer("the end", HALF)
        terminal.wait_for("the end")
        first = terminal.output.index("the end")
        # Drawn once more: it is the only task.
        terminal.wait_for("the end", after=first + 1)
        assert "web" not in terminal.output[first:]
