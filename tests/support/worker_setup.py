"""A worker with real parts: a source, its copy, a real rsync that can be made to fail, a state."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notices import Notice
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.work_queue import WorkItem, WorkQueue
from pylsyncd.rsync import version
from pylsyncd.rsync.command import DeletionTime, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.rules.excludes import Rules
from pylsyncd.state.checkpoint import Checkpoint
from pylsyncd.state.destination_state import DestinationState
from pylsyncd.state.repair_state import RepairFile
from pylsyncd.state.state_directory import StateDirectory
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.attempts import Attempts
from pylsyncd.worker.destination_guard import DestinationGuard
from pylsyncd.worker.failure_reporter import FailureReporter
from pylsyncd.worker.large_file_queue import LargeFileQueue
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.pending import PendingWork
from pylsyncd.worker.pending_attempts import PendingAttempts
from pylsyncd.worker.repair_attempts import RepairAttempts
from pylsyncd.worker.repairs import RepairPlan, Repairs
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.transfer_result import TransferResult
from pylsyncd.worker.verification import Verification
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


DENIED = "Permission denied (13)"
"""The end of many of rsync's messages."""
UNWRITABLE = ("No space left on device (28)", "Read-only file system (30)")
"""The same of a destination that takes nothing for a while."""


class WorkerParts(NamedTuple):
    """What the thread of a worker uses, without that thread."""

    session: RsyncSession
    transfer: Transfer
    work: PendingWork
    reporter: FailureReporter
    checkpoint: Checkpoint
    repairs: Repairs
    attempts: Attempts
    pending_attempts: PendingAttempts
    repair_attempts: RepairAttempts


class WorkerSetup:
    """A source, its copy, a substitute for rsync, and one worker after the other.

    Its rsync is known to be capable of everything, so that no probe takes an order of a test;
    with ``is_probed=False`` it is not known. ``prelude`` is a shell script that runs before each
    rsync, or ends in a command that rsync is appended to.
    """

    def __init__(
        self,
        top: Path,
        *,
        max_delete: int | None = None,
        size_limit: SizeLimit | None = None,
        is_probed: bool = True,
        last: Rules | None = None,
        delete: bool = True,
        delete_only: DeletionTime | None = None,
        prelude: str = "",
        extra_options: tuple[str, ...] = (),
        dry_run: bool = False,
        parallel: int = 1,
    ) -> None:
        self.source, self.copy = top / "source", top / "copy"
        for path in (self.source, self.copy):
            path.mkdir()
        real = None
        if prelude:
            script = top / "rsync-with-prelude"
            script.write_text(f'#!/bin/sh\n{prelude} rsync "$@"\n')
            script.chmod(0o755)
            real = str(script)
        self.faulty = FaultyRsync(top, real)
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.directory = StateDirectory(os.fsencode(top / "state"))
        target = os.fsencode(self.copy) + b"/"
        self._destination = Destination(
            "copy", str(self.copy), Transport.LOCAL, None, target, target[:-1]
        )
        self._options = RsyncOptions(
            str(self.faulty.program), version.rsync_version("rsync"), max_delete=max_delete,
            last=last or Rules(), delete=delete, delete_only=delete_only,
            extra_options=extra_options, dry_run=dry_run, parallel=parallel,
        )  # fmt: skip
        self._destination_guard = DestinationGuard(self._destination)
        self._size_limit = size_limit
        self._capabilities = RsyncCapabilities() if is_probed else None
        self.notices: list[Notice] = []
        # No change of the source is on its way.
        self.repair_window = -1_000.0

    def set_rules(self, rules: Rules) -> None:
        """Exclude paths from all runs of sessions that follow."""
        self._options = replace(self._options, rules=rules)

    def set_destination(self, destination: Destination, rsh: str = "") -> None:
        """Reach the copy in another way."""
        self._destination = destination
        self._options = replace(self._options, rsh=rsh)
        self._destination_guard = DestinationGuard(destination)

    def close(self) -> None:
        self.guard.close()
        self.directory.close()

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.directory, "copy", self.guard, self._destination, self._options)

    def session(self, resources: SharedResources | None = None) -> RsyncSession:
        return RsyncSession(self._destination, self._options, resources=resources)

    def transfer(self, session: RsyncSession) -> Transfer:
        return Transfer(
            session, self.guard, self._destination_guard, self._size_limit, self._capabilities
        )

    def repairs(self, interval: float, verification: Verification | None = None) -> Repairs:
        plan = RepairPlan(
            interval, self.repair_window, lambda: sum(1 for _ in os.walk(self.source))
        )
        file = RepairFile(self.directory, "copy")
        return Repairs(self.guard, Rules(), plan, file, verification)

    def write(self, *names: str) -> None:
        for name in names:
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def state(self) -> DestinationState | None:
        return self.checkpoint().load().state

    def saved_changes(self) -> set[Change] | None:
        """Return the changes saved as pending; None before a state is saved."""
        state = self.state()
        return None if state is None else set(state.pending)

    def saved_paths(self) -> list[bytes]:
        return sorted(change.path for change in self.saved_changes() or ())

    def make_fail(self, name: str, *, first: str = "", error: str = DENIED) -> None:
        """Make the next run do ``first``, by default all its work, and then name a failed path."""
        message = f'rsync: [sender] send_files failed to open "/proc/self/cwd/{name}": {error}'
        first = first or f'{self.faulty.real_rsync} "$@"'
        self.faulty.add_fault(f"{first}; echo '{message}' >&2; exit 23")

    def parts(
        self,
        policy: RetryPolicy = LONG,
        *,
        was_held: bool = False,
        resources: SharedResources | None = None,
        repair_interval: float = 0.0,
        wake: Callable[[], None] = lambda: None,
    ) -> WorkerParts:
        """Return what a worker uses, for a test that makes each step itself.

        ``wake()`` is called when a batch of large files has ended.
        """
        session = self.session(resources)
        transfer, checkpoint = self.transfer(session), self.checkpoint()
        work = PendingWork(self._large_file_queue(session, policy, wake), policy)
        reporter = FailureReporter(self._destination, self.guard.source, self.notices.append)
        attempts = Attempts(session, transfer, work, reporter, checkpoint, was_held=was_held)
        repairs = self.repairs(repair_interval, work.verification)
        return WorkerParts(
            session, transfer, work, reporter, checkpoint, repairs, attempts,
            PendingAttempts(attempts, session, transfer, work, checkpoint, repairs),
            RepairAttempts(attempts, session, work, reporter, repairs),
        )  # fmt: skip

    def _large_file_queue(
        self,
        session: RsyncSession,
        policy: RetryPolicy,
        on_batch_done: Callable[[], None] = lambda: None,
        on_failed: Callable[[str], None] = lambda _: None,
    ) -> LargeFileQueue:
        if self._size_limit is None:
            return LargeFileQueue(None, policy)
        worker = LargeFileWorker(
            session.for_large_files(), self.guard, self._destination_guard,
            on_batch_done=on_batch_done, on_failed=on_failed,
        )  # fmt: skip
        return LargeFileQueue(worker, policy)

    @contextlib.contextmanager
    def worker(
        self,
        policy: RetryPolicy = SHORT,
        *,
        queued: WorkItem | None = None,
        extra_window: float = 0.0,
        repair_interval: float = 0.0,
        repairs: Repairs | None = None,
        resumes: bool = False,
    ) -> Iterator[Worker]:
        """Run a worker, with a work item in its queue before it starts.

        With ``resumes`` it continues from the state of the one before.
        """
        checkpoint = self.checkpoint()
        if resumes and (state := checkpoint.load().state) is not None:
            checkpoint.resume_from(state)
        failures: list[str] = []
        session = self.session()
        queue = WorkQueue()
        if queued is not None:
            queue.put(queued)
        large_files = self._large_file_queue(session, policy, queue.wake, failures.append)
        work = PendingWork(large_files, policy)
        worker = Worker(
            session,
            self.transfer(session),
            work,
            queue,
            reporter=FailureReporter(self._destination, self.guard.source, self.notices.append),
            checkpoint=checkpoint,
            on_failed=failures.append,
            extra_window=extra_window,
            repairs=repairs or self.repairs(repair_interval, work.verification),
        )
        worker.start()
        try:
            yield worker
        finally:
            worker.request_stop()
            wait_until(lambda: _has_ended(worker))
        assert not failures


def carry(place: WorkerSetup, changeset: Changeset, **options: bool) -> TransferResult:
    """Carry changes by a new transfer."""
    return place.transfer(place.session()).carry(changeset, **options)  # type: ignore[arg-type]


def copied(place: WorkerSetup) -> list[str]:
    return sorted(os.listdir(place.copy))


def changed_paths(changeset: Changeset) -> list[bytes]:
    return sorted(change.path for change in changeset)


def _has_ended(worker: Worker) -> bool:
    worker.abort(signal.SIGKILL)
    worker.join(0.05)
    return not worker.is_alive()
