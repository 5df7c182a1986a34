"""Finds the files that have to be compared by content, because size and time are not enough.

rsync skips a file whose size and time equal those of its copy. Such a copy has another content only
if an earlier run made it from the same file, or from another one at the same path, of this size and
time. So an earlier run has seen that time:

* A file with the hint of a new content and with a time up to the last look of an earlier run is
  compared by content. It was written before that look, or moved here, or its time was set back.
* A file with a later time is not: no run has seen this time. That is the ordinary write.
* A time in the future tells nothing: an earlier run may have seen it.

A run with a list looks at all files before it sends the first one, and says when it has done so.
The copy gets the time of that look, also if the file was written since (rsync 3.2.7 and 3.5.0). Of
all other runs the end is the last look, of a failed one, too: it may have carried a part. So it is
where copies do not get exactly the times of their files.

The time of a file can be set back after the look and before rsync comes to the file; no event
brings another hint then. So the files with later times are looked at once more after the run, and a
run that has stopped early leaves all its files their hints. A write that comes later brings a hint
of its own.

Each destination has a last look of its own. Before the first run it is the start of the process:
another process may have carried anything until then. Copies that pylsyncd has not made are compared
by size and time alone.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial

from pylsyncd.model.scoped_paths import NO_PATHS, MutableScopedPaths, Scope, ScopedPaths
from pylsyncd.rsync.file_list import FileList
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk

# Two ticks of the clock. The kernel gives a file the time of the last tick, 1 to 10 ms ago, so the
# time of a file that a run has carried is earlier than its end even without this.
_TIME_SLACK_NS = 20_000_000

# Later than the time of any file.
_NEVER = 1 << 80

# A comparison of so much takes less than a run of rsync, which is 50 ms.
_MAX_JOINED_FILES = 1_000
_MAX_JOINED_BYTES = 4 << 20

# By how much the clock of a file server may be ahead: 2 minutes, in nanoseconds.
_MAX_CLOCK_LEAD_NS = 120_000_000_000


@dataclass(frozen=True, slots=True)
class CarriedTimes:
    """The times of files that a destination's earlier runs may have carried, in nanoseconds."""

    until_ns: int
    now_ns: int

    def include(self, mtime_ns: int) -> bool:
        """Return True if an earlier run may have carried a file with this time."""
        return mtime_ns <= self.until_ns or mtime_ns > self.now_ns


def carried_times(latest_ns: int, window_ns: int = 0) -> CarriedTimes:
    """Return the times that runs may have carried of which the latest carried times up to one.

    Times that differ by up to ``window_ns`` count as equal for rsync.
    """
    return CarriedTimes(latest_ns + window_ns + _TIME_SLACK_NS, time.time_ns())


@dataclass(frozen=True, slots=True)
class ContentCheck:
    """A file list in two parts."""

    compared: FileList
    """What has to be compared by content."""
    others: FileList
    """What size and time tell."""
    can_join: bool
    """Whether a comparison of the other part by content costs less than a run of its own: the files
    that size and time may show to be equal are few and small."""
    size: int = 0
    """The bytes of the files that a comparison of both parts would read in the source."""
    latest_ns: int = 0
    """The latest time of a file in the list that is ahead of the clock, but by little; else 0."""
    unread: AbstractSet[bytes] = frozenset()
    """Directories that could not be read, of which everything may have a new content."""
    repeat: Callable[[], "ContentCheck"] | None = None
    """Checks the other part once more; None if nothing in it has the hint."""

    @property
    def compares_directories_alone(self) -> bool:
        """Whether all that has to be compared is in directories of which everything may be new."""
        return all(not entry or entry.endswith(b"/") for entry in self.compared.entries)

    @property
    def hints(self) -> ScopedPaths:
        """The hint of a new content that is needed until these files are compared."""
        if not self.compared:
            return NO_PATHS
        hints = MutableScopedPaths()
        hints.trees |= self.unread
        for entry in self.compared.entries:
            if not entry or entry.endswith(b"/"):
                hints.add(entry[:-1], Scope.LISTING)
            else:
                hints.add(entry, Scope.ENTRY)
        return hints


def check_contents(
    root: int,
    files: FileList,
    new_content: ScopedPaths,
    times: CarriedTimes,
    is_left_out: Callable[[bytes], bool],
) -> ContentCheck:
    """Divide a list by the hint of a new content and by what earlier runs may have carried.

    ``root`` is the open source. ``is_left_out(path)`` tells which files the run excludes.
    """
    if not new_content:
        return ContentCheck(files.part(set()), files, can_join=False)
    divider = _Divider(root, new_content, times, is_left_out)
    for entry in files.entries:
        if not entry or entry.endswith(b"/"):
            divider.divide_listing(entry)
        else:
            divider.divide_entry(entry)
    compared = divider.compared
    others = set(files.entries) - compared
    can_join = bool(compared) and divider.can_join(others)
    rest = files.part(others)
    # What was written since the look has a new time, and a hint of its own.
    repeat = partial(
        check_contents, root, rest, new_content, replace(times, now_ns=_NEVER),
        (lambda path: path in compared or is_left_out(path)) if compared else is_left_out,
    )  # fmt: skip
    return ContentCheck(
        files.part(compared), rest, can_join, divider.size, divider.latest_ns, divider.unread,
        repeat if rest else None,
    )  # fmt: skip


class _Divider:
    """The entries of a list to compare by content, while they are being found."""

    def __init__(
        self,
        root: int,
        new_content: ScopedPaths,
        times: CarriedTimes,
        is_left_out: Callable[[bytes], bool],
    ) -> None:
        self.compared: set[bytes] = set()
        self.unread: set[bytes] = set()
        self.size = self.latest_ns = 0
        self._root = root
        self._new_content = new_content
        self._times = times
        self._is_left_out = is_left_out
        # Whether most names of the last directory do not exist.
        self._are_most_missing = False

    def divide_entry(self, path: bytes) -> None:
        if self._new_content.includes_entry(path):
            self._divide_files((path,))

    def divide_listing(self, entry: bytes) -> None:
        directory = entry[:-1]
        if self._new_content.includes_listing(directory):
            if self._has_file_to_compare(directory):
                self.compared.add(entry)
            return
        names = self._new_content.entries.get(directory)
        if names:
            existing = self._existing(directory, names)
            missing = len(names) - len(existing) + self._divide_names(directory, existing)
            self._are_most_missing = 2 * missing > len(names)

    def _existing(self, directory: bytes, names: AbstractSet[bytes]) -> Collection[bytes]:
        if self._are_most_missing and len(names) >= walk.MIN_NAMES_FOR_LISTING:
            with contextlib.suppress(OSError):
                return walk.existing_names(self._root, directory, names)
        return names

    def _divide_names(self, directory: bytes, names: Iterable[bytes]) -> int:
        prefix = directory and directory + b"/"
        some = [prefix + name for name in names if name]
        if self._is_left_out is not nothing_is_left_out:
            some = [path for path in some if not self._is_left_out(path)]
        return self._divide_files(some)

    def _has_file_to_compare(self, directory: bytes) -> bool:
        has_one = False
        try:
            with walk.opened_below(self._root, directory) as opened, os.scandir(opened) as found:
                for each in found:
                    if each.is_file(follow_symlinks=False):
                        has_one |= self._is_ambiguous(each.stat(follow_symlinks=False))
        except OSError:
            # It is changing, or rsync will report the error.
            if self._new_content.includes_tree(directory):
                self.unread.add(directory)
            return True
        return has_one

    def can_join(self, others: AbstractSet[bytes]) -> bool:
        """Return True if the regular files of ``others`` without the hint are few and small."""
        size = 0
        for count, status in enumerate(self._without_hint(others), 1):
            size += status.st_size
            if count > _MAX_JOINED_FILES or size > _MAX_JOINED_BYTES:
                return False
        return True

    def _without_hint(self, entries: AbstractSet[bytes]) -> Iterator[os.stat_result]:
        """Yield the status of each regular file that is listed and has not the hint."""
        for entry in entries:
            if not entry or entry.endswith(b"/"):
                if not self._new_content.includes_listing(entry[:-1]):
                    yield from self._other_files_in(entry[:-1])
            elif not self._new_content.includes_entry(entry):
                with contextlib.suppress(OSError):
                    status = os.lstat(entry, dir_fd=self._root)
                    if stat.S_ISREG(status.st_mode):
                        yield status

    def _other_files_in(self, directory: bytes) -> Iterator[os.stat_result]:
        hinted = self._new_content.entries.get(directory, frozenset())
        with (
            contextlib.suppress(OSError),
            walk.opened_below(self._root, directory) as opened,
            os.scandir(opened) as found,
        ):
            for each in found:
                if each.is_file(follow_symlinks=False) and os.fsencode(each.name) not in hinted:
                    yield each.stat(follow_symlinks=False)

    def _divide_files(self, some: Iterable[bytes]) -> int:
        """Add the paths of files whose copies may look equal; return how many are missing.

        Runs twice for each file written.
        """
        root, until_ns, now_ns = self._root, self._times.until_ns, self._times.now_ns
        size = missing = 0
        for path in some:
            try:
                status = os.lstat(path, dir_fd=root)
            except (FileNotFoundError, NotADirectoryError):
                missing += 1
                continue
            except OSError:
                # rsync will report the error.
                self.compared.add(path)
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            if until_ns < status.st_mtime_ns <= now_ns:
                size += status.st_size
            elif self._is_ambiguous(status):
                self.compared.add(path)
        self.size += size
        return missing

    def _is_ambiguous(self, status: os.stat_result) -> bool:
        self.size += status.st_size
        now_ns = self._times.now_ns
        if now_ns < status.st_mtime_ns <= now_ns + _MAX_CLOCK_LEAD_NS:
            self.latest_ns = max(self.latest_ns, status.st_mtime_ns)
        return self._times.include(status.st_mtime_ns)


def nothing_is_left_out(_path: bytes) -> bool:
    """Return False."""
    return False


def left_out_test(
    rules: Rules, excluded: AbstractSet[bytes], files: FileList
) -> Callable[[bytes], bool]:
    """Return a function that returns True if a run for a list leaves out the file at a path."""
    if not (rules or excluded or files.files_to_exclude):
        return nothing_is_left_out

    def is_left_out(path: bytes) -> bool:
        return (
            path in excluded
            or path in files.files_to_exclude
            or rules.matches(path, is_directory=False)
        )

    return is_left_out
