"""Running programs: in time, whatever they do, and nothing of them is left behind."""

import errno
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until

from pylsyncd.system import processes
from pylsyncd.system.processes import ExitResult, TimeLimitedCommand

LONG = 60.0


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


def run(text: str, content: bytes = b"", seconds: float = LONG) -> tuple[ExitResult | None, bytes]:
    said: list[bytes] = []
    command = [b"sh", b"-c", text.encode()]
    ended = TimeLimitedCommand().run(command, content, os.environb, said.append, seconds)
    return ended, b"".join(said)


@pytest.mark.parametrize(
    ("text", "code"), [("true", 0), ("exit 3", 3), ("kill -KILL $$", -signal.SIGKILL)]
)
def test_how_a_program_ended_is_told(text: str, code: int) -> None:
    assert run(text)[0] == ExitResult(code, has_timed_out=False)


def test_what_it_says_is_heard_in_its_order_errors_and_all() -> None:
    assert run("echo 1; echo 2 >&2; printf 3")[1] == b"1\n2\n3"


def test_its_standard_input_is_complete_whatever_its_size() -> None:
    assert run("wc -c", b"x" * 10_000_000)[1].strip() == b"10000000"


def test_it_need_not_read_its_standard_input() -> None:
    assert run("exec <&-; exit 0", b"x" * 10_000_000)[0] == ExitResult(0, has_timed_out=False)


def test_it_has_the_environment_that_it_was_given_and_no_descriptor_of_ours(
    tmp_path: Path,
) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)  # noqa: FBT003  # takes no keyword
    said: list[bytes] = []
    try:
        environment = {b"PATH": os.environb[b"PATH"], b"A": b"\xff"}
        command = [b"sh", b"-c", b'printf %s "$A"; exec ls /proc/self/fd']
        TimeLimitedCommand().run(command, b"", environment, said.append, LONG)
    finally:
        os.close(descriptor)
    # The last one is the directory that ls reads.
    assert b"".join(said) == b"\xff0\n1\n2\n3\n"


def test_it_has_a_session_of_its_own() -> None:
    pid, session = run("cut -d' ' -f1,6 /proc/$$/stat")[1].split()
    assert pid == session


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(pids: Path) -> None:
    started = time.monotonic()
    ended, said = run(f"sleep 600 & echo $! >{pids}; echo begun; wait", seconds=1.0)
    assert ended == ExitResult(-signal.SIGTERM, has_timed_out=True)
    assert said == b"begun\n"
    assert 1.0 <= time.monotonic() - started < 20
    wait_until(lambda: not is_alive(pids.read_text().strip()))


def test_one_that_does_not_obey_is_killed(pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT", 0.5)
    text = f"trap '' TERM; sleep 600 & echo $! >{pids}; while :; do wait; done"
    assert run(text, seconds=1.0)[0] == ExitResult(-signal.SIGKILL, has_timed_out=True)
    wait_until(lambda: not is_alive(pids.read_text().strip()))


def test_one_that_cleans_up_when_it_is_asked_to_end_has_the_time_to() -> None:
    ended, said = run("trap 'sleep 0.5; echo cleaned; exit 4' TERM; sleep 600 & wait", seconds=0.5)
    assert ended == ExitResult(4, has_timed_out=True)
    assert said == b"cleaned\n"


def test_a_flood_neither_keeps_it_from_being_ended_nor_fills_the_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    heard = 0

    def count(chunk: bytes) -> None:
        nonlocal heard
        heard += len(chunk)

    ended = TimeLimitedCommand().run([b"yes"], b"", os.environb, count, 1.0)
    assert ended == ExitResult(-signal.SIGTERM, has_timed_out=True)
    assert heard > 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_it_ends_with_its_process_whoever_holds_its_output_open(pids: Path) -> None:
    started = time.monotonic()
    ended, said = run(f"setsid sleep 600 & echo $! >{pids}; seq 300; exit 5")
    assert ended == ExitResult(5, has_timed_out=False)
    assert len(said.split()) == 300
    assert time.monotonic() - started < 20


def test_it_ends_likewise_where_the_kernel_does_not_tell(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", fail)
    ended, said = run(f"setsid sleep 600 & echo $! >{pids}; seq 300; exit 5")
    assert ended == ExitResult(5, has_timed_out=False)
    assert len(said.split()) == 300


def test_what_it_leaves_in_its_group_is_killed(pids: Path) -> None:
    ended, _ = run(f"trap '' TERM; sleep 600 & echo $! >{pids}; exit 0")
    assert ended == ExitResult(0, has_timed_out=False)
    wait_until(lambda: not is_alive(pids.read_text().strip()))


def test_one_that_closes_its_output_is_waited_for() -> None:
    started = time.monotonic()
    assert run("exec >&- 2>&-; sleep 0.5; exit 7")[0] == ExitResult(7, has_timed_out=False)
    assert time.monotonic() - started >= 0.5


def test_another_thread_ends_it_and_whatever_would_be_run_later(pids: Path) -> None:
    limited = TimeLimitedCommand()
    found: list[ExitResult | None] = []
    command = [b"sh", b"-c", b"trap '' TERM; echo $$ >%b; while :; do sleep 1; done" % bytes(pids)]

    def work() -> None:
        found.append(limited.run(command, b"", os.environb, lambda _: None, LONG))
        found.append(limited.run([b"true"], b"", os.environb, lambda _: None, LONG))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    started = time.monotonic()
    limited.request_stop(0.5)
    thread.join(20)
    assert found == [None, None]
    assert 0.5 <= time.monotonic() - started < 10
    assert not is_alive(pids.read_text().strip())


def test_what_cannot_be_run_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TimeLimitedCommand().run([b"./no-such-program"], b"", os.environb, lambda _: None, LONG)
    (tmp_path / "no-program").touch(0o644)
    with pytest.raises(PermissionError):
        TimeLimitedCommand().run(
            [bytes(tmp_path / "no-program")], b"", os.environb, lambda _: None, LONG
        )


def test_an_answer_is_what_a_program_says_in_time() -> None:
    assert processes.capture_output(["sh", "-c", "cat; echo yes; exit 3"], os.environ) == b"yes\n"
    with pytest.raises(TimeoutError, match="it takes longer than 1 s"):
        processes.capture_output(["sleep", "600"], os.environ, 1.0)
