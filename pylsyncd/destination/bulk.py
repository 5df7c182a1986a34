"""Sends large files to one destination, while its worker goes on with all else.

What is sent is only what a list of regular files names: nothing is deleted. What may happen to
these files meanwhile, and what the worker's runs must not touch, `pylsyncd.destination.lane` knows.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from pylsyncd.destination.runs import ENDED, Runs
from pylsyncd.model.changes import Changeset
from pylsyncd.model.optimizer import apart
from pylsyncd.model.paths import Identity
from pylsyncd.rsync.commands import HERE
from pylsyncd.rsync.filelist import FileList, regular
from pylsyncd.rsync.outcomes import Outcome, Verdict, gist
from pylsyncd.source.guard import Guard, SourceHeldError, identity_of_local
from pylsyncd.system.part import Part

# Seconds between two signals to a run that is to end, and from asking it to killing it.
_BEAT = 0.5
_KILL_AFTER = 5.0


class Bulk(Part):
    """Carries one batch of files at a time. Its worker's thread gives them, and is woken."""

    def __init__(
        self,
        guard: Guard,
        runs: Runs,
        place: Callable[[], Identity | None],
        wake: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        """Make one.

        ``place`` tells who a local destination's directory is as far as the worker knows; ``wake``
        is called by this thread when a batch has ended.
        """
        super().__init__(f"{runs.destination.name} (large files)", failed)
        self._guard = guard
        self.source = guard.source
        self.runs = runs
        runs.pulse = self.pulse
        runs.is_ended = self._is_to_end
        self._place = place
        self._wake = wake
        self._batches: queue.SimpleQueue[Changeset | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._is_interrupted = threading.Event()
        self._is_ended = False

    # For the worker's thread:

    def begin(self, files: Changeset) -> None:
        """Have files carried; their outcome must be asked for before the next ones are given."""
        self._is_interrupted.clear()
        self._batches.put(files)

    def outcome(self) -> Outcome | None:
        """Return how the batch went, once, when it has ended."""
        try:
            return self._outcomes.get_nowait()
        except queue.Empty:
            return None

    def interrupt(self) -> Outcome:
        """End the batch that was given, and return how it went, as soon as nothing of it runs."""
        self._is_interrupted.set()
        kill_at = time.monotonic() + _KILL_AFTER
        while True:
            # Once more after a while, since it may just have been about to start.
            is_late = time.monotonic() >= kill_at
            self.runs.runner.end(signal.SIGKILL if is_late else signal.SIGTERM)
            try:
                return self._outcomes.get(timeout=_BEAT)
            except queue.Empty:
                if self._is_ended or not self.is_alive():
                    return ENDED

    def finish(self) -> None:
        """Have the thread end when the batch that it has was carried."""
        self._batches.put(None)

    # For other threads:

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        self._is_ended = True
        self.runs.runner.end(number)
        self._batches.put(None)

    # For its own thread:

    def work(self) -> None:
        """Carry batches until told to finish."""
        while not self._is_ended:
            with self.pulse.waiting():
                files = self._batches.get()
            if files is None:
                break
            self._outcomes.put(self._carry(files))
            self._wake()
        self.runs.close()

    def _is_to_end(self) -> bool:
        return self._is_ended or self._is_interrupted.is_set()

    def _carry(self, files: Changeset) -> Outcome:
        try:
            with self._guard.opened() as root:
                kept, carried = apart(files, frozenset(self._guard.held))
                self._check_place()
                outcome = self._send(root, carried)
                self._guard.check(root)
                self._check_place()
        except SourceHeldError as error:
            return Outcome(Verdict.GUARDED, str(error), owed=files)
        except _ElsewhereError:
            # The worker finds that, too, and says what to do.
            reason = "it is not the directory that it was"
            return Outcome(Verdict.GUARDED, reason, owed=files)
        return replace(outcome, failed=kept) if kept else outcome

    def _check_place(self) -> None:
        known = self._place()
        if known is not None and known != identity_of_local(self.runs.destination):
            raise _ElsewhereError

    def _send(self, root: int, files: Changeset) -> Outcome:
        # Of what is something else by now, another change tells.
        entries = FileList(regular(root, (change.path for change in files)))
        self.runs.log.listed(entries)
        if not entries:
            return Outcome(Verdict.DONE)
        runs = self.runs
        command = runs.connected(runs.rsync).large(HERE, runs.destination)
        outcome, run = runs.run(root, command, entries.content())
        if outcome.verdict is Verdict.DONE:
            runs.log.done(run)
            return outcome
        # rsync finds those equal, the next time, that it has sent.
        return replace(outcome, message=gist(run.messages), owed=files)


class _ElsewhereError(Exception):
    """A local destination is not where it was."""
