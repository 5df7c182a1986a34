"""Random paths of a tree, drawn from a seed and from what is in the tree."""

import contextlib
import os
import random
import stat
from collections.abc import Callable, Sequence

from support.operations import WorkArea

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
MAX_DEPTH = 5
# The time of all files of a reproducible build: nanoseconds.
CLAMPED_TIME = 946_684_800_000_000_000


class RandomPaths:
    """Draws paths that suit the tree as it is."""

    def __init__(self, seed: int, area: WorkArea, *, mixed: bool) -> None:
        self.random = random.Random(seed)
        self._seed = seed
        self.is_mixed = mixed
        self.area = area
        self._outside_count = 0

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

    def _content(self) -> bytes:
        # Few sizes, so that many changes keep the size.
        size = self.random.choice((0, 1, 4, 4, 4, 100, 5_000, 200_000))
        return self.random.randbytes(min(size, 16)) * (size // 16 or 1) if size else b""
