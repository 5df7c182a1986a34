"""Files that other programs read: each reader gets the old content or the new, never a part."""

import logging
import os
import re
import secrets
import stat
import time
from contextlib import suppress

from pylsyncd.model import paths
from pylsyncd.system import private_files

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

    def write(self, content: bytes) -> None:
        """Replace the file, or a symbolic link, by a file with this content."""
        failure = ""
        try:
            _replace(self._path, content, self._mode)
        except OSError as error:
            failure = error.strerror or str(error)
        if failure and failure != self._failure:
            log.error("The %s cannot be written: %s. Retrying.", self._shown, failure)
        elif self._failure and not failure:
            log.warning("The %s is written again.", self._shown)
        self._failure = failure

    def remove_temporary_files(self) -> None:
        """Remove the temporary files of writers that were killed."""
        directory, name = os.path.split(self._path)
        pattern = re.compile(rb"\.%s\.[0-9a-f]{16}\.tmp" % re.escape(name), re.DOTALL)
        with suppress(OSError):
            for temporary in filter(pattern.fullmatch, os.listdir(directory)):
                with suppress(OSError):
                    _remove_if_old(os.path.join(directory, temporary))


def _remove_if_old(path: bytes) -> None:
    status = os.lstat(path)
    is_old = time.time() - status.st_mtime > _MAX_TEMPORARY_FILE_AGE
    if is_old and status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode):
        os.unlink(path)


def _replace(path: bytes, content: bytes, mode: int) -> None:
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, b".%s.%s.tmp" % (name, secrets.token_hex(8).encode()))
    # O_EXCL follows no symbolic link.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            private_files.write_all(descriptor, content)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
