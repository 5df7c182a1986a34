"""Snapshots of whole trees, their comparison, and waiting until two trees are equal.

Paths are ``bytes``; the root is ``b""``.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pylsyncd.model.directory_id import DirectoryId
from pylsyncd.model.paths import InodeId
from pylsyncd.system import walk
from pylsyncd.watcher.identification import read_directory_id

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
MIN_POLL_INTERVAL, MAX_POLL_INTERVAL = 0.01, 0.2  # seconds
MAX_DIFFERENCE_LINES = 40
CHUNK = 1 << 20


class Entry(NamedTuple):
    """The attributes of an entry that its copy must have; 0 or empty if its kind has none."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    digest: bytes = b""
    target: bytes = b""
    device: int = 0


Snapshot = dict[bytes, Entry]

# The errors of a path that has just been removed or replaced: by readlink(2) of what is no link any
# more, by read(2) of a directory, and by open(2) of a socket.
_VANISHED = frozenset(
    [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO]
)


def snapshot(root: bytes, *, content: bool = True) -> Snapshot:
    """Return every entry at and below ``root``, except entries that vanish meanwhile.

    Without ``content``, files are not read and have no digest.
    """
    found = {}
    for path, status in _walk(root):
        try:
            found[path] = _entry(os.path.join(root, path), status, content=content)
        except OSError as error:  # noqa: PERF203 - each may vanish
            if error.errno not in _VANISHED:
                raise
    return found


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    try:
        yield b"", os.lstat(root)
    except FileNotFoundError:
        return
    pending = [b""]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(os.path.join(root, directory) if directory else root) as entries:
                for entry in entries:
                    path = os.path.join(directory, entry.name)
                    yield path, entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(path)
        except OSError as error:
            # The directory is gone, or is a symlink by now.
            if error.errno not in _VANISHED:
                raise


def _entry(path: bytes, status: os.stat_result, *, content: bool) -> Entry:
    kind = stat.S_IFMT(status.st_mode)
    common = (
        KINDS[kind],
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
    )
    if kind == stat.S_IFREG:
        return Entry(*common, size=status.st_size, digest=_digest(path) if content else b"")
    if kind == stat.S_IFLNK:
        return Entry(*common, target=os.readlink(path))
    if kind in {stat.S_IFCHR, stat.S_IFBLK}:
        return Entry(*common, device=status.st_rdev)
    return Entry(*common)


def digest_of(content: bytes) -> bytes:
    """Return the digest in a snapshot for a file of this content."""
    return hashlib.blake2b(content, digest_size=16).digest()


def _digest(path: bytes) -> bytes:
    # O_NONBLOCK: the file may have been replaced by a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        digest = hashlib.blake2b(digest_size=16)
        while piece := os.read(descriptor, CHUNK):
            digest.update(piece)
        return digest.digest()
    finally:
        os.close(descriptor)


def differences(source: bytes, destination: bytes, *, ignore: Collection[str] = ()) -> list[str]:
    """Return a line for each entry that differs between two trees, up to a limit.

    ``ignore`` has names of fields of `Entry`, or a kind and a field as in ``symlink mtime``.
    """
    return compare(snapshot(source), snapshot(destination), ignore=ignore)


def compare(wanted: Snapshot, found: Snapshot, *, ignore: Collection[str] = ()) -> list[str]:
    """Return a line for each entry that differs between two snapshots, sorted by path."""
    lines: list[str] = []
    for path in sorted(wanted.keys() | found.keys()):
        if wanted.get(path) == found.get(path):
            continue
        line = _difference(wanted.get(path), found.get(path), ignore)
        if line:
            lines.append(f"{path!r}: {line}")
    if len(lines) > MAX_DIFFERENCE_LINES:
        lines[MAX_DIFFERENCE_LINES:] = [f"... and {len(lines) - MAX_DIFFERENCE_LINES} more"]
    return lines


def _difference(wanted: Entry | None, found: Entry | None, ignore: Collection[str]) -> str:
    if wanted is None or found is None:
        only = found or wanted
        assert only is not None
        return f"{only.kind} is {'missing' if found is None else 'unexpected'}"
    if wanted.kind != found.kind:
        return f"is a {found.kind} instead of a {wanted.kind}"
    return ", ".join(
        f"{field} is {_shown(field, is_now)}, not {_shown(field, should)}"
        for field, should, is_now in zip(Entry._fields, wanted, found, strict=True)
        if should != is_now and field not in ignore and f"{wanted.kind} {field}" not in ignore
    )


def _shown(field: str, value: object) -> str:
    if field == "mode":
        return f"{value:04o}"
    if isinstance(value, bytes) and field == "digest":
        return value.hex()[:8]
    return repr(value)


def equal_within(
    source: bytes, destination: bytes, seconds: float, *, ignore: Collection[str] = ()
) -> list[str]:
    """Wait until the destination equals the source; return the differences at the deadline.

    The source must not change, because it is read once. Files of the destination are read only
    when everything else is equal.
    """
    wanted = snapshot(source)
    deadline = time.monotonic() + seconds
    pause = MIN_POLL_INTERVAL
    while True:
        late = time.monotonic() > deadline
        quick = snapshot(destination, content=False)
        if late or not compare(wanted, quick, ignore={*ignore, "digest"}):
            found = compare(wanted, snapshot(destination), ignore=ignore)
            if late or not found:
                return found
        time.sleep(pause)
        pause = min(pause * 1.5, MAX_POLL_INTERVAL)


def change_after(path: Path, other: Path) -> None:
    """Change the mode of a path until it has a later ctime than another one."""
    while path.stat().st_ctime_ns <= other.stat().st_ctime_ns:
        path.chmod(0o700)


def directory_id_of(directory: Path) -> DirectoryId:
    """Return what identifies a directory."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return read_directory_id(opened)
    finally:
        os.close(opened)


def inode_id_of(directory: Path) -> InodeId:
    """Return the inode id of a directory."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return walk.inode_id(opened)
    finally:
        os.close(opened)
