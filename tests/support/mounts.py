"""Real mounts, where the machine permits them; whatever happens, none is left."""

import contextlib
import functools
import os
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

BUSY_RETRY_INTERVAL = 0.05  # seconds between two attempts at something that is busy


class MountBusy(Exception):  # noqa: N818 - a fact about the moment, which may pass
    """The file system is in use."""


@functools.cache
def can_mount() -> bool:
    """Tell whether we may mount: root in a container often may not."""
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory(prefix="pylsyncd-mount-") as directory:
        try:
            with Mounts() as mounts:
                mounts.mount_tmpfs(Path(directory), "64k")
        except (FileNotFoundError, subprocess.CalledProcessError):
            return False
    return True


class Mounts:
    """What was mounted within the context, and is unmounted when it is left."""

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
            # Lazily: somebody may still be in it, and would keep it for ever.
            self.unmount(self._mounted[-1], lazy=True)

    def mount_tmpfs(self, where: Path, size: str = "16m") -> None:
        """Mount an empty file system of its own: another device than all others."""
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "pylsyncd-test", str(where))
        self._mounted.append(where)

    def mount_bind(self, what: Path, where: Path) -> None:
        """Show a directory at another place, too."""
        _run("mount", "--bind", str(what), str(where))
        self._mounted.append(where)

    def remount(self, where: Path, option: str) -> None:
        """Change a mount to ``ro`` or ``rw``. Raises Busy while somebody writes."""
        try:
            _run("mount", "-o", f"remount,{option}", str(where))
        except subprocess.CalledProcessError as error:
            if "busy" in str(error.stderr):
                raise MountBusy(str(where)) from None
            raise

    def unmount(self, where: Path, *, lazy: bool = False, seconds: float = 10.0) -> None:
        """Unmount. Raises Busy when somebody still uses it after so long."""
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
