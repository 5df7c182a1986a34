"""Random moves of files and trees, drawn from a seed and from what is in the tree."""

import itertools
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence

from churn.random_paths import CLAMPED_TIME, NAMES, PLAIN_NAMES, RESERVED_NAMES, RandomPaths
from support import operations as do
from support.operations import Operation, WorkArea


class RandomMoves(RandomPaths):
    """Draws moves."""

    def __init__(self, seed: int, area: WorkArea, *, mixed: bool = False) -> None:
        super().__init__(seed, area, mixed=mixed)
        self._weights = self._weights_of_kinds()

    def draw(self) -> Iterator[Operation]:
        """Yield the operations of one kind; each depends on the tree after those before it."""
        (draw,) = self.random.choices(list(self._weights), list(self._weights.values()))
        return draw()

    def fill(self, top: bytes) -> Iterator[Operation]:
        """Yield operations that make a tree of files that size and time do not tell apart."""
        for directory in (b"", b"x", b"y", b"z/x", b"z/y"):
            path = os.path.join(top, directory)
            yield do.mkdir(path)
            for name in PLAIN_NAMES[:6]:
                content = self.random.randbytes(4 if directory else 70_000)
                yield do.write_at(os.path.join(path, name), content, CLAMPED_TIME)

    def move_filled(self, top: bytes) -> Iterator[Operation]:
        """Yield operations that move three directories of a tree that was filled."""
        for old, new in ((b"x", b"z/x-2"), (b"y", b"y-2"), (b"z/x", b"x-2")):
            yield do.rename(os.path.join(top, old), os.path.join(top, new))

    def _fill(self) -> Iterator[Operation]:
        return self.fill(self._new_name())

    def _weights_of_kinds(self) -> Mapping[Callable[[], Iterator[Operation]], int]:
        return {
            self._rename: 14,
            self._rename_over_alike: 8,
            self._exchange: 3,
            self._move_tree: 12,
            self._rotate: 5,
            self._rotate_trees: 2,
            self._fill: 2,
            self._gather: 4,
            self._move_out_and_in: 6,
        }

    def _rename_over_alike(self) -> Iterator[Operation]:
        paths = self._alike()
        for new, old in itertools.pairwise(paths):
            yield do.rename(old, new)

    def _rename(self) -> Iterator[Operation]:
        path = self._existing()
        if path is None:
            return
        new = self._name(like=path)
        yield do.rename(path, new)
        if self.random.random() < 0.3:
            yield do.write(os.path.join(new, self.random.choice(NAMES)), self._content())
        if self.random.random() < 0.3:
            yield do.rename(new, self._name(like=new))

    def _exchange(self) -> Iterator[Operation]:
        one, other = self._existing(), self._existing()
        if one is None or other is None:
            return
        if not any(self._is_reserved(path, RESERVED_NAMES) for path in (one, other)):
            yield do.exchange(one, other)

    def _move_tree(self) -> Iterator[Operation]:
        """Rename a directory, and change what is in it, its old name and its new one."""
        path, new = self._existing(stat.S_ISDIR), self._new_name()
        if path is None:
            return
        yield do.rename(path, new)
        for _ in range(self.random.randrange(4)):
            inside, other = self._name_in(new), self._new_name()
            operations: Sequence[Operation] = self.random.choice(
                (
                    [do.rename(new, other)],
                    [do.rename(new, path)],
                    [do.exchange(path, new)],
                    [do.mkdir(path), do.write(os.path.join(path, b"a"), self._content())],
                    [do.write_at(inside, self._content(), CLAMPED_TIME)],
                    [do.write_keeping_time(inside, self.random.randbytes(self._size(inside)))],
                    [do.rename(inside, other)],
                    [do.rename(inside, self._name_in(new))],
                    [do.rename(other, inside)],
                )
            )
            yield from operations
            if operations[0].verb is do.rename and operations[0].arguments[0] == new:
                new = operations[0].arguments[1]

    def _name_in(self, directory: bytes) -> bytes:
        """Return the path of a file in a directory, or a new one."""
        names = self._entries(directory, stat.S_ISREG)
        if not names or self.random.random() < 0.3:
            names = NAMES
        return os.path.join(directory, self.random.choice(names))

    def _rotate(self) -> Iterator[Operation]:
        """Rename the files of a directory in a row, and write a new first one.

        The oldest one is kept, perhaps in the place of an older one, or deleted first or last.
        """
        directory = self._directory()
        present = self._entries(directory, stat.S_ISREG)
        names = [name for name in present if not self._is_reserved(name, RESERVED_NAMES)]
        names = names[: self.random.randrange(2, 8)] or [PLAIN_NAMES[0]]
        *paths, oldest, last = (os.path.join(directory, name) for name in (*names, b"rotated"))
        end = self.random.choice(("kept", "deleted first", "deleted last"))
        if end == "deleted first":
            yield do.remove(oldest)
            paths = [*paths, oldest]
        else:
            paths = [*paths, oldest, last]
        for old, new in reversed([*itertools.pairwise(paths)]):
            yield do.rename(old, new)
        yield do.write(paths[0], self._content())
        if end == "deleted last":
            yield do.remove(last)

    def _rotate_trees(self) -> Iterator[Operation]:
        """Rename the trees of a directory in a row; the oldest is deleted, or put outside."""
        directory = self._directory()
        names = self._entries(directory, stat.S_ISDIR)
        paths = [os.path.join(directory, name) for name in names[: self.random.randrange(2, 5)]]
        if len(paths) < 2:
            return
        if self.random.random() < 0.5:
            yield do.remove_tree(paths[-1])
        else:
            yield do.move_out(paths[-1], self._outside_name())
        for old, new in reversed([*itertools.pairwise(paths)]):
            yield do.rename(old, new)
        yield do.mkdir(paths[0])
        yield do.write_at(os.path.join(paths[0], b"a.log"), self.random.randbytes(4), CLAMPED_TIME)

    def _gather(self) -> Iterator[Operation]:
        """Move files to another directory, where they keep their names."""
        directory, new = self._directory(), self._new_name()
        yield do.mkdir(new)
        for name in self._entries(directory, stat.S_ISREG):
            if not self._is_reserved(name, RESERVED_NAMES):
                yield do.rename(os.path.join(directory, name), os.path.join(new, name))

    def _move_out_and_in(self) -> Iterator[Operation]:
        path = self._existing()
        if path is None:
            return
        out = self._outside_name()
        yield do.move_out(path, out)
        changed = os.path.join(out, self.random.choice(NAMES))
        if self.random.random() < 0.5:
            if self.is_mixed:
                # A write in place could change a file inside through a hard link, without an event.
                yield do.outside(do.remove(changed))
            yield do.outside(do.write(changed, self._content()))
        if self.random.random() < 0.7:
            yield do.move_in(out, self._name(like=path))
