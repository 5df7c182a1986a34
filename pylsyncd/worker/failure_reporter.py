"""What is complained of to people and hooks: each thing once, until all is well again."""

import logging
import time
from collections.abc import Callable

from pylsyncd.model.changes import NOTHING, Changeset
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.formatting import format_count
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.model.status import RunStatus
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.system.logs import NOTICE
from pylsyncd.worker.retry_queue import RetryQueue

log = logging.getLogger(__name__)

HELD_VERDICTS = frozenset([Verdict.HELD, Verdict.SOURCE_UNSAFE])
"""These wait for somebody to look."""

_NO_FAILURE = Outcome(Verdict.DONE)
_NO_RUN = RunStatus(0.0, 0.0, "", 0)

# So many different complaints are remembered, so as not to be repeated.
_KEPT = 1_000


class FailureReporter:
    """Speaks for one destination."""

    def __init__(
        self, destination: Destination, source: bytes, tell: Callable[[Notice], None]
    ) -> None:
        """Make one; ``tell`` is called by the worker's thread, and must not block."""
        self._destination = destination
        self._source = source
        self._tell_others = tell
        # What was complained of since all was well, and about which paths.
        self._known: set[tuple[str, frozenset[bytes]]] = set()
        self.last_error = ""
        """The last one, in words; empty when all is well."""
        self.is_stopping = False
        """Whether nothing is tried again, since pylsyncd stops."""

    def report_failure(self, outcome: Outcome, attempts: RetryQueue, run: RunStatus | None) -> None:
        """Log a failure: loudly when it is news, else for those who want to see every run."""
        if outcome.verdict is Verdict.DONE:
            return
        pause = max(0.0, attempts.due_at - time.monotonic())
        held = "Held until somebody looks. " if outcome.verdict is Verdict.HELD else ""
        self.last_error = describe_failure(outcome)
        # Not what rsync says: there may be a random name in it.
        complaint = outcome.reason, frozenset(change.path for change in outcome.failed)
        is_news = pause > 0.0 and complaint not in self._known
        log.log(
            logging.WARNING if is_news else logging.INFO,
            "[%s] %s %sOwed: %s%s.",
            self._destination.name, self.last_error, held, _amount(attempts.backlog),
            "" if self.is_stopping else f"; next attempt in {pause:.0f} s",
        )  # fmt: skip
        if not is_news:
            return
        if len(self._known) < _KEPT:
            self._known.add(complaint)
        kind = NoticeKind.HELD if outcome.verdict in HELD_VERDICTS else NoticeKind.ERROR
        self._tell(kind, run, outcome.pending, outcome)

    def report_recovery(self) -> None:
        """Say that all is well again, if it was not."""
        if self._known:
            log.log(NOTICE, "[%s] works again.", self._destination.name)
            self._known.clear()
            self._tell(NoticeKind.RECOVERY, None)
        self.last_error = ""

    def report_run(self, changeset: Changeset, run: RunStatus | None) -> None:
        """Tell that a run has carried something."""
        if run is not None and run.outcome == Verdict.DONE.value:
            self._tell(NoticeKind.BATCH, run, changeset)

    def _tell(
        self,
        kind: NoticeKind,
        run: RunStatus | None,
        changeset: Changeset = NOTHING,
        outcome: Outcome | None = None,
    ) -> None:
        failed = outcome or _NO_FAILURE
        ran = run or _NO_RUN
        to = self._destination
        notice = Notice(
            kind, to.name, to.notation, self._source, failed.reason, failed.message,
            ran.code, ran.files, ran.deleted, ran.bytes_sent, ran.seconds, changeset,
        )  # fmt: skip
        self._tell_others(notice)


def _amount(debt: Backlog) -> str:
    return "everything" if debt.is_everything else format_count(len(debt), "change")


def describe_failure(outcome: Outcome) -> str:
    """Return why, in our words and in those of rsync, as a sentence."""
    said = f" ({outcome.message})" if outcome.message else ""
    return f"{outcome.reason}{said}."
