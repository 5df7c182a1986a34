"""Counts what a full sync has to look at, so that its progress has a total."""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass

from pylsyncd.model import paths
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk


@dataclass(frozen=True, slots=True)
class SourceSize:
    """How much a source contains, without what the rules exclude."""

    entries: int
    """Files, directories and all else; the source itself is one."""
    files: int
    """All but the directories."""
    total_bytes: int
    """The sizes of the regular files."""


@dataclass(frozen=True, slots=True)
class CountedSource:
    """A source, and what of it is synced."""

    path: bytes
    rules: Rules


class SourceCounter:
    """The sizes of sources, each counted once by a thread of its own. Used by one thread."""

    def __init__(self) -> None:
        self._threads: dict[bytes, _CountThread] = {}
        self._is_stopping = threading.Event()

    def find(self, source: CountedSource) -> SourceSize | None:
        """Return the size of a source; None as long as it is counted, or if it cannot be."""
        thread = self._threads.get(source.path)
        if thread is None:
            thread = self._threads[source.path] = _CountThread(source, self._is_stopping)
            # Without a total the progress is worth showing as well.
            with suppress(RuntimeError):
                thread.start()
        return thread.size

    def keep(self, sources: set[bytes]) -> None:
        """Forget the sizes of all other sources: they change until the next full sync."""
        self._threads = {
            path: each for path, each in self._threads.items() if path in sources or each.is_alive()
        }

    def stop(self, timeout: float) -> None:
        """End the threads. One whose file system does not respond ends with the process."""
        self._is_stopping.set()
        for thread in self._threads.values():
            if thread.ident is not None:
                thread.join(timeout)


class _CountThread(threading.Thread):
    def __init__(self, source: CountedSource, is_stopping: threading.Event) -> None:
        super().__init__(name="source size", daemon=True)
        self._source = source
        self._is_stopping = is_stopping
        self.size: SourceSize | None = None

    def run(self) -> None:
        """Count."""
        # The source may vanish at any time.
        with suppress(OSError):
            self.size = count_source(self._source, self._is_stopping)


def count_source(source: CountedSource, is_stopping: threading.Event) -> SourceSize | None:
    """Return the size of a source; None if that was stopped. Raises OSError."""
    count = _Count(source.rules)
    with walk.opened_root(source.path) as root:
        walk.descend(
            root,
            paths.ROOT,
            lambda _, parent, name: None if is_stopping.is_set() else paths.join(parent, name),
            # rsync cannot look into it either.
            lambda *_: None,
            count.add_listing,
        )
    return None if is_stopping.is_set() else SourceSize(count.entries, count.files, count.bytes)


class _Count:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.entries = 1
        self.files = 0
        self.bytes = 0

    def add_listing(self, directory: int, path: bytes) -> list[str]:
        """Add what is in a directory; return the names of its subdirectories."""
        subdirectories = []
        with os.scandir(directory) as listing:
            for entry in listing:
                is_directory = entry.is_dir(follow_symlinks=False)
                if self._rules and self._rules.matches(
                    paths.join(path, os.fsencode(entry.name)), is_directory=is_directory
                ):
                    continue
                self.entries += 1
                if is_directory:
                    subdirectories.append(entry.name)
                    continue
                self.files += 1
                if entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        self.bytes += entry.stat(follow_symlinks=False).st_size
        return subdirectories
