"""Reports failures and recoveries of one destination to the log and to hooks."""

import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import replace

from pylsyncd.model.changes import NOTHING, Changeset, format_changes
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.formatting import format_count
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.rsync.outcomes import RELEASE_COMMAND, UNRESOLVED, Outcome, Verdict
from pylsyncd.rsync.runner import RunResult
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.threads import Crash, CrashLog
from pylsyncd.worker.retry_queue import RetryQueue
from pylsyncd.worker.session import SessionRun
from pylsyncd.worker.transfer_result import TransferResult

log = logging.getLogger(__name__)

HELD_VERDICTS = frozenset([Verdict.HELD, Verdict.SOURCE_UNSAFE])
"""With these the changes are held until a person acts."""

_NO_FAILURE = Outcome(Verdict.DONE)

_SUBTREE_HELD = "a file system below the source was mounted or unmounted"

_CRASHED = "an unexpected error in pylsyncd stopped its worker"

# How many different failures are remembered, so that each is reported loudly once.
_MAX_REPORTED_FAILURES = 1_000


class FailureReporter:
    """The reporter of one destination: each failure is news once, until the next recovery."""

    def __init__(
        self, destination: Destination, source: bytes, on_notice: Callable[[Notice], None]
    ) -> None:
        """Create a reporter; the worker's thread calls ``on_notice``, which must not block."""
        self._destination = destination
        self._source = source
        self._on_notice = on_notice
        self.reported: set[tuple[str, int]] = set()
        """The reasons reported since the last recovery, and a hash of the paths they are about."""
        self._reported_held: frozenset[bytes] = frozenset()
        self._crash_log = CrashLog()
        self.has_crashed = False
        """True if the worker was ended by an unforeseen error since the last recovery."""
        self.last_error = ""
        """The last failure as a sentence; empty after a recovery."""
        self.failing_since: float | None = None
        """When the first failure since the last recovery was, in seconds since the epoch."""

    def report_failure(
        self, result: TransferResult, attempts: RetryQueue, *, is_stopping: bool
    ) -> None:
        """Report a failure: as a warning if it is new, else only for verbose logs."""
        if result.verdict is Verdict.DONE:
            return
        outcome = addressed(result.outcome, self._destination)
        pause = max(0.0, attempts.due_at - time.monotonic())
        self._record_error(describe_failure(outcome, self._destination))
        # Without rsync's message, which may contain a random name.
        failure = outcome.reason, hash(frozenset(change.path for change in result.failed))
        is_new = pause > 0.0 and failure not in self.reported
        log.log(
            logging.WARNING if is_new else logging.INFO,
            "[%s] %s %sPending: %s%s.",
            self._destination.name, self.last_error,
            "Held until you act. " if outcome.verdict is Verdict.HELD else "",
            _format_amount(attempts.backlog),
            "" if is_stopping else f"; next attempt in {pause:.0f} s",
        )  # fmt: skip
        if not is_new:
            return
        self._remember(failure)
        kind = NoticeKind.HELD if outcome.verdict in HELD_VERDICTS else NoticeKind.ERROR
        self._report(kind, result.run, result.pending, outcome)

    def report_unset_attributes(self, result: TransferResult, *, is_new: bool) -> None:
        """Report attributes that a run could not set: as a warning if there were none before."""
        if result.unset_attributes:
            log.log(
                logging.WARNING if is_new else logging.INFO,
                "[%s] %s Concerned: %s.",
                self._destination.name, describe_failure(result.outcome, self._destination),
                format_count(len(result.unset_attributes), "path"),
            )  # fmt: skip

    def report_held(self, result: TransferResult) -> None:
        """Report to hooks which subtrees a run has left out, once; the source's monitor logs it."""
        held = frozenset(result.held.trees)
        if held - self._reported_held:
            self._report(
                NoticeKind.HELD, result.run, result.held, Outcome(Verdict.HELD, _SUBTREE_HELD)
            )
        if held or result.verdict is Verdict.DONE:
            self._reported_held = held

    def report_crash(self, crash: Crash, pause: float | None) -> None:
        """Report that an unforeseen error has ended the worker: the traceback of each bug once.

        ``pause`` is the number of seconds until the next attempt; None if there is none.
        """
        failure = f"{_CRASHED} at {crash.place}", 0
        is_news = failure not in self.reported
        self.has_crashed = True
        self._record_error(f"{_CRASHED} ({crash.error}). Please report this.")
        attempt = "" if pause is None else f" Next attempt in {pause:.0f} s."
        self._crash_log.report(
            crash, f"[{self._destination.name}] {self.last_error}{attempt}", is_news=is_news
        )
        if is_news:
            self._remember(failure)
            self._report(
                NoticeKind.ERROR, None, outcome=Outcome(Verdict.HELD, _CRASHED, crash.error)
            )

    def continue_after(self, other: "FailureReporter") -> None:
        """Report the recovery from what another reporter of the destination has reported."""
        self.reported |= other.reported
        self.has_crashed = other.has_crashed
        self.last_error = other.last_error
        self.failing_since = other.failing_since

    def report_recovery(self) -> None:
        """Report that the destination works again, if a failure was reported before."""
        if self.reported:
            log.log(NOTICE, "[%s] works again.", self._destination.name)
            self.reported.clear()
            self._report(NoticeKind.RECOVERY, None)
        self.has_crashed = False
        self.last_error = ""
        self.failing_since = None

    def report_run(self, changeset: Changeset, run: SessionRun | None) -> None:
        """Report a run that has carried a changeset."""
        if run is not None and run.outcome.verdict is Verdict.DONE:
            self._report(NoticeKind.BATCH, run, changeset)

    def report_repair(self, repaired: Changeset, run: SessionRun) -> None:
        """Report paths that others had changed at the destination, and that a run has repaired."""
        log.log(
            NOTICE, "[%s] repaired %s that did not equal the source: %s",
            self._destination.name, format_count(len(repaired), "path"), format_changes(repaired),
        )  # fmt: skip
        self._report(NoticeKind.REPAIR, run, repaired)

    def _record_error(self, error: str) -> None:
        self.last_error = error
        if self.failing_since is None:
            self.failing_since = time.time()

    def _remember(self, failure: tuple[str, int]) -> None:
        if len(self.reported) < _MAX_REPORTED_FAILURES:
            self.reported.add(failure)

    def _report(
        self,
        kind: NoticeKind,
        run: SessionRun | None,
        changeset: Changeset = NOTHING,
        outcome: Outcome = _NO_FAILURE,
    ) -> None:
        done = RunResult() if run is None else run.result
        to = self._destination
        notice = Notice(
            kind, to.name, to.notation, self._source, outcome.reason, outcome.message,
            done.exit_status, done.files, done.deleted, done.bytes_sent, done.seconds,
            done.moved_files, done.moved_bytes, changeset,
        )  # fmt: skip
        self._on_notice(notice)


def addressed(outcome: Outcome, destination: Destination) -> Outcome:
    """Return an outcome whose texts name a destination in what they tell a person to do."""
    reason, message = (
        text.replace(RELEASE_COMMAND, f"pylsyncctl release {shlex.quote(destination.name)}")
        for text in (outcome.reason, outcome.message)
    )
    if reason == UNRESOLVED and not set("/:@") & set(destination.notation):
        reason += f". If {destination.notation} is a directory, write ./{destination.notation}"
    return replace(outcome, reason=reason, message=message)


def describe_failure(outcome: Outcome, destination: Destination) -> str:
    """Return the reason and rsync's message as a sentence."""
    outcome = addressed(outcome, destination)
    message = f" ({outcome.message})" if outcome.message else ""
    return f"{outcome.reason}{message}."


def _format_amount(backlog: Backlog) -> str:
    return "everything" if backlog.is_everything else format_count(len(backlog), "change")
