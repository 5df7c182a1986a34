"""Walks directories by descriptor, so that no name is ever resolved through a symlink."""

import os
from collections.abc import Callable
from typing import TypeVar

Place = TypeVar("Place")

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_root(path: bytes) -> int:
    """Open the source itself, which may be named through symlinks; its caller closes it."""
    return os.open(path, _DIRECTORY)


def open_child(directory: int, name: bytes | str) -> int:
    """Open a directory in an open one; NotADirectoryError or ELOOP for anything else."""
    return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)


def open_below(root: int, path: bytes) -> int:
    """Open the directory at a relative path below an open one, name by name."""
    directory = os.dup(root)
    if not path:
        return directory
    for name in path.split(b"/"):
        try:
            child = open_child(directory, name)
        finally:
            os.close(directory)
        directory = child
    return directory


def subdirectories(directory: int) -> list[str]:
    """Return the names of the directories in an open one, symlinks not followed."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


Enter = Callable[[int, Place, bytes], Place | None]
Refused = Callable[[Place, bytes, OSError], None]


def descend(directory: int, place: Place, enter: Enter[Place], refused: Refused[Place]) -> None:
    """Enter every directory below an open one, each before it is listed, parents first.

    ``enter(descriptor, parent's place, name)`` returns the directory's own place, which stands for
    it when what it contains is entered, or None to go no deeper there. What cannot be opened or
    listed goes to ``refused``; only the top raises. As many descriptors are open at a time as
    there are levels with names left.
    """
    stack: list[tuple[int, Place, list[str]]] = []
    try:
        stack.append((os.dup(directory), place, subdirectories(directory)))
        while stack:
            level, place, names = stack[-1]
            if not names:
                os.close(stack.pop()[0])
                continue
            name = names.pop()
            try:
                deeper = _enter(level, place, name, enter)
            except OSError as error:
                refused(place, os.fsencode(name), error)
                continue
            if deeper is None:
                continue
            if not names:
                os.close(stack.pop()[0])
            stack.append(deeper)
    finally:
        for level, _, _ in stack:
            os.close(level)


def _enter(
    level: int, place: Place, name: str, enter: Enter[Place]
) -> tuple[int, Place, list[str]] | None:
    """Enter a directory; return it, open, with its own place, if there is more below it."""
    child = open_child(level, name)
    is_kept = False
    try:
        below = enter(child, place, os.fsencode(name))
        if below is None:
            return None
        names = subdirectories(child)
        is_kept = bool(names)
        return (child, below, names) if is_kept else None
    finally:
        if not is_kept:
            os.close(child)
