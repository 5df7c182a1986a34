"""Carries one changeset to one destination with one rsync, and says how it went."""

import os
import stat
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from pylsyncd.destination.bulk import Bulk
from pylsyncd.destination.means import Means
from pylsyncd.destination.runs import Runs
from pylsyncd.destination.spot import RELEASE, DestinationHeldError, Spot
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changes, Changeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.optimizer import apart
from pylsyncd.rsync import filelist
from pylsyncd.rsync.commands import HERE, Abilities, Rsync
from pylsyncd.rsync.failures import failed, skips_deletions, target_shown
from pylsyncd.rsync.largefiles import Largest
from pylsyncd.rsync.outcomes import Outcome, Verdict, gist
from pylsyncd.rsync.runner import Run
from pylsyncd.source.guard import Guard, SourceHeldError

# Listed, and missing on both sides: so a probe has nothing to change.
_PROBED = b"./.pylsyncd-probe\0"

# The exits of an rsync that has carried all but what it complains of.
_IN_PART = frozenset([23, 24])

MOST_LEFT_OUT = 1_000
"""How many paths can be left out of a run: each costs two of its arguments."""

# rsync drops longer patterns, and says so only to who reads closely.
_LONGEST_LEFT_OUT = 4_000

# Bytes of all paths that are left out: Linux starts no program with more than 2 MB of arguments,
# and each path stands in two of them, perhaps with an escape before each byte.
_ALL_LEFT_OUT = 400_000


@dataclass(frozen=True, slots=True)
class _Trip:
    """What one run is to carry, from where."""

    root: int
    changeset: Changeset
    without: AbstractSet[bytes]
    is_released: bool
    in_flight: frozenset[bytes]
    largest: Largest | None


def _is_linked(root: int, path: bytes) -> bool:
    """Tell whether a file has several names; if it is not there, it may have had."""
    try:
        status = os.lstat(path, dir_fd=root)
    except OSError:
        return True
    return status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)


def _but_for(held: AbstractSet[bytes], kept: Changeset, outcome: Outcome) -> Outcome:
    """Return how a run went that has left out what is held, with the changes ``kept`` back."""
    failed = Changes()
    failed.merge(kept)
    failed.merge(outcome.failed)
    for path in held:
        # Whatever is changed there, wherever that is mounted meanwhile, nobody sees it.
        failed.add(path, Scope.TREE)
    verdict = Verdict.PARTIAL if outcome.verdict is Verdict.DONE else outcome.verdict
    reason = outcome.reason or "a file system below the source came or went"
    return replace(outcome, verdict=verdict, reason=reason, failed=failed)


class Carrier:
    """Knows how to reach a destination, and what its rsync is able to do."""

    def __init__(
        self,
        guard: Guard,
        destination: Destination,
        rsync: Rsync,
        marks: Mapping[str, str],
        means: Means | None = None,
    ) -> None:
        """Make one; ``marks`` are added to the environment of each rsync."""
        self._guard = guard
        self.destination = destination
        self.name = destination.name
        self.source = guard.source
        self.runs = Runs(destination, rsync, marks, means)
        """For what is told of them, and for whoever has to end one."""
        self._rsync = rsync
        self._log = self.runs.log
        self._abilities = Abilities()
        self._may_lack_path = True
        # A dry run changes nothing, and what it finds may be made by a real one.
        self.spot = Spot(None if rsync.dry_run else destination)
        self.largest: Largest | None = None
        """What is larger may be left to :attr:`large`."""
        self._unlisted: AbstractSet[bytes] = frozenset()
        self.large: Changeset = NOTHING
        """The files that the last :meth:`carry` has left out, since they are large."""
        self.was_probed = not rsync.delete
        """Whether a probe was tried at all."""
        self.is_trial = rsync.dry_run
        """Whether nothing is changed, only told what would be."""
        self.is_probed = not rsync.delete
        """Whether it is known if the destination's rsync can delete by name."""

    def carry(
        self,
        changeset: Changeset,
        without: AbstractSet[bytes] = frozenset(),
        *,
        is_released: bool = False,
        in_flight: frozenset[bytes] = frozenset(),
        is_split: bool = False,
    ) -> Outcome:
        """Run rsync for a changeset, once more for each ability that turns out to be missing.

        What is still owed afterwards stands in the outcome. ``without`` are the paths that are left
        out, neither sent nor deleted; none of the changes is at or below one of them. With
        ``is_released`` nothing is asked about what would be deleted. ``in_flight`` are the files
        that another run sends. With ``is_split`` large files are left out, unless it is everything
        that is carried.
        """
        self.runs.ran = None
        self.large, self._unlisted = NOTHING, frozenset()
        try:
            with self._guard.opened() as root:
                # Asked once: what is left out of the run must be what is kept for later.
                held = frozenset(self._guard.held)
                if self.spot.is_elsewhere(is_released=is_released):
                    changeset = EVERYTHING
                kept, carried = apart(changeset, held)
                largest = self.largest if is_split else None
                trip = _Trip(root, carried, without | held, is_released, in_flight, largest)
                outcome = self._carry(trip)
                self._guard.check(root)
                self.spot.check()
        except SourceHeldError as error:
            return Outcome(Verdict.GUARDED, str(error), owed=changeset)
        except DestinationHeldError as error:
            return Outcome(Verdict.GUARDED, str(error), RELEASE, owed=changeset)
        return _but_for(held, kept, outcome) if held else outcome

    def bulk(self, wake: Callable[[], None], failed: Callable[[str], None]) -> Bulk:
        """Make what sends large files to the same destination; for the rest see there."""
        runs = self.runs.another_lane()
        return Bulk(self._guard, runs, lambda: self.spot.known, wake, failed)

    def probe(self) -> Outcome:
        """Try a list that changes nothing, to learn what the destination's rsync is able to do."""
        self.was_probed = True
        try:
            with self._guard.opened() as root:
                return self._probe(root)
        except SourceHeldError as error:
            return Outcome(Verdict.GUARDED, str(error))

    def _probe(self, root: int) -> Outcome:
        self.was_probed = True
        while True:
            rsync = self.runs.connected(self._rsync)
            command = rsync.probe(HERE, self.destination, self._abilities)
            outcome, run = self._run(root, command, _PROBED)
            if self._learn(outcome):
                continue
            self.is_probed |= outcome.verdict is Verdict.DONE
            return replace(outcome, message=gist(run.messages))

    def _carry(self, trip: _Trip) -> Outcome:
        if not (self.is_probed or trip.changeset.is_everything):
            outcome = self._probe(trip.root)
            if outcome.verdict is not Verdict.DONE:
                return replace(outcome, owed=trip.changeset)
        while True:
            outcome = self._carry_once(trip)
            if not self._learn(outcome):
                return outcome

    def _carry_once(self, trip: _Trip) -> Outcome:
        content = b""
        if not trip.changeset.is_everything:
            content = self._list(trip)
            if not content:
                return Outcome(Verdict.DONE)
        refusal = self._refusal(trip, content)
        if refusal:
            return refusal
        rsync = replace(self._rsync, max_delete=None) if trip.is_released else self._rsync
        outcome, run = self._run(trip.root, self._command(rsync, trip), content)
        if outcome.verdict in {Verdict.DONE, Verdict.AGAIN, Verdict.PARTIAL}:
            self._may_lack_path = False
            self._log.done(run)
        if outcome.verdict is Verdict.DONE:
            return outcome
        return self._what_is_owed(trip, outcome, run)

    def _command(self, rsync: Rsync, trip: _Trip) -> list[bytes]:
        without = sorted(trip.without | self._unlisted)
        rsync = replace(self.runs.connected(rsync), in_flight=trip.in_flight)
        if trip.changeset.is_everything:
            return rsync.full(HERE, self.destination, self._abilities, without=without)
        return rsync.listed(
            HERE, self.destination, self._abilities,
            mkpath=self._may_lack_path, without=without,
        )  # fmt: skip

    def _refusal(self, trip: _Trip, content: bytes) -> Outcome | None:
        """Find out how much would be deleted, where that decides whether it may be."""
        limit = self._rsync.max_delete
        is_vacant = trip.changeset.is_everything and self._guard.is_vacant_at(trip.root)
        if trip.is_released or not self._rsync.delete or (limit is None and not is_vacant):
            return None
        command = self._command(self._rsync.trial(), trip)
        outcome, run = self._run(trip.root, command, content, is_trial=True)
        # Of a run that failed in part, the count is what a real one would delete; but of nothing
        # at all there is no such part.
        is_counted = outcome.verdict is Verdict.DONE or (run.code in _IN_PART and not is_vacant)
        if not is_counted:
            return replace(outcome, message=gist(run.messages), owed=trip.changeset)
        if is_vacant and run.deleted:
            reason = "the source is empty and the destination is not: nothing is deleted"
            return Outcome(Verdict.GUARDED, reason, RELEASE, owed=trip.changeset)
        if limit is not None and run.deleted > limit:
            reason = f"{run.deleted} would be deleted, --max-delete allows {limit}"
            return Outcome(Verdict.HELD, reason, RELEASE, owed=trip.changeset)
        return None

    def _what_is_owed(self, trip: _Trip, outcome: Outcome, run: Run) -> Outcome:
        """Say what of a trip was not confirmed: what rsync complained of, if all that is known."""
        outcome = replace(outcome, message=gist(run.messages))
        source = os.readlink(b"/proc/self/fd/%d" % trip.root)
        named = None
        if run.code in _IN_PART:
            named = failed(run.messages, source, target_shown(self.destination))
        if named is None or not self._can_leave_out(trip.root, named):
            return replace(outcome, owed=trip.changeset)
        if outcome.verdict is Verdict.AGAIN and not skips_deletions(run.messages):
            return replace(outcome, owed=named)
        if not skips_deletions(run.messages):
            return replace(outcome, failed=named)
        # What was not deleted is deleted by a run without these, and without what is below them.
        trees = Changes()
        for change in named:
            trees.add(change.path, Scope.TREE)
        return replace(outcome, owed=trip.changeset, failed=trees)

    def _can_leave_out(self, root: int, named: Changeset) -> bool:
        """Tell whether what failed can be told apart from the rest, and left out of its run.

        Not one name of a linked file where links are kept: alone it would not be linked to others.
        """
        if self._rsync.keeps_links and any(_is_linked(root, change.path) for change in named):
            return False
        # Names from the other side are in its character set then.
        is_translated = any(option.startswith("--iconv") for option in self._rsync.options)
        lengths = [len(change.path) for change in named]
        is_short = max(lengths) <= _LONGEST_LEFT_OUT and sum(lengths) <= _ALL_LEFT_OUT
        return not is_translated and is_short and len(named) <= MOST_LEFT_OUT

    def _list(self, trip: _Trip) -> bytes:
        entries = filelist.build(
            trip.root, trip.changeset, self._rsync.rules,
            missing_args=self._abilities.missing_args or not self._rsync.delete,
            without=trip.without | trip.in_flight, largest=trip.largest,
        )  # fmt: skip
        self.large, self._unlisted = entries.large, entries.unlisted
        self._log.listed(entries)
        return entries.content()

    def _run(
        self, root: int, command: list[bytes], content: bytes, *, is_trial: bool = False
    ) -> tuple[Outcome, Run]:
        return self.runs.run(root, command, content, is_trial=is_trial or content is _PROBED)

    def _learn(self, outcome: Outcome) -> bool:
        """Take note of an ability that turned out to be missing; tell whether that is news."""
        before = self._abilities
        if outcome.verdict is Verdict.WITHOUT_MISSING_ARGS:
            self._abilities = replace(before, missing_args=False)
        elif outcome.verdict is Verdict.WITHOUT_MKPATH:
            self._abilities = replace(before, mkpath=False)
        is_news = self._abilities != before
        if is_news:
            self._log.does_without(outcome.reason)
        return is_news
