"""Carries one changeset to one destination with one rsync and returns the result."""

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from pylsyncd.model import paths
from pylsyncd.model.changes import NOTHING, Changeset, MutableChangeset, everything_with, union
from pylsyncd.model.directory_id import MountId
from pylsyncd.model.scoped_paths import NO_PATHS, Scope
from pylsyncd.pipeline.optimizer import split_below, with_hints_of, without_covered
from pylsyncd.rsync.command import (
    ContentComparison,
    DeletionTime,
    RsyncCapabilities,
    RsyncOptions,
)
from pylsyncd.rsync.content_check import ContentCheck
from pylsyncd.rsync.file_list import FileList, orphaned_paths
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system.snapshot import empty_tree
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError
from pylsyncd.worker.content_runs import check_request, choose_comparison
from pylsyncd.worker.deletion_check import DeletionCheck
from pylsyncd.worker.destination_guard import DestinationGuard, DestinationHeldError
from pylsyncd.worker.destination_times import CarriedFiles, DestinationTimes
from pylsyncd.worker.failure_analysis import FailureAnalysis
from pylsyncd.worker.hinted_deletions import (
    listed_deletions,
    may_delete_everything,
    without_listed_deletions,
)
from pylsyncd.worker.moves import MoveRuns
from pylsyncd.worker.parallel_runs import ParallelRuns, is_all_excluded
from pylsyncd.worker.session import CarriedParts, RsyncSession, SessionRun
from pylsyncd.worker.transfer_commands import TransferCommands
from pylsyncd.worker.transfer_result import (
    TransferRequest,
    TransferResult,
    combined_parts,
    has_stopped,
    held_changes,
    nothing_confirmed,
    with_hints,
    with_moves,
    with_unread,
)

_CHECKED = Outcome(Verdict.DONE)
_MOUNTS_CHANGED = Outcome(
    Verdict.RETRY_NOW, "a file system below the source was mounted or unmounted meanwhile"
)


class Transfer:
    """The transfers to one destination, and what is known of its rsync's capabilities."""

    def __init__(
        self,
        session: RsyncSession,
        source_guard: SourceGuard,
        destination_guard: DestinationGuard,
        size_limit: SizeLimit | None = None,
        capabilities: RsyncCapabilities | None = None,
    ) -> None:
        """Create a transfer.

        Files above the size limit can be left out of runs. Without ``capabilities``, a probe finds
        out whether the destination's rsync can delete by name.
        """
        self._session = session
        self.options = session.options
        """The options of a run, unless others are given."""
        self._source_guard = source_guard
        self._destination_guard = destination_guard
        self._size_limit = size_limit
        self._commands = TransferCommands(session, capabilities)
        self._deletions = DeletionCheck(session, source_guard, self._commands)
        self._moves = MoveRuns(session, self._commands, self._deletions)
        self._parallel = ParallelRuns(session, source_guard, self._commands)
        self._failures = FailureAnalysis(session.destination, session.options)
        self._times = DestinationTimes(session)

    @property
    def was_probe_tried(self) -> bool:
        """Whether a probe is unnecessary or was run, successfully or not."""
        return self._commands.was_probe_tried

    @property
    def source(self) -> bytes:
        """The path of the source."""
        return self._source_guard.source

    def carry(  # noqa: PLR0913  # all but two are passed by name
        self,
        changeset: Changeset,
        excluded: AbstractSet[bytes] = frozenset(),
        *,
        is_released: bool = False,
        in_flight: frozenset[bytes] = frozenset(),
        exclude_large: bool = False,
        options: RsyncOptions | None = None,
        checks_only: bool = False,
        source: int | None = None,
        deletes_by_listing: bool = False,
        unsettled: AbstractSet[bytes] | None = None,
    ) -> TransferResult:
        """Run rsync for a changeset, once more for each capability that turns out to be missing.

        ``excluded`` paths are neither sent nor deleted; no change is at or below one of them. With
        ``is_released`` the number of deletions is not checked. ``in_flight`` are the files that
        another run sends. With ``exclude_large`` large files are left out, except in a full sync.
        ``options`` replace those of the destination. With ``checks_only`` nothing is carried: the
        run only counts what would be deleted, and the verdict is HELD if that is too much.
        ``source`` is an open directory with copies of what the changes are about.
        With ``deletes_by_listing`` rsync deletes a path where it lists the directory, not by name:
        only so does it delete a directory that its user may not write to. ``unsettled`` are the
        paths whose copies may differ for other reasons; without it, nothing is moved there.
        """
        result = TransferResult(Outcome(Verdict.DONE))
        pending, started_ns = changeset, time.time_ns()
        try:
            with self._source_guard.open_checked() as root:
                # Read once: the paths left out of the run must be the ones kept for later.
                held = frozenset(self._source_guard.held_subtrees)
                if self._destination_guard.accept_replaced(is_released=is_released):
                    pending = changeset = everything_with(changeset)
                kept, carried = split_below(changeset, held)
                size_limit = self._size_limit if exclude_large else None
                # rsync would keep a directory because of their copies in it, and report no failure.
                excluded = excluded - orphaned_paths(root, excluded)
                request = TransferRequest(
                    root if source is None else source, carried, options or self.options,
                    excluded | held, is_released,
                    in_flight, size_limit, checks_only, deletes_by_listing,
                    unsettled=unsettled,
                )  # fmt: skip
                # From here on, the copies may have been moved.
                pending = changeset.with_moves(None)
                result = self._carry(request)
                self._source_guard.verify_unchanged(root)
                self._destination_guard.verify_unchanged()
                self._adapt_to_times(request, result, started_ns)
        except SourceHeldError as error:
            outcome = Outcome(Verdict.SOURCE_UNSAFE, str(error))
        except DestinationHeldError as error:
            outcome = Outcome(Verdict.SOURCE_UNSAFE, str(error), error.hint)
        else:
            if held:
                result = replace(result, held=held_changes(held, kept, changeset.new_content))
            return result if checks_only else replace(result, carried=changeset)
        return TransferResult(outcome, pending=pending, run=result.run)

    @property
    def is_destination_replaced(self) -> bool:
        """Whether a local destination is another directory than after the last run."""
        return not self._destination_guard.is_unchanged()

    def find_held_subtrees(self) -> frozenset[bytes]:
        """Return the subtrees of the source that no run may touch now."""
        self._source_guard.update_held_subtrees()
        return frozenset(self._source_guard.held_subtrees)

    @property
    def new_mounts(self) -> Mapping[bytes, MountId]:
        """The subtrees that are held because a file system was mounted over them."""
        return self._source_guard.new_mounts

    def check_copy(self, path: bytes) -> Outcome:
        """Find out what is at the copy of a directory: DONE if it is empty or missing.

        What is excluded at the copy does not count.
        """
        listing = MutableChangeset()
        listing.add(path, Scope.LISTING)
        options = replace(self.options, delete=True, delete_only=None, max_delete=0)
        try:
            with empty_tree(path) as root:
                request = TransferRequest(
                    root, listing, options, frozenset(), is_released=False, in_flight=frozenset(),
                    size_limit=None, checks_only=True,
                )  # fmt: skip
                return self._carry(request).outcome
        except OSError:
            return Outcome(Verdict.HELD, "no empty directory can be created")

    def prepare(self, changeset: Changeset) -> SessionRun:
        """Do what precedes the runs that carry a changeset."""
        return self._session.prepare(self._source_guard, changeset)

    def probe(self) -> Outcome:
        """Find out, with a list that changes nothing, what the destination's rsync can do."""
        self._commands.was_probe_tried = True
        preparation = self.prepare(NOTHING)
        if preparation.outcome.verdict is not Verdict.DONE:
            return preparation.outcome
        try:
            with self._source_guard.open_checked() as root:
                return self._commands.probe(root, self.options).outcome
        except SourceHeldError as error:
            return Outcome(Verdict.SOURCE_UNSAFE, str(error))

    def _adapt_to_times(
        self,
        request: TransferRequest,
        result: TransferResult,
        started_ns: int,
        *,
        is_newly_sent: bool = False,
    ) -> None:
        """Compare times less exactly from now on if the destination keeps them so."""
        if result.verdict is not Verdict.DONE or request.checks_only:
            return
        left_out = request.left_out | {change.path for change in result.large_files}
        window = self._times.find_window(
            CarriedFiles(
                request.root, request.changeset, request.options.rules,
                left_out, started_ns, result.run, is_newly_sent,
            )
        )  # fmt: skip
        if window is not None:
            self.options = replace(self.options, modify_window=window)
            self._session.run_log.log_modify_window(window)

    def _carry(self, request: TransferRequest) -> TransferResult:
        is_listed = bool(request.changeset.new_content) or not request.changeset.is_everything
        if is_listed and not self._commands.is_probed:
            probe = self._commands.probe(request.root, self.options)
            if probe.outcome.verdict is not Verdict.DONE:
                return nothing_confirmed(request, probe)
        rest = request.after_moves(self._moves.carry(request))
        while True:
            result = self._carry_all(rest)
            if not self._commands.disable_missing_capability(result.outcome):
                break
        return result if rest.moved.new_paths else with_moves(result, request)

    def _carry_all(self, request: TransferRequest) -> TransferResult:
        """Carry a request, and then what it may delete apart from its run."""
        options = request.options
        if options.delete_only is None:
            return self._carry_once(request)
        if options.delete_only is DeletionTime.STARTUP and may_delete_everything(request.changeset):
            options = replace(options, delete=True, delete_only=None)
            return self._carry_once(replace(request, options=options))
        result = self._carry_once(without_listed_deletions(request))
        deletions = listed_deletions(request)
        if deletions is None or has_stopped(result):
            return result
        combined = combined_parts(result, self._carry_all(deletions))
        return replace(combined, large_files=result.large_files)

    def _carry_once(self, request: TransferRequest) -> TransferResult:
        is_everything = request.changeset.is_everything
        files = FileList(set()) if is_everything else self._commands.build_list(request)
        if not (files or is_everything):
            result = TransferResult(Outcome(Verdict.DONE))
        elif request.checks_only:
            run = self._deletions.dry_run(request, files)
            result = self._deletions.judge(request, run) or TransferResult(_CHECKED, run=run)
        else:
            result = self._deletions.check(request, files) or self._run_parts(request, files)
        large = with_hints_of(files.large_files, request.changeset.new_content)
        return with_unread(replace(result, large_files=large), request, files)

    def _run_parts(self, request: TransferRequest, files: FileList) -> TransferResult:
        """Run rsync for a list, or once for each part if only some files are compared by content.

        These go first: what the other run finds in a directory has the right size and time then. A
        file of the other run whose time was set back before rsync looked at it is compared last.
        """
        check = check_request(request, files, self._commands, self._session.statistics)
        others = request.with_hints(NO_PATHS)
        if not check.compared:
            result = self._run_rsync(others, files)
        elif check.can_join:
            result = self._run_rsync(self._comparing(request, check), files)
        else:
            result = self._run_comparison(request, check)
            if not has_stopped(result):
                second = self._run_rsync(others, files if others.is_full_sync else check.others)
                result = combined_parts(result, second)
        if check.repeat is not None and not (check.can_join or has_stopped(result)):
            late = check.repeat()
            if late.compared:
                result = combined_parts(result, self._run_comparison(request, late))
        # Of a full sync, the list of what has a new content.
        return with_unread(with_hints(result, request), request, check.others)

    def _comparing(self, request: TransferRequest, check: ContentCheck) -> TransferRequest:
        transport = self._session.destination.transport
        comparison = choose_comparison(check, transport, request.options.timeout)
        return request.with_hints(check.hints).comparing(comparison)

    def _run_comparison(self, request: TransferRequest, check: ContentCheck) -> TransferResult:
        compared = replace(self._comparing(request, check), is_part=True)
        return self._run_rsync(compared, check.compared)

    def _run_rsync(self, request: TransferRequest, files: FileList) -> TransferResult:
        """Run rsync for a list or for everything, in the latter case maybe after its parts."""
        if not self._parallel.divides(request):
            return self._run_once(request, files)
        try:
            return self._run_divided(request, files)
        finally:
            self._session.end_progress()

    def _run_divided(self, request: TransferRequest, files: FileList) -> TransferResult:
        started_ns = time.time_ns()
        before = self._parallel.carry(request)
        if before is None:
            return self._run_once(request, files)
        request = self._adapt_to_parts(request, before, started_ns)
        return self._check_after_parts(request, files) or self._run_once(request, files, before)

    def _run_once(
        self, request: TransferRequest, files: FileList, before: CarriedParts | None = None
    ) -> TransferResult:
        options = request.options
        if request.is_released:
            options = replace(options, max_delete=None)
        command = self._commands.command(options, request, files)
        failed = self._failures.new_failed_paths(request, files)
        run = self._session.run(
            request.root, command, files.encode(), on_message=failed.add, before=before
        )
        if request.is_full_sync:
            self._parallel.record_end(run.outcome)
        if not (request.is_part or request.only_deletes):
            run.result.moved_files, run.result.moved_bytes = request.moved.files, request.moved.size
        if run.outcome.verdict in {Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL}:
            self._commands.creates_parents = False
            self._session.run_log.log_result(run.result)
        if run.outcome.verdict is Verdict.DONE:
            return TransferResult(run.outcome, run=run)
        result = self._failures.result(request, run, failed)
        if result.failed and failed.has_skipped_deletions:
            return self._delete_skipped(request, result)
        return result

    def _adapt_to_parts(
        self, request: TransferRequest, parts: CarriedParts, started_ns: int
    ) -> TransferRequest:
        """Return the request for the run after the parts, which must not send all of them again."""
        run = SessionRun(_CHECKED, parts.result)
        self._adapt_to_times(
            request, TransferResult(_CHECKED, run=run), started_ns, is_newly_sent=True
        )
        window = self.options.modify_window
        return replace(request, options=replace(request.options, modify_window=window))

    def _check_after_parts(
        self, request: TransferRequest, files: FileList
    ) -> TransferResult | None:
        """Check once more what has to be true before anything is deleted: hours may have passed.

        Raises SourceHeldError or DestinationHeldError.
        """
        self._source_guard.verify_unchanged(request.root)
        self._destination_guard.verify_unchanged()
        if not is_all_excluded(self._source_guard, request):
            return TransferResult(_MOUNTS_CHANGED, pending=request.changeset)
        return self._deletions.check(request, files)

    def _delete_skipped(self, request: TransferRequest, result: TransferResult) -> TransferResult:
        """Make the deletions that rsync skipped because of failed paths, and send nothing.

        This run lists no directory that failed, and opens no file: so it does not fail at them.
        Below a directory of which only the attributes have failed, it deletes all the same.
        """
        if request.only_deletes:
            return replace(result, pending=request.changeset)
        trees = result.failed.trees - {paths.ROOT}
        carried = without_covered(request.changeset, result.failed)
        request = request.comparing(ContentComparison.TIMES)
        request = replace(request, changeset=carried, only_deletes=True, size_limit=None)
        files = self._commands.build_list(replace(request, excluded=request.excluded | trees))
        files = files.without(result.failed)
        if not files:
            return with_unread(result, request, files)
        second = self._deletions.check(request, files) or self._run_rsync(request, files)
        second = with_unread(second, request, files)
        return replace(
            second,
            failed=union(result.failed, second.failed),
            unset_attributes=union(result.unset_attributes, second.unset_attributes),
            outcome=second.outcome if second.pending else result.outcome,
        )
