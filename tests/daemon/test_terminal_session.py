"""pylsyncd in the foreground of a terminal: the log, the progress display, and a clean exit."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import PROGRAM, Pylsyncd, environment
from support.terminals import PseudoTerminal
from support.trees import equal_within
from support.waiting import wait_until

# Makes the terminal the controlling terminal of the session, as that of a login shell is.
ON_TERMINAL = 'terminal=$1; shift; exec "$@" 0<>"$terminal" 1>&0 2>&0'
SLOW = "--rsync-option=--bwlimit=1000"
SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Session:
    """A pylsyncd in the foreground of a terminal."""

    def __init__(self, terminal: PseudoTerminal, process: "subprocess.Popen[bytes]") -> None:
        self.terminal = terminal
        self.process = process

    def wait(self, seconds: float = 45) -> int:
        """Wait until the daemon exits, and return its exit status."""
        return self.process.wait(seconds)

    @property
    def text(self) -> str:
        """The output without escape sequences."""
        return SEQUENCE.sub("", self.terminal.output).replace("\r", "")


@contextlib.contextmanager
def session(
    *arguments: str, columns: int = 100, extra: dict[str, str] | None = None
) -> Iterator[Session]:
    environ = environment({"TERM": "xterm-256color", **(extra or {})})
    if not extra or "NO_COLOR" not in extra:
        environ.pop("NO_COLOR", None)
    with PseudoTerminal(columns) as terminal:
        shell = ["/bin/sh", "-c", ON_TERMINAL, "sh", terminal.path]
        process = subprocess.Popen(
            [*shell, sys.executable, *PROGRAM, *arguments],
            stdin=subprocess.DEVNULL, env=environ, start_new_session=True,
        )  # fmt: skip
        try:
            yield Session(terminal, process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            # The second time it does not wait for rsync.
            for seconds in (1, 45):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    process.terminate()
                    process.wait(seconds)
            process.kill()
            process.wait()


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """Return a source of 3 MB in 30 files, and the path of its replica."""
    source = tmp_path / "src"
    source.mkdir()
    for number in range(30):
        (source / f"f{number}").write_bytes(os.urandom(100_000))
    return source, tmp_path / "dst"


def paths(trees: tuple[Path, Path], tmp_path: Path) -> list[str]:
    return [f"--state-dir={tmp_path / 'state'}", "-w", "0.1", f"{trees[0]}/./", f"{trees[1]}/"]


def test_the_initial_sync_shows_its_progress_and_leaves_only_the_log(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    with session("-d", "-i", SLOW, *paths(trees, tmp_path)) as run:
        terminal = run.terminal
        terminal.wait_for("dst.*━.*[0-9]%.* files .*MB")
        terminal.wait_for("initial sync complete")
        (trees[0] / "new").touch()
        terminal.wait_for("event .*CLOSE_WRITE.*new")
        wait_until(lambda: equal_within(os.fsencode(trees[0]), os.fsencode(trees[1]), 1) == [])
        terminal.press(b"\x03")
        assert run.wait() == 0
        # The output may be read later than the process ends.
        terminal.wait_for("stopped")
        lines = terminal.screen
        assert re.fullmatch(r"\d\d:\d\d:\d\d \* stopped", lines[-1])
        # The display is gone, and every line of the log is still there.
        assert "━" not in "\n".join(lines)
        assert sum("rsync: >f" in line for line in lines) == 31
        assert all(re.match(r"(\^C)?\d\d:\d\d:\d\d [ .*!X] |  ", line) for line in lines if line)
        assert "\x1b[?" not in terminal.output


def test_levels_and_destinations_have_colours(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with session("-d", "-i", *paths(trees, tmp_path)) as run:
        line = run.terminal.wait_for(r"[^\n]*initial sync complete")
        # The notice, the name and the text.
        assert len(set(SEQUENCE.findall(line))) >= 3
        debug = run.terminal.wait_for(r"[^\n]*running: ")
        assert SEQUENCE.findall(debug)[-1] != SEQUENCE.findall(line)[-1]


def test_with_no_color_there_are_no_colours(trees: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["-d", "-i", SLOW, *paths(trees, tmp_path)]
    with session(*arguments, extra={"NO_COLOR": "1"}) as run:
        run.terminal.wait_for("dst.*━")
        run.terminal.wait_for("initial sync complete")
        assert not re.search(r"\x1b\[[0-9;]*m", run.terminal.output)


def test_a_dumb_terminal_gets_plain_lines(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with session("-d", "-i", *paths(trees, tmp_path), extra={"TERM": "dumb"}) as run:
        run.terminal.wait_for("initial sync complete")
        assert "\x1b" not in run.terminal.output
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", run.terminal.output)


def test_a_pipe_gets_plain_lines(trees: tuple[Path, Path]) -> None:
    arguments = ["-d", "-i", "-w", "0.1", f"{trees[0]}/./", f"{trees[1]}/"]
    with Pylsyncd(*arguments, names=["dst"]) as daemon:
        daemon.wait_ready()
    assert "\x1b" not in daemon.log
    for line in daemon.log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S", line), line


def test_ctrl_c_during_a_sync_leaves_the_terminal_clean(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    with session("-i", SLOW, *paths(trees, tmp_path)) as run:
        run.terminal.wait_for("dst.*━")
        run.terminal.press(b"\x03")
        run.wait()
        run.terminal.wait_for("stopped")
        assert "━" not in "\n".join(run.terminal.screen)
        assert "Traceback" not in run.text
        assert "stopped" in run.terminal.screen[-1]


def test_a_suspended_daemon_erases_no_output_of_other_programs(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    with session("-i", "--rsync-option=--bwlimit=300", *paths(trees, tmp_path)) as run:
        terminal = run.terminal
        terminal.wait_for("dst.*━")
        run.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _state(run.process.pid) == "T")
        terminal.stream.write("the shell's\nthe shell's\n")
        terminal.stream.flush()
        before = len(terminal.output)
        stopped = time.monotonic()
        wait_until(lambda: time.monotonic() > stopped + 1.5)
        run.process.send_signal(signal.SIGCONT)
        terminal.wait_for("dst.*━", after=before)
        assert terminal.screen.count("the shell's") == 2


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_display_follows_a_resized_window(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with session("-i", "--rsync-option=--bwlimit=300", *paths(trees, tmp_path)) as run:
        run.terminal.wait_for("dst.*━.* files")
        before = len(run.terminal.output)
        run.terminal.resize(40, 30)
        # The window has no room for the bar.
        run.terminal.wait_for(r"dst\S* +[0-9]+% ", after=before)
        before = len(run.terminal.output)
        run.terminal.resize(120, 30)
        run.terminal.wait_for("dst.*━.* files", after=before)


def test_a_terminal_that_hangs_up_does_not_stop_the_replication(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    with session("-d", "-i", SLOW, *paths(trees, tmp_path)) as run:
        run.terminal.wait_for("dst.*━")
        run.terminal.hang_up()
        wait_until(lambda: trees[1].is_dir() and _is_equal(trees))
        (trees[0] / "new").touch()
        wait_until(lambda: _is_equal(trees))
        run.process.terminate()
        assert run.wait() == 0


def _is_equal(trees: tuple[Path, Path]) -> bool:
    return equal_within(os.fsencode(trees[0]), os.fsencode(trees[1]), 0.1) == []


def test_the_quiet_option_writes_nothing(trees: tuple[Path, Path], tmp_path: Path) -> None:
    with session("-q", "-i", "--once", SLOW, *paths(trees, tmp_path)) as run:
        assert run.wait(60) == 0
        wait_until(lambda: _is_equal(trees))
    assert run.terminal.output == ""
