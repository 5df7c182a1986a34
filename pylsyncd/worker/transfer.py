"""Carries one changeset to one destination with one rsync and returns the result."""

import os
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial

from pylsyncd.model import paths
from pylsyncd.model.changes import (
    NO_PATHS,
    NOTHING,
    Changeset,
    MutableChangeset,
    Scope,
    ScopedPaths,
    everything_with,
    union,
)
from pylsyncd.model.directory_id import MountId
from pylsyncd.pipeline.optimizer import optimize, split_below, with_hints_of
from pylsyncd.pipeline.widening import with_parent_listings
from pylsyncd.rsync.carried_paths import CarriedPaths
from pylsyncd.rsync.command import (
    CURRENT_DIRECTORY,
    ContentComparison,
    RsyncCapabilities,
    RsyncOptions,
)
from pylsyncd.rsync.content_check import (
    ContentCheck,
    carried_times,
    check_contents,
    left_out_test,
)
from pylsyncd.rsync.failed_paths import FailedPaths, target_in_messages
from pylsyncd.rsync.file_list import FileList, build_file_list, regular_files
from pylsyncd.rsync.option_check import moves_files
from pylsyncd.rsync.outcomes import (
    MissingCapability,
    Outcome,
    Verdict,
    has_failed_in_file,
    may_leave_temporary_files,
)
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.system.snapshot import empty_tree
from pylsyncd.watcher.hard_link_search import (
    LinkedFileFinder,
    SearchArea,
    TooManyNamesError,
    search_source,
)
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError
from pylsyncd.worker.content_runs import choose_comparison
from pylsyncd.worker.destination_guard import RELEASE_HINT, DestinationGuard, DestinationHeldError
from pylsyncd.worker.destination_times import CarriedFiles, DestinationTimes
from pylsyncd.worker.session import RsyncSession, SessionRun

# A list of one path that exists on neither side: a probe with it changes nothing.
_PROBE_LIST = b"./.pylsyncd-probe\0"

# The exit statuses of an rsync that has carried everything except the paths in its messages.
_PARTIAL_EXITS = frozenset([23, 24])


MAX_EXCLUDED_PATHS = 1_000
"""How many paths a run excludes: each costs two arguments."""

# After these, what is neither pending nor failed is at the destination.
_CARRIED = frozenset([Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL])

_UNSET_ATTRIBUTES = (
    "some owners, modes, times or other attributes could not be set; the data is complete: "
    "check what the destination's user and file system permit"
)


_CHECKED = Outcome(Verdict.DONE)


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
    is_part: bool = False
    """Carry a list of some of the files alone."""

    @property
    def is_full_sync(self) -> bool:
        """True if rsync finds all paths itself, without a list."""
        return self.changeset.is_everything and not (self.only_deletes or self.is_part)

    @property
    def left_out(self) -> AbstractSet[bytes]:
        """The paths that the run excludes, with all below them."""
        return self.excluded | self.in_flight

    def with_hints(self, new_content: ScopedPaths) -> "TransferRequest":
        """Return the request with another hint of a new content."""
        return replace(self, changeset=self.changeset.with_new_content(new_content))

    def comparing(self, comparison: ContentComparison) -> "TransferRequest":
        """Return the request for a run that compares files in another way."""
        return replace(self, options=replace(self.options, comparison=comparison))


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What became of a changeset. What is neither pending, failed, large nor held is confirmed."""

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
    run: SessionRun | None = None
    """The last run of rsync; None if rsync was not run, or only to ask something."""

    @property
    def verdict(self) -> Verdict:
        """What to do next."""
        return self.outcome.verdict


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
        self._capabilities = capabilities or RsyncCapabilities()
        self._create_parents = True
        self._times = DestinationTimes(session)
        self._is_probed = capabilities is not None or not session.options.delete
        self.was_probe_tried = self._is_probed
        """Whether a probe is unnecessary or was run, successfully or not."""

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
    ) -> TransferResult:
        """Run rsync for a changeset, once more for each capability that turns out to be missing.

        ``excluded`` paths are neither sent nor deleted; no change is at or below one of them. With
        ``is_released`` the number of deletions is not checked. ``in_flight`` are the files that
        another run sends. With ``exclude_large`` large files are left out, except in a full sync.
        ``options`` replace those of the destination. With ``checks_only`` nothing is carried: the
        run only counts what would be deleted, and the verdict is HELD if that is too much.
        ``source`` is an open directory with copies of what the changes are about.
        With ``deletes_by_listing`` rsync deletes a path where it lists the directory, not by name:
        only so does it delete a directory that its user may not write to.
        """
        result = TransferResult(Outcome(Verdict.DONE))
        started_ns = time.time_ns()
        try:
            with self._source_guard.open_checked() as root:
                # Read once: the paths left out of the run must be the ones kept for later.
                held = frozenset(self._source_guard.held_subtrees)
                if self._destination_guard.accept_replaced(is_released=is_released):
                    changeset = everything_with(changeset)
                kept, carried = split_below(changeset, held)
                size_limit = self._size_limit if exclude_large else None
                request = TransferRequest(
                    root if source is None else source, carried, options or self.options,
                    excluded | held, is_released,
                    in_flight, size_limit, checks_only, deletes_by_listing,
                )  # fmt: skip
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
                result = replace(result, held=_held_changes(held, kept, changeset.new_content))
            return result
        return TransferResult(outcome, pending=changeset, run=result.run)

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
        options = replace(self.options, delete=True, max_delete=0)
        try:
            with empty_tree(path) as root:
                request = TransferRequest(
                    root, listing, options, frozenset(), is_released=False, in_flight=frozenset(),
                    size_limit=None, checks_only=True,
                )  # fmt: skip
                return self._carry(request).outcome
        except OSError:
            return Outcome(Verdict.HELD, "no empty directory can be created")

    def probe(self) -> Outcome:
        """Find out, with a list that changes nothing, what the destination's rsync can do."""
        self.was_probe_tried = True
        try:
            with self._source_guard.open_checked() as root:
                return self._probe(root).outcome
        except SourceHeldError as error:
            return Outcome(Verdict.SOURCE_UNSAFE, str(error))

    def _adapt_to_times(
        self, request: TransferRequest, result: TransferResult, started_ns: int
    ) -> None:
        """Compare times less exactly from now on if the destination keeps them so."""
        if result.verdict is not Verdict.DONE or request.checks_only:
            return
        window = self._times.find_window(
            CarriedFiles(
                request.root, request.changeset, request.options.rules,
                request.left_out, started_ns, result.run,
            )
        )  # fmt: skip
        if window is not None:
            self.options = replace(self.options, modify_window=window)
            self._session.run_log.log_modify_window(window)

    def _probe(self, root: int) -> SessionRun:
        self.was_probe_tried = True
        while True:
            command = self._session.with_shared_ssh(self.options).probe_command(
                CURRENT_DIRECTORY, self._session.destination, self._capabilities
            )
            run = self._session.run(root, command, _PROBE_LIST, is_dry_run=True)
            if not self._disable_missing_capability(run.outcome):
                self._is_probed |= run.outcome.verdict is Verdict.DONE
                return run

    def _carry(self, request: TransferRequest) -> TransferResult:
        is_listed = bool(request.changeset.new_content) or not request.changeset.is_everything
        if is_listed and not self._is_probed:
            probe = self._probe(request.root)
            if probe.outcome.verdict is not Verdict.DONE:
                return _nothing_confirmed(request, probe)
        while True:
            result = self._carry_once(request)
            if not self._disable_missing_capability(result.outcome):
                return result

    def _carry_once(self, request: TransferRequest) -> TransferResult:
        is_everything = request.changeset.is_everything
        files = FileList(set()) if is_everything else self._build_list(request)
        if not (files or is_everything):
            result = TransferResult(Outcome(Verdict.DONE))
        elif request.checks_only:
            run = self._dry_run(request, files)
            result = self._judge_deletions(request, run) or TransferResult(_CHECKED, run=run)
        else:
            result = self._check_deletions(request, files) or self._run_parts(request, files)
        large = with_hints_of(files.large_files, request.changeset.new_content)
        return replace(result, large_files=large)

    def _build_list(self, request: TransferRequest) -> FileList:
        options = request.options
        capabilities = self._capabilities_for(request)
        files = build_file_list(
            request.root, request.changeset, options.rules,
            delete_missing_args=capabilities.has_delete_missing_args or not options.delete,
            excluded=request.left_out, size_limit=request.size_limit,
        )  # fmt: skip
        self._session.run_log.log_file_list(files)
        return files

    def _run_parts(self, request: TransferRequest, files: FileList) -> TransferResult:
        """Run rsync for a list, or once for each part if only some files are compared by content.

        These go first: what the other run finds in a directory has the right size and time then. A
        file of the other run whose time was set back before rsync looked at it is compared last.
        """
        check = self._check_contents(request, files)
        others = request.with_hints(NO_PATHS)
        if not check.compared:
            result = self._run_rsync(others, files)
        elif check.can_join:
            result = self._run_rsync(self._comparing(request, check), files)
        else:
            result = self._run_comparison(request, check)
            if not _has_stopped(result):
                second = self._run_rsync(others, files if others.is_full_sync else check.others)
                result = _combined(result, second)
        if check.repeat is not None and not (check.can_join or _has_stopped(result)):
            late = check.repeat()
            if late.compared:
                result = _combined(result, self._run_comparison(request, late))
        return _with_hints(result, request)

    def _comparing(self, request: TransferRequest, check: ContentCheck) -> TransferRequest:
        transport = self._session.destination.transport
        comparison = choose_comparison(check, transport, request.options.timeout)
        return request.with_hints(check.hints).comparing(comparison)

    def _run_comparison(self, request: TransferRequest, check: ContentCheck) -> TransferResult:
        compared = replace(self._comparing(request, check), is_part=True)
        return self._run_rsync(compared, check.compared)

    def _check_contents(self, request: TransferRequest, files: FileList) -> ContentCheck:
        """Find out which files of a list, or of a full sync, have to be compared by content."""
        hints = request.changeset.new_content
        is_full = request.is_full_sync
        if request.options.compares_contents or request.only_deletes:
            hints = NO_PATHS
        elif is_full and hints:
            hinted = Changeset(hints.entries, hints.listings, hints.trees)
            _, carried = split_below(hinted, request.left_out)
            files = self._build_list(replace(request, changeset=carried, is_part=True))
        statistics = self._session.statistics
        times = carried_times(statistics.latest_carried_ns, request.options.time_tolerance_ns)
        check = check_contents(
            request.root, files, hints, times,
            left_out_test(request.options.rules, request.left_out, files),
        )  # fmt: skip
        statistics.record_carried(check.latest_ns)
        return replace(check, can_join=check.can_join and (hints.is_everything or not is_full))

    def _run_rsync(self, request: TransferRequest, files: FileList) -> TransferResult:
        options = request.options
        if request.is_released:
            options = replace(options, max_delete=None)
        command = self._command(options, request, files)
        failed = self._failed_paths(request, files)
        run = self._session.run(request.root, command, files.encode(), on_message=failed.add)
        if run.outcome.verdict in {Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL}:
            self._create_parents = False
            self._session.run_log.log_result(run.result)
        if run.outcome.verdict is Verdict.DONE:
            return TransferResult(run.outcome, run=run)
        return self._failed_result(request, run, failed)

    def _command(
        self, options: RsyncOptions, request: TransferRequest, files: FileList
    ) -> list[bytes]:
        excluded = sorted(request.excluded | files.files_to_exclude)
        options = replace(self._session.with_shared_ssh(options), in_flight=request.in_flight)
        destination = self._session.destination
        if request.is_full_sync:
            return options.full_sync_command(
                CURRENT_DIRECTORY, destination, self._capabilities, excluded=excluded
            )
        return options.file_list_command(
            CURRENT_DIRECTORY, destination, self._capabilities_for(request),
            create_parents=self._create_parents, excluded=excluded,
            only_deletes=request.only_deletes,
        )  # fmt: skip

    def _capabilities_for(self, request: TransferRequest) -> RsyncCapabilities:
        if request.deletes_by_listing:
            return replace(self._capabilities, has_delete_missing_args=False)
        return self._capabilities

    def _check_deletions(self, request: TransferRequest, files: FileList) -> TransferResult | None:
        """Return a result if a dry run failed, or would delete more than is allowed."""
        options = request.options
        is_limited = options.max_delete is not None or self._is_emptying(request)
        if request.is_released or not options.delete or not is_limited:
            return None
        return self._judge_deletions(request, self._dry_run(request, files))

    def _dry_run(self, request: TransferRequest, files: FileList) -> SessionRun:
        """Run rsync so that it only counts what it would delete."""
        command = self._command(request.options.as_dry_run(), request, files)
        return self._session.run(request.root, command, files.encode(), is_dry_run=True)

    def _is_emptying(self, request: TransferRequest) -> bool:
        """Return True if the source is empty and everything is to be carried."""
        return request.changeset.is_everything and self._source_guard.is_empty_at(request.root)

    def _judge_deletions(self, request: TransferRequest, run: SessionRun) -> TransferResult | None:
        """Return a result if a dry run failed, or would delete more than is allowed."""
        limit, is_source_empty = request.options.max_delete, self._is_emptying(request)
        # If the dry run failed for some paths, its count is that of a real run. But of an empty
        # source no path can fail.
        is_partial = run.result.exit_status in _PARTIAL_EXITS and not is_source_empty
        if run.outcome.verdict is not Verdict.DONE and not is_partial:
            return _nothing_confirmed(request, run)
        deleted = run.result.deleted
        if is_source_empty and deleted:
            reason = "the source is empty and the destination is not: nothing is deleted"
            outcome = Outcome(Verdict.SOURCE_UNSAFE, reason, RELEASE_HINT)
        elif limit is not None and deleted > limit:
            reason = f"{deleted} would be deleted, --max-delete allows {limit}"
            outcome = Outcome(Verdict.HELD, reason, RELEASE_HINT)
        else:
            return None
        return TransferResult(
            outcome, pending=request.changeset, run=run if run.is_counted else None
        )

    def _failed_result(
        self, request: TransferRequest, run: SessionRun, failed: FailedPaths
    ) -> TransferResult:
        """Return which changes failed, if rsync's messages name them all; else all are pending."""
        status = run.result.exit_status
        is_known = failed.are_known and not self._are_names_translated
        content = self._with_linked_names(request.root, failed.content) if is_known else None
        if content is None:
            return _nothing_confirmed(request, run)
        if has_failed_in_file(status, run.result.messages):
            return self._aborted_result(request, run, content)
        if status not in _PARTIAL_EXITS or (failed.has_skipped_deletions and not content):
            return _nothing_confirmed(request, run)
        if not content:
            outcome = replace(run.outcome, verdict=Verdict.PARTIAL, reason=_UNSET_ATTRIBUTES)
            return TransferResult(outcome, unset_attributes=failed.attributes, run=run)
        content = with_hints_of(content, request.changeset.new_content)
        result = TransferResult(
            run.outcome, failed=content, unset_attributes=failed.attributes, run=run
        )
        if failed.has_skipped_deletions:
            return self._delete_skipped(request, result)
        return result

    def _aborted_result(
        self, request: TransferRequest, run: SessionRun, failed: Changeset
    ) -> TransferResult:
        """Return the files at which a run may have broken off; all else is pending."""
        files = regular_files(request.root, (change.path for change in failed))
        aborting, _ = split_below(failed, files)
        is_linked = self.options.preserves_hard_links and len(files) > 1
        if not files or is_linked:
            # The names of one file would have to be retried together.
            return _nothing_confirmed(request, run)
        _, pending = split_below(request.changeset, files)
        aborting = with_hints_of(aborting, request.changeset.new_content)
        outcome = replace(run.outcome, verdict=Verdict.PARTIAL)
        return TransferResult(outcome, pending=pending, aborting=aborting, run=run)

    def _delete_skipped(self, request: TransferRequest, result: TransferResult) -> TransferResult:
        """Make the deletions that rsync skipped because of failed paths, and send nothing.

        This run lists no directory that failed, and opens no file: so it does not fail at them.
        """
        if request.only_deletes:
            return replace(result, pending=request.changeset)
        failed = frozenset(change.path for change in result.failed) - {paths.ROOT}
        _, carried = split_below(request.changeset, failed)
        request = request.comparing(ContentComparison.TIMES)
        request = replace(request, changeset=carried, only_deletes=True, size_limit=None)
        files = self._build_list(replace(request, excluded=request.excluded | failed))
        if not files:
            return result
        second = self._check_deletions(request, files) or self._run_rsync(request, files)
        return replace(
            second,
            failed=union(result.failed, second.failed),
            unset_attributes=union(result.unset_attributes, second.unset_attributes),
            outcome=second.outcome if second.pending else result.outcome,
        )

    def _failed_paths(self, request: TransferRequest, files: FileList) -> FailedPaths:
        """Return an empty collection of the paths that a run for a request fails to carry."""
        source = os.readlink(b"/proc/self/fd/%d" % request.root)
        is_named = not moves_files(self.options.extra_options)
        target = target_in_messages(self._session.destination) if is_named else b""
        entries = None if request.is_full_sync else files.entries
        excluded = request.left_out | files.files_to_exclude
        carried = CarriedPaths(entries, request.options.rules, excluded)
        return FailedPaths(source, target, carried, partial(_mode, request.root))

    def _with_linked_names(self, root: int, failed: Changeset) -> Changeset | None:
        """Return the changes that have to be carried together if these failed.

        A name of a hard-linked file, carried alone, would not be linked to the others where links
        are preserved. Return None if the others are not known.
        """
        if not self.options.preserves_hard_links:
            return failed
        modes = [_mode(root, change.path) for change in failed]
        if not all(modes):
            # What is missing may have had other names.
            return None
        area = SearchArea(root, self.options.rules)
        try:
            linked = LinkedFileFinder(area).find(failed)
            if not all(file.has_all_names for file in linked.values()):
                search_source(area, linked)
        except TooManyNamesError:
            return None
        names = MutableChangeset()
        for file in linked.values():
            for path in file.known_paths:
                names.add(path, Scope.ENTRY)
        return optimize(union(failed, names)) if names else failed

    @property
    def _are_names_translated(self) -> bool:
        """True with --iconv: names in messages of the destination are in its character set."""
        return any(option.startswith("--iconv") for option in self.options.extra_options)

    def _disable_missing_capability(self, outcome: Outcome) -> bool:
        """Do without a capability from now on; return True if it was in use until now."""
        before = self._capabilities
        if outcome.missing_capability is MissingCapability.DELETE_MISSING_ARGS:
            self._capabilities = replace(before, has_delete_missing_args=False)
        elif outcome.missing_capability is MissingCapability.MKPATH:
            self._capabilities = replace(before, has_mkpath=False)
        if self._capabilities == before:
            return False
        self._session.run_log.log_missing_capability(outcome.reason)
        return True


def _nothing_confirmed(request: TransferRequest, run: SessionRun) -> TransferResult:
    pending, result = request.changeset, run.result
    if may_leave_temporary_files(result.exit_status, result.messages):
        # These go when rsync lists their directories.
        pending = with_parent_listings(pending)
    return TransferResult(run.outcome, pending=pending, run=run if run.is_counted else None)


def _has_stopped(result: TransferResult) -> bool:
    """Return True if a run may not have come to all of its files."""
    return result.verdict not in _CARRIED or bool(result.pending or result.aborting)


def _with_hints(result: TransferResult, request: TransferRequest) -> TransferResult:
    """Return a result whose changes keep the hints of the request.

    The time of a file that rsync has not come to can be set back before the next run, and no event
    tells that its content is new.
    """
    hints = request.changeset.new_content
    return replace(
        result, pending=with_hints_of(result.pending, hints),
        failed=with_hints_of(result.failed, hints), aborting=with_hints_of(result.aborting, hints),
    )  # fmt: skip


def _combined(first: TransferResult, second: TransferResult) -> TransferResult:
    """Return the result of two runs, of which the first has left nothing pending."""
    run = second.run
    if first.run is not None and run is not None:
        one, other = first.run.result, run.result
        result = replace(
            other, files=one.files + other.files, deleted=one.deleted + other.deleted,
            bytes_sent=one.bytes_sent + other.bytes_sent, seconds=one.seconds + other.seconds,
        )  # fmt: skip
        run = replace(run, result=result)
    return replace(
        second,
        outcome=first.outcome if second.verdict is Verdict.DONE else second.outcome,
        failed=union(first.failed, second.failed),
        unset_attributes=union(first.unset_attributes, second.unset_attributes),
        run=run,
    )


def _held_changes(held: AbstractSet[bytes], kept: Changeset, new_content: ScopedPaths) -> Changeset:
    """Return the changes of subtrees that a run leaves out."""
    changes = union(kept)
    for path in held:
        # Changes below a mount point that was mounted over are not seen.
        changes.add(path, Scope.TREE)
        if new_content.includes_tree(path):
            changes.new_content.add(path, Scope.TREE)
    return changes


def _mode(root: int, path: bytes) -> int:
    """Return the mode of the entry at a path, 0 if there is none."""
    try:
        return os.lstat(path or b".", dir_fd=root).st_mode
    except (OSError, ValueError):
        return 0
