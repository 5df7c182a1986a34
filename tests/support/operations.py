"""Operations on a tree as values, for tables, logs and random choice.

``write("d/f", b"x")`` is a value; calling it with a `WorkArea` does the operation. Names are
relative to the source, ``str`` or ``bytes``.
"""

import ctypes
import errno
import functools
import os
import random
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec

Name = str | bytes
P = ParamSpec("P")
RENAME_EXCHANGE = 2
AT_FDCWD = -100
LIBC = ctypes.CDLL(None, use_errno=True)


class WorkArea(NamedTuple):
    """A directory in the source, and one outside of it on the same file system."""

    inside: bytes
    outside: bytes

    def path(self, name: Name) -> bytes:
        """Return the full path of a name in the source; the empty name is the source."""
        return os.path.join(self.inside, os.fsencode(name)) if name else self.inside

    def outside_path(self, name: Name) -> bytes:
        """Return the full path of a name outside of the source."""
        return os.path.join(self.outside, os.fsencode(name))


class Operation(NamedTuple):
    """A function and its arguments after the work area."""

    verb: Callable[..., None]
    arguments: tuple[Any, ...]

    def __call__(self, area: WorkArea) -> None:
        """Do the operation."""
        self.verb(area, *self.arguments)

    def __repr__(self) -> str:
        shown = ", ".join(_short(argument) for argument in self.arguments)
        return f"{self.verb.__name__}({shown})"


def _short(argument: object) -> str:
    text = repr(argument)
    return text if len(text) < 300 else f"{text[:280]}... ({len(text)} characters)"


def _operation(
    verb: Callable[Concatenate[WorkArea, P], None],
) -> Callable[P, Operation]:
    @functools.wraps(verb)
    def make(*arguments: P.args, **named: P.kwargs) -> Operation:
        assert not named, "pass arguments by position, as operations are printed that way"
        return Operation(verb, arguments)

    return make


def open_nonblocking(path: bytes, flags: int) -> int:
    """Open a path without waiting for a reader if it has become a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def _delete_tree(directory: bytes) -> None:
    """Delete a tree; unlike shutil.rmtree, this does not block at a FIFO."""
    with os.scandir(directory) as entries:
        below = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for path, is_directory in below:
        if is_directory:
            _delete_tree(path)
        else:
            os.unlink(path)
    os.rmdir(directory)


# Files


@_operation
def write(area: WorkArea, name: Name, content: bytes = b"x") -> None:
    """Create a file, or truncate and rewrite it."""
    with open(area.path(name), "wb", opener=open_nonblocking) as file:
        file.write(content)


@_operation
def append(area: WorkArea, name: Name, content: bytes) -> None:
    """Append to a file."""
    with open(area.path(name), "ab", opener=open_nonblocking) as file:
        file.write(content)


@_operation
def overwrite(area: WorkArea, name: Name, offset: int, content: bytes) -> None:
    """Write into a file in place; an offset beyond its end leaves a hole."""
    with open(area.path(name), "r+b", opener=open_nonblocking) as file:
        file.seek(offset)
        file.write(content)


@_operation
def truncate(area: WorkArea, name: Name, size: int) -> None:
    """Truncate a file, or extend it with a hole."""
    with open(area.path(name), "r+b", opener=open_nonblocking) as file:
        file.truncate(size)


@_operation
def truncate_by_path(area: WorkArea, name: Name, size: int) -> None:
    """Truncate a file without opening it, which causes IN_MODIFY but no IN_CLOSE_WRITE."""
    os.truncate(area.path(name), size)


@_operation
def replace(area: WorkArea, name: Name, content: bytes) -> None:
    """Write a new file and rename it over the old one."""
    temporary = os.path.join(os.path.dirname(area.path(name)), b".new")
    with open(temporary, "wb", opener=open_nonblocking) as file:
        file.write(content)
    os.replace(temporary, area.path(name))


@_operation
def write_keeping_time(area: WorkArea, name: Name, content: bytes) -> None:
    """Rewrite a file in place, and set its modification time back to what it was."""
    mtime_ns = os.lstat(area.path(name)).st_mtime_ns
    write(name, content)(area)
    utime(name, mtime_ns)(area)


@_operation
def replace_keeping_time(area: WorkArea, name: Name, content: bytes) -> None:
    """Rename a new file over the old one that has its modification time."""
    temporary = os.path.join(os.path.dirname(os.fsencode(name)), b".new")
    write_at(temporary, content, os.lstat(area.path(name)).st_mtime_ns)(area)
    os.replace(area.path(temporary), area.path(name))


@_operation
def write_at(area: WorkArea, name: Name, content: bytes, mtime_ns: int) -> None:
    """Write a file, and set its modification time, as tar does."""
    write(name, content)(area)
    utime(name, mtime_ns)(area)


@_operation
def copy_time(area: WorkArea, name: Name, other: Name) -> None:
    """Give an entry the modification time of another one, as touch -r does."""
    utime(name, os.lstat(area.path(other)).st_mtime_ns)(area)


@_operation
def fill(area: WorkArea, directory: Name, count: int, content: bytes) -> None:
    """Write so many files, named ``0`` and so on, into a directory."""
    for number in range(count):
        with open(os.path.join(area.path(directory), b"%d" % number), "wb") as file:
            file.write(content)


# Links and special files


@_operation
def symlink(area: WorkArea, name: Name, target: Name) -> None:
    """Create a symlink."""
    os.symlink(os.fsencode(target), area.path(name))


@_operation
def link(area: WorkArea, name: Name, existing: Name) -> None:
    """Create a hard link to a file in the source."""
    os.link(area.path(existing), area.path(name), follow_symlinks=False)


@_operation
def link_in(area: WorkArea, name: Name, existing: Name) -> None:
    """Create a hard link in the source to a file outside."""
    os.link(area.outside_path(existing), area.path(name), follow_symlinks=False)


@_operation
def fifo(area: WorkArea, name: Name) -> None:
    """Create a FIFO."""
    os.mkfifo(area.path(name), 0o640)


@_operation
def make_socket(area: WorkArea, name: Name) -> None:
    """Create a Unix socket file."""
    # Through /proc, because a socket address has at most 107 bytes.
    directory, leaf = os.path.split(area.path(name))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(b"/proc/self/fd/%d/%s" % (descriptor, leaf))
    finally:
        os.close(descriptor)


@_operation
def device(area: WorkArea, name: Name, kind: str, major: int, minor: int) -> None:
    """Create a device node; ``kind`` is ``c`` or ``b``. Needs root."""
    mode = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
    os.mknod(area.path(name), mode | 0o640, os.makedev(major, minor))


# Attributes


@_operation
def chmod(area: WorkArea, name: Name, mode: int) -> None:
    """Set the permissions."""
    os.chmod(area.path(name), mode)


@_operation
def chown(area: WorkArea, name: Name, uid: int, gid: int) -> None:
    """Set owner and group, also of a symlink itself. Needs root."""
    os.lchown(area.path(name), uid, gid)


@_operation
def utime(area: WorkArea, name: Name, mtime_ns: int) -> None:
    """Set the modification time in nanoseconds, also of a symlink itself."""
    os.utime(area.path(name), ns=(mtime_ns, mtime_ns), follow_symlinks=False)


# Directories and renames


@_operation
def mkdir(area: WorkArea, name: Name) -> None:
    """Create a directory and its parents."""
    os.makedirs(area.path(name), exist_ok=True)


@_operation
def remove(area: WorkArea, name: Name) -> None:
    """Delete a file, link or special file."""
    os.unlink(area.path(name))


@_operation
def rmdir(area: WorkArea, name: Name) -> None:
    """Delete an empty directory."""
    os.rmdir(area.path(name))


@_operation
def remove_tree(area: WorkArea, name: Name) -> None:
    """Delete a directory tree."""
    path = area.path(name)
    if os.path.islink(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    _delete_tree(path)


@_operation
def remove_tree_while_written(area: WorkArea, name: Name) -> None:
    """Delete a directory tree while a thread writes into it."""
    top = area.path(name)
    begun, ended = threading.Event(), threading.Event()
    writer = threading.Thread(target=_write_until, args=(top, begun, ended))
    writer.start()
    begun.wait()
    for _ in range(3):
        shutil.rmtree(top, ignore_errors=True)
    ended.set()
    writer.join()
    shutil.rmtree(top, ignore_errors=True)


def _write_until(top: bytes, begun: threading.Event, ended: threading.Event) -> None:
    number = 0
    while not ended.is_set():
        directory = os.path.join(top, b"%d" % (number % 7))
        try:
            os.makedirs(directory, exist_ok=True)
            with open(os.path.join(directory, b"%d" % number), "wb") as file:
                file.write(b"x")
        except OSError:
            pass  # the directory was deleted meanwhile, as intended
        number += 1
        begun.set()


@_operation
def rename(area: WorkArea, name: Name, new_name: Name) -> None:
    """Rename within the source; an existing file or empty directory is replaced."""
    os.rename(area.path(name), area.path(new_name))


def exchange_paths(path: bytes, other: bytes) -> None:
    """Exchange two paths (renameat2, RENAME_EXCHANGE)."""
    if LIBC.renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


@_operation
def exchange(area: WorkArea, name: Name, other: Name) -> None:
    """Exchange two names atomically."""
    exchange_paths(area.path(name), area.path(other))


@_operation
def move_out(area: WorkArea, name: Name, new_name: Name) -> None:
    """Rename an entry out of the source."""
    os.rename(area.path(name), area.outside_path(new_name))


@_operation
def move_in(area: WorkArea, name: Name, new_name: Name) -> None:
    """Rename an entry from outside into the source."""
    os.rename(area.outside_path(name), area.path(new_name))


@_operation
def outside(area: WorkArea, operation: Operation) -> None:
    """Do an operation outside of the source."""
    operation(WorkArea(area.outside, area.inside))


@_operation
def extract_tar(area: WorkArea, archive: Name, directory: Name) -> None:
    """Extract an archive outside of the source into a directory."""
    where = area.path(directory)
    subprocess.run((b"tar", b"-xf", area.outside_path(archive), b"-C", where), check=True)


@_operation
def create_tar(area: WorkArea, archive: Name, directory: Name) -> None:
    """Archive a directory outside of the source, and delete it."""
    top = area.outside_path(directory)
    subprocess.run((b"tar", b"-cf", area.outside_path(archive), b"-C", top, b"."), check=True)
    shutil.rmtree(top)


# Trees that are made again


@_operation
def remake_tree(area: WorkArea, name: Name, seed: int) -> None:
    """Delete a tree and make it again: the same names, sizes, modes and times, other content."""
    tree = _read_tree(area.path(name))
    _delete_tree(area.path(name))
    _make_tree(area.path(name), tree, random.Random(seed))


@_operation
def remake_tree_outside(area: WorkArea, name: Name, seed: int, outside_name: Name) -> None:
    """Make the same tree again outside of the source, and rename it to the place of the old one."""
    new = area.outside_path(outside_name)
    _make_tree(new, _read_tree(area.path(name)), random.Random(seed))
    os.rename(area.path(name), new + b"-old")
    os.rename(new, area.path(name))


def _read_tree(top: bytes) -> list[tuple[bytes, os.stat_result]]:
    """Return the directories and files of a tree, each directory before what it contains."""
    found = [(b"", os.lstat(top))]
    for directory, names, files in os.walk(top):
        for path in (os.path.join(directory, name) for name in (*names, *files)):
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                found.append((os.path.relpath(path, top), status))
    return found


def _make_tree(
    top: bytes, tree: Sequence[tuple[bytes, os.stat_result]], content: random.Random
) -> None:
    for name, status in tree:
        path = os.path.join(top, name) if name else top
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(path)
        else:
            with open(path, "wb") as file:
                file.write(content.randbytes(status.st_size))
    for name, status in reversed(tree):
        path = os.path.join(top, name) if name else top
        os.chmod(path, stat.S_IMODE(status.st_mode))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
