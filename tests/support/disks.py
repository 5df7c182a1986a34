"""Real file systems on loop devices, where the machine permits them."""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

import pytest

from support.mounts import Mounts, can_mount

_MEBIBYTE = 1 << 20
# The smallest images that the tools accept. They are sparse.
_SIZES = {"ext4": 16 * _MEBIBYTE, "btrfs": 128 * _MEBIBYTE, "xfs": 320 * _MEBIBYTE}
_QUIET = {"ext4": "-q", "btrfs": "-q", "xfs": "-q"}

held_devices: Final[set[str]] = set()
"""The loop devices that this process has attached, and not detached yet."""


class Disk:
    """A file system in a file, which gets another device number each time it is attached."""

    def __init__(self, image: Path, fs_type: str, *options: str) -> None:
        self.image = image
        self._devices: list[str] = []
        with image.open("wb") as file:
            file.truncate(_SIZES[fs_type])
        _run(_tool(fs_type), _QUIET[fs_type], *options, str(image))

    def __enter__(self) -> "Disk":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            for device in self._devices:
                stack.callback(_detach, device)

    def attach(self) -> str:
        """Return a device with the file system; the devices before stay attached."""
        device = _run("losetup", "--find", "--show", str(self.image)).strip()
        self._devices.append(device)
        held_devices.add(device)
        return device


def requires(fs_type: str) -> pytest.MarkDecorator:
    """Skip a test where file systems of a type cannot be made and mounted."""
    return pytest.mark.skipif(
        not can_make(fs_type), reason=f"{fs_type} cannot be made and mounted here"
    )


@functools.cache
def can_make(fs_type: str) -> bool:
    """Return True if this process can make and mount file systems of a type."""
    if not (can_mount() and shutil.which(_tool(fs_type))):
        return False
    with tempfile.TemporaryDirectory(prefix="pylsyncd-disk-") as directory:
        try:
            with Disk(Path(directory, "image"), fs_type) as disk, Mounts() as mounts:
                where = Path(directory, "mounted")
                where.mkdir()
                mounts.mount_device(disk.attach(), where)
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


def make_subvolume(path: Path) -> None:
    """Make an empty btrfs subvolume."""
    _run("btrfs", "subvolume", "create", str(path))


def make_snapshot(of: Path, path: Path) -> None:
    """Make a snapshot of a btrfs subvolume."""
    _run("btrfs", "subvolume", "snapshot", str(of), str(path))


def _detach(device: str) -> None:
    _run("losetup", "--detach", device)
    held_devices.discard(device)


def _tool(fs_type: str) -> str:
    return os.path.join("/usr/sbin", f"mkfs.{fs_type}")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
