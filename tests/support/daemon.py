"""pylsyncd as its users run it: a process of its own, a command line, signals and a log."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]
START_LINE = r"\bwatching\b"
TAIL = 120  # lines of the log in a failure's message


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what would change rsync's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
    kept["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    )
    return kept | dict(extra or {})


class Pylsyncd:
    """A running daemon, from entering the context to leaving it, where it must stop in order.

    ``names`` are the short names of its destinations; with ``-i`` it is ready when each has had
    its initial sync, otherwise when it says that it watches.
    """

    def __init__(
        self,
        *arguments: str | bytes | os.PathLike[str],
        names: Sequence[str] = (),
        extra_environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._command = [*prefix, sys.executable, "-m", "pylsyncd", *map(os.fsencode, arguments)]
        self._names = names
        self._environment = environment(extra_environment)
        self._directory = directory
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False

    def __enter__(self) -> "Pylsyncd":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        # A session of its own: what a killed daemon leaves behind can be ended with it.
        self._process = subprocess.Popen(
            self._command,
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
    def log(self) -> str:
        """Everything that the daemon has said so far, on both of its outputs."""
        with self._news:
            return "\n".join(self._lines)

    @property
    def tail(self) -> str:
        """The end of the log, for the message of a failure."""
        with self._news:
            return "\n".join(["--- the daemon's log ends with:", *self._lines[-TAIL:]])

    def mark(self) -> int:
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
        raise AssertionError(f"pylsyncd {how} and did not say {pattern!r}\n{self.tail}")

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until all initial syncs are complete, or, without ``-i``, until it watches."""
        if not {b"-i", b"--initial-sync"} & set(self._command):
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

    def stop(self, seconds: float = 15) -> None:
        """Ask it to stop, and hold it to that: exit status 0, no traceback, in time."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"pylsyncd still runs {seconds} s after SIGTERM\n{self.tail}"
            ) from None
        self._reader.join(seconds)
        assert not self._reader.is_alive(), f"a child of pylsyncd outlived it\n{self.tail}"
        assert status == 0, f"pylsyncd ended with exit status {status}\n{self.tail}"
        assert "Traceback (most recent call last)" not in self.log, self.tail

    def kill(self) -> None:
        """End it at once, and with it whatever it has started."""
        # Without an error: when it has ended in order, there is nothing left to end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
