"""Sends large files to one destination, while its worker goes on with all else.

What is sent is only what a list of regular files names: nothing is deleted. What may happen to
these files meanwhile, and what the worker's runs must not touch, the large file queue knows.
"""

import queue
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

from pylsyncd.model.changes import Changeset
from pylsyncd.model.paths import InodeId
from pylsyncd.pipeline.optimizer import split_below
from pylsyncd.rsync.command import CURRENT_DIRECTORY
from pylsyncd.rsync.file_list import FileList, regular_files
from pylsyncd.rsync.outcomes import Outcome, Verdict, summary
from pylsyncd.system.processes import STOP_TIMEOUT, terminate
from pylsyncd.system.threads import SupervisedThread
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError, local_directory_id
from pylsyncd.worker.session import STOPPED, RsyncSession

# Seconds between two signals to a run that has to stop, or may be about to start.
_SIGNAL_INTERVAL = 0.5


class LargeFileWorker(SupervisedThread):
    """Carries one batch of files at a time. Its worker's thread gives them, and is woken."""

    def __init__(
        self,
        guard: SourceGuard,
        runs: RsyncSession,
        known_directory_id: Callable[[], InodeId | None],
        on_batch_done: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """Make one.

        ``place`` tells who a local destination's directory is as far as the worker knows; ``wake``
        is called by this thread when a batch has ended.
        """
        super().__init__(f"{runs.destination.name} (large files)", on_failed)
        self._guard = guard
        self.source = guard.source
        self.session = runs
        runs.activity = self.activity
        runs.should_stop = self._is_to_end
        self._place = known_directory_id
        self._wake = on_batch_done
        self._batches: queue.SimpleQueue[Changeset | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._is_interrupted = threading.Event()
        self._is_ended = False

    # For the worker's thread:

    def start_batch(self, files: Changeset) -> None:
        """Have files carried; their outcome must be asked for before the next ones are given."""
        self._is_interrupted.clear()
        self._batches.put(files)

    def take_outcome(self) -> Outcome | None:
        """Return how the batch went, once, when it has ended."""
        try:
            return self._outcomes.get_nowait()
        except queue.Empty:
            return None

    def cancel_batch(self) -> Outcome:
        """End the batch that was given, and return how it went, as soon as nothing of it runs."""
        self._is_interrupted.set()
        outcome = STOPPED

        def wait(seconds: float) -> bool:
            nonlocal outcome
            try:
                outcome = self._outcomes.get(timeout=seconds)
            except queue.Empty:
                return self._is_ended or not self.is_alive()
            return True

        terminate(
            self.session.runner.send_signal, wait,
            kill_after=STOP_TIMEOUT, interval=_SIGNAL_INTERVAL,
        )  # fmt: skip
        return outcome

    def request_stop(self) -> None:
        """Have the thread end when the batch that it has was carried."""
        self._batches.put(None)

    # For other threads:

    def abort(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        self._is_ended = True
        self.session.runner.send_signal(number)
        self._batches.put(None)

    # For its own thread:

    def work(self) -> None:
        """Carry batches until told to finish."""
        while not self._is_ended:
            with self.activity.waiting():
                files = self._batches.get()
            if files is None:
                break
            self._outcomes.put(self._carry(files))
            self._wake()
        self.session.close()

    def _is_to_end(self) -> bool:
        return self._is_ended or self._is_interrupted.is_set()

    def _carry(self, files: Changeset) -> Outcome:
        try:
            with self._guard.open_checked() as root:
                kept, carried = split_below(files, frozenset(self._guard.held_subtrees))
                self._check_place()
                outcome = self._send(root, carried)
                self._guard.verify_unchanged(root)
                self._check_place()
        except SourceHeldError as error:
            return Outcome(Verdict.SOURCE_UNSAFE, str(error), pending=files)
        except _DestinationReplacedError:
            # The worker finds that, too, and says what to do.
            reason = "it is not the directory that it was"
            return Outcome(Verdict.SOURCE_UNSAFE, reason, pending=files)
        return replace(outcome, failed=kept) if kept else outcome

    def _check_place(self) -> None:
        known = self._place()
        if known is not None and known != local_directory_id(self.session.destination):
            raise _DestinationReplacedError

    def _send(self, root: int, files: Changeset) -> Outcome:
        # Of what is something else by now, another change tells.
        entries = FileList(regular_files(root, (change.path for change in files)))
        self.session.run_log.log_file_list(entries)
        if not entries:
            return Outcome(Verdict.DONE)
        runs = self.session
        command = runs.with_shared_ssh(runs.options).large_files_command(
            CURRENT_DIRECTORY, runs.destination
        )
        outcome, run = runs.run(root, command, entries.encode())
        if outcome.verdict is Verdict.DONE:
            runs.run_log.log_result(run)
            return outcome
        # rsync finds those equal, the next time, that it has sent.
        return replace(outcome, message=summary(run.messages), pending=files)


class _DestinationReplacedError(Exception):
    """A local destination is not where it was."""
