"""What is said of the runs to one destination."""

import logging
import shlex
from collections.abc import Sequence

from pylsyncd.model import paths
from pylsyncd.model.wording import counted, size
from pylsyncd.rsync import filelist
from pylsyncd.rsync.filelist import FileList
from pylsyncd.rsync.runner import Run
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

    def begins(self, command: Sequence[bytes], *, is_trial: bool) -> None:
        """Say what is run; a trial is one that changes nothing, whatever is asked for."""
        if self._is_dry and not is_trial:
            level, verb = self._level, "would run"
            command = [argument for argument in command if argument != b"--dry-run"]
        else:
            level, verb = logging.DEBUG, "trying" if is_trial else "running"
        if log.isEnabledFor(level):
            shown = shlex.join(paths.show(argument) for argument in command)
            log.log(level, "[%s] %s: %s", self._name, verb, shown)

    def listed(self, entries: FileList) -> None:
        """Show a list, and say what cannot stand on it."""
        for path in entries.too_long:
            log.error(
                "[%s] %s cannot be copied: its path is longer than the %d bytes that rsync takes.",
                self._name, paths.show(path), filelist.LONGEST_PATH,
            )  # fmt: skip
        if log.isEnabledFor(self._level):
            shown = [paths.show(b"./" + entry) for entry in entries.entries[:_ENTRIES_SHOWN]]
            more = " ..." if len(entries) > _ENTRIES_SHOWN else ""
            log.log(
                self._level, "[%s] list of %d: %s%s",
                self._name, len(entries), " ".join(shown), more,
            )  # fmt: skip

    def item(self, line: str) -> None:
        """Show what rsync did to a path."""
        log.log(self._level, "[%s] rsync: %s", self._name, line)

    def ended(self, code: int, reason: str) -> None:
        """Show how a run ended."""
        log.debug("[%s] exit %d: %s", self._name, code, reason or "done")

    def does_without(self, reason: str) -> None:
        """Say that the destination lacks an ability."""
        log.info("[%s] %s; doing without.", self._name, reason)

    def done(self, run: Run) -> None:
        """Say what a run has carried."""
        would = "would have " if self._is_dry else ""
        log.log(
            NOTICE if self._is_dry else logging.INFO,
            "[%s] %ssynced %s, deleted %d, %s sent, %.2f s",
            self._name, would, counted(run.files, "file"), run.deleted,
            size(run.bytes_sent), run.seconds,
        )  # fmt: skip
