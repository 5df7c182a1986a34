"""``--check`` shows the differences at each destination, and changes nothing."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from support import processes
from support.daemon import environment
from support.servers import LOOPBACK, free_port
from support.trees import Snapshot, snapshot
from support.waiting import wait_until

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


class Copies:
    """A source and two equal copies of it."""

    def __init__(self, top: Path) -> None:
        self.source, self.first, self.second = top / "source", top / "first", top / "second"
        (self.source / "d/deep").mkdir(parents=True)
        for name in ("a", "d/b", "d/deep/c"):
            (self.source / name).write_text(name)
        (self.source / "s").symlink_to("a")
        for copy in (self.first, self.second):
            shutil.copytree(self.source, copy, symlinks=True)
            for path in (*self.source.rglob("*"), self.source):
                times = (path.lstat().st_atime_ns, path.lstat().st_mtime_ns)
                os.utime(copy / path.relative_to(self.source), ns=times, follow_symlinks=False)

    def command(self, *options: str, to: tuple[str, ...] = ()) -> list[str]:
        """Return the command for a check of some destinations, or of both copies."""
        return [
            sys.executable, "-m", "pylsyncd", "--check", *options,
            f"{self.source}/./", *(to or (f"{self.first}/", f"{self.second}/")),
        ]  # fmt: skip

    def check(self, *options: str, to: tuple[str, ...] = (), **extra: str) -> tuple[int, list[str]]:
        """Return the exit status and the output lines of a check."""
        run = subprocess.run(
            self.command(*options, to=to),
            env=environment(extra), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Traceback" not in run.stderr
        return run.returncode, sorted(run.stdout.splitlines())

    def snapshots(self) -> list[Snapshot]:
        return [snapshot(os.fsencode(path)) for path in (self.source, self.first, self.second)]


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path)


def test_equal_copies_have_no_output(copies: Copies) -> None:
    assert copies.check() == (0, [])
    assert copies.check("--checksum") == (0, [])


def _replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _set_time(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _point_elsewhere(path: Path) -> None:
    times = (path.lstat().st_atime_ns, path.lstat().st_mtime_ns)
    above = (path.parent.stat().st_atime_ns, path.parent.stat().st_mtime_ns)
    path.unlink()
    path.symlink_to("d")
    os.utime(path, ns=times, follow_symlinks=False)
    os.utime(path.parent, ns=above)


def _rewrite(path: Path) -> None:
    path.write_text("something longer")


@pytest.mark.parametrize(
    ("name", "spoil", "line"),
    [
        pytest.param("d/b", Path.unlink, "missing at the destination: d/b", id="a missing file"),
        pytest.param("d/deep", shutil.rmtree, "missing at the destination: d/deep/",
                     id="a missing directory"),
        pytest.param("a", _rewrite, "differs in size, time: a", id="another content"),
        pytest.param("a", _set_time, "differs in time: a", id="another time"),
        pytest.param("a", lambda path: path.chmod(0o600), "differs in mode: a", id="another mode"),
        pytest.param("s", _point_elsewhere, "differs in content: s -> a", id="another target"),
        pytest.param("a", _replace, "missing at the destination: a", id="another kind"),
        pytest.param("only", Path.touch, "only at the destination: only", id="a file too many"),
        pytest.param("more", Path.mkdir, "only at the destination: more/",
                     id="a directory too many"),
        pytest.param("a", lambda path: os.chown(path, 1, 1), "differs in owner, group: a",
                     id="another owner", marks=only_root),
        pytest.param("", lambda path: path.chmod(0o711), "differs in mode: ./", id="the root"),
    ],
)  # fmt: skip
def test_each_difference_has_its_line(
    copies: Copies, name: str, spoil: Callable[[Path], object], line: str
) -> None:
    spoil(copies.second / name)
    before = copies.snapshots()
    status, lines = copies.check()
    assert status == 1
    assert f"[second] {line}" in lines
    # Other lines are at most its contents, and the time of its directory.
    expected = {f"[second] {line}", "[second] missing at the destination: d/deep/c"}
    assert all(other.startswith("[second] differs in time: ") for other in {*lines} - expected)
    assert copies.snapshots() == before


def test_a_checksum_finds_content_with_the_same_size_and_time(copies: Copies) -> None:
    path = copies.first / "d/b"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_text("d/B")
    os.utime(path, ns=times)
    assert copies.check() == (0, [])
    before = copies.snapshots()
    assert copies.check("--checksum") == (1, ["[first] differs in content: d/b"])
    assert copies.snapshots() == before


def test_excluded_paths_are_not_compared(copies: Copies) -> None:
    (copies.first / "theirs.tmp").touch()
    times = (1, copies.source.stat().st_mtime_ns)
    os.utime(copies.first, ns=times)
    assert copies.check("-x", "*.tmp") == (0, [])


def test_extra_files_are_no_difference_without_deletion(copies: Copies) -> None:
    (copies.first / "theirs").touch()
    os.utime(copies.first, ns=(1, copies.source.stat().st_mtime_ns))
    assert copies.check("--no-delete") == (0, [])


def test_an_unreachable_destination_has_an_error_line_and_the_others_are_compared(
    copies: Copies,
) -> None:
    (copies.first / "only").touch()
    nobody = f"rsync://{LOOPBACK}:{free_port()}/module/"
    status, lines = copies.check(to=(nobody, f"{copies.first}/"))
    assert status == 1
    assert "[first] only at the destination: only" in lines
    assert any(f"[{LOOPBACK}] comparison incomplete: no rsync daemon" in line for line in lines)


def test_a_missing_destination_is_not_created(copies: Copies) -> None:
    shutil.rmtree(copies.first)
    status, lines = copies.check(to=(f"{copies.first}/",))
    assert status == 1
    assert lines
    assert not copies.first.exists()


def test_unusual_names_are_printed_in_any_character_set(copies: Copies) -> None:
    for name in ("\u00e9", "new\nline", os.fsdecode(b"\xff")):
        (copies.first / name).touch()
    status, lines = copies.check(LC_ALL="C.UTF-8", PYTHONIOENCODING="ascii")
    assert status == 1
    assert len([line for line in lines if "only at the destination" in line]) == 3


def test_a_check_needs_no_state_and_runs_beside_a_daemon(copies: Copies, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert copies.check("--state-dir", str(state)) == (0, [])
    assert not state.exists()


def test_checksum_is_refused_without_check(copies: Copies) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--checksum", f"{copies.source}/./", "elsewhere/"],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "--rsync-option=--checksum" in run.stderr


# The bytes in a pipe of 64 KiB after which an atomic write does not fit any more.
FULL = 60_000
MARK = "PYLSYNCD_CHECK_UNDER_TEST"
ITEM = ">f+++++++++ x"
READ_TOO_LITTLE = "says more than is read"
# Replaces rsync: prints a line and starts a child; neither ends by itself.
STAND_INS = {
    "obeys": f"echo '{ITEM}'; sleep 600 & wait",
    "does not obey": f"trap '' TERM INT HUP; echo '{ITEM}'; while :; do sleep 600; done",
    READ_TOO_LITTLE: f"echo '{ITEM}'; seq -f '{ITEM}%.0f' 100000000; sleep 600",
}


def stand_in(directory: Path, text: str) -> str:
    """Return a program that replaces rsync."""
    program = directory / "rsync"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec rsync --version\n{text}\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def mark() -> Iterator[str]:
    """Return a variable for the environment of a check; kill what is left with it."""
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    yield value
    processes.kill_processes_with_environment(f"{MARK}={value}")


def marked(mark: str) -> set[int]:
    """Return the running processes that were started with the variable."""
    expected, found = f"{MARK}={mark}".encode(), set()
    for process in processes.list_processes():
        try:
            words = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if expected in words and not process.is_zombie:
            found.add(process.pid)
    return found


def held_by(pipe: IO[str]) -> int:
    """Return the number of unread bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("how", STAND_INS)
def test_a_stopped_check_leaves_no_rsync_running(
    copies: Copies, tmp_path: Path, mark: str, number: signal.Signals, how: str
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    program = stand_in(tmp_path, f"touch {begun}/$$\n{STAND_INS[how]}")
    with processes.running_process(
        copies.command("--rsync", program),
        env=environment({MARK: mark, "PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_until(lambda: len(os.listdir(begun)) == 2)
        assert process.stdout.readline().endswith(f"missing at the destination: {ITEM[-1]}\n")
        if how == READ_TOO_LITTLE:
            wait_until(lambda: held_by(process.stdout) > FULL)
        process.send_signal(number)
        # The pipe is not read before that.
        assert process.wait(45) == 1
        assert process.stderr.read() == STOPPED.format(number.name)
    wait_until(lambda: not marked(mark))


STOPPED = "pylsyncd: stopped by {} before the comparison was complete.\n"

# A signal right after a lock was acquired, where an exception would leave it locked.
INTERRUPTED = """
import os, queue, signal, sys, threading

def trace(frame, event, argument):
    called = [frame.f_code, frame.f_back and frame.f_back.f_code]
    wanted = [threading.Condition.__enter__.__code__, queue.Queue.get.__code__]
    return locked if called == wanted else None

def locked(frame, event, argument):
    if event == "return":
        sys.settrace(None)
        os.kill(os.getpid(), signal.SIGINT)
    return locked

from pylsyncd import cli
sys.settrace(trace)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_check_that_is_stopped_between_two_steps_ends_too(
    copies: Copies, tmp_path: Path, mark: str
) -> None:
    words = copies.command("--rsync", stand_in(tmp_path, STAND_INS["obeys"]))[3:]
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *words], env=environment({MARK: mark}),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (1, STOPPED.format("SIGINT"))
    wait_until(lambda: not marked(mark))


def test_messages_of_a_remote_rsync_are_escaped(copies: Copies, tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    text = "ssh: connect to host \\033[2Jdenied\\r\\302\\233x port 22: Connection refused\\n"
    shell.write_text(f"#!/bin/sh\nprintf '{text}' >&2; exit 255\n")
    shell.chmod(0o755)
    status, lines = copies.check("-e", str(shell), to=(f"host:{copies.first}/",))
    assert status == 1
    assert [line for line in lines if r" \x1b[2Jdenied\r\x9bx " in line] == lines
