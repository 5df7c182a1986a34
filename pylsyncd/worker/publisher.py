"""Carries a changeset in the order in which readers of the destination need it.

The files that match the option ``last`` name others. A changeset with such files is carried by up
to three runs: all other files, without a deletion; the last files; the deletions. The last files
that are missing are deleted by one more run, right after the others were sent. A run begins only
when the one before it has carried everything. Without such files there is one run.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from functools import partial

from pylsyncd.model.changes import NOTHING, Changeset, union
from pylsyncd.model.scoped_paths import Scope, ScopedPaths
from pylsyncd.pipeline.optimizer import hints_about, split_below
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.publishing_order import OrderedChanges, split_last
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.system.snapshot import Snapshot, SnapshotError, opened_snapshot
from pylsyncd.worker.session import SessionRun
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.transfer_result import MAX_EXCLUDED_PATHS, TransferResult

MAX_WAIT_FOR_FAILED_PATHS = 600.0
"""How many seconds failed paths keep the last files back.

What still fails then is a lasting failure, which does not hold up anything else.
"""

MAX_FULL_SYNC_WAITS = 3
"""How many full syncs in a row may end before their deletions, because last files have to wait."""

_WAITING_FOR_FAILED_PATHS = Outcome(
    Verdict.PARTIAL, "the files that go last wait until the failed paths are copied"
)
_WAITING = Outcome(Verdict.DONE)


@dataclass(frozen=True, slots=True)
class TransferConditions:
    """What a transfer has to respect of other runs for the same destination."""

    excluded: AbstractSet[bytes] = frozenset()
    """Paths that are neither sent nor deleted; no change is at or below one of them."""
    in_flight: frozenset[bytes] = frozenset()
    """Files that another run is sending."""
    deletes_by_listing: bool = False
    """Delete by listing a directory, not by name."""
    exclude_large: bool = False
    """Leave out large files, except in a full sync."""
    is_released: bool = False
    """A person has released the changes: the number of deletions is not checked."""
    known_until: float | None = None
    """All changes of the source before this time, by the wall clock, are known; None if it is
    unknown until when."""
    awaits_large_files: bool = False
    """Large files of earlier windows are still to be sent."""
    awaits_failed_paths: bool = False
    """Failed paths of earlier windows are still to be copied, and may hold up the last files."""
    options: RsyncOptions | None = None
    """The options of the runs; None for those of the destination."""
    unsettled: frozenset[bytes] | None = None
    """Paths whose copies may differ for other reasons than the changeset; None if nothing may be
    moved at the destination."""
    is_strict: bool = True
    """The last files wait for what fails before them in the same changeset."""


class Publisher:
    """The transfers to one destination, in the right order."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._full_sync_waits = 0

    def carry(self, changeset: Changeset, conditions: TransferConditions) -> TransferResult:
        """Carry a changeset; see `Transfer.carry`.

        What has to wait for a newer changeset or for a large file is pending in a result that is
        otherwise done.
        """
        options = conditions.options or self._transfer.options
        if not options.last or conditions.is_released:
            return self._run(changeset, conditions)
        if options.max_delete is not None:
            # Before the first run, which would send what replaced the deleted files.
            check = self._run(changeset, conditions, checks_only=True)
            if check.verdict not in {Verdict.DONE, Verdict.PARTIAL}:
                # It may have been about some of the deletions alone.
                return replace(check, pending=changeset)
        if changeset.is_everything:
            # rsync will look at all that is there from now on.
            conditions = replace(
                conditions, known_until=time.time(), awaits_failed_paths=False, is_strict=False
            )
        try:
            with walk.opened_root(self._transfer.source) as root:
                excluded = conditions.excluded
                ordered = split_last(root, changeset, options.last, options.rules, excluded)
                if options.delete_only is not None:
                    ordered = _with_hinted_deletions(ordered, changeset.deletable)
        except OSError:
            # The source guard reports that.
            return self._run(changeset, conditions)
        if not (ordered.last or conditions.awaits_failed_paths):
            return self._run(changeset, conditions)
        return self._carry_ordered(ordered, conditions)

    def _carry_ordered(
        self, ordered: OrderedChanges, conditions: TransferConditions
    ) -> TransferResult:
        options = conditions.options or self._transfer.options
        deletions = ordered.deletions if options.delete else NOTHING
        rest = union(ordered.last, deletions)
        with contextlib.ExitStack() as stack:
            # Early, so that it is seldom newer than the window. But while a full sync runs, the
            # source may lose what it names.
            is_early = not ordered.data.is_everything
            snapshot = self._open_snapshot(stack, ordered, conditions) if is_early else None
            result = self._run(ordered.data, conditions, _without_last(options))
            if self._must_stop(result, conditions):
                return _keep_back(result, rest)
            if conditions.awaits_failed_paths and rest:
                failed = union(result.failed, rest)
                return replace(result, outcome=_WAITING_FOR_FAILED_PATHS, failed=failed)
            has_large_files = bool(result.large_files) or conditions.awaits_large_files
            has_lost = snapshot is not None and not self._are_there(ordered.arriving)
            if (has_large_files or has_lost) and self._may_wait(ordered, result):
                return _combined(result, TransferResult(_WAITING, pending=rest))
            snapshot = snapshot or self._open_snapshot(stack, ordered, conditions)
            last = self._carry_last(ordered, conditions, snapshot)
        is_waiting = last.verdict is Verdict.DONE and bool(last.pending)
        result = _combined(result, last)
        must_stop = (
            self._may_wait(ordered, result) if is_waiting else self._must_stop(result, conditions)
        )
        if must_stop:
            return _keep_back(result, deletions)
        if deletions:
            result = _combined(result, self._carry_deletions(ordered, conditions))
        if not result.pending:
            self._full_sync_waits = 0
        return result

    def _may_wait(self, ordered: OrderedChanges, result: TransferResult) -> bool:
        """Return True if the deletions may wait; those of a full sync a few times only."""
        if not ordered.data.is_everything:
            return True
        self._full_sync_waits += 1
        return self._full_sync_waits <= MAX_FULL_SYNC_WAITS and result.verdict is Verdict.DONE

    def _carry_deletions(
        self, ordered: OrderedChanges, conditions: TransferConditions
    ) -> TransferResult:
        """Delete what only the former content of the last files has named.

        The missing entries were missing before these were read. But a listing or a tree may lack
        more now, which the new content names: then it waits for a newer content.
        """
        deletions, known_until = ordered.deletions, conditions.known_until
        if len(ordered.present) <= MAX_EXCLUDED_PATHS:
            # A newer content of a last file is not sent with them.
            conditions = replace(conditions, excluded=conditions.excluded | ordered.present)
        options = conditions.options or self._transfer.options
        may_delete = True
        if deletions.is_everything:
            # At once: a later full sync would find these files newer again.
            options = replace(options, deletes_last=True)
        elif deletions.listings or deletions.trees:
            check = self._run(deletions, conditions, checks_only=True)
            if check.verdict is not Verdict.DONE:
                return replace(check, pending=deletions)
            if check.run is None or not check.run.result.deleted:
                return TransferResult(_WAITING)
            may_delete = self._are_current(ordered.present, known_until)
        if not may_delete:
            return TransferResult(_WAITING, pending=deletions)
        return self._run(deletions, conditions, options)

    def _are_current(self, present: AbstractSet[bytes], known_until: float | None) -> bool:
        """Return True if the last files have not changed since the end of the window."""
        try:
            with walk.opened_root(self._transfer.source) as root:
                return all(_was_known(known_until, os.lstat(path, dir_fd=root)) for path in present)
        except OSError:
            return False

    def _are_there(self, arriving: Iterable[bytes]) -> bool:
        """Return True if the source still has what was to arrive before the last files."""
        try:
            with walk.opened_root(self._transfer.source) as root:
                for path in arriving:
                    os.lstat(path, dir_fd=root)
        except OSError:
            return False
        return True

    def _open_snapshot(
        self,
        stack: contextlib.ExitStack,
        ordered: OrderedChanges,
        conditions: TransferConditions,
    ) -> Snapshot | None:
        """Copy the last files until the stack is closed; return None if that is not possible.

        rsync reads these copies: a newer content, which could replace a file while rsync runs, may
        name files that were not sent yet.
        """
        entries = [path for path, scope in ordered.last if scope is Scope.ENTRY]
        if len(entries) < len(ordered.last):
            # A directory with all below it.
            return None
        is_current = partial(_was_known, conditions.known_until)
        try:
            root = stack.enter_context(walk.opened_root(self._transfer.source))
            return stack.enter_context(opened_snapshot(root, entries, ordered.present, is_current))
        except (OSError, SnapshotError):
            return None

    def _carry_last(
        self, ordered: OrderedChanges, conditions: TransferConditions, snapshot: Snapshot | None
    ) -> TransferResult:
        """Carry the last files; those that had changed since the end of the window wait."""
        # They are sent together, whatever their size.
        conditions = replace(conditions, exclude_large=False)
        if snapshot is None:
            # rsync reads them as they are then.
            if self._are_current(ordered.present, conditions.known_until):
                return self._run(ordered.last, conditions)
            return TransferResult(_WAITING, pending=ordered.last)
        newer, known = split_below(ordered.last, snapshot.changed)
        there, missing = split_below(known, ordered.present)
        # The snapshot has nothing else: what it lacks must not be deleted.
        options = _without_deletions(conditions.options or self._transfer.options)
        result = self._run(there, conditions, options, source=snapshot.directory)
        if missing and self._must_stop(result, conditions):
            result = _keep_back(result, missing)
        elif missing:
            result = _combined(result, self._run(missing, conditions))
        return replace(result, pending=union(result.pending, newer))

    def _must_stop(self, result: TransferResult, conditions: TransferConditions) -> bool:
        if not result.pending:
            return conditions.is_strict and bool(result.failed or result.aborting)
        return result.verdict is not Verdict.DONE

    def _run(
        self,
        changeset: Changeset,
        conditions: TransferConditions,
        options: RsyncOptions | None = None,
        *,
        checks_only: bool = False,
        source: int | None = None,
    ) -> TransferResult:
        if not changeset:
            return TransferResult(Outcome(Verdict.DONE))
        return self._transfer.carry(
            changeset, conditions.excluded,
            is_released=conditions.is_released, in_flight=conditions.in_flight,
            exclude_large=conditions.exclude_large, options=options or conditions.options,
            checks_only=checks_only, source=source,
            deletes_by_listing=conditions.deletes_by_listing, unsettled=conditions.unsettled,
        )  # fmt: skip


def _was_known(known_until: float | None, status: os.stat_result) -> bool:
    """Return True if the last change of a file was known at the end of the window.

    A time in the future tells nothing: the clock was set back after it.
    """
    if known_until is None:
        return True
    return not known_until * 1e9 < status.st_ctime_ns <= time.time_ns()


def _without_last(options: RsyncOptions) -> RsyncOptions:
    """Return options with which a run neither sends the last files nor deletes anything."""
    rules = Rules(options.last.ordered + options.rules.ordered)
    return replace(_without_deletions(options), rules=rules)


def _without_deletions(options: RsyncOptions) -> RsyncOptions:
    return replace(options, delete=False, delete_only=None)


def _with_hinted_deletions(ordered: OrderedChanges, deletable: ScopedPaths) -> OrderedChanges:
    """Return the parts with those deletions alone that a hint names."""
    some = hints_about(ordered.deletions, deletable)
    return ordered._replace(
        last=ordered.last.with_deletable(hints_about(ordered.last, deletable)),
        deletions=Changeset(some.entries, some.listings, some.trees, deletable=some),
    )


def _keep_back(result: TransferResult, rest: Changeset) -> TransferResult:
    """Return a result of a run that failed, with what was to come after it.

    Paths that failed are tried again together with that, in the same order.
    """
    if result.failed and not result.pending:
        return replace(result, failed=union(result.failed, rest))
    return replace(result, pending=union(result.pending, rest))


def _combined(first: TransferResult, second: TransferResult) -> TransferResult:
    """Return the result of two runs as one.

    What waits after a failure is tried again together with what has failed.
    """
    if first.verdict is not Verdict.DONE and second.verdict is Verdict.DONE:
        waiting = union(second.failed, second.pending)
        second = replace(second, failed=waiting, pending=NOTHING)
    changes = {
        field.name: union(one, getattr(second, field.name))
        for field in fields(first)
        if isinstance(one := getattr(first, field.name), Changeset)
    }
    outcome = first.outcome if second.verdict is Verdict.DONE else second.outcome
    run = _combined_run(first.run, second.run)
    return replace(second, outcome=outcome, run=run, **changes)


def _combined_run(first: SessionRun | None, second: SessionRun | None) -> SessionRun | None:
    if first is None or second is None:
        return first or second
    before, after = first.result, second.result
    done = replace(
        after, files=before.files + after.files, deleted=before.deleted + after.deleted,
        bytes_sent=before.bytes_sent + after.bytes_sent, seconds=before.seconds + after.seconds,
    )  # fmt: skip
    return replace(
        second,
        result=done,
        item_lines=[*first.item_lines, *second.item_lines],
        item_count=first.item_count + second.item_count,
    )
