"""Random operations of every kind, drawn from a seed and from what is in the tree."""

import contextlib
import itertools
import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence

from support import operations as do
from support.open_files import OpenFiles
from support.operations import Operation, WorkArea

# Without --mixed: rsync blocks forever if a file becomes a FIFO just before it is opened. So only
# FIFOs have these names, also after a rename.
FIFO_NAMES = (b"fifo", b"fifo\n2")
# Without --mixed: an event for one name of a file does not report its other names. So hard-linked
# files have names of their own and are never changed, only created, linked, renamed and deleted.
LINKED_NAMES = (b"linked-1", b"linked-2", b"-linked")
RESERVED_NAMES = (*FIFO_NAMES, *LINKED_NAMES)
PLAIN_NAMES = tuple(b"abcdefghij"[index : index + 1] for index in range(10))
ODD_NAMES = (
    b"-n", b"#x", b";x", b"a\nb", b"\r", b"\xff", b" ", b" x", b"x ", b"*", b"[x]", b"?", b"\\",
    b"h:p", b"h::m", b"--delete", b"'", b'"', b"$(touch pwned)", b"`x`", b"...", b"+ x", b"- x",
    b"!", b"n" * 255, "e\u0301".encode(), b"\t", b"%s", b"{}", b"~", b".f.aBcD12", b"a-b",
    b"...abcdef", b".x.123456", b"..a", b".~tmp~",
)  # fmt: skip
NAMES = PLAIN_NAMES * 5 + ODD_NAMES
# No target is outside of the trees, because operations follow symlinks.
TARGETS = (b"a", b"b/c", b"../a", b".", b"nowhere", b"/nonexistent/x", b"\xff\n")
MAX_DEPTH = 5
MAX_ENTRIES = 2_500
# The time of all files of a reproducible build: nanoseconds.
CLAMPED_TIME = 946_684_800_000_000_000
IS_ROOT = os.geteuid() == 0
SIZES = (0, 1, 100, 100_000)
FILE_MODES = (0o644, 0o600, 0o444, 0o755, 0o4755, 0o2750) + ((0,) if IS_ROOT else ())
DIRECTORY_MODES = (0o755, 0o700, 0o1777, 0o2755) + ((0, 0o555) if IS_ROOT else ())


class RandomOperations:
    """Draws operations that suit the tree as it is."""

    def __init__(self, seed: int, area: WorkArea, *, mixed: bool, owners: bool) -> None:
        self.random = random.Random(seed)
        self._seed = seed
        self.is_mixed = mixed
        self.changes_owners = owners
        self.area = area
        self.open_files = OpenFiles()
        self._outside_count = 0
        kinds: dict[Callable[[], Iterator[Operation]], int] = {
            self._write: 24,
            self._change: 24,
            self._change_keeping_time: 10,
            self._modify_open: 12,
            self._attributes: 12,
            self._make_directories: 12,
            self._remove: 8,
            self._remove_tree: 3,
            self._remake_tree: 2,
            self._rename: 14,
            self._write_alike: 8,
            self._rename_over_alike: 8,
            self._exchange: 3,
            self._move_tree: 12,
            self._rotate: 5,
            self._move_out_and_in: 6,
            self._symlink: 6,
            self._hard_link: 4,
            self._special: 4,
            self._replace_by_another_kind: 4,
            self._new_tree: 8,
        }
        self.kinds, self.weights = list(kinds), list(kinds.values())

    def draw(self) -> Iterator[Operation]:
        """Yield the operations of one kind; each depends on the tree after those before it."""
        (draw,) = self.random.choices(self.kinds, self.weights)
        return draw()

    def close(self) -> None:
        """Close the files that are written and never closed."""
        self.open_files.close()

    def prune(self) -> Iterator[Operation]:
        """Yield operations that make a tree small that has become too large."""
        below = (len(names) + len(more) for _, more, names in os.walk(self.area.inside))
        if sum(below) > MAX_ENTRIES:
            # Only directories: Python's rmtree blocks at a FIFO.
            yield from map(do.remove_tree, self._entries(b"", stat.S_ISDIR)[::2])

    # Choosing paths

    def _directory(self) -> bytes:
        """Return a random directory of the tree, preferably a high one."""
        path = b""
        for _ in range(self.random.randrange(MAX_DEPTH)):
            below = self._entries(path, stat.S_ISDIR)
            if not below:
                break
            path = os.path.join(path, self.random.choice(below))
        return path

    def _entries(self, directory: bytes, is_wanted: Callable[[int], bool]) -> Sequence[bytes]:
        found = []
        with contextlib.suppress(OSError), os.scandir(self.area.path(directory)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                with contextlib.suppress(OSError):
                    if is_wanted(entry.stat(follow_symlinks=False).st_mode):
                        found.append(entry.name)
        return found

    def _existing(self, is_wanted: Callable[[int], bool] = lambda _mode: True) -> bytes | None:
        directory = self._directory()
        names = self._entries(directory, is_wanted)
        return os.path.join(directory, self.random.choice(names)) if names else None

    def _changeable(self) -> bytes | None:
        path = self._existing(stat.S_ISREG)
        return None if path is None or self._is_reserved(path, LINKED_NAMES) else path

    def _is_reserved(self, path: bytes, names: Sequence[bytes]) -> bool:
        return not self.is_mixed and os.path.basename(path) in names

    def _alike(self) -> Sequence[bytes]:
        """Return the files of a directory that another one has the size and time of."""
        directory = self._directory()
        found: dict[tuple[int, int], list[bytes]] = {}
        for name in self._entries(directory, stat.S_ISREG):
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                status = os.lstat(self.area.path(path))
                if not self._is_reserved(path, LINKED_NAMES):
                    found.setdefault((status.st_size, status.st_mtime_ns), []).append(path)
        groups = [paths for paths in found.values() if len(paths) > 1]
        return self.random.choice(groups) if groups else []

    def _size(self, path: bytes) -> int:
        try:
            return os.lstat(self.area.path(path)).st_size
        except OSError:
            return 0

    def _outside_name(self) -> bytes:
        """Return a new name outside; each writer has its own, so that they stay separate."""
        self._outside_count += 1
        return b"%d-%d" % (self._seed, self._outside_count)

    def _name(self, like: bytes = b"a") -> bytes:
        """Return a random path with a name of the same class as that of another path."""
        leaf = os.path.basename(like)
        for names in (FIFO_NAMES, LINKED_NAMES):
            if leaf in names and not self.is_mixed:
                return os.path.join(self._directory(), self.random.choice(names))
        return os.path.join(self._directory(), self.random.choice(NAMES))

    def _new_name(self) -> bytes:
        """Return a random path for a directory, at which there is probably nothing."""
        name = self.random.choice(
            (b"moved-%d" % self.random.randrange(1000), self.random.choice(NAMES))
        )
        return os.path.join(self._directory(), name)

    # Choosing operations

    def _content(self) -> bytes:
        # Few sizes, so that many changes keep the size.
        size = self.random.choice((0, 1, 4, 4, 4, 100, 5_000, 200_000))
        return self.random.randbytes(min(size, 16)) * (size // 16 or 1) if size else b""

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

    def _rename_over_alike(self) -> Iterator[Operation]:
        paths = self._alike()
        for new, old in itertools.pairwise(paths):
            yield do.rename(old, new)

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
            inside = os.path.join(new, self.random.choice(NAMES))
            other = self._new_name()
            operations: Sequence[Operation] = self.random.choice(
                (
                    [do.rename(new, other)],
                    [do.rename(new, path)],
                    [do.exchange(path, new)],
                    [do.mkdir(path), do.write(os.path.join(path, b"a"), self._content())],
                    [do.write_at(inside, self._content(), CLAMPED_TIME)],
                    [do.write_keeping_time(inside, self.random.randbytes(4))],
                    [do.rename(inside, other)],
                    [do.rename(inside, os.path.join(new, self.random.choice(NAMES)))],
                    [do.rename(other, inside)],
                )
            )
            yield from operations
            if operations[0].verb is do.rename and operations[0].arguments[0] == new:
                new = operations[0].arguments[1]

    def _rotate(self) -> Iterator[Operation]:
        """Rename the files of a directory in a row, and write a new first one."""
        directory = self._directory()
        present = self._entries(directory, stat.S_ISREG)
        names = [name for name in PLAIN_NAMES if name in present] or [PLAIN_NAMES[0]]
        paths = [os.path.join(directory, name) for name in (*names, b"rotated")]
        for old, new in reversed([*itertools.pairwise(paths)]):
            yield do.rename(old, new)
        yield do.write(paths[0], self._content())

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
