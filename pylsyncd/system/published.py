"""Files for others to read: they see the old content or the new, never a part."""

import os
import re
import secrets
import stat
import time
from contextlib import suppress

from pylsyncd.system import private

# Seconds after which nobody writes what has a temporary name any more.
_OLD = 60.0


def replace(path: bytes, content: bytes, mode: int) -> None:
    """Replace a file, or a symbolic link, by a file of this content; raises OSError."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, b".%s.%s.tmp" % (name, secrets.token_hex(8).encode()))
    # O_EXCL follows no symbolic link, wherever it leads.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            private.write_all(descriptor, content)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def remove_leftovers(path: bytes) -> None:
    """Remove what writers have left that were killed."""
    directory, name = os.path.split(path)
    pattern = re.compile(rb"\.%s\.[0-9a-f]{16}\.tmp" % re.escape(name), re.DOTALL)
    with suppress(OSError):
        for each in filter(pattern.fullmatch, os.listdir(directory)):
            with suppress(OSError):
                status = os.lstat(leftover := os.path.join(directory, each))
                # Another writer's is there for milliseconds.
                is_old = time.time() - status.st_mtime > _OLD
                if is_old and status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode):
                    os.unlink(leftover)
