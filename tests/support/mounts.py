"""Real mounts, where the machine permits them, which are always unmounted at the end."""

import functools
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

BUSY_RETRY_INTERVAL = 0.05  # seconds


class MountBusy(Exception):  # noqa: N818 - a passing condition
    """The file system is in use."""


@functools.cache
def can_mount() -> bool:
    """Return True if this process may mount; root in a container often may not."""
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory(prefix="pylsyncd-mount-") as directory:
        try:
            with Mounts() as mounts:
                mounts.mount_tmpfs(Path(directory), "64k")
        except (FileNotFoundError, subprocess.CalledProcessError):
            return False
    return True


_SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def can_mount_sshfs() -> bool:
    """Return True if a directory of this machine can be mounted by sshfs."""
    needed = ("/dev/fuse", _SFTP_SERVER)
    return can_mount() and bool(shutil.which("sshfs")) and all(map(os.path.exists, needed))


class MountId(NamedTuple):
    """What a mount keeps when a directory above it is renamed."""

    number: int
    """Which another mount gets once this one is gone."""
    device: bytes
    name: str
    """The name of the directory."""


def mount_points() -> dict[MountId, Path]:
    """Return where something is mounted, in the order of the mounts."""
    with open("/proc/self/mountinfo", "rb") as lines:
        fields = [line.split() for line in lines]
    points = {}
    for number, _, device, _, escaped, *_ in fields:
        where = Path(os.fsdecode(_unescape(escaped)))
        points[MountId(int(number), device, where.name)] = where
    return points


def _unescape(path: bytes) -> bytes:
    """Return a path of proc_pid_mountinfo(5), which escapes blanks, line ends and backslashes."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), path)


held_mounts: Final[set[MountId]] = set()
"""What this process has mounted, and not unmounted yet."""


class Mounts:
    """The mounts of a context; leaving it unmounts them, wherever they are by then."""

    def __init__(self) -> None:
        self._mounted: list[MountId] = []

    def __enter__(self) -> "Mounts":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failures: list[Exception] = []
        while self._mounted:
            mount = self._mounted.pop()
            where = mount_points().get(mount)
            try:
                if where is not None:
                    # Lazily, because a process may still use the mount.
                    self.unmount(where, lazy=True)
                held_mounts.discard(mount)
            except (MountBusy, OSError, subprocess.CalledProcessError) as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def _mount(self, where: Path, *command: str) -> None:
        _run(*command, str(where))
        uppermost = _mounted_at(where)[-1:]
        self._mounted += uppermost
        held_mounts.update(uppermost)

    def mount_tmpfs(self, where: Path, size: str = "16m") -> None:
        """Mount an empty tmpfs, which is a device of its own."""
        self._mount(where, "mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "pylsyncd-test")

    def mount_proc(self, where: Path) -> None:
        """Mount a file system without handles."""
        self._mount(where, "mount", "-t", "proc", "pylsyncd-test")

    def mount_bind(self, what: Path, where: Path) -> None:
        """Bind-mount a directory."""
        self._mount(where, "mount", "--bind", str(what))

    def mount_device(self, device: str, where: Path, option: str = "defaults") -> None:
        """Mount the file system of a device."""
        self._mount(where, "mount", "-o", option, device)

    def mount_overlay(self, layers: Path, where: Path, options: str = "") -> None:
        """Mount an overlayfs of two layers, which are made in a directory."""
        lower, upper, work = (layers / name for name in ("lower", "upper", "work"))
        for layer in (lower, upper, work):
            layer.mkdir(exist_ok=True)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}{options}"
        self._mount(where, "mount", "-t", "overlay", "-o", options, "pylsyncd-test")

    def mount_sshfs(self, what: Path, where: Path) -> None:
        """Mount a directory by sshfs, without an ssh."""
        connect = where.with_name("connect")
        connect.write_text(f"#!/bin/sh\nexec {_SFTP_SERVER}\n")
        connect.chmod(0o755)
        options = f"ssh_command={connect},attr_timeout=0,entry_timeout=0,dir_cache=no"
        self._mount(where, "sshfs", "-o", options, f"here:{what}")

    def remount(self, where: Path, option: str) -> None:
        """Remount ``ro`` or ``rw``. Raises MountBusy while a process writes."""
        try:
            _run("mount", "-o", f"remount,{option}", str(where))
        except subprocess.CalledProcessError as error:
            if "busy" in str(error.stderr):
                raise MountBusy(str(where)) from None
            raise

    def unmount(self, where: Path, *, lazy: bool = False, seconds: float = 45.0) -> None:
        """Unmount. Raises MountBusy if a process still uses the mount after so many seconds."""
        deadline = time.monotonic() + seconds
        uppermost = _mounted_at(where)[-1:]
        while not _is_unmounted(where, lazy=lazy):
            if time.monotonic() > deadline:
                raise MountBusy(f"{where} is still in use after {seconds} s")
            time.sleep(BUSY_RETRY_INTERVAL)
        self._mounted = [mount for mount in self._mounted if mount not in uppermost]
        held_mounts.difference_update(uppermost)


def _mounted_at(where: Path) -> list[MountId]:
    """Return what is mounted at a path, the uppermost last."""
    at = Path(os.path.realpath(where))
    return [mount for mount, point in mount_points().items() if point == at]


def _is_unmounted(where: Path, *, lazy: bool) -> bool:
    try:
        _run("umount", *(["--lazy"] if lazy else []), str(where))
    except subprocess.CalledProcessError as error:
        if "busy" in str(error.stderr):
            return False
        raise
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
