"""Keeps the source from being taken for what it is not: what has only gone away deletes nothing.

The source stands on a file system, and other ones may be mounted below it. What stood there when
the source was accepted is its *footing*; nothing is sent from a source that lost it, nor from a
subtree whose own file system came or went.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from pylsyncd import mounts, paths, walk
from pylsyncd.excludes import Rules
from pylsyncd.mounts import Mount, MountTable
from pylsyncd.state import Identity


class SourceHeldError(Exception):
    """Nothing may be sent now; the text says why, as part of a sentence."""


class Standing(Enum):
    """How the source stands, compared with its footing."""

    SAME = auto()
    REPLACED = auto()
    """Another directory of the same file system, with something in it, stands in its place."""
    HELD = auto()
    """It is gone, or what stands in its place must not be believed."""


@dataclass(frozen=True, slots=True)
class Footing:
    """What a source stands on."""

    identity: Identity
    file_system: int
    """As statvfs tells it: the same for a disk that comes back under another device number."""
    mount: bytes
    """Where the source's own file system is mounted."""
    mounts: Mapping[bytes, str] = field(default_factory=dict)
    """What is mounted below the source, by relative path."""


def identity(directory: int) -> Identity:
    """Return who an open directory is."""
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


class Guard:
    """Watches over one source. Any thread may ask; the main thread accepts.

    ``is_left_out`` tells which paths the rules leave out: what is mounted there is no matter.
    Raises OSError if the kernel's table of mounts cannot be read.
    """

    def __init__(self, source: bytes, rules: Rules) -> None:
        self._source = source
        self._rules = rules
        self._table = MountTable()
        self._lock = threading.RLock()
        self._footing: Footing | None = None
        self._held: dict[bytes, str] = {}

    def close(self) -> None:
        """Give back what it holds open."""
        self._table.close()

    @property
    def footing(self) -> Footing:
        """What the source stood on when it was accepted."""
        if self._footing is None:
            raise RuntimeError("The source was not accepted yet.")
        return self._footing

    @property
    def held(self) -> Mapping[bytes, str]:
        """The subtrees that are held, and why."""
        with self._lock:
            return dict(self._held)

    def missing_mount(self, points: Iterable[bytes]) -> bytes | None:
        """Return one of the mount points that a source was on, if nothing is mounted there now."""
        mounted = {mount.point for mount in self._mounts()}
        return next((point for point in points if point and point not in mounted), None)

    def accept(self, remembered: Mapping[bytes, str] | None = None) -> None:
        """Take the source as it stands for the true one. Raises OSError when it is not there.

        What is ``remembered`` to be mounted below it and is not there is held.
        """
        with self._opened() as root, self._lock:
            present = self._footing_of(root)
            self._footing = Footing(
                present.identity, present.file_system, present.mount,
                {**(remembered or {}), **present.mounts},
            )  # fmt: skip
            self._compare_mounts(present.mounts)

    def is_vacant(self) -> bool:
        """Tell whether the source has no entries. Raises OSError when it is not there."""
        with self._opened() as root:
            return walk.is_empty(root)

    def standing(self) -> tuple[Standing, str]:
        """Return how the source stands now, and why it is held if it is."""
        try:
            with self._opened() as root:
                return self._judge(root)
        except OSError as error:
            return Standing.HELD, f"it cannot be opened ({error.strerror})"

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Open the source for a run. Raises SourceHeldError when it is not to be believed."""
        shown = paths.show(self._source)
        try:
            root = walk.open_root(self._source)
        except OSError as error:
            raise SourceHeldError(f"the source {shown} is gone ({error.strerror})") from None
        try:
            self.check(root)
            yield root
        finally:
            os.close(root)

    def check(self, root: int) -> None:
        """See that the open source still is what stands there. Raises SourceHeldError if not."""
        standing, reason = self.standing()
        if standing is Standing.SAME and identity(root) != self.footing.identity:
            standing = Standing.REPLACED
        if standing is Standing.REPLACED:
            reason = "it was replaced a moment ago"
        if standing is not Standing.SAME:
            raise SourceHeldError(f"the source {paths.show(self._source)} is held: {reason}")
        self.look_at_mounts()

    def look_at_mounts(self) -> None:
        """Hold the subtrees whose file systems came or went, and release those that are back."""
        with self._lock:
            if self._table.changed():
                with contextlib.suppress(OSError):
                    self._compare_mounts(self._mounted_below())

    def eventless(self) -> list[bytes]:
        """Return the directories, relative, whose file systems do not tell all changes."""
        table = self._mounts()
        real = os.path.realpath(self._source)
        found = [b""] if mounts.sends_no_events(mounts.holding(real, table).kind) else []
        for path, mount in mounts.below(real, table).items():
            if mounts.sends_no_events(mount.kind) and not self._is_left_out(path):
                found.append(path)
        return found

    def _mounts(self) -> list[Mount]:
        with self._lock:
            return self._table.read()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        root = walk.open_root(self._source)
        try:
            yield root
        finally:
            os.close(root)

    def _judge(self, root: int) -> tuple[Standing, str]:
        footing = self.footing
        present = identity(root)
        if present == footing.identity:
            return Standing.SAME, ""
        same_device = present[0] == footing.identity[0]
        if not same_device and os.fstatvfs(root).f_fsid != footing.file_system:
            if self.missing_mount([footing.mount]):
                return Standing.HELD, f"nothing is mounted at {paths.show(footing.mount)}"
            return Standing.HELD, "another file system is in its place"
        if walk.is_empty(root):
            return Standing.HELD, "an empty directory is in its place"
        return Standing.REPLACED, ""

    def _footing_of(self, root: int) -> Footing:
        mount = mounts.holding(os.path.realpath(self._source), self._mounts())
        file_system = os.fstatvfs(root).f_fsid
        return Footing(identity(root), file_system, mount.point, self._mounted_below())

    def _mounted_below(self) -> dict[bytes, str]:
        below = mounts.below(os.path.realpath(self._source), self._mounts())
        return {
            path: mounts.identity(mount)
            for path, mount in below.items()
            if not self._is_left_out(path)
        }

    def _is_left_out(self, path: bytes) -> bool:
        return self._rules.excludes(path, is_directory=True)

    def _compare_mounts(self, present: Mapping[bytes, str]) -> None:
        known = self.footing.mounts
        self._held = {}
        for path in {*known, *present}:
            if path not in present:
                self._held[path] = "the file system that was mounted there is gone"
            elif present[path] != known.get(path):
                self._held[path] = "another file system was mounted there"
