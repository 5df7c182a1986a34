"""Finds out which directory an open directory is, and which file system it is on."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.directory_id import DirectoryId
from pylsyncd.model.endpoints import Destination
from pylsyncd.system import walk
from pylsyncd.watcher import mounts
from pylsyncd.watcher.mounts import Mount

# FS_IOC_GETFSUUID of linux/fs.h, _IOR(0x15, 0, struct fsuuid2), Linux 6.9: a length, and up to 16
# bytes. BTRFS_IOC_FS_INFO of linux/btrfs.h, _IOR(0x94, 31, 1024 bytes): the UUID follows two u64.
_FS_IOC_GETFSUUID = 0x80111500
_BTRFS_IOC_FS_INFO = 0x8400941F

_UUID_LINKS = "/dev/disk/by-uuid"


def read_directory_id(
    directory: int, read_mounts: Callable[[], Sequence[Mount]] = mounts.read_mounts
) -> DirectoryId:
    """Return what identifies an open directory. Raises OSError if the mounts cannot be read."""
    device, inode = walk.inode_id(directory)
    uuid = read_uuid(directory, device)
    fsid = os.fstatvfs(directory).f_fsid
    if fsid == _encoded(device):
        fsid = 0
    origin = ""
    if not (uuid or fsid):
        origin = mounts.mount_origin(mounts.mount_of(real_path(directory), read_mounts()))
    return DirectoryId(device, inode, uuid, fsid, origin)


def local_directory_id(destination: Destination) -> DirectoryId | None:
    """Return the id of a local destination's directory; None if it is remote or missing."""
    if destination.transport is not Transport.LOCAL:
        return None
    try:
        with walk.opened_root(destination.target) as directory:
            return read_directory_id(directory)
    except OSError:
        return None


def real_path(directory: int) -> bytes:
    """Return the path of an open directory, which has no symlinks."""
    return os.readlink(b"/proc/self/fd/%d" % directory)


def read_uuid(directory: int, device: int, links: str = _UUID_LINKS) -> str:
    """Return the UUID of an open directory's file system; empty if it is unknown.

    ``links`` is the directory in which udev keeps a link for each UUID, to its device.
    """
    uuid = _ask_kernel(directory)
    if not uuid and os.major(device):
        uuid = _find_link(device, links)
    # Some images of virtual machines have no UUID but zeros.
    return uuid if uuid.strip("0") else ""


def _ask_kernel(directory: int) -> str:
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(directory, _FS_IOC_GETFSUUID, bytes(17))
        return answer[1 : 1 + answer[0]].hex()
    with contextlib.suppress(OSError):
        return fcntl.ioctl(directory, _BTRFS_IOC_FS_INFO, bytes(1024))[16:32].hex()
    return ""


def _find_link(device: int, links: str) -> str:
    """Return the UUID of a block device that udev has found, as the kernel's in digits alone."""
    with contextlib.suppress(OSError), os.scandir(links) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat().st_rdev == device:
                    return entry.name.replace("-", "").lower()
    return ""


def _encoded(device: int) -> int:
    """Return a device number as a file system without another f_fsid has it, such as XFS.

    This is ``huge_encode_dev`` of linux/kdev_t.h.
    """
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
