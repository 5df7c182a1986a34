"""Finds out how exactly a destination keeps the times of files.

ext4 with inodes of 128 bytes and some FUSE file systems keep seconds, FAT every other second, CIFS
units of 100 nanoseconds. There each copy has another time than its file, so that a comparison of
nanoseconds sends every file again.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.rsync.arguments import keeps_times
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities
from pylsyncd.rsync.file_list import FileList
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.worker.session import RsyncSession, SessionRun

_SECOND = 1_000_000_000
# The coarsest unit below a second that is told from nanoseconds, and the windows that are tried.
_COARSE_UNIT = 100
_WINDOWS = (0, 1, 2)

_MAX_SAMPLES = 10
_MAX_CANDIDATES = 500
_MAX_ATTEMPTS = 20

# The kernel gives a file the time of the last tick, up to 10 ms ago.
_TICK_NS = 20_000_000

# rsync's item for a regular file of which the time differs, but not the size.
_OTHER_TIME = re.compile(r"[<>.]f.\.t")


class _Sample(NamedTuple):
    """A file that the destination has received."""

    path: bytes
    status: os.stat_result


class CarriedFiles(NamedTuple):
    """The files that a run has carried without a failure."""

    root: int
    """The open source."""
    changeset: Changeset
    rules: Rules
    excluded: AbstractSet[bytes]
    started_ns: int
    """When the run began, by the wall clock."""
    run: SessionRun | None
    is_newly_sent: bool = False
    """Whether most of them were not there before."""


class DestinationTimes:
    """What is known of the times at one destination."""

    def __init__(self, session: RsyncSession) -> None:
        self._session = session
        options = session.options
        has_times = keeps_times(options.extra_options)
        is_wanted = options.modify_window is None and has_times and not options.dry_run
        self._attempts = _MAX_ATTEMPTS if is_wanted else 0

    def find_window(self, carried: CarriedFiles) -> int | None:
        """Return how many seconds equal times differ there; None if they do not, or if unknown.

        The answer is given once. A local copy is looked at; a remote one is compared by dry runs of
        rsync, if the run has sent files that were equal, or if they were just sent.
        """
        is_local = self._session.destination.transport is Transport.LOCAL
        is_asked = carried.is_newly_sent or _has_sent_equal_files(carried.run)
        if not self._attempts or not (is_local or is_asked):
            return None
        samples = list(islice(_samples(carried), _MAX_SAMPLES))
        if not samples:
            return None
        self._attempts -= 1
        window = self._compare_local(samples) if is_local else self._ask_rsync(carried, samples)
        if window is None or not _are_unchanged(carried.root, samples):
            return None
        self._attempts = 0
        return window if window >= 0 else None

    def _compare_local(self, samples: Sequence[_Sample]) -> int | None:
        times = []
        with contextlib.suppress(OSError):
            target = self._session.destination.target
            with walk.opened_root(target) as directory:
                for path, status in samples:
                    # A large file may be on its way.
                    with contextlib.suppress(FileNotFoundError):
                        copy = os.lstat(path, dir_fd=directory)
                        if stat.S_ISREG(copy.st_mode) and copy.st_size == status.st_size:
                            times.append((status.st_mtime_ns, copy.st_mtime_ns))
        return window_of(times)

    def _ask_rsync(self, carried: CarriedFiles, samples: Sequence[_Sample]) -> int | None:
        different = self._count_other_times(carried, samples, -1)
        if different is None:
            return None
        if different < len(samples):
            return -1
        return next(
            (each for each in _WINDOWS if self._count_other_times(carried, samples, each) == 0),
            None,
        )

    def _count_other_times(
        self, carried: CarriedFiles, samples: Sequence[_Sample], window: int
    ) -> int | None:
        """Return how many copies have another time for rsync, None if it fails."""
        session = self._session
        options = session.with_shared_ssh(session.options).as_dry_run()
        # Nothing is listed but files that are there.
        options = replace(options, itemize=True, modify_window=window, delete=False)
        command = options.file_list_command(
            CURRENT_DIRECTORY, session.destination, RsyncCapabilities(), create_parents=False
        )
        files = FileList({sample.path for sample in samples})
        run = session.run(carried.root, command, files.encode(), is_dry_run=True)
        if run.outcome.verdict is not Verdict.DONE:
            return None
        return sum(_OTHER_TIME.match(line) is not None for line in run.result.messages)


def window_of(times: Sequence[tuple[int, int]]) -> int | None:
    """Return the smallest window in which files and their copies have equal times, -1 for none.

    The times are pairs in nanoseconds. Return None if no window explains them.
    """
    if not times:
        return None
    if any(original == copy for original, copy in times):
        return -1
    for window in _WINDOWS:
        unit = _SECOND if window else _COARSE_UNIT
        if all(
            copy % unit == 0 and abs(original // _SECOND - copy // _SECOND) <= window
            for original, copy in times
        ):
            return window
    return None


def _has_sent_equal_files(run: SessionRun | None) -> bool:
    """Return True if a run found the whole content of what it sent at the destination."""
    return run is not None and run.result.matched_bytes > 0 and not run.result.literal_bytes


def _samples(carried: CarriedFiles) -> Iterator[_Sample]:
    """Yield carried files whose time has nanoseconds and that have not changed since the run."""
    for path in islice(_candidates(carried), _MAX_CANDIDATES):
        if carried.rules.excludes(path, is_directory=False) or not carried.excluded.isdisjoint(
            (path, *paths.ancestors(path))
        ):
            continue
        try:
            status = os.lstat(path, dir_fd=carried.root)
        except OSError:
            continue
        is_old = status.st_ctime_ns < carried.started_ns - _TICK_NS
        if stat.S_ISREG(status.st_mode) and is_old and status.st_mtime_ns % _COARSE_UNIT:
            yield _Sample(path, status)


def _candidates(carried: CarriedFiles) -> Iterator[bytes]:
    """Yield the paths of a changeset, and some of those in the directories that it compares."""
    changes = list(islice(carried.changeset, _MAX_CANDIDATES))
    while changes:
        path, scope = changes.pop()
        if scope is Scope.ENTRY:
            yield path
            continue
        try:
            with walk.opened_below(carried.root, path) as opened:
                names = os.listdir(opened)
        except OSError:
            continue
        for name in names[:_MAX_CANDIDATES]:
            child = paths.join(path, os.fsencode(name))
            yield child
            if scope is Scope.TREE:
                changes.append(Change(child, scope))


def _are_unchanged(root: int, samples: Sequence[_Sample]) -> bool:
    try:
        return all(
            os.lstat(path, dir_fd=root).st_ctime_ns == status.st_ctime_ns
            for path, status in samples
        )
    except OSError:
        return False
