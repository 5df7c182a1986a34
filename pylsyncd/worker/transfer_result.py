"""What one run has to carry, and what became of a changeset."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from pylsyncd.model.changes import NOTHING, Changeset, union
from pylsyncd.model.move_composition import moves_after_failure
from pylsyncd.model.scoped_paths import Scope, ScopedPaths
from pylsyncd.pipeline.optimizer import hints_about, with_hints_of, without_covered
from pylsyncd.pipeline.widening import with_parent_listings
from pylsyncd.rsync.command import ContentComparison, RsyncOptions
from pylsyncd.rsync.file_list import FileList
from pylsyncd.rsync.outcomes import Outcome, Verdict, may_leave_temporary_files
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.worker.session import SessionRun

MAX_EXCLUDED_PATHS = 1_000
"""How many paths a run excludes: each costs two arguments."""


@dataclass(frozen=True, slots=True)
class CarriedMoves:
    """What was moved at a destination before a run."""

    new_paths: frozenset[bytes] = frozenset()
    files: int = 0
    size: int = 0
    """The size of the files, which were not sent."""
    displaced: frozenset[bytes] = frozenset()
    """The paths at which something is now that was at other ones."""


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """What one run has to carry, how, and from which open directory."""

    root: int
    changeset: Changeset
    options: RsyncOptions
    excluded: AbstractSet[bytes]
    is_released: bool
    in_flight: frozenset[bytes]
    size_limit: SizeLimit | None
    checks_only: bool = False
    """Only count what would be deleted, and check that."""
    deletes_by_listing: bool = False
    only_deletes: bool = False
    """Delete what the source lacks, and send nothing."""
    named: ScopedPaths | None = None
    """What alone may be deleted by name; None for whatever the source lacks. Its entries are listed
    as well."""
    is_part: bool = False
    """Carry a list of some of the files alone."""
    unsettled: AbstractSet[bytes] | None = None
    """Paths whose copies may differ for other reasons than the changeset; None if nothing may be
    moved at the destination."""
    moved: CarriedMoves = CarriedMoves()
    """What was moved there before the run."""

    @property
    def is_full_sync(self) -> bool:
        """True if rsync finds all paths itself, without a list."""
        return self.changeset.is_everything and not (self.only_deletes or self.is_part)

    @property
    def left_out(self) -> AbstractSet[bytes]:
        """The paths that the run excludes, with all below them."""
        return self.excluded | self.in_flight

    def after_moves(self, moved: CarriedMoves) -> "TransferRequest":
        """Return the request for the run that follows the moves."""
        changeset = self.changeset.after_moves(moved.new_paths, moved.displaced)
        return replace(self, changeset=changeset, moved=moved)

    def with_hints(self, new_content: ScopedPaths) -> "TransferRequest":
        """Return the request with another hint of a new content."""
        return replace(self, changeset=self.changeset.with_new_content(new_content))

    def comparing(self, comparison: ContentComparison) -> "TransferRequest":
        """Return the request for a run that compares files in another way."""
        return replace(self, options=replace(self.options, comparison=comparison))


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What became of a changeset. What is neither pending, failed, large nor held is confirmed.

    The outcome says why, and when to try again, but not what is confirmed: a run to a full
    destination may have carried everything except one file.
    """

    outcome: Outcome
    pending: Changeset = NOTHING
    """Changes that are not confirmed."""
    failed: Changeset = NOTHING
    """Changes that failed, while all others that are not pending are confirmed."""
    unset_attributes: Changeset = NOTHING
    """Entries that are confirmed, although some of their attributes could not be set."""
    aborting: Changeset = NOTHING
    """Files at which the run broke off, for example because they do not fit there."""
    large_files: Changeset = NOTHING
    """Files that were left out of the run because they are large."""
    held: Changeset = NOTHING
    """The trees that were left out because their mounts have changed, and the changes in them."""
    carried: Changeset = NOTHING
    """What all of these are a part of: it may be more than was asked for."""
    run: SessionRun | None = None
    """The last run of rsync; None if rsync was not run, or only to ask something."""

    @property
    def verdict(self) -> Verdict:
        """What to do next."""
        return self.outcome.verdict

    @property
    def confirms_everything(self) -> bool:
        """Whether the whole source is confirmed, except for paths that are left."""
        left = self.pending, self.failed, self.held
        return self.carried.is_everything and not any(part.is_everything for part in left)


def nothing_confirmed(request: TransferRequest, run: SessionRun) -> TransferResult:
    """Return the result of a run that has failed as a whole."""
    pending, result = request.changeset, run.result
    if may_leave_temporary_files(result.exit_status, result.messages):
        # These go when rsync lists their directories.
        pending = with_parent_listings(pending)
    return TransferResult(run.outcome, pending=pending, run=run if run.is_counted else None)


def put_off(changeset: Changeset, preparation: SessionRun) -> TransferResult:
    """Return the result of an attempt whose preparation has failed: rsync was not started."""
    run = preparation if preparation.is_counted else None
    return TransferResult(preparation.outcome, pending=changeset, run=run)


def combined_parts(first: TransferResult, second: TransferResult) -> TransferResult:
    """Return the result of two runs, of which the first has left nothing pending."""
    run = second.run
    if first.run is not None and run is not None:
        one, other = first.run.result, run.result
        result = replace(
            other, files=one.files + other.files, deleted=one.deleted + other.deleted,
            bytes_sent=one.bytes_sent + other.bytes_sent, seconds=one.seconds + other.seconds,
            moved_files=one.moved_files + other.moved_files,
            moved_bytes=one.moved_bytes + other.moved_bytes,
        )  # fmt: skip
        run = replace(run, result=result)
    return replace(
        second,
        outcome=first.outcome if second.verdict is Verdict.DONE else second.outcome,
        failed=union(first.failed, second.failed),
        unset_attributes=union(first.unset_attributes, second.unset_attributes),
        run=run,
    )


def has_stopped(result: TransferResult) -> bool:
    """Return True if a run may not have come to all of its files."""
    return bool(result.pending or result.aborting)


def with_hints(result: TransferResult, request: TransferRequest) -> TransferResult:
    """Return a result whose changes keep the hints of the request.

    The time of a file that rsync has not come to can be set back before the next run, and no event
    tells that its content is new.
    """
    hinted = request.changeset

    def hints_kept(changes: Changeset) -> Changeset:
        kept = with_hints_of(changes, hinted.new_content)
        return kept.with_deletable(hints_about(changes, hinted.deletable))

    return replace(
        result, pending=hints_kept(result.pending), failed=hints_kept(result.failed),
        aborting=hints_kept(result.aborting),
    )  # fmt: skip


def with_unread(
    result: TransferResult, request: TransferRequest, files: FileList
) -> TransferResult:
    """Return a result in which what could not be read for the list has failed.

    rsync reports what it cannot read either, but not what the list lacks of other directories.
    """
    if not files.unread or request.checks_only:
        return result
    unread = without_covered(files.unread, union(result.pending, result.failed))
    if not unread:
        return result
    outcome = _UNREAD if result.verdict is Verdict.DONE else result.outcome
    failed = union(result.failed, unread)
    return with_hints(replace(result, outcome=outcome, failed=failed), request)


_UNREAD = Outcome(Verdict.RETRY_NOW, "directories could not be read for a moment")


def with_moves(result: TransferResult, request: TransferRequest) -> TransferResult:
    """Return a result with the moves of the request, if all of its changes are pending.

    None of them was carried, but the run may have come to some of the changes.
    """
    changeset, pending = request.changeset, result.pending
    if not changeset.moves or without_covered(changeset, pending):
        return result
    moves = moves_after_failure(changeset.moves, changeset.new_content)
    return replace(result, pending=pending.with_moves(moves))


def held_changes(held: AbstractSet[bytes], kept: Changeset, new_content: ScopedPaths) -> Changeset:
    """Return the changes of subtrees that a run leaves out."""
    changes = union(kept)
    # Later changes are carried before them.
    changes.moves = None
    for path in held:
        # Changes below a mount point that was mounted over are not seen.
        changes.add(path, Scope.TREE)
        if new_content.includes_tree(path):
            changes.new_content.add(path, Scope.TREE)
    return changes
