"""The thread that sends large files to one destination while its worker carries all other changes.

It sends only the regular files of a list and deletes nothing.
"""

import queue
import signal
from collections.abc import Callable
from dataclasses import replace

from pylsyncd.model.changes import Changeset
from pylsyncd.model.scoped_paths import NO_PATHS
from pylsyncd.pipeline.optimizer import split_below
from pylsyncd.rsync.command import CURRENT_DIRECTORY, ContentComparison
from pylsyncd.rsync.content_check import check_contents
from pylsyncd.rsync.file_list import FileList, regular_files
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.system.processes import STOP_TIMEOUT, terminate
from pylsyncd.system.threads import Crash, SupervisedThread
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError
from pylsyncd.worker.content_runs import times_carried
from pylsyncd.worker.destination_guard import DestinationGuard
from pylsyncd.worker.session import STOPPED, RsyncSession
from pylsyncd.worker.transfer_result import TransferResult, put_off

# Seconds between two signals to a run that has to stop, or may be about to start.
_SIGNAL_INTERVAL = 0.5

# Seconds until a run is left alone that waits for a file system that does not respond.
_GIVE_UP_AFTER = 7.0

_NOTHING_TO_SEND = Outcome(Verdict.DONE)
_DESTINATION_REPLACED = Outcome(
    Verdict.SOURCE_UNSAFE, "the destination is another directory than before"
)


class LargeFileWorker(SupervisedThread):
    """A thread that carries one batch of large files at a time."""

    def __init__(
        self,
        session: RsyncSession,
        source_guard: SourceGuard,
        destination_guard: DestinationGuard,
        on_batch_done: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """Create the thread; it calls ``on_batch_done()`` after each batch."""
        super().__init__(f"{session.destination.name} (large files)", on_failed, session.activity)
        self._session = session
        self._source_guard = source_guard
        self._destination_guard = destination_guard
        self._on_batch_done = on_batch_done
        self._batches: queue.SimpleQueue[Changeset | None] = queue.SimpleQueue()
        self._results: queue.Queue[TransferResult] = queue.Queue()

    @property
    def source(self) -> bytes:
        """The path of the source."""
        return self._source_guard.source

    # For the worker's thread:

    def start_batch(self, files: Changeset) -> None:
        """Start to carry files; the result of the batch before must have been taken."""
        self._session.allow_runs()
        self._batches.put(files)

    def take_result(self) -> TransferResult | None:
        """Return the result of the batch, once, if it has ended."""
        try:
            return self._results.get_nowait()
        except queue.Empty:
            return None

    def cancel_batch(self) -> TransferResult:
        """Stop the batch; return its result as soon as its rsync has ended."""
        result = TransferResult(STOPPED)

        def wait(seconds: float) -> bool:
            nonlocal result
            try:
                result = self._results.get(timeout=seconds)
            except queue.Empty:
                return self._session.is_aborted or not self.is_alive()
            return True

        terminate(self._session.cancel, wait, kill_after=STOP_TIMEOUT, interval=_SIGNAL_INTERVAL)
        return result

    def request_stop(self) -> None:
        """Let the thread end after its current batch."""
        self._batches.put(None)

    def stop_now(self) -> None:
        """Stop the running rsync, and wait until the thread has ended."""

        def wait(seconds: float) -> bool:
            self.join(seconds)
            return not self.is_alive()

        terminate(
            self.abort, wait, kill_after=STOP_TIMEOUT, give_up_after=_GIVE_UP_AFTER,
            interval=_SIGNAL_INTERVAL,
        )  # fmt: skip

    # For other threads:

    @property
    def is_preparing(self) -> bool:
        """Whether the run of a batch has not begun."""
        return self._session.is_preparing

    def abort(self, number: signal.Signals) -> None:
        """Send a signal to the running rsync and start no other one."""
        self._session.abort(number)
        self._batches.put(None)

    # For its own thread:

    def work(self) -> None:
        """Carry batches until asked to stop."""
        try:
            while not self._session.is_aborted:
                with self.activity.waiting():
                    files = self._batches.get()
                if files is None:
                    break
                self._results.put(self._carry(files))
                self._on_batch_done()
        finally:
            self._session.close()

    def report_crash(self, crash: Crash) -> None:
        """Leave the report to the destination's worker, which fails, too."""

    def _carry(self, files: Changeset) -> TransferResult:
        preparation = self._session.prepare(self._source_guard, files)
        if preparation.outcome.verdict is not Verdict.DONE:
            return put_off(files, preparation)
        try:
            with self._source_guard.open_checked() as root:
                held = frozenset(self._source_guard.held_subtrees)
                kept, carried = split_below(files, held)
                # The worker finds a replaced destination, too, and reports what to do.
                if not self._destination_guard.is_unchanged():
                    return TransferResult(_DESTINATION_REPLACED, pending=files)
                result = self._send(root, carried, kept)
                self._source_guard.verify_unchanged(root)
                if not self._destination_guard.is_unchanged():
                    return TransferResult(_DESTINATION_REPLACED, pending=files)
                return result
        except SourceHeldError as error:
            return TransferResult(Outcome(Verdict.SOURCE_UNSAFE, str(error)), pending=files)

    def _send(self, root: int, files: Changeset, kept: Changeset) -> TransferResult:
        # A path that is no regular file any more has a newer change.
        entries = FileList(regular_files(root, (change.path for change in files)))
        session = self._session
        session.run_log.log_file_list(entries)
        options, hints = session.with_shared_ssh(session.options), files.new_content
        if options.compares_contents:
            hints = NO_PATHS
        times = times_carried(session.statistics, options)
        check = check_contents(root, entries, hints, times, lambda _: False)
        session.statistics.record_carried(check.latest_ns)
        pending = files.with_new_content(check.hints)
        result = TransferResult(_NOTHING_TO_SEND, failed=kept)
        for part, comparison in (
            (check.compared, ContentComparison.CONTENTS),
            (check.others, ContentComparison.TIMES),
        ):
            if not part:
                continue
            command = replace(options, comparison=comparison).large_files_command(
                CURRENT_DIRECTORY, session.destination
            )
            run = session.run(root, command, part.encode())
            if run.outcome.verdict is not Verdict.DONE:
                # The next run does not send again what was sent: rsync finds it equal.
                return TransferResult(run.outcome, pending=pending, failed=kept, run=run)
            session.run_log.log_result(run.result)
            result = TransferResult(run.outcome, failed=kept, run=run)
            pending = files.with_new_content(NO_PATHS)
        return result
