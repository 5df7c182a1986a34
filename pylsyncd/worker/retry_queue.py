"""What is owed, and when it is tried again."""

import random
import time

from pylsyncd.model.moments import earliest
from pylsyncd.pipeline.backlog import Backlog
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.retry_policy import RetryPolicy


class RetryQueue:
    """Changes that are owed, and when they are tried the next time."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self.due_at = 0.0
        """By the monotonic clock."""
        self.failure_count = 0
        self.verdict = Verdict.DONE
        self.since: float | None = None
        """When the first of the changes was seen, by the monotonic clock, as far as it is known."""

    def is_due(self) -> bool:
        """Tell whether there is something to try now."""
        return bool(self.backlog) and time.monotonic() >= self.due_at

    def schedule_retry(self, pauses: RetryPolicy, verdict: Verdict) -> None:
        """Take note of a failure, and plan the next attempt."""
        # Pauses grow with failures of one kind: that the source changed says nothing of a network.
        self.failure_count = self.failure_count + 1 if verdict is self.verdict else 1
        self.verdict = verdict
        jitter = random.random()  # noqa: S311  # no secret
        self.due_at = time.monotonic() + pauses.pause_after(verdict, self.failure_count, jitter)

    def reset(self) -> None:
        """Forget the failures, and since when there was something: nothing is owed any more."""
        self.failure_count = 0
        self.verdict = Verdict.DONE
        self.due_at = 0.0
        self.since = None

    def include_since(self, moment: float | None) -> None:
        """Take note of when other changes were seen that are owed, too."""
        self.since = earliest(self.since, moment)
