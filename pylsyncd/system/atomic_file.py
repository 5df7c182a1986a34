"""Files for others to read: they see the old content or the new, never a part."""

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

_MODE = 0o644

# Seconds after which nobody writes what has a temporary name any more.
_OLD = 60.0


class AtomicFile:
    """A file that is written again and again; says once that it cannot be, and that it can again.

    ``noun`` is what it is called: the status file.
    """

    def __init__(self, path: bytes, noun: str) -> None:
        self._path = path
        self._shown = f"{noun} {paths.printable(path)}"
        self._failure = ""

    def write(self, content: bytes) -> None:
        """Replace the file, or a symbolic link, by a file of this content."""
        failure = ""
        try:
            _replace(self._path, content)
        except OSError as error:
            failure = error.strerror or str(error)
        if failure and failure != self._failure:
            log.error("The %s cannot be written: %s. It is tried again.", self._shown, failure)
        elif self._failure and not failure:
            log.warning("The %s is written again.", self._shown)
        self._failure = failure

    def remove_temporary_files(self) -> None:
        """Remove what writers have left that were killed."""
        directory, name = os.path.split(self._path)
        pattern = re.compile(rb"\.%s\.[0-9a-f]{16}\.tmp" % re.escape(name), re.DOTALL)
        with suppress(OSError):
            for each in filter(pattern.fullmatch, os.listdir(directory)):
                with suppress(OSError):
                    status = os.lstat(leftover := os.path.join(directory, each))
                    # Another writer's is there for milliseconds.
                    is_old = time.time() - status.st_mtime > _OLD
                    if is_old and status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode):
                        os.unlink(leftover)


def _replace(path: bytes, content: bytes) -> None:
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, b".%s.%s.tmp" % (name, secrets.token_hex(8).encode()))
    # O_EXCL follows no symbolic link, wherever it leads.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            private_files.write_all(descriptor, content)
            os.fchmod(descriptor, _MODE)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
