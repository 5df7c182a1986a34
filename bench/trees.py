"""Trees on disk: their differences, and the shortest rsync list that makes them equal."""

import os
import stat
from collections.abc import Iterator

READ_BYTES = 1 << 20


def differences(source: bytes, destination: bytes) -> Iterator[tuple[bytes, str]]:
    """Yield each path that differs, and how: ``names``, ``contents`` or ``attributes``.

    Names are there on one side alone, contents are those of files, types and link targets;
    attributes are mode, owner and mtime (ns). Below a directory that only one side has, nothing
    more is yielded. The root is ``b""``.
    """
    if _attributes(os.lstat(source)) != _attributes(os.lstat(destination)):
        yield b"", "attributes"
    yield from _differences(source, destination, b"")


def _differences(
    source: bytes, destination: bytes, directory: bytes
) -> Iterator[tuple[bytes, str]]:
    ours = _listing(os.path.join(source, directory))
    theirs = _listing(os.path.join(destination, directory))
    for name in ours.keys() ^ theirs.keys():
        yield os.path.join(directory, name), "names"
    for name in ours.keys() & theirs.keys():
        path = os.path.join(directory, name)
        here, there = ours[name], theirs[name]
        if stat.S_IFMT(here.st_mode) != stat.S_IFMT(there.st_mode):
            yield path, "contents"
            continue
        if _content_differs(here, os.path.join(source, path), os.path.join(destination, path)):
            yield path, "contents"
        elif _attributes(here) != _attributes(there):
            yield path, "attributes"
        if stat.S_ISDIR(here.st_mode):
            yield from _differences(source, destination, path)


def perfect_list(source: bytes, destination: bytes) -> list[bytes]:
    """Return the shortest rsync list that makes the destination equal.

    What is named: a file that differs, the topmost of what is gone, each directory of a new tree
    with a slash (one level of contents), an old directory with a slash when more than half of its
    entries would be named, and without when only its attributes differ. Each begins with ``./``.
    Size and mtime tell whether a file differs, as they tell rsync.
    """
    names = list(_perfect(source, destination, b""))
    if not names and _attributes(os.lstat(source)) != _attributes(os.lstat(destination)):
        names = [b".no-such-name"]  # any name that begins with ./ brings the root's attributes
    return [b"./" + name for name in sorted(names)]


def _perfect(source: bytes, destination: bytes, directory: bytes) -> Iterator[bytes]:
    ours = _listing(os.path.join(source, directory))
    theirs = _listing(os.path.join(destination, directory))
    named = [os.path.join(directory, name) for name in theirs.keys() - ours.keys()]
    below: list[bytes] = []
    for name, entry in ours.items():
        path = os.path.join(directory, name)
        old = theirs.get(name)
        if not stat.S_ISDIR(entry.st_mode):
            if old is None or _attributes(entry) != _attributes(old):
                named.append(path)
        elif old is None or not stat.S_ISDIR(old.st_mode):
            below += _every_directory(source, path)
        else:
            found = list(_perfect(source, destination, path))
            if not found and _attributes(entry) != _attributes(old):
                named.append(path)
            below += found
    if len(named) > len(ours) / 2 and len(named) > 2 and directory:
        named = [directory + b"/"]
    yield from named
    yield from below


def _every_directory(source: bytes, top: bytes) -> Iterator[bytes]:
    yield top + b"/"
    with os.scandir(os.path.join(source, top)) as entries:
        inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in inner:
        yield from _every_directory(source, os.path.join(top, name))


def _listing(directory: bytes) -> dict[bytes, os.stat_result]:
    with os.scandir(directory) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def _attributes(entry: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(entry.st_mode) else entry.st_size
    return entry.st_mode, entry.st_uid, entry.st_gid, entry.st_mtime_ns, size, entry.st_rdev


def _content_differs(entry: os.stat_result, here: bytes, there: bytes) -> bool:
    if stat.S_ISLNK(entry.st_mode):
        return os.readlink(here) != os.readlink(there)
    if not stat.S_ISREG(entry.st_mode):
        return False
    with open(here, "rb") as ours, open(there, "rb") as theirs:
        while block := ours.read(READ_BYTES):
            if block != theirs.read(READ_BYTES):
                return True
        return bool(theirs.read(1))
