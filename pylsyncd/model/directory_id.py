"""Which directory it is, and which file system it is on. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DirectoryId:
    """What identifies a directory, as far as it is known; to be compared by the methods only.

    Device numbers are not identities: a disk comes back under another one, btrfs, NFS and CIFS get
    a new one at each mount, and a free one is given to the next file system.
    """

    device: int
    """The ``st_dev``, which decides where nothing else is known."""
    inode: int
    """The inode number, with the inode's generation where the file system has one."""
    uuid: str = ""
    """Of the file system, as hexadecimal digits; empty if unknown."""
    fsid: int = 0
    """The ``f_fsid`` of statvfs(3); 0 if unknown or made of the device number.

    On btrfs each subvolume has another one.
    """
    origin: str = ""
    """The type and the source (``server:/directory``) of a file system without UUID and f_fsid."""

    def is_on_same_file_system(self, other: "DirectoryId") -> bool:
        """Return True if both are on one file system, by the best that is known of both."""
        for ours, theirs in (
            (self.uuid, other.uuid), (self.fsid, other.fsid), (self.origin, other.origin),
        ):  # fmt: skip
            if ours and theirs:
                return ours == theirs
        return self.device == other.device

    def is_same(self, other: "DirectoryId") -> bool:
        """Return True if both are one directory, perhaps mounted again."""
        is_in_same_subvolume = not (self.fsid and other.fsid) or self.fsid == other.fsid
        return (
            self.inode == other.inode
            and is_in_same_subvolume
            and self.is_on_same_file_system(other)
        )


@dataclass(frozen=True, slots=True)
class MountId:
    """What identifies that which is mounted at a place below a source."""

    fingerprint: str
    """The type, the f_fsid or source, and the root: all that older state files have."""
    directory: DirectoryId | None = None
    """The directory that is mounted; None if it is unknown."""

    def is_same(self, other: "MountId") -> bool:
        """Return True if the same directory is mounted, perhaps once more."""
        if self.directory is None or other.directory is None:
            return self.fingerprint == other.fingerprint
        return self.directory.is_same(other.directory)

    def is_replaced_by(self, other: "MountId") -> bool:
        """Return True if ``other`` is another directory of the same file system."""
        if self.directory is None or other.directory is None:
            return False
        is_same_file_system = self.directory.is_on_same_file_system(other.directory)
        return is_same_file_system and not self.directory.is_same(other.directory)
