"""Carries one changeset to one destination with one rsync, and says how it went."""

import os
import stat
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.pipeline.optimizer import split_below
from pylsyncd.rsync import file_list
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.failed_paths import failed_changes, has_skipped_deletions, target_in_messages
from pylsyncd.rsync.outcomes import MissingCapability, Outcome, Verdict, summary
from pylsyncd.rsync.runner import RunResult
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError
from pylsyncd.worker.destination_guard import RELEASE_HINT, DestinationGuard, DestinationHeldError
from pylsyncd.worker.large_file_worker import LargeFileWorker
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.session import RsyncSession

# Listed, and missing on both sides: so a probe has nothing to change.
_PROBED = b"./.pylsyncd-probe\0"

# The exits of an rsync that has carried all but what it complains of.
_IN_PART = frozenset([23, 24])

MAX_LEFT_OUT_PATHS = 1_000
"""How many paths can be left out of a run: each costs two of its arguments."""

# rsync drops longer patterns, and says so only to who reads closely.
_LONGEST_LEFT_OUT = 4_000

# Bytes of all paths that are left out: Linux starts no program with more than 2 MB of arguments,
# and each path stands in two of them, perhaps with an escape before each byte.
_ALL_LEFT_OUT = 400_000


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """What one run is to carry, from where."""

    root: int
    changeset: Changeset
    without: AbstractSet[bytes]
    is_released: bool
    in_flight: frozenset[bytes]
    largest: SizeLimit | None


def _is_linked(root: int, path: bytes) -> bool:
    """Tell whether a file has several names; if it is not there, it may have had."""
    try:
        status = os.lstat(path, dir_fd=root)
    except OSError:
        return True
    return status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)


def _but_for(held: AbstractSet[bytes], kept: Changeset, outcome: Outcome) -> Outcome:
    """Return how a run went that has left out what is held, with the changes ``kept`` back."""
    failed = MutableChangeset()
    failed.merge(kept)
    failed.merge(outcome.failed)
    for path in held:
        # Whatever is changed there, wherever that is mounted meanwhile, nobody sees it.
        failed.add(path, Scope.TREE)
    verdict = Verdict.PARTIAL if outcome.verdict is Verdict.DONE else outcome.verdict
    reason = outcome.reason or "a file system below the source came or went"
    return replace(outcome, verdict=verdict, reason=reason, failed=failed)


class Transfer:
    """Knows how to reach a destination, and what its rsync is able to do."""

    def __init__(
        self,
        guard: SourceGuard,
        destination: Destination,
        rsync: RsyncOptions,
        marks: Mapping[str, str],
        means: SharedResources | None = None,
    ) -> None:
        """Make one; ``marks`` are added to the environment of each rsync."""
        self._guard = guard
        self.destination = destination
        self.name = destination.name
        self.source = guard.source
        self.session = RsyncSession(destination, rsync, marks, means)
        """For what is told of them, and for whoever has to end one."""
        self._rsync = rsync
        self._log = self.session.run_log
        self._abilities = RsyncCapabilities()
        self._may_lack_path = True
        # A dry run changes nothing, and what it finds may be made by a real one.
        self.destination_guard = DestinationGuard(None if rsync.dry_run else destination)
        self.size_limit: SizeLimit | None = None
        """What is larger may be left to :attr:`large`."""
        self._unlisted: AbstractSet[bytes] = frozenset()
        self.large_files: Changeset = NOTHING
        """The files that the last :meth:`carry` has left out, since they are large."""
        self.was_probed = not rsync.delete
        """Whether a probe was tried at all."""
        self.is_dry_run = rsync.dry_run
        """Whether nothing is changed, only told what would be."""
        self.is_probed = not rsync.delete
        """Whether it is known if the destination's rsync can delete by name."""

    def carry(
        self,
        changeset: Changeset,
        excluded: AbstractSet[bytes] = frozenset(),
        *,
        is_released: bool = False,
        in_flight: frozenset[bytes] = frozenset(),
        exclude_large: bool = False,
    ) -> Outcome:
        """Run rsync for a changeset, once more for each ability that turns out to be missing.

        What is still owed afterwards stands in the outcome. ``without`` are the paths that are left
        out, neither sent nor deleted; none of the changes is at or below one of them. With
        ``is_released`` nothing is asked about what would be deleted. ``in_flight`` are the files
        that another run sends. With ``is_split`` large files are left out, unless it is everything
        that is carried.
        """
        self.session.last_run = None
        self.large_files, self._unlisted = NOTHING, frozenset()
        try:
            with self._guard.open_checked() as root:
                # Asked once: what is left out of the run must be what is kept for later.
                held = frozenset(self._guard.held_subtrees)
                if self.destination_guard.has_moved(is_released=is_released):
                    changeset = EVERYTHING
                kept, carried = split_below(changeset, held)
                largest = self.size_limit if exclude_large else None
                trip = TransferRequest(
                    root, carried, excluded | held, is_released, in_flight, largest
                )
                outcome = self._carry(trip)
                self._guard.verify_unchanged(root)
                self.destination_guard.check()
        except SourceHeldError as error:
            return Outcome(Verdict.SOURCE_UNSAFE, str(error), pending=changeset)
        except DestinationHeldError as error:
            return Outcome(Verdict.SOURCE_UNSAFE, str(error), RELEASE_HINT, pending=changeset)
        return _but_for(held, kept, outcome) if held else outcome

    def create_large_file_worker(
        self, wake: Callable[[], None], failed: Callable[[str], None]
    ) -> LargeFileWorker:
        """Make what sends large files to the same destination; for the rest see there."""
        runs = self.session.for_large_files()
        return LargeFileWorker(
            self._guard, runs, lambda: self.destination_guard.directory_id, wake, failed
        )

    def probe(self) -> Outcome:
        """Try a list that changes nothing, to learn what the destination's rsync is able to do."""
        self.was_probed = True
        try:
            with self._guard.open_checked() as root:
                return self._probe(root)
        except SourceHeldError as error:
            return Outcome(Verdict.SOURCE_UNSAFE, str(error))

    def _probe(self, root: int) -> Outcome:
        self.was_probed = True
        while True:
            rsync = self.session.with_shared_ssh(self._rsync)
            command = rsync.probe_command(CURRENT_DIRECTORY, self.destination, self._abilities)
            outcome, run = self._run(root, command, _PROBED)
            if self._learn(outcome):
                continue
            self.is_probed |= outcome.verdict is Verdict.DONE
            return replace(outcome, message=summary(run.messages))

    def _carry(self, trip: TransferRequest) -> Outcome:
        if not (self.is_probed or trip.changeset.is_everything):
            outcome = self._probe(trip.root)
            if outcome.verdict is not Verdict.DONE:
                return replace(outcome, pending=trip.changeset)
        while True:
            outcome = self._carry_once(trip)
            if not self._learn(outcome):
                return outcome

    def _carry_once(self, trip: TransferRequest) -> Outcome:
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
        if outcome.verdict in {Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL}:
            self._may_lack_path = False
            self._log.log_result(run)
        if outcome.verdict is Verdict.DONE:
            return outcome
        return self._what_is_owed(trip, outcome, run)

    def _command(self, rsync: RsyncOptions, trip: TransferRequest) -> list[bytes]:
        without = sorted(trip.without | self._unlisted)
        rsync = replace(self.session.with_shared_ssh(rsync), in_flight=trip.in_flight)
        if trip.changeset.is_everything:
            return rsync.full_sync_command(
                CURRENT_DIRECTORY, self.destination, self._abilities, excluded=without
            )
        return rsync.file_list_command(
            CURRENT_DIRECTORY, self.destination, self._abilities,
            create_parents=self._may_lack_path, excluded=without,
        )  # fmt: skip

    def _refusal(self, trip: TransferRequest, content: bytes) -> Outcome | None:
        """Find out how much would be deleted, where that decides whether it may be."""
        limit = self._rsync.max_delete
        is_vacant = trip.changeset.is_everything and self._guard.is_empty_at(trip.root)
        if trip.is_released or not self._rsync.delete or (limit is None and not is_vacant):
            return None
        command = self._command(self._rsync.as_dry_run(), trip)
        outcome, run = self._run(trip.root, command, content, is_trial=True)
        # Of a run that failed in part, the count is what a real one would delete; but of nothing
        # at all there is no such part.
        is_counted = outcome.verdict is Verdict.DONE or (
            run.exit_status in _IN_PART and not is_vacant
        )
        if not is_counted:
            return replace(outcome, message=summary(run.messages), pending=trip.changeset)
        if is_vacant and run.deleted:
            reason = "the source is empty and the destination is not: nothing is deleted"
            return Outcome(Verdict.SOURCE_UNSAFE, reason, RELEASE_HINT, pending=trip.changeset)
        if limit is not None and run.deleted > limit:
            reason = f"{run.deleted} would be deleted, --max-delete allows {limit}"
            return Outcome(Verdict.HELD, reason, RELEASE_HINT, pending=trip.changeset)
        return None

    def _what_is_owed(self, trip: TransferRequest, outcome: Outcome, run: RunResult) -> Outcome:
        """Say what of a trip was not confirmed: what rsync complained of, if all that is known."""
        outcome = replace(outcome, message=summary(run.messages))
        source = os.readlink(b"/proc/self/fd/%d" % trip.root)
        named = None
        if run.exit_status in _IN_PART:
            named = failed_changes(run.messages, source, target_in_messages(self.destination))
        if named is None or not self._can_leave_out(trip.root, named):
            return replace(outcome, pending=trip.changeset)
        if outcome.verdict is Verdict.RETRY_NOW and not has_skipped_deletions(run.messages):
            return replace(outcome, pending=named)
        if not has_skipped_deletions(run.messages):
            return replace(outcome, failed=named)
        # What was not deleted is deleted by a run without these, and without what is below them.
        trees = MutableChangeset()
        for change in named:
            trees.add(change.path, Scope.TREE)
        return replace(outcome, pending=trip.changeset, failed=trees)

    def _can_leave_out(self, root: int, named: Changeset) -> bool:
        """Tell whether what failed can be told apart from the rest, and left out of its run.

        Not one name of a linked file where links are kept: alone it would not be linked to others.
        """
        if self._rsync.preserves_hard_links and any(
            _is_linked(root, change.path) for change in named
        ):
            return False
        # Names from the other side are in its character set then.
        is_translated = any(option.startswith("--iconv") for option in self._rsync.extra_options)
        lengths = [len(change.path) for change in named]
        is_short = max(lengths) <= _LONGEST_LEFT_OUT and sum(lengths) <= _ALL_LEFT_OUT
        return not is_translated and is_short and len(named) <= MAX_LEFT_OUT_PATHS

    def _list(self, trip: TransferRequest) -> bytes:
        entries = file_list.build_file_list(
            trip.root, trip.changeset, self._rsync.rules,
            delete_missing_args=self._abilities.has_delete_missing_args or not self._rsync.delete,
            excluded=trip.without | trip.in_flight, size_limit=trip.largest,
        )  # fmt: skip
        self.large_files, self._unlisted = entries.large_files, entries.files_to_exclude
        self._log.log_file_list(entries)
        return entries.encode()

    def _run(
        self, root: int, command: list[bytes], content: bytes, *, is_trial: bool = False
    ) -> tuple[Outcome, RunResult]:
        return self.session.run(root, command, content, is_dry_run=is_trial or content is _PROBED)

    def _learn(self, outcome: Outcome) -> bool:
        """Take note of an ability that turned out to be missing; tell whether that is news."""
        before = self._abilities
        if outcome.missing_capability is MissingCapability.DELETE_MISSING_ARGS:
            self._abilities = replace(before, has_delete_missing_args=False)
        elif outcome.missing_capability is MissingCapability.MKPATH:
            self._abilities = replace(before, has_mkpath=False)
        is_news = self._abilities != before
        if is_news:
            self._log.log_missing_capability(outcome.reason)
        return is_news
