"""What is mounted where, from /proc/self/mountinfo (proc_pid_mountinfo(5)), and its changes."""

import os
import re
import select
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pylsyncd.model import paths


class Mount(NamedTuple):
    """A file system, or a part of one, at a place."""

    mount_point: bytes
    """Where: an absolute path."""
    device: int
    """The file system's ``st_dev``; on btrfs, files of a subvolume tell another one."""
    fs_type: str
    """The type of the file system: ``ext4``, ``fuse.sshfs``."""
    mount_id: int
    """Tells it from all mounts that are there at the same time; used again after an unmount."""
    parent_id: int
    """The number of the mount that the point is in."""
    root: bytes
    """The directory of the file system that stands at the point: not ``/`` for a bind mount."""
    source: bytes = b""
    """What was mounted: a device, ``server:/directory``, or anything."""


# In a chroot that is no mount point, the table does not list what the root is on.
_UNLISTED = Mount(b"/", 0, "unlisted", 0, 0, b"/")

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Read the content of a mountinfo file; a line that is none is left out."""
    return list(_parsed(text.splitlines()))


def _parsed(lines: Iterable[bytes]) -> Iterator[Mount]:
    for line in lines:
        mount, _, file_system = line.partition(b" - ")
        try:
            number, parent, device, root, point, *_ = mount.split(b" ")
            major, minor = device.split(b":")
            kind, source, *_ = [*file_system.split(b" "), b""]
            yield Mount(
                _plain(point), os.makedev(int(major), int(minor)), os.fsdecode(_plain(kind)),
                int(number), int(parent), _plain(root), _plain(source),
            )  # fmt: skip
        except ValueError:
            continue


def _plain(field: bytes) -> bytes:
    """Undo the escapes: the kernel writes blanks, line ends and backslashes in octal."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)


class MountTable:
    """The mounts that this process sees. Raises OSError where there is no /proc."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        # proc_pid_mounts(5): a change is an exceptional condition, marked as an error, too.
        self._poll.register(self._file, select.POLLPRI | select.POLLERR)

    def has_changed(self) -> bool:
        """Tell whether anything was mounted or unmounted since the last call, or the opening."""
        return bool(self._poll.poll(0))

    def read(self) -> list[Mount]:
        """Return all mounts; what changes meanwhile may be missing, and ``changed`` tells so."""
        os.lseek(self._file, 0, os.SEEK_SET)
        chunks = iter(lambda: os.read(self._file, 65536), b"")
        return parse_mountinfo(b"".join(chunks))

    def close(self) -> None:
        """Give back the descriptor."""
        os.close(self._file)


def mount_of(path: bytes, mounts: Iterable[Mount]) -> Mount:
    """Return the mount that a path is on: an absolute one without symlinks.

    Where the table does not tell (in a chroot), a mount of the kind ``unlisted`` stands for it.
    """
    visible = {_relative(mount.mount_point): mount for mount in _visible(mounts)}
    place = _relative(path)
    above = (place, *paths.ancestors(place))
    return next((visible[point] for point in above if point in visible), _UNLISTED)


def mounts_below(path: bytes, mounts: Iterable[Mount]) -> dict[bytes, Mount]:
    """Return what is mounted below a path, itself excepted, by the point's path relative to it.

    The path is an absolute one without symlinks. What another mount hides is left out.
    """
    place = _relative(path)
    skipped = len(place) + 1 if place else 0
    return {
        point[skipped:]: mount
        for mount in _visible(mounts)
        if (point := _relative(mount.mount_point)) != place and paths.covers(place, point)
    }


def _visible(mounts: Iterable[Mount]) -> Iterator[Mount]:
    """Yield the mounts that a path can lead to.

    A mount hides the place in its parent that it stands at, and what else is mounted in its parent
    below that place. Parents tell so whatever the order of the table: a moved mount keeps its line.
    """
    table = list(mounts)
    by_number = {mount.mount_id: mount for mount in table}
    # Of two at the same place in the same parent, the later one is on top.
    standing = {_place(mount): mount for mount in table}
    for mount in table:
        is_buried = (mount.mount_id, _relative(mount.mount_point)) in standing
        if not (is_buried or _is_hidden(mount, by_number, standing)):
            yield mount


def _is_hidden(
    mount: Mount, by_number: dict[int, Mount], standing: dict[tuple[int, bytes], Mount]
) -> bool:
    """Tell whether something else stands on the way to a mount, or to one that it stands in."""
    # A table that changed while it was read may hold a ring of parents.
    for _ in by_number:
        parent, point = _place(mount)
        if standing[parent, point] is not mount:
            return True
        if any((parent, above) in standing for above in paths.ancestors(point)):
            return True
        if parent not in by_number:
            break
        mount = by_number[parent]
    return False


def _place(mount: Mount) -> tuple[int, bytes]:
    """Return the parent's number, -1 for the root of all, which is its own parent; and the point.

    The point is relative to the root, not to the parent.
    """
    parent = -1 if mount.parent_id == mount.mount_id else mount.parent_id
    return parent, _relative(mount.mount_point)


def _relative(path: bytes) -> bytes:
    """Return an absolute path relative to the root, as all other paths in the program are."""
    return path.strip(b"/")


def mount_fingerprint(mount: Mount, file_system: int) -> str:
    """Return a text that tells what is mounted from other things, and as few times of mounting.

    ``file_system`` is what statvfs calls ``f_fsid``: a disk keeps it, whatever device number it has
    today, and a new tmpfs has a new one. Where it is 0, what was mounted has to do instead.
    """
    what = f"{file_system:x}" if file_system else os.fsdecode(mount.source)
    return f"{mount.fs_type} {what} {os.fsdecode(mount.root)}"


# inotify(7): "Inotify reports only events that a user-space program triggers through the
# filesystem API. As a result, it does not catch remote events that occur on network filesystems."
# So these are the kinds that others can change, past this kernel's file system API: on another
# machine, on the host of a virtual one, or, with FUSE, wherever a program takes its files from.
_REMOTE = frozenset([
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gfs", "gfs2", "glusterfs",
    "gpfs", "kafs", "lustre", "ncp", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs",
    "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs",
])  # fmt: skip


def sends_no_events(kind: str) -> bool:
    """Tell whether files on such a file system can change without an event of inotify.

    Not ``fuseblk``: a disk that is mounted here and nowhere else. Not ``overlay``: whoever changes
    its layers breaks its own rules.
    """
    return kind in _REMOTE or kind.startswith("fuse.")
