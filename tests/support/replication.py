"""A source, its destinations, and a daemon between them, with its runs of rsync counted."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from support.counting import CountingRsync
from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd
from support.destinations import Destination
from support.operations import WorkArea
from support.trees import equal_within

LONG_WINDOW = "3600"  # seconds: a window that only a signal closes


class Replication:
    """Everything around one daemon; the source is prepared between construction and entering."""

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
    ) -> "Replication":
        """Set the daemon up for these destinations; entering the context starts it.

        Entering it returns when the daemon is ready, unless told not to ``wait``.
        """
        self.destinations = destinations
        self._waits = wait
        rsh = {destination.options for destination in destinations if destination.options}
        self._daemon = Pylsyncd(
            *options,
            *(word for words in rsh for word in words),
            "--rsync",
            self.counting_rsync.program,
            source or f"{self.source}/./",
            *(destination.argument for destination in destinations),
            names=[destination.name for destination in destinations],
            extra_environment={"RUNTIME_DIRECTORY": str(self._ctl.directory)},
        )
        return self

    @property
    def daemon(self) -> Pylsyncd:
        """The daemon, once it was set up."""
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
        """How many times rsync was run so far to change a destination."""
        return len(self.counting_rsync.changing_runs())

    def flush_and_wait(self, seconds: float = 20) -> None:
        """Ask the daemon to send what it has, and wait for a run for each destination."""
        mark = self.daemon.log_length()
        self.daemon.flush()
        for destination in self.destinations:
            self.daemon.wait_for(rf"\[{re.escape(destination.name)}\] synced ", seconds, after=mark)

    def expect_confirmed(self, seconds: float) -> None:
        """Wait until the daemon says that it owes nothing; fail if that is not so in time."""
        answer = self._ctl.run("wait", "--timeout", str(seconds))
        assert answer.returncode == 0, f"{answer.stderr}{self.daemon.log_tail}"

    def find_differences(self, seconds: float, name: bytes = b"") -> Mapping[str, list[str]]:
        """Wait for the destinations to be equal; return what differs at each that is not.

        With a ``name`` only what is at and below it is compared.
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
        """Wait for the destinations to be equal; fail, with all that is known, if they are not."""
        different = self.find_differences(seconds, name)
        lines = [f"--- {argument}:\n" + "\n".join(found) for argument, found in different.items()]
        if lines:
            raise AssertionError(
                "\n".join(["not equal to the source", *lines, self.daemon.log_tail])
            )
