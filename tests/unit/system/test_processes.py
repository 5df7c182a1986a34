"""Programs run within their time limits, and nothing of them is left behind."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.system import processes
from pylsyncd.system.processes import ExitResult, TimeLimitedCommand

LONG = 60.0
# The time limits of a program that must have begun by then: on a busy machine that takes longer.
TIME_LIMITS = (1.0, 5.0, 45.0)


def is_alive(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Return a file into which a command writes the processes that it leaves behind."""
    file = tmp_path / "pids"
    yield file
    for pid in file.read_text().split() if file.exists() else ():
        if is_alive(pid):
            os.kill(int(pid), signal.SIGKILL)


def run(
    text: str, standard_input: bytes = b"", timeout: float = LONG
) -> tuple[ExitResult | None, bytes]:
    chunks: list[bytes] = []
    command = [b"sh", b"-c", text.encode()]
    result = TimeLimitedCommand().run(command, standard_input, os.environb, chunks.append, timeout)
    return result, b"".join(chunks)


@pytest.mark.parametrize(
    ("text", "returncode"), [("true", 0), ("exit 3", 3), ("kill -KILL $$", -signal.SIGKILL)]
)
def test_the_result_is_the_exit_status_or_the_signal(text: str, returncode: int) -> None:
    assert run(text)[0] == ExitResult(returncode, has_timed_out=False)


def test_output_and_errors_are_read_in_their_order() -> None:
    assert run("echo 1; echo 2 >&2; printf 3")[1] == b"1\n2\n3"


def test_standard_input_of_any_size_is_complete() -> None:
    assert run("wc -c", b"x" * 10_000_000)[1].strip() == b"10000000"


def test_a_program_need_not_read_its_standard_input() -> None:
    assert run("exec <&-; exit 0", b"x" * 10_000_000)[0] == ExitResult(0, has_timed_out=False)


def test_a_program_gets_the_given_environment_and_no_descriptor_of_ours(
    tmp_path: Path,
) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)  # noqa: FBT003  # takes no keyword
    output: list[bytes] = []
    try:
        environment = {b"PATH": os.environb[b"PATH"], b"A": b"\xff"}
        command = [b"sh", b"-c", b'printf %s "$A"; exec ls /proc/self/fd']
        TimeLimitedCommand().run(command, b"", environment, output.append, LONG)
    finally:
        os.close(descriptor)
    # The last one is the directory that ls reads.
    assert b"".join(output) == b"\xff0\n1\n2\n3\n"


def test_a_program_has_a_session_of_its_own() -> None:
    pid, session = run("cut -d' ' -f1,6 /proc/$$/stat")[1].split()
    assert pid == session


def test_a_program_that_times_out_is_stopped_with_all_that_it_has_started(pids: Path) -> None:
    for timeout in TIME_LIMITS:
        started = time.monotonic()
        result, output = run(f"sleep 600 & echo $! >{pids}; echo begun; wait", timeout=timeout)
        assert result == ExitResult(-signal.SIGTERM, has_timed_out=True)
        assert timeout <= time.monotonic() - started < timeout + 45
        if output == b"begun\n":
            break
    else:
        pytest.fail("the program did not begin")
    wait_until(lambda: not is_alive(pids.read_text().strip()))


def test_a_program_that_ignores_sigterm_is_killed(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT", 0.5)
    text = f"trap '' TERM; sleep 600 & echo $! >{pids}; while :; do wait; done"
    results = (run(text, timeout=timeout)[0] for timeout in TIME_LIMITS)
    assert ExitResult(-signal.SIGKILL, has_timed_out=True) in results
    wait_until(lambda: not is_alive(pids.read_text().strip()))


def test_a_program_has_time_to_clean_up_after_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT", LONG)
    text = "trap 'sleep 0.5; echo cleaned; exit 4' TERM; sleep 600 & wait"
    results = (run(text, timeout=timeout) for timeout in TIME_LIMITS)
    assert (ExitResult(4, has_timed_out=True), b"cleaned\n") in results


def test_a_flood_of_output_neither_prevents_the_timeout_nor_fills_the_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    length = 0

    def count(chunk: bytes) -> None:
        nonlocal length
        length += len(chunk)

    for timeout in TIME_LIMITS:
        result = TimeLimitedCommand().run([b"yes"], b"", os.environb, count, timeout)
        assert result == ExitResult(-signal.SIGTERM, has_timed_out=True)
        if length > 1_000_000:
            break
    assert length > 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_many_short_outputs_are_read_together() -> None:
    """To wake up for each costs more than the output."""
    code = "for number in range(3000): print(number, flush=True)"
    chunks: list[bytes] = []
    started = time.monotonic()
    result = TimeLimitedCommand().run(
        [sys.executable, "-c", code], b"", dict(os.environ), chunks.append, LONG
    )
    elapsed = time.monotonic() - started
    assert result == ExitResult(0, has_timed_out=False)
    assert b"".join(chunks).split() == [b"%d" % number for number in range(3000)]
    # The pipe of a user who has many of them is smaller, and is read more often.
    assert len(chunks) <= 2 + elapsed / 0.012


def test_a_run_ends_with_its_process_even_if_another_one_holds_its_output_open(pids: Path) -> None:
    started = time.monotonic()
    result, output = run(f"setsid sleep 600 & echo $! >{pids}; seq 300; exit 5")
    assert result == ExitResult(5, has_timed_out=False)
    assert len(output.split()) == 300
    assert time.monotonic() - started < 45


def test_a_run_ends_with_its_process_where_the_kernel_has_no_pidfd(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", fail)
    result, output = run(f"setsid sleep 600 & echo $! >{pids}; seq 300; exit 5")
    assert result == ExitResult(5, has_timed_out=False)
    assert len(output.split()) == 300


def test_what_a_program_leaves_in_its_group_is_killed(pids: Path) -> None:
    result, _ = run(f"trap '' TERM; sleep 600 & echo $! >{pids}; exit 0")
    assert result == ExitResult(0, has_timed_out=False)
    wait_until(lambda: not is_alive(pids.read_text().strip()))


def test_a_program_that_closes_its_output_is_waited_for() -> None:
    started = time.monotonic()
    assert run("exec >&- 2>&-; sleep 0.5; exit 7")[0] == ExitResult(7, has_timed_out=False)
    assert time.monotonic() - started >= 0.5


def test_another_thread_stops_the_program_and_all_that_would_run_later(pids: Path) -> None:
    command_runner = TimeLimitedCommand()
    found: list[ExitResult | None] = []
    command = [b"sh", b"-c", b"trap '' TERM; echo $$ >%b; while :; do sleep 1; done" % bytes(pids)]

    def work() -> None:
        found.append(command_runner.run(command, b"", os.environb, lambda _: None, LONG))
        found.append(command_runner.run([b"true"], b"", os.environb, lambda _: None, LONG))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    started = time.monotonic()
    command_runner.request_stop(0.5)
    thread.join(45)
    assert found == [None, None]
    assert 0.5 <= time.monotonic() - started < 45
    assert not is_alive(pids.read_text().strip())


def test_a_program_that_cannot_be_run_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TimeLimitedCommand().run([b"./no-such-program"], b"", os.environb, lambda _: None, LONG)
    (tmp_path / "no-program").touch(0o644)
    with pytest.raises(PermissionError):
        TimeLimitedCommand().run(
            [bytes(tmp_path / "no-program")], b"", os.environb, lambda _: None, LONG
        )


def test_output_is_captured_within_the_timeout() -> None:
    assert processes.capture_output(["sh", "-c", "cat; echo yes; exit 3"], os.environ) == b"yes\n"
    with pytest.raises(TimeoutError, match="it takes longer than 1 s"):
        processes.capture_output(["sleep", "600"], os.environ, 1.0)


# Stopping


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], "Started"]]:
    """Return a function that starts a shell, and returns when the shell has printed a line."""
    started: list[Started] = []

    def start_shell(text: str) -> "Started":
        command = ["sh", "-c", text]
        directory = os.open(tmp_path, os.O_RDONLY)
        process = processes.start_process(command, b"", os.environ, directory)
        os.close(directory)
        started.append(Started(process))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return started[-1]

    yield start_shell
    for each in started:
        processes.send_signal_to_group(each.process, signal.SIGKILL)
        each.process.communicate()


class Started:
    """A process, and the signals that were sent to it."""

    def __init__(self, process: processes.Process) -> None:
        self.process = process
        self.signals: list[signal.Signals] = []

    def send_signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        processes.send_signal_to_group(self.process, number)

    def wait(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


class Clock:
    """What the module under test takes for the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(processes, "time", clock)
    return clock


OBEDIENT = "echo ready; exec sleep 600"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"


def test_a_process_that_obeys_sigterm_gets_no_other_signal(
    start: Callable[[str], Started],
) -> None:
    started = start(OBEDIENT)
    assert processes.terminate(started.send_signal, started.wait, kill_after=LONG, interval=45.0)
    assert started.signals == [signal.SIGTERM]
    assert started.process.returncode == -signal.SIGTERM


def test_a_process_that_ignores_sigterm_gets_it_again_and_then_sigkill(
    start: Callable[[str], Started], clock: Clock
) -> None:
    started = start(STUBBORN)

    def wait(seconds: float) -> bool:
        clock.now += seconds
        return started.wait(LONG if started.signals[-1] is signal.SIGKILL else 0.0)

    assert processes.terminate(started.send_signal, wait, kill_after=0.5, interval=0.2)
    assert started.signals[:2] == [signal.SIGTERM] * 2
    assert started.signals[-1] is signal.SIGKILL
    assert started.process.returncode == -signal.SIGKILL


def test_a_process_that_does_not_end_is_given_up(clock: Clock) -> None:
    signals: list[signal.Signals] = []

    def wait(seconds: float) -> bool:
        clock.now += seconds
        return False

    assert not processes.terminate(
        signals.append, wait, kill_after=100.0, give_up_after=200.0, interval=10.0
    )
    assert clock.now == 200.0
    assert signals == [signal.SIGTERM] * 10 + [signal.SIGKILL] * 10


def test_a_graceful_stop_sends_sigkill_only_after_its_timeout(
    start: Callable[[str], Started], clock: Clock
) -> None:
    started = start(STUBBORN)
    stop = processes.GracefulStop(started.send_signal)
    assert not stop.is_requested
    assert stop.kill_if_due() == float("inf")
    stop.request(2.0)
    assert stop.is_requested
    assert 0.0 < stop.kill_if_due() <= 2.0
    assert started.signals == [signal.SIGTERM]
    clock.now += 2.0
    assert stop.kill_if_due() > 0.0
    assert started.signals == [signal.SIGTERM, signal.SIGKILL]
    assert started.wait(45)


def test_a_group_is_waited_for_without_its_leader(
    tmp_path: Path, start: Callable[[str], Started]
) -> None:
    text = "until [ -e go ]; do sleep 0.02; done & echo ready; exec sleep 600"
    started, go = start(text), tmp_path / "go"
    may_end = threading.Timer(0.3, go.touch)
    may_end.start()
    processes.wait_for_group(started.process.pid, 90.0)
    assert go.exists()
    may_end.join()


def test_an_exit_is_known_before_the_process_is_waited_for(
    start: Callable[[str], Started],
) -> None:
    for text, has_succeeded in (("echo ready", True), ("echo ready; exit 1", False)):
        pid = start(text).process.pid
        wait_until(lambda: processes.has_exited(pid))  # noqa: B023  # it is awaited here
        assert processes.has_succeeded(pid) is has_succeeded
    pid = start(OBEDIENT).process.pid
    assert not processes.has_exited(pid)
    assert not processes.has_succeeded(pid)


def test_a_program_runs_in_the_given_directory_and_its_errors_are_apart(
    tmp_path: Path, start: Callable[[str], Started]
) -> None:
    process = start("echo ready; pwd; echo error >&2").process
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read() == os.fsencode(tmp_path) + b"\n"
    assert process.stderr.read() == b"error\n"


def test_a_directory_that_cannot_be_entered_is_named_by_its_descriptor(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError) as caught:
            processes.start_process(["true"], b"", os.environ, descriptor)
    finally:
        os.close(descriptor)
    assert caught.value.filename == processes.descriptor_path(descriptor)
