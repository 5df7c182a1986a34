"""Finds out which changes of a failed run have failed, and which are not confirmed."""

import os
from dataclasses import replace
from functools import partial

from pylsyncd.model.changes import Changeset, MutableChangeset, union
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.optimizer import optimize, split_below, with_hints_of
from pylsyncd.rsync.carried_paths import CarriedPaths
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncOptions
from pylsyncd.rsync.failed_paths import FailedPaths, target_in_messages
from pylsyncd.rsync.file_list import FileList, regular_files
from pylsyncd.rsync.option_check import moves_files
from pylsyncd.rsync.outcomes import Verdict, has_failed_in_file
from pylsyncd.watcher.hard_link_search import (
    LinkedFileFinder,
    SearchArea,
    TooManyNamesError,
    search_source,
)
from pylsyncd.worker.session import SessionRun
from pylsyncd.worker.transfer_result import TransferRequest, TransferResult, nothing_confirmed

PARTIAL_EXITS = frozenset([23, 24])
"""The exit statuses of an rsync that has carried everything except the paths in its messages."""

_UNSET_ATTRIBUTES = (
    "some owners, modes, times or other attributes could not be set; the data is complete: "
    "check what the destination's user and file system permit"
)


class FailureAnalysis:
    """The analysis of failed runs to one destination."""

    def __init__(self, destination: Destination, options: RsyncOptions) -> None:
        self._destination = destination
        self._options = options

    def new_failed_paths(self, request: TransferRequest, files: FileList) -> FailedPaths:
        """Return an empty collection of the paths that a run for a request fails to carry."""
        is_named = not moves_files(self._options.extra_options)
        target = target_in_messages(self._destination) if is_named else b""
        entries = None if request.is_full_sync else files.entries
        excluded = request.left_out | files.files_to_exclude
        carried = CarriedPaths(entries, request.options.rules, excluded)
        source = CURRENT_DIRECTORY.rstrip(b"/")
        return FailedPaths(source, target, carried, partial(_mode, request.root))

    def result(
        self, request: TransferRequest, run: SessionRun, failed: FailedPaths
    ) -> TransferResult:
        """Return which changes failed, if rsync's messages name them all; else all are pending.

        The deletions that rsync has skipped are still to be made if something failed.
        """
        status = run.result.exit_status
        is_known = failed.are_known and not self._are_names_translated
        content = self._with_linked_names(request.root, failed.content) if is_known else None
        if content is None:
            return nothing_confirmed(request, run)
        if has_failed_in_file(status, run.result.messages):
            return self._aborted_result(request, run, content)
        if status not in PARTIAL_EXITS or (failed.has_skipped_deletions and not content):
            return nothing_confirmed(request, run)
        if not content:
            outcome = replace(run.outcome, verdict=Verdict.PARTIAL, reason=_UNSET_ATTRIBUTES)
            return TransferResult(outcome, unset_attributes=failed.attributes, run=run)
        content = with_hints_of(content, request.changeset.new_content)
        return TransferResult(
            run.outcome, failed=content, unset_attributes=failed.attributes, run=run
        )

    def _aborted_result(
        self, request: TransferRequest, run: SessionRun, failed: Changeset
    ) -> TransferResult:
        """Return the files at which a run may have broken off; all else is pending."""
        files = regular_files(request.root, (change.path for change in failed))
        aborting, _ = split_below(failed, files)
        is_linked = self._options.preserves_hard_links and len(files) > 1
        if not files or is_linked:
            # The names of one file would have to be retried together.
            return nothing_confirmed(request, run)
        _, pending = split_below(request.changeset, files)
        aborting = with_hints_of(aborting, request.changeset.new_content)
        outcome = replace(run.outcome, verdict=Verdict.PARTIAL)
        return TransferResult(outcome, pending=pending, aborting=aborting, run=run)

    def _with_linked_names(self, root: int, failed: Changeset) -> Changeset | None:
        """Return the changes that have to be carried together if these failed.

        A name of a hard-linked file, carried alone, would not be linked to the others where links
        are preserved. Return None if the others are not known.
        """
        if not self._options.preserves_hard_links:
            return failed
        modes = [_mode(root, change.path) for change in failed]
        if not all(modes):
            # What is missing may have had other names.
            return None
        area = SearchArea(root, self._options.rules)
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
        return any(option.startswith("--iconv") for option in self._options.extra_options)


def _mode(root: int, path: bytes) -> int:
    """Return the mode of the entry at a path, 0 if there is none."""
    try:
        return os.lstat(path or b".", dir_fd=root).st_mode
    except (OSError, ValueError):
        return 0
