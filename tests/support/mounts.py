"""Real mounts, where the machine permits them, which are always unmounted at the end."""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

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


class Mounts:
    """The mounts of a context; leaving it unmounts them."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def __enter__(self) -> "Mounts":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._mounted:
            # Lazily, because a process may still use the mount.
            self.unmount(self._mounted[-1], lazy=True)

    def mount_tmpfs(self, where: Path, size: str = "16m") -> None:
        """Mount an empty tmpfs, which is a device of its own."""
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "pylsyncd-test", str(where))
        self._mounted.append(where)

    def mount_proc(self, where: Path) -> None:
        """Mount a file system without handles."""
        _run("mount", "-t", "proc", "pylsyncd-test", str(where))
        self._mounted.append(where)

    def mount_bind(self, what: Path, where: Path) -> None:
        """Bind-mount a directory."""
        _run("mount", "--bind", str(what), str(where))
        self._mounted.append(where)

    def mount_device(self, device: str, where: Path, option: str = "defaults") -> None:
        """Mount the file system of a device."""
        _run("mount", "-o", option, device, str(where))
        self._mounted.append(where)

    def mount_overlay(self, layers: Path, where: Path, options: str = "") -> None:
        """Mount an overlayfs of two layers, which are made in a directory."""
        lower, upper, work = (layers / name for name in ("lower", "upper", "work"))
        for layer in (lower, upper, work):
            layer.mkdir(exist_ok=True)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}{options}"
        _run("mount", "-t", "overlay", "-o", options, "pylsyncd-test", str(where))
        self._mounted.append(where)

    def mount_sshfs(self, what: Path, where: Path) -> None:
        """Mount a directory by sshfs, without an ssh."""
        connect = where.with_name("connect")
        connect.write_text(f"#!/bin/sh\nexec {_SFTP_SERVER}\n")
        connect.chmod(0o755)
        options = f"ssh_command={connect},attr_timeout=0,entry_timeout=0,dir_cache=no"
        _run("sshfs", "-o", options, f"here:{what}", str(where))
        self._mounted.append(where)

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
        while not _is_unmounted(where, lazy=lazy):
            if time.monotonic() > deadline:
                raise MountBusy(f"{where} is still in use after {seconds} s")
            time.sleep(BUSY_RETRY_INTERVAL)
        with contextlib.suppress(ValueError):
            self._mounted.remove(where)


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
