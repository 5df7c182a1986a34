"""The statistics of one destination."""

import threading
import time
from bisect import bisect_left
from collections import Counter

from pylsyncd.model.status import LAG_BOUNDS, DestinationCounts, RunStatus
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.runner import RunResult


class Statistics:
    """Counters of runs and lags. The worker and the large-file worker both count runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.last_run: RunStatus | None = None
        self.last_success: float | None = None
        """When the last successful run ended, in seconds since the epoch; None if none has."""
        self._latest_carried_ns = self._latest_listed_ns = time.time_ns()
        self._outcomes: Counter[str] = Counter()
        self._exit_statuses: Counter[int] = Counter()
        self._full_syncs: Counter[str] = Counter()
        self._files = self._deleted = self._bytes_sent = 0
        self._lags = [0] * (len(LAG_BOUNDS) + 1)
        self._lag_sum = 0.0
        self._repaired = 0
        self._moved_files = self._moved_bytes = 0

    def count_run(self, outcome: Outcome, run: RunResult) -> None:
        """Count a run of rsync."""
        with self._lock:
            self._outcomes[outcome.label] += 1
            self._exit_statuses[run.exit_status] += 1
            self._files += run.files
            self._deleted += run.deleted
            self._bytes_sent += run.bytes_sent
            self.last_run = RunStatus(
                time.time(), run.seconds, outcome.label, run.exit_status, run.files, run.deleted,
                run.bytes_sent,
            )  # fmt: skip
            if outcome.verdict is Verdict.DONE:
                self.last_success = self.last_run.ended

    @property
    def latest_carried_ns(self) -> int:
        """The latest time, in nanoseconds, of a file that runs so far may have carried."""
        with self._lock:
            return self._latest_carried_ns

    @property
    def latest_listed_ns(self) -> int:
        """The same if each copy has got exactly the time that its file had in rsync's list."""
        with self._lock:
            return self._latest_listed_ns

    def record_carried(self, latest_ns: int, listed_ns: int = 0) -> None:
        """Record that a run may have carried files with times up to one, in nanoseconds.

        ``listed_ns`` is the latest time of a file in its list, 0 if that is unknown.
        """
        with self._lock:
            self._latest_carried_ns = max(self._latest_carried_ns, latest_ns)
            self._latest_listed_ns = max(self._latest_listed_ns, listed_ns or latest_ns)

    def count_confirmed(self, lag: float) -> None:
        """Count changes confirmed ``lag`` seconds after the first of them was seen."""
        self._lags[bisect_left(LAG_BOUNDS, lag)] += 1
        self._lag_sum += lag

    def count_full_sync(self, title: str) -> None:
        """Count a completed full sync."""
        self._full_syncs[title] += 1

    def count_repaired(self, paths: int) -> None:
        """Count paths that others had changed at the destination."""
        self._repaired += paths

    def count_moved(self, files: int, size: int) -> None:
        """Count files that were moved at the destination."""
        self._moved_files += files
        self._moved_bytes += size

    def counts(self) -> DestinationCounts:
        """Return the counters; any thread may call this."""
        with self._lock:
            return DestinationCounts(
                dict(self._outcomes), dict(self._exit_statuses), self._files, self._deleted,
                self._bytes_sent, dict(self._full_syncs), tuple(self._lags), self._lag_sum,
                self._repaired, self._moved_files, self._moved_bytes,
            )  # fmt: skip
