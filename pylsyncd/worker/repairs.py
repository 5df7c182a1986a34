"""When which directories are offered to a destination again, to undo what others changed there.

In a *round* every directory is offered once. A round takes ``interval`` seconds; its slices are
spread evenly over it. A slice costs at most what ``_MAX_SLICE`` says: a larger tree takes longer.
"""

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset
from pylsyncd.model.moments import CTIME_SLACK
from pylsyncd.model.paths import split
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.items import ItemizedPath
from pylsyncd.rules.excludes import Rules
from pylsyncd.state.repair_state import RepairFile, RepairState
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError
from pylsyncd.worker.repair_walk import WalkLimits, WalkPart, next_part
from pylsyncd.worker.verification import Verification

# Seconds between two slices at least, and as a share of the interval.
_LEAST_PAUSE = 60.0
_LEAST_PAUSE_SHARE = 0.1

# Seconds at most after a slice that did not reach the destination.
_RETRY_PAUSE = 60.0

# rsync takes 7 microseconds for an entry: a slice delays a window by a tenth of a second.
_MAX_SLICE = WalkLimits(directories=1_000, entries=10_000)


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """How often the directories of a source are offered to one destination."""

    interval: float = 0.0
    """Seconds for all of them; 0.0 for never."""
    window: float = 0.0
    """Seconds that a change of the source waits for the end of its window."""
    count_directories: Callable[[], int] = lambda: 1
    """Returns about how many directories the source has."""


class Repairs:
    """The rounds of one destination. Used by its worker's thread; any thread may read the status.

    Without a file nothing is kept from one run of the daemon to the next. A complete round verifies
    the destination. One that began before the start does not: it may have been about another copy.
    """

    def __init__(
        self,
        guard: SourceGuard,
        rules: Rules,
        plan: RepairPlan,
        file: RepairFile | None = None,
        verification: Verification | None = None,
    ) -> None:
        self._guard = guard
        self._rules = rules
        self._interval = plan.interval
        self._file = file
        self._count_directories = plan.count_directories
        self._window = plan.window
        self._verification = verification or Verification()
        self._state = RepairState() if file is None else file.load()
        self._has_begun_round = False
        self._part: WalkPart | None = None
        self.due_at: float | None = None
        """When the next slice is due, by the monotonic clock; None for never."""
        if plan.interval:
            self._resume()

    @property
    def compared_since(self) -> float | None:
        """All of the destination was compared since, in seconds since the epoch; None if never."""
        return self._state.compared_since

    def next_slice(self) -> Changeset:
        """Return the listings to offer now; none if the source cannot be read.

        They are offered again until they are confirmed.
        """
        self._part = None
        try:
            with self._guard.open_checked() as root:
                held = frozenset(self._guard.held_subtrees)
                self._part = next_part(
                    root, self._rules, self._state.position, self._limits(), held
                )
        except (OSError, SourceHeldError):
            self.postpone_after_failure()
            return NOTHING
        if not self._part.directories:
            # The last slice ended with the last directory.
            self.confirm_slice()
            return NOTHING
        listings = MutableChangeset()
        listings.listings.update(self._part.directories)
        return listings

    def options(self, options: RsyncOptions) -> RsyncOptions:
        """Return the options of a slice: ``max_delete`` is for all slices of a round together."""
        limit = options.max_delete
        if limit is not None:
            limit = max(0, limit - self._state.deleted)
        return replace(options, itemize=True, max_delete=limit)

    def postpone_after_failure(self) -> None:
        """Offer the last slice again after a pause: the destination or the source is not there."""
        self._part = None
        self.postpone(min(_RETRY_PAUSE, self._pause()))

    def confirm_slice(self, deleted: int = 0, *, is_released: bool = False) -> None:
        """Go on after the last slice, which has deleted so many paths.

        After one that a person has released, the deletions are counted from 0.
        """
        part, state = self._part, self._state
        if part is None:
            return
        self._part = None
        now = time.time()
        if part.is_last:
            # A clock that was set back must not make a round endless.
            start = min(state.round_start, now)
            self._state = RepairState(compared_since=start)
            if self._has_begun_round:
                self._verification.record_complete()
            self._save()
            self.due_at = time.monotonic() + max(self._pause(), start + self._interval - now)
            return
        self._state = replace(
            state,
            round_start=state.round_start or now,
            position=part.directories[-1],
            directories=state.directories + len(part.directories),
            deleted=0 if is_released else state.deleted + deleted,
        )
        self._save()
        self.postpone(self._pause())

    def repaired(self, items: Collection[ItemizedPath]) -> list[ItemizedPath]:
        """Return the items of a run without those that a late change of the source may explain.

        Such a change waits for the end of its window, or of a window without a modification.
        """
        if not items:
            return []
        since_ns = int((time.time() - 2.0 * self._window - CTIME_SLACK) * 1e9)
        try:
            with self._guard.open_checked() as root:
                return [item for item in items if not _is_recent(item, root, since_ns)]
        except SourceHeldError:
            return []

    def postpone(self, seconds: float) -> None:
        """Offer the next slice after a pause."""
        self.due_at = time.monotonic() + seconds

    def record_full_sync(self, start: float) -> None:
        """Record that a full sync has compared everything since a time: the next round can wait."""
        self._part = None
        self._state = RepairState(compared_since=start)
        self._save()
        if self._interval:
            self.postpone(max(self._pause(), start + self._interval - time.time()))

    def _resume(self) -> None:
        """Schedule the next slice after a start."""
        state, now = self._state, time.time()
        pause = self._pause()
        if not state.round_start and state.compared_since is not None:
            pause = max(pause, min(self._interval, state.compared_since + self._interval - now))
        self.postpone(pause)

    def _limits(self) -> WalkLimits:
        """Start a round if there is none; return what the next slice may cost."""
        now = time.time()
        if not self._state.round_start:
            self._state = replace(self._state, round_start=now)
            self._has_begun_round = True
        left = max(0, self._count_directories() - self._state.directories)
        pause = self._pause()
        seconds_left = self._state.round_start + self._interval - now
        count = round(left * pause / seconds_left) if seconds_left > pause else left
        return _MAX_SLICE._replace(directories=max(1, min(count, _MAX_SLICE.directories)))

    def _pause(self) -> float:
        """Return the seconds between two slices."""
        least = min(_LEAST_PAUSE, _LEAST_PAUSE_SHARE * self._interval)
        return max(least, self._interval / max(1, self._count_directories()))

    def _save(self) -> None:
        if self._file is not None:
            self._file.save(self._state)


def _is_recent(item: ItemizedPath, root: int, since_ns: int) -> bool:
    # A name goes with a change of its directory.
    path = split(item.path)[0] if item.is_deleted else item.path
    try:
        return os.lstat(path or b".", dir_fd=root).st_ctime_ns >= since_ns
    except OSError:
        return True


def repaired_changes(items: Collection[ItemizedPath]) -> MutableChangeset:
    """Return the repaired paths as changes."""
    changes = MutableChangeset()
    for item in items:
        changes.add(item.path, Scope.ENTRY)
    return changes


def new_directories(items: Collection[ItemizedPath]) -> MutableChangeset:
    """Return the directories that were missing at the destination, as trees: they are empty now."""
    changes = MutableChangeset()
    for item in items:
        if item.is_new_directory and item.path:
            changes.add(item.path, Scope.TREE)
    return changes
