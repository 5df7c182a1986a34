"""pylsyncd as its users run it: a process of its own, a command line, signals and a log."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from support import processes

REPOSITORY = Path(__file__).resolve().parents[2]
START_LINE = r"\bwatching\b"
LOG_TAIL_LINES = 120  # lines of the log in a failure's message
PROGRAM = ("-m", "pylsyncd")
STATE_OPTION = "--state-dir"
# In the environment of a daemon and of all that it starts: so what it leaves behind is found.
ENVIRONMENT_MARK = "PYLSYNCD_UNDER_TEST"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what would change rsync's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
    kept["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    )
    kept["STATE_DIRECTORY"] = _state_home().name
    kept["RUNTIME_DIRECTORY"] = _runtime_home().name
    return kept | dict(extra or {})


@functools.cache
def _state_home() -> "tempfile.TemporaryDirectory[str]":
    """Return where daemons keep their state that are not told: never where the system's is."""
    return tempfile.TemporaryDirectory(prefix="pylsyncd-states-")


@functools.cache
def _runtime_home() -> "tempfile.TemporaryDirectory[str]":
    """Return where daemons put their sockets that are not told: never where the system's is."""
    return tempfile.TemporaryDirectory(prefix="pylsyncd-sockets-")


class Pylsyncd:
    """A running daemon, from entering the context to leaving it, where it must stop in order.

    ``names`` are the short names of its destinations; with ``-i`` it is ready when each has had
    its initial sync, otherwise when it says that it watches. It keeps its state in a directory of
    its own, unless ``state`` or an argument names one. ``program`` is what Python is told to run.
    """

    def __init__(
        self,
        *arguments: str | bytes | os.PathLike[str],
        names: Sequence[str] = (),
        extra_environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        prefix: Sequence[str] = (),
        state: Path | None = None,
        program: Sequence[str | os.PathLike[str]] = PROGRAM,
    ) -> None:
        self._program = [*prefix, sys.executable, *program]
        self._arguments = [os.fsencode(argument) for argument in arguments]
        self._state = state
        self._names = names
        self._mark = f"{ENVIRONMENT_MARK}={uuid.uuid4()}"
        self._environment = environment(
            {ENVIRONMENT_MARK: self._mark.partition("=")[2], **(extra_environment or {})}
        )
        self._directory = directory
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False

    def __enter__(self) -> "Pylsyncd":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self._own_state = contextlib.ExitStack()
        command = [*self._program, *self._state_option(), *self._arguments]
        # A session of its own: what a killed daemon leaves behind can be ended with it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._directory,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="log reader")
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            self.kill()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that the daemon has said so far, on both of its outputs."""
        with self._news:
            return "\n".join(self._lines)

    @property
    def log_tail(self) -> str:
        """The end of the log, for the message of a failure."""
        with self._news:
            return "\n".join(["--- the daemon's log ends with:", *self._lines[-LOG_TAIL_LINES:]])

    def log_length(self) -> int:
        """Return where the log stands now, to wait for lines after it."""
        with self._news:
            return len(self._lines)

    def wait_for(self, pattern: str, seconds: float = 20, *, after: int = 0) -> str:
        """Return the first line that the pattern is found in, among those after a mark."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                for line in self._lines[after:]:
                    if expression.search(line):
                        return line
                after = len(self._lines)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    break
                self._news.wait(left)
        how = "ended" if self._ended else f"ran for {seconds} s"
        raise AssertionError(f"pylsyncd {how} and did not say {pattern!r}\n{self.log_tail}")

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until all initial syncs are complete, or, without ``-i``, until it watches."""
        if not {b"-i", b"--initial-sync"} & set(self._arguments):
            self.wait_for(START_LINE, seconds)
            return
        for name in self._names:
            self.wait_for(rf"\[{re.escape(name)}\] initial sync complete", seconds)

    def flush(self) -> None:
        """Ask it to send now what it has."""
        self._process.send_signal(signal.SIGUSR1)

    def full_sync(self) -> None:
        """Ask it to compare every destination completely."""
        self._process.send_signal(signal.SIGHUP)

    def reload(self) -> None:
        """Ask it to read its configuration file again."""
        self._process.send_signal(signal.SIGHUP)

    def release(self) -> None:
        """Let go what it holds back because somebody has to look first."""
        self._process.send_signal(signal.SIGUSR2)

    def pause(self) -> None:
        """Stop its process; what it has started goes on."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let its process go on."""
        self._process.send_signal(signal.SIGCONT)

    def crash(self) -> None:
        """End it as a lack of memory would: without warning, and alone; its children go on."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def stop(self, seconds: float = 15) -> None:
        """Ask it to stop, and hold it to that: exit status 0, no traceback, in time."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"pylsyncd still runs {seconds} s after SIGTERM\n{self.log_tail}"
            ) from None
        self._reader.join(seconds)
        assert not self._reader.is_alive(), f"a child of pylsyncd outlived it\n{self.log_tail}"
        assert status == 0, f"pylsyncd ended with exit status {status}\n{self.log_tail}"
        assert "Traceback (most recent call last)" not in self.log, self.log_tail

    def kill(self) -> None:
        """End it at once, and with it whatever it has started."""
        # Without an error: when it has ended in order, there is nothing left to end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # Each rsync has a session of its own.
        processes.kill_processes_with_environment(self._mark)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._own_state.close()

    def _state_option(self) -> list[str]:
        given = any(
            argument.split(b"=")[0] == STATE_OPTION.encode() for argument in self._arguments
        )
        if given:
            return []
        state = self._state
        if state is None:
            temporary = tempfile.TemporaryDirectory(prefix="pylsyncd-state-")
            state = Path(self._own_state.enter_context(temporary))
        return [f"{STATE_OPTION}={state}"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
