"""What the scans need of the watches of a source, whatever reports its events.

A directory has a *descriptor*: of its inotify watch, or its path where a mark covers all.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import Protocol, TypeVar

from pylsyncd.model.changes import MutableChangeset
from pylsyncd.watcher.catchup_scan import ScanPurpose

D = TypeVar("D", bound=Hashable)


class WatchResult(Enum):
    """The result of watching what is at a name."""

    WATCHED = auto()
    """The directory and all below it are watched."""
    EXCLUDED = auto()
    """The rules exclude it."""
    ABSENT = auto()
    """There is no directory of that name."""
    UNWATCHABLE = auto()
    """It cannot be watched: see :attr:`Watches.unwatched`."""
    PARENT_MOVED = auto()
    """Its parent is not where the tree has it: an event in the queue tells where it is."""


class Directories(Protocol[D]):
    """The watched directories of a source."""

    @property
    def root_wd(self) -> D:
        """The source itself."""

    def __contains__(self, wd: D) -> bool:
        """Return True if a directory is watched."""

    def __len__(self) -> int:
        """Return their number; 0 if it is unknown."""

    def walk(self) -> Iterable[D]:
        """Return all directories."""

    def path(self, wd: D) -> bytes | None:
        """Return the path of a directory; None if it has none now."""

    def find(self, path: bytes) -> D | None:
        """Return the directory at a path."""

    def child(self, wd: D, name: bytes) -> D | None:
        """Return the directory of a name in another one."""

    def set_base(self) -> None:
        """Make this the moment since which directories were moved."""


class Watches(Protocol[D]):
    """The watches of one source."""

    @property
    def tree(self) -> Directories[D]:
        """The directories."""

    @property
    def unwatched(self) -> Mapping[tuple[D, bytes], int]:
        """The error numbers of directories that cannot be watched, by parent and name."""

    def scan(
        self, since_ns: Collection[int], top: D = ..., purpose: ScanPurpose = ...
    ) -> Mapping[int, MutableChangeset]:
        """Return the changes at and below a directory since each of the ctimes."""

    def opened_watched(self, wd: D) -> AbstractContextManager[int | None]:
        """Open a directory; None if it is elsewhere."""

    def included_files(self, directory: bytes, names: Collection[bytes]) -> set[bytes]:
        """Return the names of files that the rules do not exclude."""

    def watch_subtree(self, parent: D, name: bytes) -> WatchResult:
        """Watch the directory at a name, and all below it."""

    def retry_unwatched(self, since_ns: int) -> MutableChangeset:
        """Try again to watch what could not be watched; return its changes since a ctime."""

    def unwatched_paths(self) -> list[bytes]:
        """Return the paths of the directories that cannot be watched."""

    def count_lacking_watches(self) -> int:
        """Return how many directories are not watched for lack of watches, by walking them."""

    def take_newly_unwatched(self) -> list[tuple[D, bytes]]:
        """Return the keys of ``unwatched`` that are new since the last call."""

    def directories_in_source(self) -> list[bytes]:
        """Return the names of the directories in the source itself."""
