"""A worker on real parts: a source, its copy, a real rsync that can be told to fail, a state."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from pylsyncd.model.changes import Change, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.model.notices import Notice
from pylsyncd.rsync import version
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rules.excludes import Rules
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.state.destination_state import DestinationState
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.worker import Worker
from support.faults import FaultyRsync
from support.waiting import wait_until

SHORT = RetryPolicy(
    first_pause=0.05,
    max_pause=0.1,
    held_pause=0.1,
    max_source_unsafe_pause=0.1,
    max_retry_now_pause=0.05,
)
LONG = RetryPolicy(
    first_pause=600.0,
    max_pause=600.0,
    held_pause=600.0,
    max_source_unsafe_pause=600.0,
    max_retry_now_pause=600.0,
)


def entries(*some: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for path in some:
        changes.add(path, Scope.ENTRY)
    return changes


class Workplace:
    """A source, its copy, a substitute for rsync, and one worker after the other."""

    def __init__(self, top: Path) -> None:
        self.source, self.copy = top / "source", top / "copy"
        for path in (self.source, self.copy):
            path.mkdir()
        self.faulty = FaultyRsync(top)
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.directory = StateDirectory(os.fsencode(top / "state"))
        target = os.fsencode(self.copy) + b"/"
        self._destination = Destination(
            "copy", str(self.copy), Transport.LOCAL, None, target, target[:-1]
        )
        self._rsync = RsyncOptions(str(self.faulty.program), version.rsync_version("rsync"))
        self._carrier = Transfer(self.guard, self._destination, self._rsync, {})
        self.notices: list[Notice] = []
        # So that it is no probe that finds an order.
        assert not self._carrier.probe().message

    def close(self) -> None:
        self.guard.close()
        self.directory.close()

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.directory, "copy", self.guard, self._destination, self._rsync)

    def write(self, *names: str) -> None:
        for name in names:
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def state(self) -> DestinationState | None:
        return self.checkpoint().load().state

    def owed(self) -> set[Change] | None:
        """Return what is written down as owed; None before anything is written."""
        state = self.state()
        return None if state is None else set(state.debt)

    def paths_owed(self) -> list[bytes]:
        return sorted(change.path for change in self.owed() or ())

    def complains_of(self, name: str, *, first: str = "") -> None:
        """Have the next run do this first, all its work by default, and then say what failed."""
        said = f'rsync: [sender] send_files failed to open "{self.source}/{name}": '
        first = first or f'{self.faulty.real} "$@"'
        self.faulty.order(f"{first}; echo '{said}Permission denied (13)' >&2; exit 23")

    @contextlib.contextmanager
    def worker(self, pauses: RetryPolicy = SHORT) -> Iterator[Worker]:
        """Run a worker."""
        failures: list[str] = []
        worker = Worker(
            self._carrier, pauses, self.checkpoint(), failures.append, self.notices.append
        )
        worker.start()
        try:
            yield worker
        finally:
            worker.request_stop()
            wait_until(lambda: _has_ended(worker))
        assert not failures


def _has_ended(worker: Worker) -> bool:
    worker.abort(signal.SIGKILL)
    worker.join(0.05)
    return not worker.is_alive()
