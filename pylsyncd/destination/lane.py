"""What a worker owes of large files, and how their runs and its own keep out of each other's way.

Measured with rsync 3.5.0, a run with a list or of everything beside one that sends a large file:

* a directory that is listed, or a full sync, deletes what the file is written to until it is
  complete (``.name.XXXXXX``), and the file's own run fails (exit 23, ``rename ... failed``); but
  not where a rule protects these names, and the file itself is left out;
* at its end, the file's run gives the directories above it the times and modes that they had when
  it began: so they have to be sent again afterwards.
"""

import contextlib
import signal
from collections.abc import Set as AbstractSet

from pylsyncd.destination.attempts import Attempts
from pylsyncd.destination.bulk import Bulk
from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changes, Changeset, Scope
from pylsyncd.model.optimizer import apart
from pylsyncd.rsync.filelist import regular
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.retry import Pauses
from pylsyncd.rsync.temporaries import names
from pylsyncd.system import walk

MOST_IN_FLIGHT = 100
"""How many files go in one run: each costs three arguments of the worker's own runs."""

# More bytes of paths would be too much for these arguments, of which longer ones are dropped.
_LONGEST_IN_FLIGHT = 4_000
_ALL_IN_FLIGHT = 100_000


class Lane:
    """The account of one destination's large files. Used by its worker's thread.

    While a file is in flight, changes that touch it wait for its end; but if it is no regular file
    any more, its run is ended first.
    """

    def __init__(self, bulk: Bulk | None, pauses: Pauses) -> None:
        """Make one; without a ``bulk`` there is nothing in it ever."""
        self.bulk = bulk
        self._pauses = pauses
        self.attempts = Attempts()
        """The files that are owed and not in flight."""
        self._flight: Changeset = NOTHING
        # What the worker is to look at: when the flight has ended, and now.
        self._deferred = Changes()
        self._back = Changes()
        # How many are sent at a time: one after a run that was ended since one of them had gone.
        self._batch = 1
        self.landed_since: float | None = None
        """Since when something of the last flight was owed, by the monotonic clock, if known."""
        self.is_open = True
        """Whether the worker may leave files to this lane.

        If not, it carries all that it owes itself, since it can tell apart what fails, and opens
        the lane again when it owes nothing.
        """

    # For other threads:

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the rsync that runs, and have no other one started."""
        if self.bulk is not None:
            self.bulk.end(number)

    # For the worker's thread:

    def start(self) -> None:
        """Be ready to begin."""
        if self.bulk is not None:
            self.bulk.start()

    def finish(self) -> None:
        """Return when nothing runs any more."""
        if self.bulk is not None:
            self.bulk.finish()
            self.bulk.join()

    def __bool__(self) -> bool:
        return bool(self.attempts.debt or self._flight or self._deferred or self._back)

    @property
    def in_flight(self) -> frozenset[bytes]:
        """The files that are being sent: what the worker's rsync has to be told."""
        return frozenset(change.path for change in self._flight)

    @property
    def due(self) -> float | None:
        """When there is something to begin, by the monotonic clock; None for nothing."""
        return self.attempts.due if self.attempts.debt and not self._flight else None

    @property
    def waiting(self) -> int:
        """How many changes are not confirmed; any thread may ask."""
        changesets: tuple[Changeset, ...] = (self._flight, self._deferred, self._back)
        return len(self.attempts.debt) + sum(len(changeset) for changeset in changesets)

    @property
    def owed(self) -> Changes:
        """All that is not confirmed."""
        return _joined(self.attempts.debt.owed, self._flight, self._deferred, self._back)

    def add(self, large: Changeset, since: float | None = None) -> None:
        """Owe files that the worker has left out of a run."""
        if large:
            self.attempts.debt.add(large)
            self.attempts.waits_since(since)

    def beside(self, changeset: Changeset) -> Changeset:
        """Return what of these changes the worker's run may carry now; the rest is kept here.

        More than these may come back, and until that run has ended nothing may be begun here.
        """
        flight = self.in_flight
        if self.bulk is None or not flight:
            return changeset
        if gone := _gone(self.bulk.source, changeset, flight):
            self._call_back(self.bulk.interrupt(), gone)
            return _joined(changeset, self.back())
        inside, outside = apart(changeset, flight)
        self._deferred.merge(inside)
        for path in flight:
            directory, _ = paths.split(path)
            # What a file in flight may be written to, that run does not delete.
            spared = frozenset(filter(names(path).fullmatch, outside.entries.get(directory, ())))
            self._deferred.add_entries(directory, spared)
            outside = _less(outside, directory, spared)
            if _is_listed(outside, directory):
                self._deferred.add(directory, Scope.LISTING)
        return outside

    def begin(self) -> None:
        """Send what is due, if nothing is in flight. Not while a run of the worker is."""
        if self.bulk is None or self._flight or not self.attempts.is_due():
            return
        flight, rest = Changes(), Changes()
        room = _ALL_IN_FLIGHT
        for change in sorted(self.attempts.debt.take()):
            if change.scope is not Scope.ENTRY or len(change.path) > _LONGEST_IN_FLIGHT:
                # It stands for too many to remember, or would be too long for a rule.
                self._back.add(*change)
                self.is_open = False
            elif len(flight) < self._batch and len(change.path) <= room:
                flight.add(*change)
                room -= len(change.path)
            else:
                rest.add(*change)
        self.attempts.debt.add(rest)
        if flight:
            self._flight = flight
            self.bulk.begin(flight)

    def land(self) -> Outcome | None:
        """Return how a flight went, once, when it has ended."""
        outcome = self.bulk.outcome() if self.bulk is not None and self._flight else None
        if outcome is not None:
            self._land(outcome)
        return outcome

    def back(self) -> Changes:
        """Return what the worker is to carry now, once."""
        back, self._back = self._back, Changes()
        return back

    def _call_back(self, outcome: Outcome, gone: AbstractSet[bytes]) -> None:
        """Take a flight that was ended: what has gone is the worker's, the rest is sent anew."""
        self._land(outcome)
        inside, outside = apart(self.attempts.debt.take(), gone)
        self._back.merge(inside)
        self.attempts.debt.add(outside)
        self.attempts.failures = 0
        self.attempts.due = 0.0
        self._batch = 1

    def _land(self, outcome: Outcome) -> None:
        flight, self._flight = self._flight, NOTHING
        for change in flight:
            for above in paths.ancestors(change.path):
                self._back.add(above, Scope.ENTRY)
            if outcome.verdict is not Verdict.DONE:
                # What the file was written to may be left there.
                self._back.add(paths.split(change.path)[0], Scope.LISTING)
        self._back.merge(self._deferred)
        self._back.merge(outcome.failed)
        self._deferred = Changes()
        if outcome.verdict is Verdict.DONE:
            self._batch = min(2 * self._batch, MOST_IN_FLIGHT)
            self.attempts.failures = 0
            self.attempts.due = 0.0
        elif outcome.verdict is Verdict.PARTIAL:
            self._back.merge(flight)
            self.is_open = False
        else:
            self.attempts.debt.add(flight)
            self.attempts.put_off(self._pauses, outcome.verdict)
        self.landed_since = self.attempts.since
        if not self.attempts.debt:
            self.attempts.start_anew()


def _gone(source: bytes, changeset: Changeset, flight: AbstractSet[bytes]) -> set[bytes]:
    """Return the files in flight that these changes touch and that are none any more."""
    changed = {change.path for change in changeset}
    inside, _ = apart(changeset, flight)
    above_changed = {above for change in inside for above in paths.ancestors(change.path)}
    touched = {
        path
        for path in flight
        if path in changed or path in above_changed or not changed.isdisjoint(paths.ancestors(path))
    }
    # A source that is gone is the guard's to notice.
    with contextlib.suppress(OSError), walk.opened_root(source) as root:
        return touched - regular(root, touched)
    return set()


def _joined(*changesets: Changeset) -> Changes:
    joined = Changes()
    for changeset in changesets:
        joined.merge(changeset)
    return joined


def _less(changeset: Changeset, directory: bytes, names: AbstractSet[bytes]) -> Changeset:
    """Return the same without the entries of these names in a directory."""
    if not names:
        return changeset
    less = _joined(changeset)
    less.entries[directory] -= names
    if not less.entries[directory]:
        del less.entries[directory]
    return less


def _is_listed(changeset: Changeset, directory: bytes) -> bool:
    """Tell whether somebody who carries these changes lists a directory."""
    at_or_above = {directory, *paths.ancestors(directory)}
    return directory in changeset.listings or not at_or_above.isdisjoint(changeset.trees)
