"""The mount table of /proc/self/mountinfo (proc_pid_mountinfo(5)) and its changes."""

import contextlib
import functools
import os
import re
import select
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pylsyncd.model import paths

FSTAB = "/etc/fstab"


class Mount(NamedTuple):
    """A mounted file system, or a mounted part of one."""

    mount_point: bytes
    """An absolute path."""
    device: int
    """The ``st_dev`` of the file system; on btrfs, files in a subvolume have another one."""
    fs_type: str
    """``ext4``, ``fuse.sshfs``, ..."""
    mount_id: int
    """Unique among the present mounts; the kernel reuses it after an unmount."""
    parent_id: int
    """The ``mount_id`` of the mount that contains the mount point."""
    root: bytes
    """The directory of the file system that is mounted: not ``/`` for a bind mount."""
    source: bytes = b""
    """The device, ``server:/directory``, or any other text."""


# Stands for the root in a chroot that is no mount point: the table does not list its mount.
_UNLISTED = Mount(b"/", 0, "unlisted", 0, 0, b"/")

_ESCAPED = re.compile(rb"\\([0-7]{3})")


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Parse the content of a mountinfo file, skipping malformed lines."""
    return list(_parse_lines(text.splitlines()))


# The syncs of a process read the same table, all of them after each mount.
@functools.lru_cache(maxsize=2)
def _parse_once(text: bytes) -> tuple[Mount, ...]:
    return tuple(parse_mountinfo(text))


def _parse_lines(lines: Iterable[bytes]) -> Iterator[Mount]:
    for line in lines:
        mount, _, file_system = line.partition(b" - ")
        with contextlib.suppress(ValueError, OverflowError):
            mount_id, parent_id, device, root, point, *_ = mount.split(b" ")
            major, minor = device.split(b":")
            fs_type, source, *_ = [*file_system.split(b" "), b""]
            yield Mount(
                _unescape(point), os.makedev(int(major), int(minor)),
                os.fsdecode(_unescape(fs_type)), int(mount_id), int(parent_id), _unescape(root),
                _unescape(source),
            )  # fmt: skip


def _unescape(field: bytes) -> bytes:
    """Decode the octal escapes in which the kernel writes blanks, line ends and backslashes."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)


def parse_fstab(text: bytes) -> list[bytes]:
    """Return the mount points at which a boot mounts file systems, from the text of fstab(5)."""
    found = []
    for line in text.splitlines():
        _, point, _, options, *_ = [*line.split(), *[b""] * 4]
        is_comment = line.lstrip().startswith(b"#")
        if point.startswith(b"/") and not is_comment and b"noauto" not in options.split(b","):
            found.append(_unescape(point))
    return found


def read_fstab_mount_points(path: str = FSTAB) -> list[bytes]:
    """Return the mount points at which a boot mounts file systems; none if that is unknown."""
    try:
        with open(path, "rb") as file:
            return parse_fstab(file.read())
    except OSError:
        return []


def find_unmounted_point(path: bytes, fstab: str = FSTAB) -> bytes | None:
    """Return the empty directory, at or above a path, at which a boot mounts what is not mounted.

    One with entries may be in use as it is, in a container with the fstab of another machine.
    """
    place = _relative(os.path.realpath(path))
    points = map(os.path.realpath, read_fstab_mount_points(fstab))
    above = [point for point in points if paths.covers(_relative(point), place)]
    with contextlib.suppress(OSError):
        mounted = {mount.mount_point for mount in read_mounts()} if above else set()
        for point in above:
            if point not in mounted and not os.listdir(point):
                return point
    return None


class MountTable:
    """The mounts that this process sees. Raises OSError without /proc."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY)
        self._poll = select.poll()
        # proc_pid_mounts(5): a change is an exceptional condition, and marked as an error, which
        # poll(2) always reports.
        self._poll.register(self._file, select.POLLPRI)

    def has_changed(self) -> bool:
        """Return True if a mount was added or removed since the last call, or the opening."""
        return bool(self._poll.poll(0))

    def read(self) -> list[Mount]:
        """Return all mounts. A change in between may be missing; ``has_changed`` reports it."""
        os.lseek(self._file, 0, os.SEEK_SET)
        chunks = iter(lambda: os.read(self._file, 65536), b"")
        return list(_parse_once(b"".join(chunks)))

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._file)


def read_mounts() -> list[Mount]:
    """Return the mounts that this process sees. Raises OSError without /proc."""
    with contextlib.closing(MountTable()) as table:
        return table.read()


def mount_of(path: bytes, mounts: Iterable[Mount]) -> Mount:
    """Return the mount that contains an absolute path without symlinks.

    The ``fs_type`` is ``unlisted`` if the table does not contain that mount (in a chroot).
    """
    place = _relative(path)
    above = (place, *paths.ancestors(place))
    visible = {
        _relative(mount.mount_point): mount for mount in _visible(mounts, above.__contains__)
    }
    return next((visible[point] for point in above if point in visible), _UNLISTED)


def mounts_below(path: bytes, mounts: Iterable[Mount]) -> dict[bytes, Mount]:
    """Return the visible mounts below an absolute path without symlinks, by relative path."""
    place = _relative(path)
    skipped = len(place) + 1 if place else 0

    def is_below(point: bytes) -> bool:
        return point != place and paths.covers(place, point)

    visible = _visible(mounts, is_below)
    return {_relative(mount.mount_point)[skipped:]: mount for mount in visible}


def _visible(mounts: Iterable[Mount], is_wanted: Callable[[bytes], bool]) -> Iterator[Mount]:
    """Yield the mounts that a path can lead to, at the points that are wanted, relative to ``/``.

    A mount hides its mount point in the parent mount, and the parent's other mounts below that
    point. The parents decide, not the order of the table: a moved mount keeps its line.
    """
    table = list(mounts)
    by_id = {mount.mount_id: mount for mount in table}
    # Of two mounts at the same place in the same parent, the later one is on top.
    topmost = {_parent_and_point(mount): mount for mount in table}
    for mount in table:
        if not is_wanted(point := _relative(mount.mount_point)):
            continue
        is_covered = (mount.mount_id, point) in topmost
        if not (is_covered or _is_hidden(mount, by_id, topmost)):
            yield mount


def _is_hidden(
    mount: Mount, by_id: dict[int, Mount], topmost: dict[tuple[int, bytes], Mount]
) -> bool:
    """Return True if another mount hides this one, or a mount that contains it."""
    # A table that changed while it was read may contain a cycle of parents.
    for _ in by_id:
        parent, point = _parent_and_point(mount)
        if topmost[parent, point] is not mount:
            return True
        if any((parent, above) in topmost for above in paths.ancestors(point)):
            return True
        if parent not in by_id:
            break
        mount = by_id[parent]
    return False


def _parent_and_point(mount: Mount) -> tuple[int, bytes]:
    """Return the parent's id, -1 for the root mount, which is its own parent; and the mount point.

    The mount point is relative to ``/``, not to the parent's.
    """
    parent = -1 if mount.parent_id == mount.mount_id else mount.parent_id
    return parent, _relative(mount.mount_point)


def _relative(path: bytes) -> bytes:
    """Return an absolute path relative to ``/``, as all other paths in the program are."""
    return path.strip(b"/")


def mount_fingerprint(mount: Mount, file_system_id: int) -> str:
    """Return a text that differs for different file systems and stays the same over a remount.

    ``file_system_id`` is the ``f_fsid`` of statvfs(3): a disk keeps it under any device number, and
    a new tmpfs has a new one. Where it is 0, the mount's source stands in for it.
    """
    what = f"{file_system_id:x}" if file_system_id else os.fsdecode(mount.source)
    return f"{mount.fs_type} {what} {os.fsdecode(mount.root)}"


# inotify(7): "Inotify reports only events that a user-space program triggers through the
# filesystem API. As a result, it does not catch remote events that occur on network filesystems."
# Files on these file systems can change without this kernel: on another machine, on the host of a
# virtual machine, or, with FUSE, wherever a program takes them from.
_WITHOUT_EVENTS = frozenset([
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "fakeowner", "fuse", "gfs",
    "gfs2", "glusterfs", "gpfs", "grpcfuse", "hostfs", "kafs", "lustre", "ncp", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "osxfs", "panfs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs",
    "v9fs", "vboxsf", "virtiofs", "vmhgfs", "wekafs",
])  # fmt: skip


# File systems whose ctime is the mtime: SFTP and the protocols of AFS and Coda have no ctime, nor
# have FAT, exFAT, HFS, AFFS, ADFS and OMFS on the disk. In an image that is only read, each ctime
# is older than the image, which may be exchanged. FUSE does what its programs do: sshfs, rclone,
# gcsfuse and exfat-fuse (on fuseblk, like ntfs-3g) show the mtime.
_WITHOUT_CTIMES = frozenset([
    "adfs", "affs", "afs", "coda", "cramfs", "erofs", "exfat", "fuse", "fuseblk", "hfs", "iso9660",
    "kafs", "msdos", "ncp", "ncpfs", "omfs", "romfs", "smbfs", "squashfs", "vfat",
])  # fmt: skip

# Programs that show the ctime of the files below them or on the host, or keep one.
_FUSE_WITH_CTIMES = frozenset([
    "fuse.bindfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.encfs", "fuse.fuse-overlayfs",
    "fuse.glusterfs", "fuse.gocryptfs", "fuse.grpcfuse", "fuse.juicefs", "fuse.lizardfs",
    "fuse.mergerfs", "fuse.mfs", "fuse.moosefs", "fuse.osxfs", "fuse.unionfs", "fuse.unionfs-fuse",
])  # fmt: skip


def mount_origin(mount: Mount) -> str:
    """Return the type and the source of a network file system, or of FUSE; else an empty text.

    The source of others is a device, which the next disk may get, or any text.
    """
    if not sends_no_events(mount.fs_type):
        return ""
    return f"{mount.fs_type} {os.fsdecode(mount.source)}"


def sends_no_events(fs_type: str) -> bool:
    """Return True if files on such a file system can change without an inotify event.

    ``fakeowner``, ``grpcfuse`` and ``osxfs`` are directories of the host in Docker Desktop,
    ``drvfs`` those in WSL, ``hostfs`` those in User Mode Linux. ``fuseblk`` is a local disk. The
    layers of an ``overlay`` must not be changed from outside
    (Documentation/filesystems/overlayfs.rst).
    """
    return fs_type in _WITHOUT_EVENTS or fs_type.startswith("fuse.")


def lacks_ctimes(fs_type: str) -> bool:
    """Return True if a ctime on such a file system does not tell when a file has changed last.

    A file that was copied or moved there with an old time is not found by its ctime.
    """
    if fs_type.startswith("fuse."):
        return fs_type not in _FUSE_WITH_CTIMES
    return fs_type in _WITHOUT_CTIMES
