"""Protects the copies from a source that is not there: an unmounted source deletes nothing.

The source is on a file system, and others may be mounted below it. What was there when the source
was accepted is its *identity*. Nothing is sent from a source that has lost its identity, nor from a
subtree whose own file system was mounted or unmounted.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from pylsyncd.model import paths
from pylsyncd.model.directory_id import DirectoryId, MountId
from pylsyncd.model.moments import Moment
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import path_resolution, walk
from pylsyncd.system.path_resolution import UnsafeLinkError
from pylsyncd.watcher import mounts
from pylsyncd.watcher.identification import read_directory_id, real_path
from pylsyncd.watcher.mounts import Mount, MountTable


class SourceHeldError(Exception):
    """Nothing may be sent now; the text is the reason, without a full stop."""


class SourceState(Enum):
    """The present source compared with the accepted one."""

    SAME = auto()
    REMOUNTED = auto()
    """The same directory, on a file system that was mounted again."""
    REPLACED = auto()
    """Another directory of the same file system, and not empty."""
    HELD = auto()
    """The source is gone, or what is in its place must not be synced."""


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """What distinguishes a source from any other directory in its place."""

    directory: DirectoryId
    mount_point: bytes
    """Of the source's own file system."""
    owner: int
    """The user id that the directory belonged to."""
    nested_mounts: Mapping[bytes, MountId] = field(default_factory=dict)
    """The mounts below the source, by relative path."""


class SourceGuard:
    """The guard of one source. Used by any thread; only the source's own thread accepts.

    Mounts at excluded paths are ignored. Raises OSError if the mount table cannot be read.
    """

    def __init__(self, source: bytes, rules: Rules) -> None:
        self.source = source
        self._rules = rules
        self._mount_table = MountTable()
        self._lock = threading.RLock()
        self._accepted: SourceIdentity | None = None
        self._held_subtrees: dict[bytes, str] = {}
        self._new_mounts: dict[bytes, MountId] = {}
        self._remounted: set[bytes] = set()
        self._released: set[bytes] = set()
        self._exchanged: set[bytes] = set()

    def close(self) -> None:
        """Close the mount table."""
        self._mount_table.close()

    @property
    def accepted(self) -> SourceIdentity:
        """The identity of the source when it was accepted."""
        if self._accepted is None:
            raise RuntimeError("The source was not accepted yet.")
        return self._accepted

    @property
    def held_subtrees(self) -> Mapping[bytes, str]:
        """The subtrees that are held, with the reasons."""
        with self._lock:
            return dict(self._held_subtrees)

    @property
    def new_mounts(self) -> Mapping[bytes, MountId]:
        """The held subtrees over which a file system was mounted; there was none before."""
        with self._lock:
            return dict(self._new_mounts)

    def accept_mount(self, path: bytes, mount: MountId) -> None:
        """Release a subtree if that is what was mounted over it."""
        with self._lock:
            if self._new_mounts.get(path) == mount:
                nested = {**self.accepted.nested_mounts, path: mount}
                self._accepted = replace(self.accepted, nested_mounts=nested)
                del self._new_mounts[path], self._held_subtrees[path]
                self._released.add(path)

    def find_missing_mount(self, mount_points: Iterable[bytes]) -> bytes | None:
        """Return the first of these mount points at which nothing is mounted now."""
        mounted = {mount.mount_point for mount in self._read_mounts()}
        return next((point for point in mount_points if point and point not in mounted), None)

    def accept(self, known_mounts: Mapping[bytes, MountId] | None = None) -> None:
        """Accept the source as it is now. Raises OSError if it cannot be opened.

        A subtree is held if one of the ``known_mounts`` there is missing or has changed.
        """
        with walk.opened_root(self.source) as root:
            self._accept(root, known_mounts or {})

    def accept_replacement(self) -> None:
        """Accept the directory that has replaced the source, with the known mounts.

        Raises OSError if it cannot be opened, or if only a person may accept it.
        """
        with walk.opened_root(self.source) as root:
            is_same = self._identify(root).is_same(self.accepted.directory)
            if not is_same and (reason := self._reason_against_owner(root)):
                raise OSError(errno.EPERM, reason)
            self._accept(root, self.accepted.nested_mounts)

    def _accept(self, root: int, known_mounts: Mapping[bytes, MountId]) -> None:
        with self._lock:
            mount = mounts.mount_of(real_path(root), self._read_mounts())
            nested = self._read_nested_mounts(root)
            before = nested if self._accepted is None else self._accepted.nested_mounts
            self._exchanged |= _differing(before, nested)
            self._accepted = SourceIdentity(
                self._identify(root), mount.mount_point, os.fstat(root).st_uid,
                {**nested, **known_mounts},
            )  # fmt: skip
            self._compare_mounts(root, nested)
            self._remounted.clear()

    def why_not_opened(self, *, only_links: bool = False) -> str:
        """Return why the source cannot be opened; empty if it can be.

        With ``only_links`` the only reason is a symbolic link that must not be followed.
        """
        try:
            with walk.opened_root(self.source):
                return ""
        except UnsafeLinkError as error:
            return _cannot_be_opened(error)
        except OSError as error:
            return "" if only_links else _cannot_be_opened(error)

    def has_changed_since(self, moment: Moment) -> bool:
        """Return True if the directory itself was made, moved or changed since a moment.

        Raises OSError if it cannot be opened.
        """
        with walk.opened_root(self.source) as root:
            return os.fstat(root).st_ctime_ns >= moment.since_ns

    def is_empty(self) -> bool:
        """Return True if the source has no entries. Raises OSError if it cannot be opened."""
        with walk.opened_root(self.source) as root:
            return self.is_empty_at(root)

    def is_empty_at(self, directory: int, path: bytes = paths.ROOT) -> bool:
        """Return True if the open source, or the directory at a path in it, has no entries.

        Excluded entries do not count, nor does the lost+found of a new file system.
        """
        with os.scandir(directory) as entries:
            return all(
                entry.name == "lost+found"
                or self._rules.matches(
                    paths.join(path, os.fsencode(entry.name)),
                    is_directory=entry.is_dir(follow_symlinks=False),
                )
                for entry in entries
            )

    def take_released(self) -> set[bytes]:
        """Return the subtrees that were held at some time since the last call, and are not now."""
        with self._lock:
            released, self._released = self._released, set()
            return released

    def take_exchanged(self) -> set[bytes]:
        """Return the subtrees that were accepted with another directory, since the last call.

        Files of the same names, sizes and times may be others.
        """
        with self._lock:
            exchanged, self._exchanged = self._exchanged, set()
            return exchanged

    def take_remounted(self) -> set[bytes]:
        """Return the subtrees that may have been mounted again since the last call.

        Nothing that the mount table has tells that: the kernel uses the id of a mount again.
        """
        with self._lock:
            remounted, self._remounted = self._remounted, set()
            return remounted

    def check_state(self) -> tuple[SourceState, str]:
        """Return the present state of the source, and the reason if it is held."""
        try:
            with walk.opened_root(self.source) as root:
                return self._compare(root)
        except OSError as error:
            return SourceState.HELD, _cannot_be_opened(error)

    @contextlib.contextmanager
    def open_checked(self) -> Iterator[int]:
        """Open the source for a run. Raises SourceHeldError if nothing may be sent from it."""
        shown = paths.printable(self.source)
        try:
            root = walk.open_root(self.source)
        except OSError as error:
            reason = _cannot_be_opened(error)
            raise SourceHeldError(f"the source {shown} is held: {reason}") from None
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, root)
            for path in self.accepted.nested_mounts:
                # An open directory keeps the file system mounted while rsync runs.
                with contextlib.suppress(OSError):
                    stack.callback(os.close, walk.open_below(root, path))
            self.verify_unchanged(root)
            yield root

    def verify_unchanged(self, root: int) -> None:
        """Raise SourceHeldError unless the open source is the accepted one and in its place."""
        state, reason = self.check_state()
        is_accepted = self._identify(root).is_same(self.accepted.directory)
        if state is SourceState.SAME and not is_accepted:
            state = SourceState.REPLACED
        if state is SourceState.REPLACED:
            reason = "it was replaced a moment ago"
        if state is SourceState.REMOUNTED:
            reason = "its file system was mounted again a moment ago"
        if state is not SourceState.SAME:
            raise SourceHeldError(f"the source {paths.printable(self.source)} is held: {reason}")
        self._update_held_subtrees(root)

    def update_held_subtrees(self) -> None:
        """Hold the subtrees whose mounts have changed, and release those whose mounts are back."""
        with contextlib.suppress(OSError), walk.opened_root(self.source) as root:
            self._update_held_subtrees(root)

    def _update_held_subtrees(self, root: int) -> None:
        with self._lock:
            if self._mount_table.has_changed():
                with contextlib.suppress(OSError):
                    self._compare_mounts(root, self._read_nested_mounts(root))

    def find_eventless_directories(self) -> list[bytes]:
        """Return the directories, relative, on file systems that do not report all changes.

        Raises OSError if the source cannot be opened.
        """
        return self._find_directories(mounts.sends_no_events)

    def find_mounts(self) -> list[bytes]:
        """Return the mount points below the source, relative, that the rules do not exclude.

        Raises OSError if the source cannot be opened.
        """
        return [path for path in self._find_directories(lambda _: True) if path]

    def find_directories_without_ctimes(self) -> list[bytes]:
        """Return the directories, relative, on file systems on which a ctime tells nothing.

        Raises OSError if the source cannot be opened.
        """
        return self._find_directories(mounts.lacks_ctimes)

    def _find_directories(self, is_wanted: Callable[[str], bool]) -> list[bytes]:
        """Return the source and the mount points below it that have a wanted file system type."""
        table = self._read_mounts()
        with walk.opened_root(self.source) as root:
            real = real_path(root)
        found = [paths.ROOT] if is_wanted(mounts.mount_of(real, table).fs_type) else []
        for path, mount in mounts.mounts_below(real, table).items():
            if is_wanted(mount.fs_type) and not self._is_excluded(path):
                found.append(path)
        return found

    def _read_mounts(self) -> list[Mount]:
        with self._lock:
            return self._mount_table.read()

    def _identify(self, directory: int) -> DirectoryId:
        return read_directory_id(directory, self._read_mounts)

    def _compare(self, root: int) -> tuple[SourceState, str]:
        accepted = self.accepted
        present = self._identify(root)
        if present.is_same(accepted.directory):
            self._update_owner(accepted, os.fstat(root).st_uid)
            is_mounted_again = present.device != accepted.directory.device
            return SourceState.REMOUNTED if is_mounted_again else SourceState.SAME, ""
        if not present.is_on_same_file_system(accepted.directory):
            if self.find_missing_mount([accepted.mount_point]):
                shown = paths.printable(accepted.mount_point)
                return SourceState.HELD, f"nothing is mounted at {shown}"
            return SourceState.HELD, "another file system is in its place"
        if self.is_empty_at(root):
            return SourceState.HELD, "an empty directory is in its place"
        if reason := self._reason_against_owner(root):
            return SourceState.HELD, reason
        return SourceState.REPLACED, ""

    def _update_owner(self, accepted: SourceIdentity, owner: int) -> None:
        """Record a new owner of the accepted directory, which only root can have given to it."""
        if owner == accepted.owner:
            return
        with self._lock:
            if self._accepted is accepted:
                self._accepted = replace(accepted, owner=owner)

    def _reason_against_owner(self, root: int) -> str:
        """Return why only a person may accept the open directory as the source; empty if not.

        Its owner could have put there, in place of a directory of another owner, what that other
        one must not read at the destinations, or the other way round.
        """
        owner, accepted = os.fstat(root).st_uid, self.accepted.owner
        if owner in {accepted, *path_resolution.trusted_uids()}:
            return ""
        return (
            f"a directory of the user id {owner} is in its place, which belonged to the user id "
            f"{accepted}"
        )

    def _read_nested_mounts(self, root: int) -> dict[bytes, MountId]:
        """Return what is mounted below the open source, by path."""
        found = mounts.mounts_below(real_path(root), self._read_mounts())
        return {
            path: self._identify_mount(root, path, mount)
            for path, mount in found.items()
            if not self._is_excluded(path)
        }

    def _identify_mount(self, root: int, path: bytes, mount: Mount) -> MountId:
        fsid, directory = 0, None
        # It may be a file, or a file system that this user must not enter.
        with contextlib.suppress(OSError):
            fsid = os.statvfs(os.path.join(real_path(root), path)).f_fsid
            with walk.opened_below(root, path) as opened:
                directory = self._identify(opened)
        return MountId(mounts.mount_fingerprint(mount, fsid), directory)

    def _is_excluded(self, path: bytes) -> bool:
        return self._rules.excludes(path, is_directory=True)

    def _compare_mounts(self, root: int, present: Mapping[bytes, MountId]) -> None:
        known = self.accepted.nested_mounts
        held_before, self._held_subtrees = self._held_subtrees, {}
        for path in {*known, *present}:
            if reason := self._reason_against_mount(root, path, present.get(path)):
                self._held_subtrees[path] = reason
        self._new_mounts = {
            path: mount
            for path, mount in present.items()
            if path in self._held_subtrees and path not in known and mount.directory
        }
        self._released |= held_before.keys() - self._held_subtrees.keys()
        taken = {path: present[path] for path in present if path not in self._held_subtrees}
        self._exchanged |= {path for path in _differing(known, taken) if path in taken}
        self._accepted = replace(self.accepted, nested_mounts={**known, **taken})
        # A mounted file has no watch.
        self._remounted.update(path for path, mount in taken.items() if mount.directory)

    def _reason_against_mount(self, root: int, path: bytes, present: MountId | None) -> str:
        """Return why the subtree at a path is held, given what is mounted there; empty if not."""
        known = self.accepted.nested_mounts.get(path)
        if present is None:
            return "the file system that was mounted there is gone"
        if known is not None and known.is_same(present):
            return ""
        if known is None or not known.is_replaced_by(present):
            return "another file system was mounted there"
        with contextlib.suppress(OSError), walk.opened_below(root, path) as directory:
            if not self.is_empty_at(directory, path):
                return ""
        return "an empty directory was mounted there"


def _differing(before: Mapping[bytes, MountId], present: Mapping[bytes, MountId]) -> set[bytes]:
    """Return the places at which another directory is mounted than before, or none any more."""
    return {
        path
        for path in {*before, *present}
        if path not in before or path not in present or not before[path].is_same(present[path])
    }


def _cannot_be_opened(error: OSError) -> str:
    if isinstance(error, UnsafeLinkError):
        return f"{error.strerror}: remove the link, or name its target as the source"
    return f"it cannot be opened ({error.strerror})"
