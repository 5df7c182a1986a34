"""Builds the lists and commands of transfers, for what the destination's rsync is capable of."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from pylsyncd.model.changes import union
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.file_list import FileList, build_file_list
from pylsyncd.rsync.outcomes import (
    CANNOT_DELETE_BY_NAME,
    MissingCapability,
    Outcome,
    Verdict,
    interpret,
)
from pylsyncd.worker.session import RsyncSession, SessionRun
from pylsyncd.worker.transfer_result import TransferRequest

log = logging.getLogger(__name__)

# A list of one path that exists on neither side: a probe with it changes nothing.
_PROBE_LIST = b"./.pylsyncd-probe\0"

_PROTOCOL_ERROR = 2


class TransferCommands:
    """The commands to one destination, and what is known of its rsync's capabilities."""

    def __init__(
        self, session: RsyncSession, capabilities: RsyncCapabilities | None = None
    ) -> None:
        """Without ``capabilities``, a probe finds out whether rsync there can delete by name."""
        self._session = session
        self._capabilities = capabilities or RsyncCapabilities()
        self._has_reported_kept_copies = False
        self.creates_parents = True
        """Whether the directories above the destination may still be missing."""
        self.is_probed = capabilities is not None or not session.options.delete
        """Whether the capabilities are known, or no run needs them."""
        self.was_probe_tried = self.is_probed
        """Whether a probe is unnecessary or was run, successfully or not."""

    def probe(self, root: int, options: RsyncOptions) -> SessionRun:
        """Find out, with a list that changes nothing, what the destination's rsync can do."""
        self.was_probe_tried = True
        while True:
            command = self._session.with_shared_ssh(options).probe_command(
                CURRENT_DIRECTORY, self._session.destination, self._capabilities
            )
            deletes_by_name = self._capabilities.has_delete_missing_args
            run = self._session.run(
                root, command, _PROBE_LIST, is_dry_run=True,
                interpretation=_interpret_probe if deletes_by_name else interpret,
            )  # fmt: skip
            if not self.disable_missing_capability(run.outcome):
                self.is_probed |= run.outcome.verdict is Verdict.DONE
                return run

    def build_list(self, request: TransferRequest) -> FileList:
        """Return the list of the files that a request is about."""
        options = request.options
        capabilities = self._capabilities_for(request)
        changeset, deletable = request.changeset, None
        if request.named is not None:
            deletable = {path for path, _ in request.named}
            changeset = union(changeset)
            for directory, names in request.named.entries.items():
                changeset.add_entries(directory, names)
        files = build_file_list(
            request.root, changeset, options.rules,
            delete_missing_args=capabilities.has_delete_missing_args or not options.delete,
            deletable=deletable,
            excluded=request.left_out, size_limit=request.size_limit,
        )  # fmt: skip
        self._session.run_log.log_file_list(files)
        return files

    def command(
        self, options: RsyncOptions, request: TransferRequest, files: FileList
    ) -> list[bytes]:
        """Return the command of a run for a request, with other options than the request's."""
        excluded = sorted(request.excluded | files.files_to_exclude)
        options = replace(self._session.with_shared_ssh(options), in_flight=request.in_flight)
        self._report_kept_copies(options)
        destination = self._session.destination
        if request.is_full_sync:
            return options.full_sync_command(
                CURRENT_DIRECTORY, destination, self._capabilities, excluded=excluded
            )
        return options.file_list_command(
            CURRENT_DIRECTORY, destination, self._capabilities_for(request),
            create_parents=self.creates_parents, excluded=excluded,
            only_deletes=request.only_deletes,
        )  # fmt: skip

    def part_command(
        self,
        session: RsyncSession,
        options: RsyncOptions,
        request: TransferRequest,
        files: FileList,
    ) -> list[bytes]:
        """Return the command of a run in another session, for a part of a full sync."""
        options = replace(session.with_shared_ssh(options), in_flight=request.in_flight)
        return options.part_command(
            CURRENT_DIRECTORY, session.destination, self._capabilities_for(request),
            create_parents=self.creates_parents,
            excluded=sorted(request.excluded | files.files_to_exclude),
        )  # fmt: skip

    def _report_kept_copies(self, options: RsyncOptions) -> None:
        """Say once that the destination keeps what is deleted, because rsync there has to."""
        if options.deletes_named and not self._capabilities.has_delete_missing_args:
            if not self._has_reported_kept_copies:
                log.warning(
                    "[%s] rsync there cannot delete by name: with delete = running it keeps what "
                    "is deleted. Use another version of rsync there, or delete = yes.",
                    self._session.destination.name,
                )
            self._has_reported_kept_copies = True

    def _capabilities_for(self, request: TransferRequest) -> RsyncCapabilities:
        if request.deletes_by_listing and request.options.delete_only is None:
            return replace(self._capabilities, has_delete_missing_args=False)
        return self._capabilities

    def disable_missing_capability(self, outcome: Outcome) -> bool:
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


def _interpret_probe(exit_status: int, messages: Iterable[str], stall_reason: str = "") -> Outcome:
    """Return what the exit of a probe means that had rsync delete by name.

    An rsync that cannot do that exits with 2, and its message may be lost: so ended 32 of 500
    probes over ssh to Debian's 3.2.7 while the processors were busy.
    """
    outcome = interpret(exit_status, messages, stall_reason)
    is_explained = outcome.verdict is Verdict.HELD or outcome.missing_capability is not None
    if exit_status != _PROTOCOL_ERROR or stall_reason or is_explained:
        return outcome
    return replace(
        outcome,
        verdict=Verdict.RETRY_LATER,
        reason=CANNOT_DELETE_BY_NAME,
        missing_capability=MissingCapability.DELETE_MISSING_ARGS,
    )
