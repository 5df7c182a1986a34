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

from pylsyncd.model import paths
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.model.paths import InodeId
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.system.walk import inode_id
from pylsyncd.watcher import mounts
from pylsyncd.watcher.mounts import Mount, MountTable


class SourceHeldError(Exception):
    """Nothing may be sent now; the text says why, as part of a sentence."""


class SourceState(Enum):
    """How the source stands, compared with its footing."""

    SAME = auto()
    REPLACED = auto()
    """Another directory of the same file system, with something in it, stands in its place."""
    HELD = auto()
    """It is gone, or what stands in its place must not be believed."""


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What a source stands on."""

    inode_id: InodeId
    file_system_id: int
    """As statvfs tells it: the same for a disk that comes back under another device number."""
    mount_point: bytes
    """Where the source's own file system is mounted."""
    nested_mounts: Mapping[bytes, str] = field(default_factory=dict)
    """What is mounted below the source, by relative path."""


def local_directory_id(destination: Destination) -> InodeId | None:
    """Return who a local destination's directory is; None for a remote one, or if there is none."""
    if destination.transport is not Transport.LOCAL:
        return None
    try:
        with walk.opened_root(destination.target) as directory:
            return inode_id(directory)
    except OSError:
        return None


class SourceGuard:
    """Watches over one source. Any thread may ask; the source's own thread accepts.

    What is mounted at paths that the ``rules`` leave out is no matter. Raises OSError if the
    kernel's table of mounts cannot be read.
    """

    def __init__(self, source: bytes, rules: Rules) -> None:
        self.source = source
        self._rules = rules
        self._table = MountTable()
        self._lock = threading.RLock()
        self._footing: SourceIdentity | None = None
        self._held: dict[bytes, str] = {}
        # The mounts below the source by number, which another time of mounting has not, and those
        # that are the same as before and yet were mounted anew.
        self._numbers: dict[bytes, int] = {}
        self._anew: set[bytes] = set()

    def close(self) -> None:
        """Give back what it holds open."""
        self._table.close()

    @property
    def accepted(self) -> SourceIdentity:
        """What the source stood on when it was accepted."""
        if self._footing is None:
            raise RuntimeError("The source was not accepted yet.")
        return self._footing

    @property
    def held_subtrees(self) -> Mapping[bytes, str]:
        """The subtrees that are held, and why."""
        with self._lock:
            return dict(self._held)

    def find_missing_mount(self, points: Iterable[bytes]) -> bytes | None:
        """Return one of the mount points that a source was on, if nothing is mounted there now."""
        mounted = {mount.mount_point for mount in self._mounts()}
        return next((point for point in points if point and point not in mounted), None)

    def accept(self, remembered: Mapping[bytes, str] | None = None) -> None:
        """Take the source as it stands for the true one. Raises OSError when it is not there.

        What is ``remembered`` to be mounted below it and is not there, or is something else, is
        held.
        """
        with walk.opened_root(self.source) as root, self._lock:
            mount = mounts.mount_of(os.path.realpath(self.source), self._mounts())
            below, numbers = self._mounted_below()
            self._footing = SourceIdentity(
                inode_id(root), os.fstatvfs(root).f_fsid, mount.mount_point,
                {**below, **(remembered or {})},
            )  # fmt: skip
            self._numbers = {}
            self._compare_mounts(below, numbers)
            self._anew.clear()

    def is_empty(self) -> bool:
        """Tell whether the source has no entries. Raises OSError when it is not there."""
        with walk.opened_root(self.source) as root:
            return self.is_empty_at(root)

    def is_empty_at(self, root: int) -> bool:
        """Tell the same of the open source.

        What the rules leave out does not count, nor what a new file system has by itself.
        """
        with os.scandir(root) as entries:
            return all(
                entry.name == "lost+found"
                or self._rules.matches(
                    os.fsencode(entry.name), is_directory=entry.is_dir(follow_symlinks=False)
                )
                for entry in entries
            )

    def take_remounted(self) -> set[bytes]:
        """Return the subtrees that were unmounted and mounted again since this was asked."""
        with self._lock:
            anew, self._anew = self._anew, set()
            return anew

    def check_state(self) -> tuple[SourceState, str]:
        """Return how the source stands now, and why it is held if it is."""
        try:
            with walk.opened_root(self.source) as root:
                return self._judge(root)
        except OSError as error:
            return SourceState.HELD, f"it cannot be opened ({error.strerror})"

    @contextlib.contextmanager
    def open_checked(self) -> Iterator[int]:
        """Open the source for a run. Raises SourceHeldError when it is not to be believed."""
        shown = paths.printable(self.source)
        try:
            root = walk.open_root(self.source)
        except OSError as error:
            raise SourceHeldError(
                f"the source {shown} cannot be opened ({error.strerror})"
            ) from None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, root)
            for path in self.accepted.nested_mounts:
                # While it is open, nothing unmounts it under rsync.
                with contextlib.suppress(OSError):
                    stack.callback(os.close, walk.open_below(root, path))
            self.verify_unchanged(root)
            yield root

    def verify_unchanged(self, root: int) -> None:
        """See that the open source still is what stands there. Raises SourceHeldError if not."""
        standing, reason = self.check_state()
        if standing is SourceState.SAME and inode_id(root) != self.accepted.inode_id:
            standing = SourceState.REPLACED
        if standing is SourceState.REPLACED:
            reason = "it was replaced a moment ago"
        if standing is not SourceState.SAME:
            raise SourceHeldError(f"the source {paths.printable(self.source)} is held: {reason}")
        self.update_held_subtrees()

    def update_held_subtrees(self) -> None:
        """Hold the subtrees whose file systems came or went, and release those that are back."""
        with self._lock:
            if self._table.has_changed():
                with contextlib.suppress(OSError):
                    self._compare_mounts(*self._mounted_below())

    def find_eventless_directories(self) -> list[bytes]:
        """Return the directories, relative, whose file systems do not tell all changes."""
        table = self._mounts()
        real = os.path.realpath(self.source)
        found = [b""] if mounts.sends_no_events(mounts.mount_of(real, table).fs_type) else []
        for path, mount in mounts.mounts_below(real, table).items():
            if mounts.sends_no_events(mount.fs_type) and not self._is_left_out(path):
                found.append(path)
        return found

    def _mounts(self) -> list[Mount]:
        with self._lock:
            return self._table.read()

    def _judge(self, root: int) -> tuple[SourceState, str]:
        footing = self.accepted
        present = inode_id(root)
        file_system = os.fstatvfs(root).f_fsid
        is_other = file_system != footing.file_system_id or not file_system
        # The number of a device that has gone is given to the next one.
        is_swapped = is_other and file_system != 0 and footing.file_system_id != 0
        if present == footing.inode_id and not is_swapped:
            return SourceState.SAME, ""
        if is_swapped or (present[0] != footing.inode_id[0] and is_other):
            if self.find_missing_mount([footing.mount_point]):
                return (
                    SourceState.HELD,
                    f"nothing is mounted at {paths.printable(footing.mount_point)}",
                )
            return SourceState.HELD, "another file system is in its place"
        if self.is_empty_at(root):
            return SourceState.HELD, "an empty directory is in its place"
        return SourceState.REPLACED, ""

    def _mounted_below(self) -> tuple[dict[bytes, str], dict[bytes, int]]:
        """Return what is mounted below the source, and the numbers of these mounts, by path."""
        real = os.path.realpath(self.source)
        found = {}
        numbers = {}
        for path, mount in mounts.mounts_below(real, self._mounts()).items():
            if not self._is_left_out(path):
                found[path] = mounts.mount_fingerprint(
                    mount, _file_system(os.path.join(real, path))
                )
                numbers[path] = mount.mount_id
        return found, numbers

    def _is_left_out(self, path: bytes) -> bool:
        return self._rules.excludes(path, is_directory=True)

    def _compare_mounts(self, present: Mapping[bytes, str], numbers: Mapping[bytes, int]) -> None:
        known = self.accepted.nested_mounts
        self._held = {}
        for path in {*known, *present}:
            if path not in present:
                self._held[path] = "the file system that was mounted there is gone"
            elif present[path] != known.get(path):
                self._held[path] = "another file system was mounted there"
            elif self._numbers.get(path, numbers[path]) != numbers[path]:
                self._anew.add(path)
        self._numbers = {**self._numbers, **numbers}


def _file_system(path: bytes) -> int:
    """Return what statvfs calls a file system, 0 where it does not tell."""
    try:
        return os.statvfs(path).f_fsid
    except OSError:
        return 0
