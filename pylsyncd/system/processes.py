"""Runs programs, never through a shell: the only module that creates processes.

Each child has a session of its own, so that Ctrl-C in the terminal reaches the daemon only, and
that a signal to its process group reaches what it has started. It inherits only its three standard
streams.
"""

import contextlib
import fcntl
import math
import os
import select
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

Process: TypeAlias = "subprocess.Popen[bytes]"

Environment: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes]

STOP_TIMEOUT = 5.0
"""Seconds from SIGTERM to SIGKILL."""

# What an unprivileged process may have a pipe hold: pipe-max-size of proc(5).
_READ_SIZE = 1 << 20

# Seconds between two looks at the output of a program, and how fast that may fill a pipe: rsync
# prints 70 bytes for each of 40,000 files in a second.
_MAX_PAUSE = 0.2
_MAX_BYTES_PER_SECOND = 5e6
# More than a pipe holds.
_MAX_READS_AFTER_EXIT = 32

# Seconds between two checks: of the time, of a process where the kernel has no pidfd_open(2), and
# of a process group.
_CHECK_INTERVAL = 1.0
_EXIT_POLL_INTERVAL = 0.02
_GROUP_POLL_INTERVAL = 0.01


def start_process(
    command: Sequence[str] | Sequence[bytes],
    standard_input: bytes,
    environment: Environment,
    directory: int | None = None,
    *,
    merge_stderr: bool = False,
) -> Process:
    """Start a program with the given standard input, and pipes for its output and errors.

    ``directory`` is the open working directory of the program. With ``merge_stderr`` both outputs
    go to one pipe. Raises OSError; if the directory cannot be entered, its file name is that of
    :func:`descriptor_path`.
    """
    # A file in memory instead of a pipe, which would have to be fed while the output is read.
    memory = os.memfd_create("pylsyncd-list", os.MFD_CLOEXEC)
    with open(memory, "wb", buffering=0) as file:
        rest = memoryview(standard_input)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
        return subprocess.Popen(
            command,
            stdin=file, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE,
            env=environment,
            # The child enters it before it closes the inherited descriptors.
            cwd=None if directory is None else descriptor_path(directory),
            start_new_session=True,
        )  # fmt: skip


def descriptor_path(descriptor: int) -> str:
    """Return the path in /proc by which this process can open a descriptor of its own."""
    return f"/proc/self/fd/{descriptor}"


class EndedProcess(NamedTuple):
    """A program that has ended, and what it has written."""

    status: int
    output: bytes
    errors: bytes


def run_briefly(
    command: Sequence[str] | Sequence[bytes], environment: Environment, timeout: float | None = None
) -> EndedProcess:
    """Run a program that needs no input to its end.

    Raises OSError when it cannot be run; TimeoutError when it takes longer than ``timeout``
    seconds.
    """
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment,
            timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it takes longer than {timeout:.0f} s") from None
    return EndedProcess(ended.returncode, ended.stdout, ended.stderr)


def capture_output(
    command: Sequence[str] | Sequence[bytes], environment: Environment, timeout: float | None = None
) -> bytes:
    """Return the standard output of a program, whatever its exit status is.

    Raises OSError as :func:`run_briefly` does.
    """
    return run_briefly(command, environment, timeout).output


# Stopping


def send_signal_to_group(process: Process, number: signal.Signals) -> None:
    """Send a signal to a child that was not waited for yet, and to all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def terminate(
    send_signal: Callable[[signal.Signals], object],
    wait: Callable[[float], bool],
    *,
    kill_after: float,
    interval: float,
    give_up_after: float = math.inf,
) -> bool:
    """Stop processes: send SIGTERM, and SIGKILL once ``kill_after`` seconds have passed.

    ``wait(seconds)`` returns True as soon as they have ended. The signal is sent again after each
    ``interval``, since a process may be about to start. Returns False after ``give_up_after``
    seconds: a process that waits for a file system that does not respond cannot be killed.
    """
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < give_up_after:
        send_signal(signal.SIGTERM if elapsed < kill_after else signal.SIGKILL)
        if wait(interval):
            return True
    return False


class GracefulStop:
    """The stop of one child, for a loop that does other work meanwhile; see :func:`terminate`."""

    def __init__(self, send_signal: Callable[[signal.Signals], object]) -> None:
        self._send_signal = send_signal
        self._kill_at: float | None = None

    @property
    def is_requested(self) -> bool:
        """Whether the child was asked to stop."""
        return self._kill_at is not None

    def request(self, timeout: float = STOP_TIMEOUT) -> None:
        """Send SIGTERM; ``timeout`` seconds later SIGKILL is due."""
        self._kill_at = time.monotonic() + timeout
        self._send_signal(signal.SIGTERM)

    def kill_if_due(self) -> float:
        """Send SIGKILL if it is due; return the seconds until the next call has to be made."""
        now = time.monotonic()
        if self._kill_at is None:
            return math.inf
        if now >= self._kill_at:
            self._send_signal(signal.SIGKILL)
            # Sent again, since a file system that does not respond can delay its effect.
            self._kill_at = now + _CHECK_INTERVAL
        return self._kill_at - now


# Waiting


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """Open a descriptor that becomes readable when a child exits; None before Linux 5.3."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_exited(pid: int) -> bool:
    """Return True if a child has exited; its pid stays reserved until it is waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def has_succeeded(pid: int) -> bool:
    """Return True if a child that was not waited for yet has exited with status 0."""
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return result is not None and (result.si_code, result.si_status) == (os.CLD_EXITED, 0)


def wait_for_group(pid: int, timeout: float) -> None:
    """Wait up to ``timeout`` seconds until all other processes in a child's group have ended."""
    deadline = time.monotonic() + timeout
    while _has_group_members(pid) and time.monotonic() < deadline:
        time.sleep(_GROUP_POLL_INTERVAL)


def _has_group_members(pid: int) -> bool:
    """Return True if a process other than its leader runs in the process group ``pid``."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # After the name, which may contain anything: state, parent, group (proc_pid_stat(5)).
            state, _, group, *_ = file.read().rpartition(b")")[2].split()
            if int(group) == pid and int(name) != pid and state not in b"ZX":
                return True
    return False


def read_until_exit(
    process: Process, readers: Mapping[int, Callable[[bytes], None]], check: Callable[[], float]
) -> None:
    """Read the outputs of a child until it exits, even if another process holds them open.

    ``readers`` maps each output to a function that gets each chunk read from it. ``check()`` is
    called before each wait, and returns the most seconds that the wait may take.

    To wake up for each line costs more than the line: so after each look at the outputs there is a
    pause, in which they cannot fill up.
    """
    with selectors.DefaultSelector() as selector, _pidfd(process.pid) as descriptor:
        pause = _MAX_PAUSE
        for output in readers:
            os.set_blocking(output, False)
            selector.register(output, selectors.EVENT_READ)
            pause = min(pause, _enlarge_pipe(output) / _MAX_BYTES_PER_SECOND)
        exit_event = select.poll()
        if descriptor is not None:
            selector.register(descriptor, selectors.EVENT_READ)
            exit_event.register(descriptor, select.POLLIN)
        max_wait = _EXIT_POLL_INTERVAL if descriptor is None else _CHECK_INTERVAL
        # The child is not reaped here: its pid, which is that of its group, must stay reserved.
        while not has_exited(process.pid):
            for key, _ in selector.select(min(max_wait, check())):
                if key.fd in readers and not _read(key.fd, readers[key.fd]):
                    selector.unregister(key.fd)
            exit_event.poll(1000.0 * pause)
    for output, reader in readers.items():
        _read_rest(output, reader)


def _enlarge_pipe(descriptor: int) -> int:
    """Have a pipe hold as much as is permitted; return how many bytes that is."""
    with contextlib.suppress(OSError):
        return fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _READ_SIZE)
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


def _read_rest(descriptor: int, reader: Callable[[bytes], None]) -> None:
    """Read what is left in a pipe, to which another process may write for ever."""
    for _ in range(_MAX_READS_AFTER_EXIT):
        if not _read(descriptor, reader):
            break


def _read(descriptor: int, reader: Callable[[bytes], None]) -> bool:
    """Read once; return True if there may be more."""
    try:
        chunk = os.read(descriptor, _READ_SIZE)
    except BlockingIOError:
        return False
    if chunk:
        reader(chunk)
    return bool(chunk)


class ExitResult(NamedTuple):
    """How a program ended."""

    returncode: int
    """Its exit status; negative for the signal that ended it."""
    has_timed_out: bool


class TimeLimitedCommand:
    """A runner of one program at a time, each with a time limit; another thread may stop it."""

    def __init__(self) -> None:
        self._stop: GracefulStop | None = None
        self._process: Process | None = None
        self._is_stop_requested = False
        # Held to send a signal or to reap the process, whose pid may be used again afterwards.
        self._lock = threading.Lock()

    def run(
        self,
        command: Sequence[str] | Sequence[bytes],
        standard_input: bytes,
        environment: Environment,
        reader: Callable[[bytes], None],
        timeout: float,
    ) -> ExitResult | None:
        """Run a program, with each chunk of its output and errors passed to ``reader``.

        After ``timeout`` seconds it is stopped. When it exits, the rest of its process group is
        killed. Returns None after :meth:`request_stop`. Raises OSError when it cannot be started.
        """
        with self._lock:
            if self._is_stop_requested:
                return None
            process = start_process(command, standard_input, environment, merge_stderr=True)
            self._process = process
            stop = self._stop = GracefulStop(partial(send_signal_to_group, process))
        assert process.stdout is not None  # noqa: S101  # start_process has made the pipe
        check = partial(self._check, stop, time.monotonic() + timeout)
        with process:
            try:
                read_until_exit(process, {process.stdout.fileno(): reader}, check)
            finally:
                with self._lock:
                    send_signal_to_group(process, signal.SIGKILL)
                    returncode = process.wait()
                    self._stop = self._process = None
        return None if self._is_stop_requested else ExitResult(returncode, stop.is_requested)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program that runs, and to all that it has started."""
        with self._lock:
            if self._process is not None:
                send_signal_to_group(self._process, number)

    def request_stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop the program that runs, by SIGKILL after ``timeout`` seconds, and run no other."""
        with self._lock:
            self._is_stop_requested = True
            if self._stop is not None:
                self._stop.request(timeout)

    def _check(self, stop: GracefulStop, deadline: float) -> float:
        """Stop a program whose time is up; return the seconds until the next check."""
        with self._lock:
            remaining = deadline - time.monotonic()
            if remaining <= 0.0 and not stop.is_requested:
                stop.request(STOP_TIMEOUT)
            return stop.kill_if_due() if stop.is_requested else remaining
