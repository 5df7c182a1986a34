"""A copy of a source that is made by its changes alone, without rsync and without a daemon."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pylsyncd.model.scoped_paths import Change, Scope


class Replica:
    """The contents of files by path, and None for directories, as the changes have told."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self.entries = read_tree(source)

    def apply(self, changes: Iterable[Change]) -> None:
        """Look at the source as the changes ask for it."""
        for change in changes:
            path = os.fsdecode(change.path)
            if path:
                self._look_at_entry(path)
            if change.scope is Scope.TREE:
                self._look_at_tree(path)
            elif change.scope is Scope.LISTING:
                self._look_at_listing(path)

    def _look_at_entry(self, path: str) -> None:
        found = _read_entry(self._source / path)
        if found is _NOTHING or found is not None or self.entries.get(path) is not None:
            self._forget(path)
        if found is _NOTHING:
            return
        # As with rsync, the directories above come into being with it.
        for parent in Path(path).parents:
            if str(parent) != "." and self.entries.get(str(parent), b"") is not None:
                self.entries[str(parent)] = None
        self.entries[path] = found

    def _look_at_listing(self, path: str) -> None:
        top = f"{path}/" if path else ""
        names = os.listdir(self._source / path) if os.path.isdir(self._source / path) else []
        known = {key[len(top) :].split("/")[0] for key in self.entries if key.startswith(top)}
        for name in known.union(names) - {""}:
            self._look_at_entry(f"{top}{name}")

    def _look_at_tree(self, path: str) -> None:
        self._forget(path)
        top = self._source / path
        if os.path.lexists(top):
            prefix = f"{path}/" if path else ""
            if path:
                self._look_at_entry(path)
            self.entries.update({prefix + below: what for below, what in read_tree(top).items()})

    def _forget(self, path: str) -> None:
        self.entries = {
            key: what
            for key, what in self.entries.items()
            if path and key != path and not key.startswith(f"{path}/")
        }


_NOTHING = object()


def read_tree(top: Path) -> dict[str, object]:
    """Return the contents of the files below a directory by path, and None for directories."""
    found: dict[str, object] = {}
    for directory, subdirectories, files in os.walk(top):
        for name in (*subdirectories, *files):
            path = Path(directory, name)
            if (entry := _read_entry(path)) is not _NOTHING:
                found[str(path.relative_to(top))] = entry
    return found


def _read_entry(path: Path) -> object:
    with suppress(FileNotFoundError, NotADirectoryError):
        return path.read_bytes() if not path.is_dir() else None
    return _NOTHING
