"""What can be done to a tree, as values: written down in tables, printed, drawn at random.

``write("d/f", b"x")`` does nothing yet; called with a `Ground` it does it. Names are relative to
the ground, ``str`` where they can be written as such and ``bytes`` where not.
"""

import ctypes
import errno
import functools
import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec

Name = str | bytes
P = ParamSpec("P")
RENAME_EXCHANGE = 2
AT_FDCWD = -100
LIBC = ctypes.CDLL(None, use_errno=True)


class Ground(NamedTuple):
    """Where operations happen: a directory in the source, and one outside on its file system."""

    inside: bytes
    outside: bytes

    def path(self, name: Name) -> bytes:
        """Return the whole path of a name in the source; the empty name is the ground itself."""
        return os.path.join(self.inside, os.fsencode(name)) if name else self.inside

    def out(self, name: Name) -> bytes:
        """Return the whole path of a name outside of the source."""
        return os.path.join(self.outside, os.fsencode(name))


class Operation(NamedTuple):
    """A verb and what it is for."""

    verb: Callable[..., None]
    arguments: tuple[Any, ...]

    def __call__(self, ground: Ground) -> None:
        """Do it."""
        self.verb(ground, *self.arguments)

    def __repr__(self) -> str:
        shown = ", ".join(_short(argument) for argument in self.arguments)
        return f"{self.verb.__name__}({shown})"


def _short(argument: object) -> str:
    text = repr(argument)
    return text if len(text) < 300 else f"{text[:280]}... ({len(text)} characters)"


def _operation(
    verb: Callable[Concatenate[Ground, P], None],
) -> Callable[P, Operation]:
    @functools.wraps(verb)
    def make(*arguments: P.args, **named: P.kwargs) -> Operation:
        assert not named, "an operation is printed as it was written: by position"
        return Operation(verb, arguments)

    return make


def _without_waiting(path: bytes, flags: int) -> int:
    """Open what may be a FIFO by now: that nobody waits for a reader."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def _delete_tree(directory: bytes) -> None:
    """Do what shutil.rmtree does, which opens what it is given, and so waits at a FIFO."""
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
def write(ground: Ground, name: Name, content: bytes = b"x") -> None:
    """Create a file, or empty it and write it again."""
    with open(ground.path(name), "wb", opener=_without_waiting) as file:
        file.write(content)


@_operation
def append(ground: Ground, name: Name, content: bytes) -> None:
    """Write at a file's end."""
    with open(ground.path(name), "ab", opener=_without_waiting) as file:
        file.write(content)


@_operation
def overwrite(ground: Ground, name: Name, offset: int, content: bytes) -> None:
    """Write into the middle of a file; in place, beyond its end leaves a hole."""
    with open(ground.path(name), "r+b", opener=_without_waiting) as file:
        file.seek(offset)
        file.write(content)


@_operation
def truncate(ground: Ground, name: Name, size: int) -> None:
    """Cut a file, or lengthen it with a hole."""
    with open(ground.path(name), "r+b", opener=_without_waiting) as file:
        file.truncate(size)


@_operation
def truncate_by_path(ground: Ground, name: Name, size: int) -> None:
    """Cut a file without opening it: the kernel reports IN_MODIFY, and never IN_CLOSE_WRITE."""
    os.truncate(ground.path(name), size)


@_operation
def replace(ground: Ground, name: Name, content: bytes) -> None:
    """Write a new file and rename it over the old one, as careful programs do."""
    temporary = os.path.join(os.path.dirname(ground.path(name)), b".new")
    with open(temporary, "wb", opener=_without_waiting) as file:
        file.write(content)
    os.replace(temporary, ground.path(name))


@_operation
def fill(ground: Ground, directory: Name, count: int, content: bytes) -> None:
    """Write that many files, ``0`` and so on, into a directory, each closed at once."""
    for number in range(count):
        with open(os.path.join(ground.path(directory), b"%d" % number), "wb") as file:
            file.write(content)


# Links and the rest


@_operation
def symlink(ground: Ground, name: Name, target: Name) -> None:
    """Create a symlink."""
    os.symlink(os.fsencode(target), ground.path(name))


@_operation
def link(ground: Ground, name: Name, existing: Name) -> None:
    """Give a file of the source a second name."""
    os.link(ground.path(existing), ground.path(name), follow_symlinks=False)


@_operation
def link_in(ground: Ground, name: Name, existing: Name) -> None:
    """Give a file from outside a name in the source."""
    os.link(ground.out(existing), ground.path(name), follow_symlinks=False)


@_operation
def fifo(ground: Ground, name: Name) -> None:
    """Create a FIFO."""
    os.mkfifo(ground.path(name), 0o640)


@_operation
def make_socket(ground: Ground, name: Name) -> None:
    """Create a Unix socket, as bind() leaves it behind."""
    # Bound by way of /proc: a socket's address is at most 107 bytes long.
    directory, leaf = os.path.split(ground.path(name))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(b"/proc/self/fd/%d/%s" % (descriptor, leaf))
    finally:
        os.close(descriptor)


@_operation
def device(ground: Ground, name: Name, kind: str, major: int, minor: int) -> None:
    """Create a device node; ``kind`` is ``c`` or ``b``. Only root may."""
    mode = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
    os.mknod(ground.path(name), mode | 0o640, os.makedev(major, minor))


# Attributes


@_operation
def chmod(ground: Ground, name: Name, mode: int) -> None:
    """Set the permissions."""
    os.chmod(ground.path(name), mode)


@_operation
def chown(ground: Ground, name: Name, uid: int, gid: int) -> None:
    """Set owner and group, of a symlink itself. Only root may."""
    os.lchown(ground.path(name), uid, gid)


@_operation
def utime(ground: Ground, name: Name, mtime_ns: int) -> None:
    """Set the time of modification, of a symlink itself, in nanoseconds."""
    os.utime(ground.path(name), ns=(mtime_ns, mtime_ns), follow_symlinks=False)


# Directories, and names in general


@_operation
def mkdir(ground: Ground, name: Name) -> None:
    """Create a directory and those above it."""
    os.makedirs(ground.path(name), exist_ok=True)


@_operation
def remove(ground: Ground, name: Name) -> None:
    """Delete what is not a directory."""
    os.unlink(ground.path(name))


@_operation
def rmdir(ground: Ground, name: Name) -> None:
    """Delete an empty directory."""
    os.rmdir(ground.path(name))


@_operation
def remove_tree(ground: Ground, name: Name) -> None:
    """Delete a directory and all that is in it."""
    path = ground.path(name)
    if os.path.islink(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    _delete_tree(path)


@_operation
def remove_tree_while_written(ground: Ground, name: Name) -> None:
    """Delete a directory while somebody else writes into it, and in the end all of it."""
    top = ground.path(name)
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
            pass  # the directory was deleted meanwhile, which is what this is for
        number += 1
        begun.set()


@_operation
def rename(ground: Ground, name: Name, new_name: Name) -> None:
    """Rename within the source; an existing file or empty directory is replaced."""
    os.rename(ground.path(name), ground.path(new_name))


def exchange_paths(path: bytes, other: bytes) -> None:
    """Swap what two paths name (renameat2, RENAME_EXCHANGE)."""
    if LIBC.renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


@_operation
def exchange(ground: Ground, name: Name, other: Name) -> None:
    """Swap two names in one step."""
    exchange_paths(ground.path(name), ground.path(other))


@_operation
def move_out(ground: Ground, name: Name, new_name: Name) -> None:
    """Rename something out of the source."""
    os.rename(ground.path(name), ground.out(new_name))


@_operation
def move_in(ground: Ground, name: Name, new_name: Name) -> None:
    """Rename something from outside into the source."""
    os.rename(ground.out(name), ground.path(new_name))


@_operation
def outside(ground: Ground, operation: Operation) -> None:
    """Do something outside of the source."""
    operation(Ground(ground.outside, ground.inside))


@_operation
def extract_tar(ground: Ground, archive: Name, directory: Name) -> None:
    """Unpack an archive that is outside of the source: ``tar x``."""
    where = ground.path(directory)
    subprocess.run((b"tar", b"-xf", ground.out(archive), b"-C", where), check=True)


@_operation
def create_tar(ground: Ground, archive: Name, directory: Name) -> None:
    """Pack a directory outside of the source, and delete it there."""
    top = ground.out(directory)
    subprocess.run((b"tar", b"-cf", ground.out(archive), b"-C", top, b"."), check=True)
    shutil.rmtree(top)
