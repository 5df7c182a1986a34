"""Random operations of every kind, drawn from a seed and from what is in the tree."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping

from churn.random_moves import RandomMoves
from churn.random_paths import (
    CLAMPED_TIME,
    FIFO_NAMES,
    LINKED_NAMES,
    NAMES,
    PLAIN_NAMES,
    RESERVED_NAMES,
)
from support import operations as do
from support.open_files import OpenFiles
from support.operations import Operation, WorkArea

MAX_ENTRIES = 2_500
IS_ROOT = os.geteuid() == 0
SIZES = (0, 1, 100, 100_000)
FILE_MODES = (0o644, 0o600, 0o444, 0o755, 0o4755, 0o2750) + ((0,) if IS_ROOT else ())
DIRECTORY_MODES = (0o755, 0o700, 0o1777, 0o2755) + ((0, 0o555) if IS_ROOT else ())
# No target is outside of the trees, because operations follow symlinks.
TARGETS = (b"a", b"b/c", b"../a", b".", b"nowhere", b"/nonexistent/x", b"\xff\n")


class RandomOperations(RandomMoves):
    """Draws operations, moves among them."""

    def __init__(self, seed: int, area: WorkArea, *, mixed: bool, owners: bool) -> None:
        super().__init__(seed, area, mixed=mixed)
        self.changes_owners = owners
        self.open_files = OpenFiles()

    def close(self) -> None:
        """Close the files that are written and never closed."""
        self.open_files.close()

    def prune(self) -> Iterator[Operation]:
        """Yield operations that make a tree small that has become too large."""
        below = (len(names) + len(more) for _, more, names in os.walk(self.area.inside))
        if sum(below) > MAX_ENTRIES:
            # Only directories: Python's rmtree blocks at a FIFO.
            yield from map(do.remove_tree, self._entries(b"", stat.S_ISDIR)[::2])

    def _weights_of_kinds(self) -> Mapping[Callable[[], Iterator[Operation]], int]:
        return {
            **super()._weights_of_kinds(),
            self._write: 24,
            self._change: 24,
            self._change_keeping_time: 10,
            self._modify_open: 12,
            self._attributes: 12,
            self._make_directories: 12,
            self._remove: 8,
            self._remove_tree: 3,
            self._remake_tree: 2,
            self._write_alike: 8,
            self._symlink: 6,
            self._hard_link: 4,
            self._special: 4,
            self._replace_by_another_kind: 4,
            self._new_tree: 8,
        }

    def _write(self) -> Iterator[Operation]:
        yield do.write(self._name(), self._content())

    def _change(self) -> Iterator[Operation]:
        path = self._changeable()
        if path is None:
            return
        yield self.random.choice(
            (
                do.append(path, self._content()),
                do.overwrite(path, self.random.randrange(100), self._content()),
                do.truncate(path, self.random.choice(SIZES)),
                do.truncate_by_path(path, self.random.choice(SIZES)),
                do.replace(path, self._content()),
                do.write(path, self._content()),
            )
        )

    def _change_keeping_time(self) -> Iterator[Operation]:
        path, other = self._changeable(), self._existing()
        if path is None or other is None:
            return
        content = self.random.randbytes(self._size(path))
        yield self.random.choice(
            (
                do.write_keeping_time(path, content),
                do.replace_keeping_time(path, content),
                do.write_at(path, content, CLAMPED_TIME),
                do.copy_time(path, other),
            )
        )

    def _modify_open(self) -> Iterator[Operation]:
        path = self._changeable()
        if path is not None:
            kind = self.random.choice((self.open_files.append, self.open_files.overwrite))
            yield kind(path, self._content())

    def _write_alike(self) -> Iterator[Operation]:
        """Write several files of one size, within a tick of the clock or with a clamped time."""
        directory, size = self._directory(), self.random.choice((1, 4, 100))
        for name in self.random.sample(PLAIN_NAMES, 3):
            path, content = os.path.join(directory, name), self.random.randbytes(size)
            if self.random.random() < 0.5:
                yield do.write(path, content)
            else:
                yield do.write_at(path, content, CLAMPED_TIME)

    def _remake_tree(self) -> Iterator[Operation]:
        path = self._existing(stat.S_ISDIR)
        if path is None or (b"/" not in path and self.random.random() < 0.5):
            return
        seed = self.random.randrange(10**9)
        if self.random.random() < 0.5:
            yield do.remake_tree(path, seed)
        else:
            yield do.remake_tree_outside(path, seed, self._outside_name())

    def _attributes(self) -> Iterator[Operation]:
        path = self._existing()
        if path is None or self._is_reserved(path, LINKED_NAMES):
            return
        when = self.random.choice((0, CLAMPED_TIME)) + self.random.randrange(10**9)
        choices = [do.utime(path, when)]
        is_directory = os.path.isdir(self.area.path(path))
        choices.append(
            do.chmod(path, self.random.choice(DIRECTORY_MODES if is_directory else FILE_MODES))
        )
        if self.changes_owners:
            choices.append(do.chown(path, self.random.choice((0, 1, 54321)), -1))
        yield self.random.choice(choices)

    def _make_directories(self) -> Iterator[Operation]:
        path = self._name()
        for _ in range(self.random.randrange(3)):
            path = os.path.join(path, self.random.choice(NAMES))
        yield do.mkdir(path)
        yield do.write(os.path.join(path, self.random.choice(NAMES)), self._content())

    def _remove(self) -> Iterator[Operation]:
        path = self._existing(lambda mode: not stat.S_ISDIR(mode))
        if path is not None:
            yield do.remove(path)

    def _remove_tree(self) -> Iterator[Operation]:
        path = self._existing(stat.S_ISDIR)
        # Rarely a top directory, so that the tree can grow.
        if path is not None and (b"/" in path or self.random.random() < 0.1):
            yield do.remove_tree(path)

    def _symlink(self) -> Iterator[Operation]:
        yield do.symlink(self._name(), self.random.choice(TARGETS))

    def _hard_link(self) -> Iterator[Operation]:
        existing = self._existing(stat.S_ISREG) if self.is_mixed else None
        if existing is not None:
            yield do.link(self._name(), existing)
            return
        name = self._name(like=LINKED_NAMES[0])
        # Written outside and moved in, so that the inode is never written to again.
        out = self._outside_name()
        yield do.outside(do.write(out, self._content()))
        yield do.move_in(out, name)
        for _ in range(self.random.randrange(3)):
            yield do.link(self._name(like=LINKED_NAMES[0]), name)

    def _special(self) -> Iterator[Operation]:
        yield self.random.choice(
            (
                do.fifo(self._name(like=FIFO_NAMES[0])),
                do.fifo(self._name(like=FIFO_NAMES[0])),
                do.make_socket(self._name()),
            )
        )

    def _replace_by_another_kind(self) -> Iterator[Operation]:
        path = self._existing()
        if path is None or self._is_reserved(path, RESERVED_NAMES):
            return
        if os.path.isdir(self.area.path(path)) and b"/" not in path:
            return
        yield do.remove_tree(path) if os.path.isdir(self.area.path(path)) else do.remove(path)
        yield from self.random.choice(
            (
                (do.write(path, self._content()),),
                (do.mkdir(path), do.write(os.path.join(path, b"a"), self._content())),
                (do.symlink(path, self.random.choice(TARGETS)),),
                (do.make_socket(path),),
            )
        )

    def _new_tree(self) -> Iterator[Operation]:
        top = self._name()
        yield do.mkdir(top)
        for _ in range(self.random.randrange(30)):
            directory = os.path.join(top, *self.random.choices(NAMES, k=self.random.randrange(3)))
            yield do.mkdir(directory)
            yield do.write(os.path.join(directory, self.random.choice(NAMES)), self._content())
