"""A source that can vanish in several ways, a copy, and the paths that the copy has lost."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from support.daemon import Pylsyncd
from support.faults import FaultyRsync
from support.mounts import Mounts
from support.trees import equal_within

WINDOW = "0.2"  # seconds
SOON = 45.0  # seconds; the guard checks every 2 s, and the machine may be busy
CHECKED = 3.0  # seconds in which a guard that checks every 2 s has checked
FILES = {"a": "a", "b": "b", "d/c": "c", "d/deep/e": "e", "nested/f": "f", "nested/g/h": "h"}
HELD = r"(?i)nothing is deleted|is held|held:|held until"
BACK = r"is back"


class Guarded:
    """A source with files, perhaps on a mount, one copy, and daemons one after the other."""

    def __init__(self, directory: Path, mounts: Mounts | None = None) -> None:
        self.directory = directory
        self.source, self.copy = directory / "source", directory / "copy"
        self.state = directory / "state"
        self.backing = directory / "backing"
        self.mounts = mounts or Mounts()
        self.faulty = FaultyRsync(directory)
        self._logs: list[Pylsyncd] = []
        self._before: dict[str, int] = {}
        self.source.mkdir()

    def fill(self, top: Path | None = None, **more: str) -> None:
        """Write the files, and more, to the source or to another directory."""
        for name, text in (FILES | more).items():
            path = (top or self.source) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def mount_source(self, *, on_device: bool = True, bare: str = "") -> None:
        """Fill a file system and bind-mount it over the source, an empty directory.

        Without ``on_device`` it has the device number of the directory below, like a bind mount of
        the same disk. ``bare`` is a file in the directory below.
        """
        self.backing.mkdir()
        if on_device:
            self.mounts.mount_tmpfs(self.backing)
        self.fill(self.backing)
        if bare:
            (self.source / bare).touch()
        self.mount_again()

    def mount_again(self) -> None:
        """Bind-mount the file system over the source again."""
        self.mounts.mount_bind(self.backing, self.source)

    def unmount(self, path: Path | None = None, *, lazy: bool = False) -> None:
        """Unmount the source, or another path. pylsyncd must not keep an idle one busy."""
        self.mounts.unmount(path or self.source, lazy=lazy, seconds=SOON)

    @contextlib.contextmanager
    def daemon(self, *options: str, wait: bool = True) -> Iterator[Pylsyncd]:
        """Run a daemon that keeps its state for the next one."""
        daemon = Pylsyncd(
            *("-v", "-w", WINDOW, "--rsync", self.faulty.program),
            *options,
            *(f"{self.source}/./", f"{self.copy}/"),
            names=[self.copy.name],
            state=self.state,
        )
        self._logs.append(daemon)
        with daemon:
            if wait:
                daemon.wait_ready()
            yield daemon

    def synced(self) -> None:
        """Fill the source and sync it with a daemon that is stopped afterwards."""
        with self.daemon("-i"):
            self.expect_equal()

    def remember(self, but: Collection[str] = ()) -> None:
        """Record the paths of the copy that must not be lost from now on, except ``but``."""
        self._before = {
            path: inode for path, inode in _inodes(self.copy).items() if path not in but
        }
        self._deleted_before = self._deletions()
        assert self._before, "the copy has no paths to lose"

    def lost(self, below: str = "") -> list[str]:
        """Return the recorded paths that were deleted, or deleted and written again."""
        now = _inodes(self.copy)
        return sorted(
            path
            for path, inode in self._before.items()
            if now.get(path) != inode and (not below or path.startswith(f"{below}/"))
        )

    def expect_untouched(self, daemon: Pylsyncd, seconds: float = CHECKED) -> None:
        """Fail if a full sync deletes anything from the copy."""
        daemon.full_sync()
        daemon.flush()
        self.expect_no_loss(daemon, seconds)
        deleted = self._deletions() - self._deleted_before
        assert deleted == 0, f"rsync counts {deleted} deletions\n{daemon.log_tail}"

    def expect_no_loss(self, daemon: Pylsyncd, seconds: float = CHECKED, below: str = "") -> None:
        """Fail if the copy has lost a recorded path, or loses one within so many seconds."""
        end = time.monotonic() + seconds
        while True:
            lost = self.lost(below)
            assert not lost, f"the copy has lost {lost}\n{daemon.log_tail}"
            if time.monotonic() > end:
                return
            time.sleep(0.05)

    def expect_equal(self, daemon: Pylsyncd | None = None, seconds: float = SOON) -> None:
        """Fail if the copy does not become equal to the source."""
        # The source may be a symlink.
        tree = os.path.realpath(os.fsencode(self.source))
        found = equal_within(tree, os.fsencode(self.copy), seconds)
        assert not found, "\n".join([*found, (daemon or self._logs[-1]).log_tail])

    def move_away(self) -> Path:
        """Rename the source."""
        away = self.directory / "away"
        self.source.rename(away)
        return away

    def _deletions(self) -> int:
        """Return the number of deletions in all runs of all daemons."""
        logs = "\n".join(daemon.log for daemon in self._logs)
        return sum(map(int, re.findall(r"synced \d+ files?, deleted (\d+)", logs)))


def other_device(than: Path) -> Path | None:
    """Return a new directory on another device, without mounting; None if there is none."""
    for candidate in ("/dev/shm", "/var/tmp", "/tmp"):  # noqa: S108 - made with mkdtemp's care
        if os.access(candidate, os.W_OK) and os.stat(candidate).st_dev != than.stat().st_dev:
            path = Path(candidate) / f"pylsyncd-guard-{os.getpid()}-{time.monotonic_ns()}"
            path.mkdir(mode=0o700)
            return path
    return None


def remove(path: Path) -> None:
    """Delete a tree."""
    shutil.rmtree(path)


def _inodes(top: Path) -> dict[str, int]:
    found = {}
    for directory, directories, names in os.walk(top):
        for name in (*directories, *names):
            path = os.path.join(directory, name)
            found[os.path.relpath(path, top)] = os.lstat(path).st_ino
    return found
