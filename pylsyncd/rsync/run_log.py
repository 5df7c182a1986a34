"""What is said of the runs to one destination."""

import logging
import shlex
from collections.abc import Sequence

from pylsyncd.model import paths
from pylsyncd.model.formatting import format_count, format_size
from pylsyncd.rsync import file_list
from pylsyncd.rsync.file_list import FileList
from pylsyncd.rsync.runner import RunResult
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)

# So many entries of a list are shown at the debug level.
_ENTRIES_SHOWN = 200


class RunLog:
    """Puts the destination's name before what it says; a dry run says loudly what it would do."""

    def __init__(self, name: str, *, dry_run: bool) -> None:
        self._name = name
        self._is_dry = dry_run
        self._level = NOTICE if dry_run else logging.DEBUG

    def log_command(self, command: Sequence[bytes], *, is_dry_run: bool) -> None:
        """Say what is run; a trial is one that changes nothing, whatever is asked for."""
        if self._is_dry and not is_dry_run:
            level, verb = self._level, "would run"
            command = [argument for argument in command if argument != b"--dry-run"]
        else:
            level, verb = logging.DEBUG, "trying" if is_dry_run else "running"
        if log.isEnabledFor(level):
            shown = shlex.join(paths.printable(argument) for argument in command)
            log.log(level, "[%s] %s: %s", self._name, verb, shown)

    def log_file_list(self, entries: FileList) -> None:
        """Show a list, and say what cannot stand on it."""
        for path in entries.too_long:
            log.error(
                "[%s] %s cannot be copied: its path is longer than the %d bytes that rsync takes.",
                self._name, paths.printable(path), file_list.MAX_LISTED_PATH_BYTES,
            )  # fmt: skip
        if log.isEnabledFor(self._level):
            shown = [paths.printable(b"./" + entry) for entry in entries.entries[:_ENTRIES_SHOWN]]
            more = " ..." if len(entries) > _ENTRIES_SHOWN else ""
            log.log(
                self._level, "[%s] list of %d: %s%s",
                self._name, len(entries), " ".join(shown), more,
            )  # fmt: skip

    def log_item(self, line: str) -> None:
        """Show what rsync did to a path."""
        log.log(self._level, "[%s] rsync: %s", self._name, line)

    def log_exit(self, code: int, reason: str) -> None:
        """Show how a run ended."""
        log.debug("[%s] exit %d: %s", self._name, code, reason or "done")

    def log_missing_capability(self, reason: str) -> None:
        """Say that the destination lacks an ability."""
        log.info("[%s] %s; doing without.", self._name, reason)

    def log_result(self, run: RunResult) -> None:
        """Say what a run has carried."""
        would = "would have " if self._is_dry else ""
        log.log(
            NOTICE if self._is_dry else logging.INFO,
            "[%s] %ssynced %s, deleted %d, %s sent, %.2f s",
            self._name, would, format_count(run.files, "file"), run.deleted,
            format_size(run.bytes_sent), run.seconds,
        )  # fmt: skip
