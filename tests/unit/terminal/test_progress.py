"""How far something is: read from a real rsync, and shown in a terminal and elsewhere."""

import contextlib
import io
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.terminals import PseudoTerminal
from support.waiting import wait_until

from pylsyncd.model.endpoints import Destination
from pylsyncd.model.formatting import format_size
from pylsyncd.model.notation import Transport
from pylsyncd.rsync.command import PROGRESS_OPTION, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.progress import ProgressSplitter, RsyncProgress
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.system.logs import NOTICE
from pylsyncd.terminal.colours import Palette, choose_palette
from pylsyncd.terminal.log_handler import TerminalHandler
from pylsyncd.terminal.progress import NoProgress, ProgressDisplay, ProgressFooter, ProgressLog
from pylsyncd.terminal.progress_tasks import (
    Task,
    WatchProgress,
    format_details,
    format_elapsed,
    format_log_text,
)

SLOW = ("--bwlimit=8000",)
HALF = RsyncProgress(4_700_000_000, 45, 12_300_000.0, 1204, 5500, 10_000, is_list_complete=True)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Return a source of 41 files in a directory, 4.1 MB, and no replica."""
    source, replica = tmp_path / "src", tmp_path / "dst"
    (source / "d").mkdir(parents=True)
    for number in range(41):
        (source / "d" / f"f{number}").write_bytes(os.urandom(100_000))
    return source, replica


def command(source: Path, replica: Path, **options: object) -> list[bytes]:
    to = Destination("replica", "", Transport.LOCAL, None, os.fsencode(replica) + b"/")
    rsync = RsyncOptions("rsync", (3, 2, 7), show_progress=True, **options)  # type: ignore[arg-type]
    return rsync.full_sync_command(os.fsencode(source), to, RsyncCapabilities())


def run(
    source: Path, replica: Path, show: Callable[[str], None] | None = None, **options: object
) -> tuple[RunResult, list[RsyncProgress]]:
    told: list[RsyncProgress] = []
    asked = command(source, replica, **options)
    return Runner().run(asked, b"", show, on_progress=told.append), told


def read(chunks: list[bytes]) -> tuple[list[bytes], list[RsyncProgress]]:
    lines: list[bytes] = []
    told: list[RsyncProgress] = []
    reader = ProgressSplitter(lines.append, told.append)
    for chunk in chunks:
        reader.feed(chunk)
    reader.finish()
    return [line for line in lines if line.strip()], told


# -- what rsync says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b"\r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)",
            RsyncProgress(4000000, 44, 2.96 * (1 << 20), 6, 25, 33, is_list_complete=True),
        ),
        (
            b"\r              0   0%    0.00kB/s    0:00:00 (xfr#0, ir-chk=1020/1062)",
            RsyncProgress(0, 0, 0.0, 0, 1020, 1062),
        ),
        (b"\r          32768   1%    1.50kB/s    0:00:00  ", RsyncProgress(32768, 1, 1536.0)),
        (b"\r          32768   1%    2.00GB/s   ??:??:??  ", RsyncProgress(32768, 1,
         float(2 << 30))),
        (b"\r       7200000  80%    1.00kB/s  123:00:02 (xfr#22, to-chk=9/33) ",
         RsyncProgress(7200000, 80, 1024.0, 22, 9, 33, is_list_complete=True)),
    ],
    ids=["a file done", "still listing", "within a file", "no estimate", "padded"],
)  # fmt: skip
def test_a_line_of_progress_is_read(text: bytes, expected: RsyncProgress) -> None:
    assert read([text]) == ([], [expected])


def test_what_a_line_leaves_out_is_as_it_was() -> None:
    _, told = read([
        b"\r        4000000  44%    2.00MB/s    0:00:01 (xfr#6, to-chk=25/33)",
        b"\r        4100000  45%    1.00MB/s    0:00:01  ",
    ])  # fmt: skip
    assert told[-1] == RsyncProgress(4100000, 45, float(1 << 20), 6, 25, 33, is_list_complete=True)


def test_what_follows_a_line_of_progress_directly_is_a_line_of_its_own() -> None:
    text = (
        b"\r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)file has vanished: x\n"
    )
    assert read([text])[0] == [b"file has vanished: x"]


def test_lines_on_both_sides_of_progress_are_two() -> None:
    text = b"half\r        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)whole\n"
    assert read([text])[0] == [b"half", b"whole"]


@pytest.mark.parametrize(
    "text",
    [
        b"      1,234  45%  1.23MB/s    0:00:01 (xfr#5, to-chk=1/10)\n",
        b"        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)\n",
        b">f+++++++++ \\#015        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)\n",
        b"a message\r\n",
        b"\rnot 44% of what it was\n",
    ],
)
def test_other_lines_are_left_alone(text: bytes) -> None:
    assert read([text]) == ([text[:-1]], [])


def test_how_the_output_is_cut_does_not_matter(trees: tuple[Path, Path]) -> None:
    asked = command(*trees, extra_options=SLOW, itemize=True)
    output = subprocess.run(
        asked, stdout=subprocess.PIPE, check=True, env={**os.environ, "LC_ALL": "C"}
    ).stdout
    lines, told = read([output])
    assert len(lines) > 50
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for pieces in (3, 30, 300):
        cuts = sorted(chance.randrange(len(output)) for _ in range(pieces))
        chunks = [output[a:b] for a, b in zip([0, *cuts], [*cuts, len(output)], strict=True)]
        assert read(chunks)[0] == lines, f"seed {seed}"
        assert read(chunks)[1][-1] == told[-1], f"seed {seed}"
    assert read([bytes([byte]) for byte in output])[0] == lines


# -- an rsync -------------------------------------------------------------------------------------


def test_a_run_tells_how_far_it_is(trees: tuple[Path, Path]) -> None:
    done, told = run(*trees, extra_options=SLOW)
    assert (done.exit_status, done.files, list(done.messages)) == (0, 42, [])
    assert len(told) > 3
    assert [step.bytes_done for step in told] == sorted(step.bytes_done for step in told)
    last = told[-1]
    assert (last.bytes_done, last.percent, last.files_sent, last.entries_left) == (
        4_100_000,
        100,
        41,
        0,
    )
    assert last.fraction_done == 1.0
    assert any(step.bytes_per_second > 0 for step in told)


def test_progress_is_kept_apart_from_what_was_done_to_each_path(trees: tuple[Path, Path]) -> None:
    source, replica = trees
    odd = (
        "        4000000  44%    2.96MB/s    0:00:01 (xfr#6, to-chk=25/33)",
        "\r        9999999  44%    2.96MB/s    0:00:01 (xfr#99, to-chk=25/33)",
        "\n\r        9999999  44%    2.96MB/s    0:00:01  ",
    )
    for name in odd:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    shown: list[str] = []
    done, told = run(source, replica, shown.append, extra_options=SLOW, itemize=True)
    assert (done.exit_status, list(done.messages)) == (0, [])
    assert len([line for line in shown if line.startswith(">f")]) == 44
    assert all(re.match(r"\S{11} ", line) for line in shown)
    assert sum(line.endswith(odd[0]) for line in shown) == 1
    assert max(step.bytes_done for step in told) == 4_100_000


def test_messages_are_whole_between_lines_of_progress(trees: tuple[Path, Path]) -> None:
    source, replica = trees
    for number in (3, 20, 40):
        (replica / f"d/f{number}/full").mkdir(parents=True)
    asked = [
        word
        for word in command(source, replica, extra_options=SLOW, delete=False)
        # So that rsync cannot do what it should.
        if word != b"--force"
    ]
    told: list[RsyncProgress] = []
    done = Runner().run(asked, b"", on_progress=told.append)
    assert done.exit_status == 23
    text = "\n".join(done.messages)
    assert "could not make way for new regular file: d/f20" in text
    assert "%" not in text
    assert told[-1].files_sent == 38


def test_a_run_to_which_nobody_listens_says_nothing_more(trees: tuple[Path, Path]) -> None:
    done = Runner().run(command(*trees), b"")
    assert (done.exit_status, done.files, list(done.messages)) == (0, 42, [])


def test_only_full_syncs_that_are_asked_to_tell_how_far_they_are(tmp_path: Path) -> None:
    to = Destination("replica", "", Transport.LOCAL, None, b"/replica/")
    asked, silent = (
        RsyncOptions("rsync", (3, 2, 7), show_progress=True),
        RsyncOptions("rsync", (3, 2, 7)),
    )
    source = os.fsencode(tmp_path)
    assert PROGRESS_OPTION in asked.full_sync_command(source, to, RsyncCapabilities())
    assert PROGRESS_OPTION not in silent.full_sync_command(source, to, RsyncCapabilities())
    for other in (
        asked.file_list_command(source, to, RsyncCapabilities(), create_parents=True),
        asked.probe_command(source, to, RsyncCapabilities()),
        asked.as_dry_run().full_sync_command(source, to, RsyncCapabilities()),
        asked.compare_command(source, to, RsyncCapabilities(), checksum=False),
    ):
        assert PROGRESS_OPTION not in other


def test_an_rsync_that_hangs_on_its_way_is_ended(trees: tuple[Path, Path]) -> None:
    stopped: list[int] = []
    told: list[RsyncProgress] = []

    def stop_the_receiver(transferred: RsyncProgress) -> None:
        told.append(transferred)
        if transferred.files_sent > 3 and not stopped:
            for pid in _below(os.getpid()):
                # All but the one that is watched.
                if pid not in _children(os.getpid()):
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)

    asked = command(*trees, extra_options=("--bwlimit=1000",))
    done = Runner().run(asked, b"", stall_timeout=1.0, on_progress=stop_the_receiver)
    assert stopped
    assert "no progress" in done.stall_reason
    assert told[-1].percent < 100
    # It is silent then, and repeats nothing: else those would have to be told from progress.
    assert len(told) == len(set(told))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/task/{task}/children").read_text()
            found += map(int, text.split())
    return found


def _below(pid: int) -> list[int]:
    children = _children(pid)
    return children + [below for child in children for below in _below(child)]


# -- in words -------------------------------------------------------------------------------------


def task(state: WatchProgress | RsyncProgress, *, silent: float = 0.0) -> Task:
    return Task("web1", state, 0.0, 100.0 - silent)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            task(WatchProgress(120_000, 524_288)),
            "[web1] starting: 120000 directories watched so far (limit 524288)",
        ),
        (Task("", WatchProgress(1, 0), 0.0, 100.0), "starting: 1 directory watched so far"),
        (
            task(HALF),
            "[web1] syncing: 1204 files, 4.7 GB so far, 12.3 MB/s, 4500 of 10000 looked at",
        ),
        (
            task(RsyncProgress(0, 0, 0.0, 0, 20, 1062)),
            "[web1] syncing: 0 files, 0 B so far, 1042 of 1062 or more looked at",
        ),
        (
            task(HALF, silent=75.0),
            "[web1] syncing: 1204 files, 4.7 GB so far, 4500 of 10000 looked at, silent 1:15",
        ),
        (task(RsyncProgress(), silent=5.0), "[web1] syncing: 0 files, 0 B so far"),
    ],
)
def test_a_task_is_put_into_a_sentence(given: Task, expected: str) -> None:
    assert format_log_text(given, 100.0) == expected


def test_what_names_hold_is_not_obeyed() -> None:
    assert "\x1b" not in format_log_text(Task("a\x1b[2J\n", HALF, 0.0, 0.0), 0.0)


def test_details_keep_their_places_while_the_numbers_grow() -> None:
    states = [
        RsyncProgress(1, 0, 1.0, 0, 1, 2, is_list_complete=True),
        HALF,
        RsyncProgress(10**12, 99, 9e8, 999_999, 1, 2),
    ]
    assert len({len(format_details(task(state), 100.0)) for state in states}) == 1


@pytest.mark.parametrize(
    ("state", "share"),
    [
        (RsyncProgress(), None),
        (RsyncProgress(10, 99, 1.0, 1, 1, 2), None),
        (RsyncProgress(10, 5, 1.0, 1, 10, 100, is_list_complete=True), 0.9),
        (RsyncProgress(10, 80, 1.0, 1, 90, 100, is_list_complete=True), 0.8),
        (RsyncProgress(10, 100, 1.0, 1, 0, 100, is_list_complete=True), 1.0),
    ],
    ids=["begun", "still listing", "most was there", "large files first", "done"],
)
def test_the_share_is_known_when_the_list_is(state: RsyncProgress, share: float | None) -> None:
    assert state.fraction_done == share


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (5e15, "5000.0 TB")],
)
def test_sizes_are_put_into_words(count: float, text: str) -> None:
    assert format_size(count) == text


def test_durations_are_put_into_words() -> None:
    assert [format_elapsed(seconds) for seconds in (7.9, 754, 3723)] == ["0:07", "12:34", "1:02:03"]


# -- by lines -------------------------------------------------------------------------------------


def test_a_line_comes_every_ten_seconds_and_none_for_what_is_done_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = ProgressLog()
    with caplog.at_level(logging.INFO):
        told = []
        for second in range(36):
            lines.show([task(HALF)], float(second))
            told += [second] * len(caplog.records)
            assert all(record.levelno == NOTICE for record in caplog.records)
            caplog.clear()
        assert told == [10, 20, 30]
        # Another one of the same name begins anew.
        lines.show([], 36.0)
        lines.show([Task("web1", HALF, 36.0, 36.0)], 45.0)
        assert not caplog.records


def test_without_a_terminal_nothing_is_written_and_rich_is_not_loaded() -> None:
    code = (
        "import logging, sys, time\n"
        "from pylsyncd.terminal import log_handler, progress\n"
        "from pylsyncd.rsync.progress import RsyncProgress\n"
        "handler = log_handler.make_log_handler(sys.stderr, {'TERM': 'xterm'})\n"
        "display = progress.ProgressDisplay(handler)\n"
        "display.update_transfer('web1', RsyncProgress())\n"
        "time.sleep(1)\n"
        "display.stop()\n"
        "print('rich' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_quiet_one_takes_everything() -> None:
    quiet = NoProgress()
    quiet.update_watch_setup("", 1, 2)
    quiet.finish_watch_setup("")
    quiet.update_transfer("web1", HALF)
    quiet.finish_transfer("web1")
    quiet.stop()


# -- in a terminal --------------------------------------------------------------------------------


@contextlib.contextmanager
def displayed(
    columns: int = 100, lines: int = 30, colours: Palette | None = None
) -> Iterator[tuple[PseudoTerminal, ProgressDisplay, TerminalHandler]]:
    with PseudoTerminal(columns, lines) as terminal:
        handler = TerminalHandler(terminal.stream, colours or Palette())
        display = ProgressDisplay(handler)
        try:
            yield terminal, display, handler
        finally:
            display.stop()


def test_a_destination_is_shown_with_a_bar_and_numbers() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("web1.*\n")
        expected = r"web1  ━━━━━━━━━              45%    1,204 files    4\.7 GB  12\.3 MB/s   0:00"
        assert re.fullmatch(expected, terminal.screen[-1])


def test_directories_are_counted_while_they_are_armed() -> None:
    with displayed() as (terminal, display, _):
        for number in (1000, 20_000):
            display.update_watch_setup("www", number, 524_288)
        terminal.wait_for("www  20,000 directories watched, limit 524,288")
        display.finish_watch_setup("www")
        wait_until(lambda: terminal.screen == [])


def test_the_lines_follow_what_comes_and_go_when_it_is_done() -> None:
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


def test_log_lines_stay_above_the_display() -> None:
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


def test_what_is_over_at_once_is_not_shown() -> None:
    with displayed() as (terminal, display, _):
        for number in range(100):
            display.update_transfer(f"web{number}", HALF)
            display.finish_transfer(f"web{number}")
    assert terminal.output == ""


def test_what_takes_half_a_second_is_shown_and_not_before() -> None:
    with PseudoTerminal() as terminal:
        below = ProgressFooter(TerminalHandler(terminal.stream, Palette()))
        below.show([Task("web1", HALF, 100.0, 100.0)], 100.4)
        below.show([Task("web2", HALF, 100.0, 100.0)], 100.5)
        terminal.wait_for("1,204 files")
        assert "web1" not in terminal.output


def test_the_terminal_is_left_clean_when_it_ends_in_the_middle() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("1,204 files")
    assert terminal.screen == []
    assert "\x1b[?" not in terminal.output
    # Whatever comes too late is left out.
    display.update_transfer("web1", HALF)
    display.stop()


@pytest.mark.parametrize("columns", [200, 100, 80, 60, 30, 5, 1])
def test_no_line_is_wider_than_the_window(columns: int) -> None:
    with displayed(columns) as (terminal, display, _):
        display.update_transfer("a-rather-long-name.of.some.server.example.com:/srv/www", HALF)
        display.update_transfer("w", RsyncProgress())
        terminal.wait_for("w.*\n")
        wait_until(lambda: len(terminal.screen) == 2)
        assert all(0 < len(line) < max(columns, 2) for line in terminal.screen)


def test_in_a_usual_window_a_long_name_leaves_room_for_the_rest() -> None:
    with displayed(80) as (terminal, display, _):
        display.update_transfer("a-rather-long-name.of.some.server.example.com:/srv/www", HALF)
        terminal.wait_for(
            r"a-rather-long-  ━{4}╸ +45%    1,204 files    4\.7 GB  12\.3 MB/s   0:00"
        )


def test_the_log_keeps_half_of_the_window() -> None:
    with displayed(lines=8) as (terminal, display, _):
        for number in range(20):
            display.update_transfer(f"web{number}", HALF)
        terminal.wait_for("and 17 more")
        wait_until(lambda: len(terminal.screen) == 4)


def test_a_window_may_change_its_size() -> None:
    with displayed(100) as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("━.*12.3 MB/s")
        terminal.resize(50, 30)
        before = len(terminal.output)
        terminal.wait_for(r"web1   45%    1,204 files", after=before)


def test_a_destination_has_the_same_colour_in_the_display_and_in_the_log() -> None:
    colours = choose_palette({"TERM": "xterm-256color"})
    with displayed(colours=colours) as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for(re.escape(colours.for_name("web1")) + "web1")
        terminal.wait_for(re.escape(colours.for_name("web1")) + "━")


def test_a_terminal_that_goes_away_hurts_nobody() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("1,204 files")
        terminal.hang_up()
        display.update_transfer("web1", RsyncProgress(is_list_complete=True))
        display.stop()
    assert "progress display" not in {thread.name for thread in threading.enumerate()}


def test_a_terminal_that_takes_nothing_keeps_nobody() -> None:
    with displayed() as (terminal, display, _):
        display.update_transfer("web1", HALF)
        terminal.wait_for("1,204 files")
        terminal.press(b"\x13")
        began = time.monotonic()
        for number in range(1000):
            display.update_transfer("web1", RsyncProgress(number))
        display.stop()
        assert time.monotonic() - began < 10
        terminal.press(b"\x11")


def test_it_may_be_called_by_many_threads() -> None:
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
        wait_until(lambda: len(terminal.screen) == 1)


def test_a_stream_in_another_encoding_gets_what_it_can_take() -> None:
    with PseudoTerminal() as terminal:
        binary = os.fdopen(os.dup(terminal.stream.fileno()), "wb")
        raw = io.TextIOWrapper(binary, encoding="ascii", errors="backslashreplace")
        with raw:
            display = ProgressDisplay(TerminalHandler(raw, Palette()))
            with contextlib.ExitStack() as stack:
                stack.callback(display.stop)
                display.update_transfer("web1", HALF)
                terminal.wait_for("web1  ---------              45%")
