"""Sends large files to one destination, while its worker goes on with all else.

What is sent is only what a list of regular files names: nothing is deleted. What may happen to
these files meanwhile, and what the worker's runs must not touch, `pylsyncd.destination.lane` knows.
"""

import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from pylsyncd.destination.turns import Turns
from pylsyncd.model.changes import Changeset
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.optimizer import apart
from pylsyncd.model.paths import Identity
from pylsyncd.rsync.commands import HERE, Rsync
from pylsyncd.rsync.filelist import FileList, regular
from pylsyncd.rsync.outcomes import Outcome, Verdict, gist, interpret
from pylsyncd.rsync.runlog import RunLog
from pylsyncd.rsync.runner import Run, Runner
from pylsyncd.rsync.sharing import Share
from pylsyncd.source.guard import Guard, SourceHeldError, identity_of_local
from pylsyncd.system.part import Part

# Seconds between two signals to a run that is to end, and from asking it to killing it.
_BEAT = 0.5
_KILL_AFTER = 5.0

_ENDED = Outcome(Verdict.LATER, "the run was ended")


class Bulk(Part):
    """Carries one batch of files at a time. Its worker's thread gives them, and is woken."""

    def __init__(  # noqa: PLR0913  # those of a carrier, and three callables
        self,
        guard: Guard,
        destination: Destination,
        rsync: Rsync,
        marks: Mapping[str, str],
        *,
        place: Callable[[], Identity | None],
        wake: Callable[[], None],
        failed: Callable[[str], None],
        turns: Turns | None = None,
        share: Share | None = None,
    ) -> None:
        """Make one.

        ``place`` tells who a local destination's directory is as far as the worker knows; ``wake``
        is called by this thread when a batch has ended.
        """
        super().__init__(f"{destination.name} (large files)", failed)
        self.guard = guard
        self._destination = destination
        self._rsync = rsync
        self._place = place
        self._wake = wake
        self._turns = turns or Turns()
        self._share = share
        self._runner = Runner(marks)
        self._log = RunLog(destination.name, dry_run=rsync.dry_run)
        self._patience = 1.5 * rsync.timeout
        self._batches: queue.SimpleQueue[Changeset | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._is_interrupted = threading.Event()
        self._is_ended = False
        self.ran: Run | None = None
        """The last run, once its outcome was told."""

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
            self._runner.end(signal.SIGKILL if is_late else signal.SIGTERM)
            try:
                return self._outcomes.get(timeout=_BEAT)
            except queue.Empty:
                if self._is_ended or not self.is_alive():
                    return _ENDED

    def finish(self) -> None:
        """Have the thread end when the batch that it has was carried."""
        self._batches.put(None)

    # For other threads:

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        self._is_ended = True
        self._runner.end(number)
        self._batches.put(None)

    # For its own thread:

    def work(self) -> None:
        """Carry batches until told to finish."""
        while not self._is_ended:
            with self.pulse.waiting():
                files = self._batches.get()
            if files is None:
                return
            self._outcomes.put(self._carry(files))
            self._wake()

    def _is_to_end(self) -> bool:
        return self._is_ended or self._is_interrupted.is_set()

    def _carry(self, files: Changeset) -> Outcome:
        try:
            with self.guard.opened() as root:
                kept, carried = apart(files, frozenset(self.guard.held))
                self._check_place()
                outcome = self._send(root, carried)
                self.guard.check(root)
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
        if known is not None and known != identity_of_local(self._destination):
            raise _ElsewhereError

    def _send(self, root: int, files: Changeset) -> Outcome:
        # Of what is something else by now, another change tells.
        entries = FileList(regular(root, (change.path for change in files)))
        self._log.listed(entries)
        if not entries:
            return Outcome(Verdict.DONE)
        outcome, run = self._run(root, entries.content())
        self.ran = run
        if outcome.verdict is Verdict.DONE:
            self._log.done(run)
            return outcome
        # rsync finds those equal, the next time, that it has sent.
        return replace(outcome, message=gist(run.messages), owed=files)

    def _run(self, root: int, content: bytes) -> tuple[Outcome, Run]:
        with self.pulse.waiting(), self._turns.taken(self._is_to_end) as is_granted:
            if not is_granted:
                return _ENDED, Run()
            rsync = self._share.applied(self._rsync) if self._share else self._rsync
            command = rsync.large(HERE, self._destination)
            self._log.begins(command, is_trial=False)
            run = self._runner.run(
                command, content, self._log.item, directory=root, silence=self._patience
            )
        if self._share:
            self._share.ended(run.code)
        outcome = interpret(run.code, run.messages, run.stalled)
        self._log.ended(run.code, outcome.reason)
        return outcome, run


class _ElsewhereError(Exception):
    """A local destination is not where it was."""
