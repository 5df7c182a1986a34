"""Carries one changeset to one destination with one rsync, and says how it went."""

import logging
import os
import shlex
from dataclasses import replace

from pylsyncd import filelist, paths, walk
from pylsyncd.changes import Changeset
from pylsyncd.commands import Abilities, Rsync
from pylsyncd.endpoints import Destination
from pylsyncd.filelist import FileList
from pylsyncd.logs import NOTICE, counted
from pylsyncd.outcomes import Outcome, Verdict, gist, interpret, vanished
from pylsyncd.rsync import Run, Runner

log = logging.getLogger(__name__)

# Listed, and missing on both sides: so a probe has nothing to change.
_PROBED = b"./.pylsyncd-probe\0"

# So many entries of a list are shown at the debug level.
_ENTRIES_SHOWN = 200

Identity = tuple[int, int]
"""``st_dev`` and ``st_ino`` of a directory."""


def identity(directory: int) -> Identity:
    """Return who an open directory is."""
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


class Carrier:
    """Knows how to reach a destination, and what its rsync is able to do.

    ``source_identity`` is who the source was at the start: nothing is run, and so nothing is
    deleted, while something else stands in its place.
    """

    def __init__(
        self, source: bytes, source_identity: Identity, destination: Destination, rsync: Rsync
    ) -> None:
        self._source = source
        self._source_identity = source_identity
        self._destination = destination
        self.name = destination.name
        self._rsync = rsync
        # A dry run is there to tell what it would do.
        self._telling = NOTICE if rsync.dry_run else logging.DEBUG
        self._abilities = Abilities()
        self._may_lack_path = True
        self.runner = Runner()
        self.was_probed = not rsync.delete
        """Whether a probe was tried at all."""
        self.is_probed = not rsync.delete
        """Whether it is known if the destination's rsync can delete by name."""

    def carry(self, changeset: Changeset) -> Outcome:
        """Run rsync for a changeset, once more for each ability that turns out to be missing.

        What is still owed afterwards stands in the outcome.
        """
        if not (self.is_probed or changeset.is_everything):
            outcome = self.probe()
            if outcome.verdict is not Verdict.DONE:
                return replace(outcome, owed=changeset)
        while True:
            outcome = self._carry_once(changeset)
            if not self._learn(outcome):
                return outcome

    def probe(self) -> Outcome:
        """Try a list that changes nothing, to learn what the destination's rsync is able to do."""
        self.was_probed = True
        while True:
            command = self._rsync.probe(self._source, self._destination, self._abilities)
            outcome, run = self._run(command, _PROBED)
            if self._learn(outcome):
                continue
            self.is_probed |= outcome.verdict is Verdict.DONE
            return replace(outcome, message=gist(run.messages))

    def _carry_once(self, changeset: Changeset) -> Outcome:
        try:
            root = walk.open_root(self._source)
        except OSError as error:
            return self._no_source(changeset, str(error.strerror))
        try:
            if identity(root) != self._source_identity:
                return self._no_source(changeset, "another directory is in its place")
            if changeset.is_everything:
                content = b""
                command = self._rsync.full(self._source, self._destination, self._abilities)
            else:
                content = self._list(root, changeset)
                if not content:
                    return Outcome(Verdict.DONE)
                command = self._rsync.listed(
                    self._source, self._destination, self._abilities, mkpath=self._may_lack_path
                )
        finally:
            os.close(root)
        outcome, run = self._run(command, content)
        if outcome.verdict in {Verdict.DONE, Verdict.AGAIN, Verdict.PARTIAL}:
            self._may_lack_path = False
            self._log_run(run)
        if outcome.verdict is Verdict.DONE:
            return outcome
        gone = vanished(run.code, run.messages, self._source)
        return replace(outcome, message=gist(run.messages), owed=gone or changeset)

    def _no_source(self, changeset: Changeset, what: str) -> Outcome:
        path = paths.show(self._source)
        reason = f"the source {path} is not there ({what}); nothing is deleted meanwhile"
        return Outcome(Verdict.LATER, reason, owed=changeset)

    def _list(self, root: int, changeset: Changeset) -> bytes:
        names_missing = self._abilities.missing_args or not self._rsync.delete
        entries = filelist.build(root, changeset, self._rsync.rules, missing_args=names_missing)
        for path in entries.too_long:
            log.error(
                "[%s] %s cannot be copied: its path is longer than the %d bytes that rsync takes.",
                self.name, paths.show(path), filelist.LONGEST_PATH,
            )  # fmt: skip
        self._announce_list(entries)
        return entries.content()

    def _run(self, command: list[bytes], content: bytes) -> tuple[Outcome, Run]:
        is_probe = content is _PROBED
        self._announce(command, is_probe=is_probe)
        run = self.runner.run(command, content, None if is_probe else self._show)
        outcome = interpret(run.code, run.messages)
        log.debug("[%s] exit %d: %s", self.name, run.code, outcome.reason or "done")
        return outcome, run

    def _learn(self, outcome: Outcome) -> bool:
        """Take note of an ability that turned out to be missing; tell whether that is news."""
        before = self._abilities
        if outcome.verdict is Verdict.WITHOUT_MISSING_ARGS:
            self._abilities = replace(before, missing_args=False)
        elif outcome.verdict is Verdict.WITHOUT_MKPATH:
            self._abilities = replace(before, mkpath=False)
        is_news = self._abilities != before
        if is_news:
            log.info("[%s] %s; doing without.", self.name, outcome.reason)
        return is_news

    def _announce(self, command: list[bytes], *, is_probe: bool) -> None:
        if self._rsync.dry_run and not is_probe:
            level, verb = self._telling, "would run"
            command = [argument for argument in command if argument != b"--dry-run"]
        else:
            level, verb = logging.DEBUG, "probing" if is_probe else "running"
        if log.isEnabledFor(level):
            shown = shlex.join(paths.show(argument) for argument in command)
            log.log(level, "[%s] %s: %s", self.name, verb, shown)

    def _announce_list(self, entries: FileList) -> None:
        level = self._telling
        if log.isEnabledFor(level):
            shown = [paths.show(b"./" + entry) for entry in entries.entries[:_ENTRIES_SHOWN]]
            more = " ..." if len(entries) > _ENTRIES_SHOWN else ""
            log.log(level, "[%s] list of %d: %s%s", self.name, len(entries), " ".join(shown), more)

    def _show(self, line: str) -> None:
        log.log(self._telling, "[%s] rsync: %s", self.name, line)

    def _log_run(self, run: Run) -> None:
        would = "would have " if self._rsync.dry_run else ""
        level = NOTICE if self._rsync.dry_run else logging.INFO
        log.log(
            level, "[%s] %ssynced %s, deleted %d, %s sent, %.2f s",
            self.name, would, counted(run.files, "file"), run.deleted,
            _size(run.bytes_sent), run.seconds,
        )  # fmt: skip


def _size(count: int) -> str:
    """Return a number of bytes as people read it."""
    if count < _KILO:
        return f"{count} B"
    size, units = count / _KILO, iter(["kB", "MB", "GB"])
    for unit in units:
        if size < _KILO:
            return f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.1f} TB"


_KILO = 1000
