"""Workloads: trees, and writers that change them.

All are seeded or regular: the same call makes the same operations.
"""

import os
import random
import shutil
import subprocess
import time

BURST = 1000
"""Files that the paced writer creates between two reads of the clock; two events each."""

OLD_TIME = 10**18
"""The time of extracted files, in nanoseconds."""

CONTENT = 100
"""Bytes in a file that is overwritten by as many."""


def write(path: str, content: bytes) -> None:
    """Create or overwrite a file in place, with five system calls less than ``open``."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.write(descriptor, content)
    os.close(descriptor)


def make_tree(root: str, directories: int, files_each: int, content: bytes = b"") -> None:
    """Create ``d0`` ... below the root, with files ``f0`` ... in each."""
    for number in range(directories):
        directory = f"{root}/d{number}"
        os.makedirs(directory)
        for name in range(files_each):
            write(f"{directory}/f{name}", content)


def make_wide(root: str, outer: int, inner: int) -> int:
    """Create ``outer`` directories with ``inner`` ones in each; return their number."""
    for number in range(outer):
        os.makedirs(f"{root}/directory{number}")
        for name in range(inner):
            os.mkdir(f"{root}/directory{number}/sub{name}")
    return outer * (inner + 1)


def make_levels(root: str, outer: int, inner: int) -> int:
    """Create ``outer`` directories with ``inner`` ones in each, and as many in each of these."""
    for number in range(max(1, outer)):
        make_wide(f"{root}/top{number}", inner, inner)
    return max(1, outer) * (1 + inner * (1 + inner))


def make_deep(root: str, chains: int, depth: int, files_each: int) -> int:
    """Create chains of nested directories with files in each; return their number."""
    for number in range(chains):
        directory = f"{root}/chain{number}"
        for level in range(depth):
            os.makedirs(directory)
            for name in range(files_each):
                write(f"{directory}/file{name}", b"")
            directory += f"/level{level}"
    return chains * depth


def create_and_close(root: str, directories: int, files: int, files_a_second: float) -> None:
    """Create and close empty files in the directories in turn, at a steady rate.

    Without a pace the kernel's queue (fs.inotify.max_queued_events, 16,384) would overflow.
    """
    start = time.monotonic()
    for number in range(files):
        os.close(os.open(f"{root}/d{number % directories}/n{number}", os.O_CREAT | os.O_WRONLY))
        if number % BURST == 0:
            time.sleep(max(0.0, start + number / files_a_second - time.monotonic()))


def write_transactions(directory: str, transactions: int, transactions_a_second: float) -> None:
    """Write pages of a file that stays open, each with a journal that is created and removed.

    So a database with a rollback journal does; five events each.
    """
    database = os.open(f"{directory}/database", os.O_CREAT | os.O_WRONLY)
    start = time.monotonic()
    for number in range(transactions):
        write(f"{directory}/journal", b"x" * CONTENT)
        os.pwrite(database, b"x" * CONTENT, number % 1000 * CONTENT)
        os.unlink(f"{directory}/journal")
        if number % BURST == 0:
            time.sleep(max(0.0, start + number / transactions_a_second - time.monotonic()))
    os.close(database)


def change_one_each(root: str, directories: int, turn: int) -> None:
    """Overwrite one file in each directory with the number of the turn."""
    for number in range(directories):
        write(f"{root}/d{number}/f0", b"turn %d of %d" % (turn, number))


def new_tree(root: str, turn: int, directories: int, files_each: int) -> None:
    """Create a new tree of ``directories`` with small files."""
    os.mkdir(f"{root}/new{turn}")
    make_tree(f"{root}/new{turn}", directories, files_each, b"x" * 1000)


def extract_old_tree(root: str, turn: int, directories: int, files_each: int) -> None:
    """Extract an archive of ``directories`` with small files, all of one time long ago.

    As tar does: each file is written, and then gets its time.
    """
    new_tree(root, turn, directories, files_each)
    for directory, _, names in os.walk(f"{root}/new{turn}", topdown=False):
        for name in names:
            os.utime(f"{directory}/{name}", ns=(OLD_TIME, OLD_TIME))
        os.utime(directory, ns=(OLD_TIME, OLD_TIME))


def change_owners(root: str, turn: int) -> None:
    """Give everything to another user and group, as ``chown -R`` does. Needs root."""
    subprocess.run(["chown", "-R", f"{1000 + turn}:{1000 + turn}", root], check=True)  # noqa: S607


def delete_trees(root: str, turn: int, trees: int) -> None:
    """Delete the trees ``t0`` ..., so many of them."""
    for number in range(turn * trees, (turn + 1) * trees):
        shutil.rmtree(f"{root}/t{number}")


def write_and_delete(root: str, directories: int, files: int) -> None:
    """Write a small file and delete it at once, repeatedly and as fast as possible."""
    for number in range(files):
        path = f"{root}/d{number % directories}/quick{number}"
        write(path, b"x" * 100)
        os.unlink(path)


def overwrite_and_flicker(
    root: str, directories: int, files_each: int, paths: int, paths_a_second: float
) -> None:
    """Change so many distinct paths at a steady rate, with two events for each.

    First every file of a tree made by ``make_tree`` is overwritten, then symlinks come and go.
    """
    start = time.monotonic()
    files = directories * files_each
    for number in range(paths):
        if number < files:
            path = f"{root}/d{number // files_each}/f{number % files_each}"
            write(path, b"%0*d" % (CONTENT, number))
        else:
            path = f"{root}/d{number % directories}/flicker{number}"
            os.symlink("nowhere", path)
            os.unlink(path)
        if number % BURST == 0:
            time.sleep(max(0.0, start + number / paths_a_second - time.monotonic()))


class Mixed:
    """A seeded mixture of all common operations on a tree of ``make_tree``."""

    def __init__(self, root: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.root = root
        self.directories = [entry.path for entry in os.scandir(root) if entry.is_dir()]
        self.directories.sort()
        self.files = [f"{top}/{name}" for top in self.directories for name in os.listdir(top)]
        self.files.sort()
        self.made = 0

    def run(self, operations: int) -> None:
        """Do so many operations."""
        kinds = (
            ([self.overwrite] * 6 + [self.append] * 3 + [self.create] * 5 + [self.replace] * 4)
            + [self.delete] * 4
            + [self.rename] * 4
            + [self.chmod, self.touch, self.symlink] * 2
        )
        kinds += [self.make_directory] * 2 + [self.rename_directory, self.delete_directory]
        for _ in range(operations):
            self.random.choice(kinds)()

    def _new(self) -> str:
        self.made += 1
        return f"{self.random.choice(self.directories)}/new{self.made}"

    def _pop_file(self) -> str:
        place = self.random.randrange(len(self.files))
        self.files[place], self.files[-1] = self.files[-1], self.files[place]
        return self.files.pop()

    def _content(self) -> bytes:
        return self.random.randbytes(self.random.choice((10, 100, 1000)))

    def overwrite(self) -> None:
        """Overwrite a file in place."""
        write(self.random.choice(self.files), self._content())

    def append(self) -> None:
        """Append to a file."""
        descriptor = os.open(self.random.choice(self.files), os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, self._content())
        os.close(descriptor)

    def create(self) -> None:
        """Create a file."""
        self.files.append(self._new())
        write(self.files[-1], self._content())

    def replace(self) -> None:
        """Write a temporary file and rename it over a file, as editors do."""
        path = self.random.choice(self.files)
        write(path + ".tmp", self._content())
        os.rename(path + ".tmp", path)

    def delete(self) -> None:
        """Delete a file."""
        os.unlink(self._pop_file())

    def rename(self) -> None:
        """Rename a file, often into another directory."""
        old, new = self._pop_file(), self._new()
        os.rename(old, new)
        self.files.append(new)

    def chmod(self) -> None:
        """Change a file's mode."""
        os.chmod(self.random.choice(self.files), self.random.choice((0o600, 0o640, 0o644)))

    def touch(self) -> None:
        """Set a file's times to the past."""
        moment = self.random.randrange(10**9) * 10**9 + self.random.randrange(10**9)
        os.utime(self.random.choice(self.files), ns=(moment, moment))

    def symlink(self) -> None:
        """Create a dangling symlink."""
        os.symlink(f"target{self.made}", self._new())

    def make_directory(self) -> None:
        """Create a directory with a file in it."""
        self.directories.append(self._new())
        os.mkdir(self.directories[-1])
        self.files.append(self.directories[-1] + "/first")
        write(self.files[-1], self._content())

    def rename_directory(self) -> None:
        """Rename a directory with its contents."""
        old = self.random.choice(self.directories)
        self.made += 1
        new = f"{self.root}/moved{self.made}"
        os.rename(old, new)
        for paths in (self.directories, self.files):
            paths[:] = [
                new + path[len(old) :] if (path + "/").startswith(old + "/") else path
                for path in paths
            ]

    def delete_directory(self) -> None:
        """Delete a directory with its contents."""
        if len(self.directories) < 20:
            return
        gone = self.random.choice(self.directories)
        shutil.rmtree(gone)
        for paths in (self.directories, self.files):
            paths[:] = [path for path in paths if not (path + "/").startswith(gone + "/")]
