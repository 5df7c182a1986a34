"""Logs the runs to one destination."""

import logging
import shlex
from collections.abc import Sequence

from pylsyncd.model import paths
from pylsyncd.model.formatting import format_count, format_size
from pylsyncd.rsync.file_list import MAX_LISTED_PATH_BYTES, FileList
from pylsyncd.rsync.runner import RunResult
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)

# Entries of a list that a line of the log shows.
_MAX_LOGGED_ENTRIES = 200


class RunLog:
    """The log of one destination's runs; a dry run logs at the notice level what it would do."""

    def __init__(self, name: str, *, dry_run: bool) -> None:
        self._name = name
        self._is_dry = dry_run
        self._level = NOTICE if dry_run else logging.DEBUG

    def log_command(self, command: Sequence[bytes], *, is_dry_run: bool) -> None:
        """Log a command; with ``is_dry_run``, one that changes nothing even without option -n."""
        if self._is_dry and not is_dry_run:
            level, verb = self._level, "would run"
            command = [argument for argument in command if argument != b"--dry-run"]
        else:
            level, verb = logging.DEBUG, "trying" if is_dry_run else "running"
        if log.isEnabledFor(level):
            shown = shlex.join(paths.printable(argument) for argument in command)
            log.log(level, "[%s] %s: %s", self._name, verb, shown)

    def log_connecting(self, command: Sequence[bytes]) -> None:
        """Log a command that connects to the destination."""
        if log.isEnabledFor(logging.DEBUG):
            shown = shlex.join(paths.printable(argument) for argument in command)
            log.debug("[%s] connecting: %s", self._name, shown)

    def log_file_list(self, file_list: FileList) -> None:
        """Log a list, and an error for each path that is too long for it."""
        for path in file_list.too_long:
            log.error(
                "[%s] Cannot copy %s: its path is longer than the %d bytes that rsync takes. "
                "Shorten or exclude it.",
                self._name, paths.printable(path), MAX_LISTED_PATH_BYTES,
            )  # fmt: skip
        if log.isEnabledFor(self._level):
            entries = file_list.entries[:_MAX_LOGGED_ENTRIES]
            shown = " ".join(paths.printable(b"./" + entry) for entry in entries)
            more = " ..." if len(file_list) > len(entries) else ""
            log.log(
                self._level, "[%s] list of %d: %s%s", self._name, len(file_list), shown, more
            )  # fmt: skip

    def log_item(self, line: str) -> None:
        """Log what rsync did to a path."""
        log.log(self._level, "[%s] rsync: %s", self._name, line)

    def log_exit(self, code: int, reason: str) -> None:
        """Log how a run ended."""
        log.debug("[%s] exit %d: %s", self._name, code, reason or "done")

    def log_missing_capability(self, reason: str) -> None:
        """Log what the destination's rsync cannot do."""
        log.info("[%s] %s: continuing without it.", self._name, reason)

    def log_modify_window(self, window: int) -> None:
        """Log that the destination keeps times inexactly."""
        log.warning(
            "[%s] The destination does not keep the exact times of files. Times that differ by %s "
            "count as equal from now on. Set modify_window = %d for it, so that this is known at "
            "the next start.",
            self._name, "less than a second" if not window else f"up to {window} s", window,
        )  # fmt: skip

    def log_result(self, result: RunResult) -> None:
        """Log what a run has carried, and what was moved before it."""
        would = "would have " if self._is_dry else ""
        moved = ""
        if count := result.moved_files:
            files = "file" if count == 1 else "files"
            moved = f"moved {count:,} {files} ({format_size(result.moved_bytes)} not sent), "
        log.log(
            NOTICE if self._is_dry else logging.INFO,
            "[%s] %ssynced %s, deleted %d, %s%s sent, %.2f s",
            self._name, would, format_count(result.files, "file"), result.deleted, moved,
            format_size(result.bytes_sent), result.seconds,
        )  # fmt: skip
