"""A source, its destinations and a daemon, whose rsync runs are counted."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from support.counting import CountingRsync
from support.ctl import CtlResult, Pylsyncctl
from support.daemon import PROGRAM, Pylsyncd
from support.destinations import Destination
from support.operations import WorkArea
from support.trees import equal_within

LONG_WINDOW = "3600"  # seconds: only SIGUSR1 closes such a window


class Replication:
    """A source with a daemon that is started on entering; tests fill the source before that."""

    def __init__(self, directory: Path) -> None:
        self.source = directory / "source"
        self.outside = directory / "outside"
        self.source.mkdir()
        self.outside.mkdir()
        self.counting_rsync = CountingRsync(directory)
        self._ctl = Pylsyncctl(directory / "run")
        self.area = WorkArea(os.fsencode(self.source), os.fsencode(self.outside))
        self._daemon: Pylsyncd | None = None
        self._waits = True
        self.destinations: Sequence[Destination] = ()

    def start(
        self,
        *destinations: Destination,
        options: Sequence[str] = ("-d", "-i", "-w", LONG_WINDOW),
        source: str = "",
        wait: bool = True,
        program: Sequence[str | os.PathLike[str]] = PROGRAM,
    ) -> "Replication":
        """Configure the daemon for these destinations; entering the context starts it.

        Entering waits until the daemon is ready, unless ``wait`` is False. ``program`` are Python's
        arguments to start it.
        """
        self.destinations = destinations
        self._waits = wait
        rsh = {destination.options for destination in destinations if destination.options}
        self._daemon = Pylsyncd(
            # A minute after the start, a scan would have what was written before it compared.
            "--scan-budget=0",
            *options,
            *(word for words in rsh for word in words),
            "--rsync",
            self.counting_rsync.program,
            source or f"{self.source}/./",
            *(destination.argument for destination in destinations),
            names=[destination.name for destination in destinations],
            extra_environment={"RUNTIME_DIRECTORY": str(self._ctl.directory)},
            program=program,
        )
        return self

    @property
    def daemon(self) -> Pylsyncd:
        """The daemon, after ``start``."""
        assert self._daemon is not None
        return self._daemon

    def __enter__(self) -> "Replication":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self.daemon.__enter__()
        try:
            if self._waits:
                self.daemon.wait_ready()
        except BaseException:
            self.daemon.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.daemon.__exit__(kind, error, trace)

    @property
    def run_count(self) -> int:
        """The number of rsync runs so far that may change a destination."""
        return len(self.counting_rsync.changing_runs())

    def flush_and_wait(self, seconds: float = 45) -> None:
        """Flush the pending changes, and wait for a sync of each destination."""
        mark = self.daemon.log_length()
        self.daemon.flush()
        self.wait_synced(seconds, after=mark)

    def wait_synced(self, seconds: float = 45, *, after: int) -> None:
        """Wait for the end of a sync of each destination, after so many lines of the log."""
        for destination in self.destinations:
            self.daemon.wait_for(
                rf"\[{re.escape(destination.name)}\] synced ", seconds, after=after
            )

    def expect_confirmed(self, seconds: float) -> None:
        """Wait until the daemon has no pending changes; fail after so many seconds."""
        answer = self.wait_confirmed(seconds)
        assert answer.returncode == 0, f"{answer.stderr}{self.daemon.log_tail}"

    def wait_confirmed(self, seconds: float) -> CtlResult:
        """Run ``pylsyncctl wait``, for so many seconds at most."""
        return self._ctl.run("wait", "--timeout", str(seconds))

    def counts(self) -> Counter[str]:
        """Return the counters of the status that are numbers, of all destinations together."""
        answer = self._ctl.run("status", "--json")
        assert answer.returncode == 0, f"{answer.stderr}{self.daemon.log_tail}"
        syncs = json.loads(answer.stdout)["syncs"]
        total = Counter[str]()
        for each in (each for sync in syncs for each in sync["destinations"]):
            total.update({k: n for k, n in each["counts"].items() if isinstance(n, int | float)})
        return total

    def find_differences(self, seconds: float, name: bytes = b"") -> Mapping[str, list[str]]:
        """Wait until all destinations equal the source; return the differences that remain.

        With a ``name``, only the tree at that path is compared.
        """
        found = {
            destination.argument: equal_within(
                self.area.path(name),
                os.path.join(destination.path, name) if name else destination.path,
                seconds,
                ignore=destination.ignore,
            )
            for destination in self.destinations
        }
        return {argument: lines for argument, lines in found.items() if lines}

    def expect_equal(self, seconds: float, name: bytes = b"") -> None:
        """Wait until all destinations equal the source; fail with the differences and the log."""
        different = self.find_differences(seconds, name)
        lines = [f"--- {argument}:\n" + "\n".join(found) for argument, found in different.items()]
        if lines:
            raise AssertionError(
                "\n".join(["not equal to the source", *lines, self.daemon.log_tail])
            )
