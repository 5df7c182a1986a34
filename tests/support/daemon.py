"""pylsyncd as a process: started by a command line, controlled by signals, read by its log."""

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from support import processes
from support.watch_method import FANOTIFY, watch_method

REPOSITORY = Path(__file__).resolve().parents[2]
START_LINE = r"\bwatching\b"
FALLBACK = "fanotify is not possible"
# More than a stop takes that waits for an rsync, and then kills it.
STOP_SECONDS = 60.0
LOG_TAIL_LINES = 120  # in the message of a failure
PROGRAM = ("-m", "pylsyncd")
STATE_OPTION = "--state-dir"
# In the environment of a daemon and its children, to find processes that it leaves behind.
ENVIRONMENT_MARK = "PYLSYNCD_UNDER_TEST"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what changes the behaviour of rsync or Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
    # It hides output that cannot be flushed at exit.
    kept.pop("PYTHONUNBUFFERED", None)
    kept["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    )
    kept["STATE_DIRECTORY"] = _state_home().name
    kept["RUNTIME_DIRECTORY"] = _runtime_home().name
    return kept | dict(extra or {})


@functools.cache
def _state_home() -> "tempfile.TemporaryDirectory[str]":
    """Return the default state directory of daemons under test, never the system's."""
    return tempfile.TemporaryDirectory(prefix="pylsyncd-states-")


@functools.cache
def _runtime_home() -> "tempfile.TemporaryDirectory[str]":
    """Return the default socket directory of daemons under test, never the system's."""
    return tempfile.TemporaryDirectory(prefix="pylsyncd-sockets-")


class Pylsyncd:
    """A running daemon within a context; leaving the context stops it and checks that it exits 0.

    ``names`` are the short names of its destinations; with ``-i`` it is ready when each has had
    its initial sync, otherwise when it logs that it is watching. It has a state directory of its
    own, unless ``state`` or an argument names one. ``program`` are Python's arguments.
    """

    _may_crash = False

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
        self._arguments[:0] = watch_method.arguments(self._arguments)
        self._is_marked = watch_method.name == FANOTIFY
        self._state = state
        self._names = names
        self._mark = f"{ENVIRONMENT_MARK}={uuid.uuid4()}"
        self._environment = environment(
            {ENVIRONMENT_MARK: self._mark.partition("=")[2], **(extra_environment or {})}
        )
        self._directory = directory
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> "Pylsyncd":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self._own_state = contextlib.ExitStack()
        command = [*self._program, *self._state_option(), *self._arguments]
        # In a session of its own, children that a killed daemon leaves behind can be killed, too.
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
        """True until the daemon has exited."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """The daemon's standard output and standard error so far."""
        with self._changed:
            return "\n".join(self._lines)

    @property
    def log_tail(self) -> str:
        """The end of the log, for the message of a failure."""
        with self._changed:
            return "\n".join(["--- the end of the daemon's log:", *self._lines[-LOG_TAIL_LINES:]])

    def log_length(self) -> int:
        """Return the number of log lines so far, for ``after`` of ``wait_for``."""
        with self._changed:
            return len(self._lines)

    def wait_for(self, pattern: str, seconds: float = 45, *, after: int = 0) -> str:
        """Wait for a line that the pattern is found in, after so many lines, and return it."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._lines[after:]:
                    if expression.search(line):
                        return line
                after = len(self._lines)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    break
                self._changed.wait(left)
        how = "exited" if self._ended else f"ran for {seconds} s"
        raise AssertionError(f"pylsyncd {how} without logging {pattern!r}\n{self.log_tail}")

    def wait_ready(self, seconds: float = 45) -> None:
        """Wait until all initial syncs are complete, or without ``-i`` until it is watching."""
        if not {b"-i", b"--initial-sync"} & set(self._arguments):
            self.wait_for(START_LINE, seconds)
            return
        for name in self._names:
            self.wait_for(rf"\[{re.escape(name)}\] initial sync complete", seconds)

    def flush(self) -> None:
        """Ask the daemon to sync its pending changes now (SIGUSR1)."""
        self._process.send_signal(signal.SIGUSR1)

    def full_sync(self) -> None:
        """Ask the daemon for a full sync of every destination (SIGHUP)."""
        self._process.send_signal(signal.SIGHUP)

    def reload(self) -> None:
        """Ask the daemon to reload its configuration file (SIGHUP)."""
        self._process.send_signal(signal.SIGHUP)

    def release(self) -> None:
        """Release held destinations (SIGUSR2)."""
        self._process.send_signal(signal.SIGUSR2)

    def pause(self) -> None:
        """Suspend the process, and wait until all threads are; its children continue."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Continue the suspended process."""
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend the process in the context: all changes made there are in the same window."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def crash(self) -> None:
        """Kill the daemon alone, as the OOM killer does; its children continue."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop the daemon; fail unless it exits 0 in time, without a traceback in its log."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"pylsyncd is still running {seconds} s after SIGTERM\n{self.log_tail}"
            ) from None
        self._reader.join(seconds)
        assert not self._reader.is_alive(), f"a child of pylsyncd outlived it\n{self.log_tail}"
        assert status == 0, f"pylsyncd exited with status {status}\n{self.log_tail}"
        assert self._may_crash or "Traceback (most recent call last)" not in self.log, self.log_tail
        # Otherwise a suite would not test what it is about.
        assert not self._is_marked or FALLBACK not in self.log, self.log_tail

    def kill(self) -> None:
        """Kill the daemon and all its children."""
        # The process group is gone if the daemon has exited.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # Each rsync is in a session of its own.
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
            with self._changed:
                self._lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
