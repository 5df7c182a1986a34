"""Runs other programs, never through a shell: the only module that creates processes.

Each has a session of its own, so that the terminal's Ctrl-C is for the daemon to handle and that
whatever it has started can be signalled with it, and inherits no descriptor but its three.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

Process: TypeAlias = "subprocess.Popen[bytes]"

Environment: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes]

# Seconds between two looks at whether a group has ended.
_BEAT = 0.01

STOP_TIMEOUT = 5.0
"""Seconds from asking a program to end to killing it."""

_CHUNK = 65536
# More than a pipe holds.
_READS_AT_END = 32

# Seconds between two looks: at the time, and at the process where the kernel does not tell when
# it ends.
_INTERVAL = 1.0
_POLLING = 0.02


def start_process(
    command: Sequence[str] | Sequence[bytes],
    content: bytes,
    environment: Environment,
    directory: int | None = None,
    *,
    is_merged: bool = False,
) -> Process:
    """Start a program with ``content`` as its standard input, and pipes for what it says.

    ``directory`` is an open descriptor: the program runs there, whatever its name stands for now.
    With ``is_merged`` its errors go where its output goes. Raises OSError; when the directory
    cannot be entered, of the file name that :func:`entrance` returns.
    """
    # Memory instead of a pipe: nobody has to feed it while the output is read.
    memory = os.memfd_create("pylsyncd-list", os.MFD_CLOEXEC)
    with open(memory, "wb", buffering=0) as file:
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        file.seek(0)
        return subprocess.Popen(
            command,
            stdin=file, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if is_merged else subprocess.PIPE,
            env=environment,
            # The child enters it before it closes what it has inherited.
            cwd=None if directory is None else descriptor_path(directory),
            start_new_session=True,
        )  # fmt: skip


def descriptor_path(directory: int) -> str:
    """Return the name under which a process that is being started enters an open directory."""
    return f"/proc/self/fd/{directory}"


def send_signal_to_group(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process that nobody has waited for yet, and to all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def capture_output(
    command: Sequence[str] | Sequence[bytes], environment: Environment, seconds: float | None = None
) -> bytes:
    """Return what a program says on its standard output, whatever its exit status is.

    Raises OSError when it cannot be run, of TimeoutError when it takes longer than ``seconds``.
    """
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment,
            timeout=seconds, check=False,
        ).stdout  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it takes longer than {seconds:.0f} s") from None


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int | None]:
    """Give a descriptor that becomes readable when a child ends; None before Linux 5.3."""
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
    """Tell whether a child has ended; its number stays its own until somebody waits for it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def has_succeeded(pid: int) -> bool:
    """Tell whether a child has ended with exit status 0; nobody has waited for it yet."""
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return result is not None and (result.si_code, result.si_status) == (os.CLD_EXITED, 0)


def wait_for_group(pid: int, seconds: float) -> None:
    """Wait until what a child has started has ended, too; its group has its number."""
    deadline = time.monotonic() + seconds
    while _has_company(pid) and time.monotonic() < deadline:
        time.sleep(_BEAT)


def _has_company(pid: int) -> bool:
    """Tell whether another process of the group of this one runs."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # Behind the name, which may hold anything: the state, the parent, the group.
            state, _, group, *_ = file.read().rpartition(b")")[2].split()
            if int(group) == pid and int(name) != pid and state not in b"ZX":
                return True
    return False


def read_until_exit(
    process: Process, hear: Mapping[int, Callable[[bytes], None]], mind: Callable[[], float]
) -> None:
    """Return when a process has ended, whoever else still holds its outputs open.

    ``hear`` has for each of these who is called with what comes there, in pieces. ``mind()`` is
    called before each wait, and returns the most seconds that it may take.
    """
    with selectors.DefaultSelector() as selector, pidfd(process.pid) as descriptor:
        for output in hear:
            os.set_blocking(output, False)
            selector.register(output, selectors.EVENT_READ)
        if descriptor is not None:
            selector.register(descriptor, selectors.EVENT_READ)
        longest = _POLLING if descriptor is None else _INTERVAL
        # It is not buried here: its number, which is its group's, must stay its own.
        while not has_exited(process.pid):
            for key, _ in selector.select(min(longest, mind())):
                if key.fd in hear and not _read(key.fd, hear[key.fd]):
                    selector.unregister(key.fd)
    for output, take in hear.items():
        _read_rest(output, take)


def _read_rest(descriptor: int, hear: Callable[[bytes], None]) -> None:
    """Read what a pipe holds, but not what strangers may put in for ever."""
    for _ in range(_READS_AT_END):
        if not _read(descriptor, hear):
            break


def _read(descriptor: int, hear: Callable[[bytes], None]) -> bool:
    """Read once, and tell whether there may be more."""
    try:
        chunk = os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return False
    if chunk:
        hear(chunk)
    return bool(chunk)


class ExitResult(NamedTuple):
    """How a program ended: its exit status, negative for the signal that has ended it."""

    returncode: int
    has_timed_out: bool
    """Whether it was told to end since its time was up."""


class TimeLimitedCommand:
    """Runs one program at a time, each for a limited time; another thread may end it."""

    def __init__(self) -> None:
        self._process: Process | None = None
        # When the one that was asked to end is killed.
        self._kill_at = 0.0
        self._is_over = False
        # Held by whoever signals or buries the process: its number is another one's afterwards.
        self._lock = threading.Lock()

    def run(
        self,
        command: Sequence[str] | Sequence[bytes],
        content: bytes,
        environment: Environment,
        hear: Callable[[bytes], None],
        seconds: float,
    ) -> ExitResult | None:
        """Run a program with ``content`` as its standard input; return how it ended.

        ``hear`` is called with whatever it says, in pieces as they come. After ``seconds`` it is
        told to end, and killed when it does not. It ends with its own process: what that leaves
        behind in its group is killed. Returns None after :meth:`end`. Raises OSError when it
        cannot be started.
        """
        with self._lock:
            if self._is_over:
                return None
            process = self._process = start_process(command, content, environment, is_merged=True)
            self._kill_at = 0.0
        try:
            with process:
                try:
                    was_late = self._attend(process, hear, time.monotonic() + seconds)
                finally:
                    with self._lock:
                        send_signal_to_group(process, signal.SIGKILL)
                        code = process.wait()
        finally:
            self._process = None
        return None if self._is_over else ExitResult(code, was_late)

    def request_stop(self, grace: float = STOP_TIMEOUT) -> None:
        """End what runs, after ``grace`` seconds by force; nothing else is run from now on."""
        with self._lock:
            self._is_over = True
            if self._process is not None:
                self._ask(self._process, grace)

    def _ask(self, process: Process, grace: float) -> None:
        self._kill_at = time.monotonic() + grace
        if process.returncode is None:
            send_signal_to_group(process, signal.SIGTERM)

    def _attend(self, process: Process, hear: Callable[[bytes], None], until: float) -> bool:
        """Return when the process has ended; tell whether it was told to, being late."""
        assert process.stdout is not None  # noqa: S101  # it was asked for
        was_late = False

        def mind() -> float:
            nonlocal was_late
            was_late |= self._mind(process, until)
            return max(0.0, (self._kill_at or until) - time.monotonic())

        read_until_exit(process, {process.stdout.fileno(): hear}, mind)
        return was_late

    def _mind(self, process: Process, until: float) -> bool:
        """Ask a process to end that is late, and kill one that stays; tell whether it was asked."""
        now = time.monotonic()
        with self._lock:
            if self._kill_at:
                if now >= self._kill_at:
                    send_signal_to_group(process, signal.SIGKILL)
                    # It may take its time, in a file system that does not answer.
                    self._kill_at = now + _INTERVAL
                return False
            if now < until:
                return False
            self._ask(process, STOP_TIMEOUT)
            return True
