"""Holds runs that would delete too much, before they delete anything."""

from pylsyncd.rsync.file_list import FileList
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.destination_guard import RELEASE_HINT
from pylsyncd.worker.failure_analysis import PARTIAL_EXITS
from pylsyncd.worker.session import RsyncSession, SessionRun
from pylsyncd.worker.transfer_commands import TransferCommands
from pylsyncd.worker.transfer_result import TransferRequest, TransferResult, nothing_confirmed


class DeletionCheck:
    """The check of the deletions of each run to one destination."""

    def __init__(
        self, session: RsyncSession, source_guard: SourceGuard, commands: TransferCommands
    ) -> None:
        self._session = session
        self._source_guard = source_guard
        self._commands = commands

    def check(self, request: TransferRequest, files: FileList) -> TransferResult | None:
        """Return a result if a dry run failed, or would delete more than is allowed."""
        options = request.options
        is_limited = options.max_delete is not None or self._is_emptying(request)
        may_delete = options.delete or options.deletes_named
        if request.is_released or not may_delete or not is_limited:
            return None
        return self.judge(request, self.dry_run(request, files))

    def dry_run(self, request: TransferRequest, files: FileList) -> SessionRun:
        """Run rsync so that it only counts what it would delete."""
        command = self._commands.command(request.options.as_dry_run(), request, files)
        return self._session.run(request.root, command, files.encode(), is_dry_run=True)

    def judge(self, request: TransferRequest, run: SessionRun) -> TransferResult | None:
        """Return a result if a dry run failed, or would delete more than is allowed."""
        limit, is_source_empty = request.options.max_delete, self._is_emptying(request)
        # If the dry run failed for some paths, its count is that of a real run. But of an empty
        # source no path can fail.
        is_partial = run.result.exit_status in PARTIAL_EXITS and not is_source_empty
        if run.outcome.verdict is not Verdict.DONE and not is_partial:
            return nothing_confirmed(request, run)
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

    def _is_emptying(self, request: TransferRequest) -> bool:
        """Return True if the source is empty and everything is to be carried."""
        return request.changeset.is_everything and self._source_guard.is_empty_at(request.root)
