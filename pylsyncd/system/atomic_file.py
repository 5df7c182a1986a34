"""Files that other programs read: each reader gets the old content or the new, never a part."""

import logging
import os
import re
import secrets
import stat
import time
from contextlib import suppress

from pylsyncd.model import paths
from pylsyncd.system import path_resolution, private_files, walk

log = logging.getLogger(__name__)

# A temporary file exists for milliseconds: an older one is from a writer that was killed.
_MAX_TEMPORARY_FILE_AGE = 60.0


class AtomicFile:
    """A file that is replaced again and again; it logs once when that fails, and once when not.

    ``noun`` names it in these messages, such as "status file". The file gets ``mode`` for any
    umask.
    """

    def __init__(self, path: bytes, noun: str, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._shown = f"{noun} {paths.printable(path)}"
        self._failure = ""
        self.written_at: float | None = None
        """When it was last written, in seconds since the epoch; None if never."""

    def write(self, content: bytes) -> None:
        """Replace the file, or a symbolic link, by a file with this content."""
        failure = ""
        try:
            _replace(self._path, content, self._mode)
        except OSError as error:
            failure = error.strerror or str(error)
        else:
            self.written_at = time.time()
        if failure and failure != self._failure:
            log.error("The %s cannot be written: %s. Retrying.", self._shown, failure)
        elif self._failure and not failure:
            log.warning("The %s is written again.", self._shown)
        self._failure = failure

    def remove(self) -> None:
        """Remove the file, if that is possible."""
        directory, name = os.path.split(self._path)
        with suppress(OSError), walk.opened_root(directory) as opened:
            os.unlink(name, dir_fd=opened)

    def remove_temporary_files(self) -> None:
        """Remove the temporary files of writers that were killed."""
        directory, name = os.path.split(self._path)
        pattern = re.compile(rb"\.%s\.[0-9a-f]{16}\.tmp" % re.escape(name), re.DOTALL)
        with suppress(OSError), walk.opened_root(directory) as opened:
            for temporary in os.listdir(opened):
                if pattern.fullmatch(os.fsencode(temporary)):
                    with suppress(OSError):
                        _remove_if_old(temporary, opened)


def _remove_if_old(name: str, directory: int) -> None:
    status = os.lstat(name, dir_fd=directory)
    is_old = time.time() - status.st_mtime > _MAX_TEMPORARY_FILE_AGE
    if is_old and status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode):
        os.unlink(name, dir_fd=directory)


def _replace(path: bytes, content: bytes, mode: int) -> None:
    """Replace the file at a path, in a directory that no other user can choose."""
    directory = path_resolution.resolve_directory(os.fsdecode(os.path.dirname(path)))
    try:
        _replace_in(directory, os.path.basename(path), content, mode)
    finally:
        os.close(directory)


def _replace_in(directory: int, name: bytes, content: bytes, mode: int) -> None:
    temporary = b".%s.%s.tmp" % (name, secrets.token_hex(8).encode())
    # O_EXCL follows no symbolic link.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        try:
            private_files.write_all(descriptor, content)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
