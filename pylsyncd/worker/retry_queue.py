"""Changes to carry, and when."""

import random
import time

from pylsyncd.model.changes import Changeset
from pylsyncd.model.moments import earliest
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.pipeline.widening import LAST_STEP, widened
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy

# Seconds. What is waited for makes the changes due by itself.
_MAX_WAIT_FOR_OTHERS = 600.0

MAX_QUICK_RETRIES = 10
"""How many runs in a row may break off at a file before the next one waits."""

REACHING = frozenset([Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL])
"""After these the destination has carried out a run, if not completely."""


class RetryQueue:
    """Changes that are tried together, and the time of the next attempt."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.backlog = Backlog()
        self.due_at = 0.0
        """By the monotonic clock."""
        self.failure_count = 0
        """Failures in a row with the same verdict."""
        self.verdict = Verdict.DONE
        self.since: float | None = None
        """When the first of the changes was seen, by the monotonic clock; None if unknown."""

    def is_due(self) -> bool:
        """Return True if there are changes to try now."""
        return bool(self.backlog) and time.monotonic() >= self.due_at

    def make_due(self) -> None:
        """Let the next attempt start at once."""
        self.due_at = 0.0

    def schedule_retry(self, verdict: Verdict) -> None:
        """Count a failure and schedule the next attempt."""
        # Another verdict starts from the shortest pause: its cause is another one.
        self.failure_count = self.failure_count + 1 if verdict is self.verdict else 1
        self.verdict = verdict
        jitter = random.random()  # noqa: S311  # no secret
        pause = self._policy.pause_after(verdict, self.failure_count, jitter)
        self.due_at = time.monotonic() + pause

    def await_others(self) -> None:
        """Wait for newer changes, or for others that are being sent."""
        self.failure_count = 0
        self.verdict = Verdict.DONE
        self.due_at = time.monotonic() + _MAX_WAIT_FOR_OTHERS

    def reset(self) -> None:
        """Forget failures and times once the backlog is empty."""
        self.failure_count = 0
        self.verdict = Verdict.DONE
        self.due_at = 0.0
        self.since = None

    def include_since(self, since: float | None) -> None:
        """Lower ``since`` to the time of other changes in the backlog."""
        self.since = earliest(self.since, since)


class WideningQueue(RetryQueue):
    """Changes whose runs fail without naming a path: each retry looks at more, up to everything.

    A path that rsync shows under another name is found so. If not even a run of everything
    succeeds, the changes themselves are retried.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        super().__init__(policy)
        self._step = 0
        self._is_exhausted = False
        self._immediate_retries = policy.immediate_retries

    def take_widened(self) -> tuple[Changeset, Changeset]:
        """Remove and return the changes, and what the next attempt carries for them."""
        changes = self.backlog.take()
        return changes, widened(changes, self._step)

    def add_failed(self, changes: Changeset, verdict: Verdict) -> None:
        """Add changes whose run has failed, and schedule the next attempt.

        Later changes are carried before them, so their moves do not tell any more where a copy is.
        """
        self.backlog.add(changes.with_moves(None))
        if verdict is Verdict.RETRY_NOW and self._immediate_retries > 0 == self._step:
            # The source changed under rsync: that may not happen again.
            self._immediate_retries -= 1
        elif verdict in REACHING:
            self._widen()
            verdict = Verdict.PARTIAL
        self.schedule_retry(verdict)

    def _widen(self) -> None:
        if not self._is_exhausted:
            self._step = (self._step + 1) % (LAST_STEP + 1)
            self._is_exhausted = not self._step

    def stop_widening(self) -> None:
        """Let the next attempts look at nothing else."""
        self._step, self._is_exhausted = 0, True

    def hasten(self) -> None:
        """Let the first wider attempt start at once: the source is not quiet any more."""
        if self._step == 1:
            self.make_due()

    def reset(self) -> None:
        """Forget failures, times and steps once the backlog is empty."""
        super().reset()
        self._step, self._is_exhausted = 0, False
        self._immediate_retries = self._policy.immediate_retries
