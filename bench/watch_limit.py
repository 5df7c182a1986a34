"""The kernel's limit of inotify watches for each user."""

import contextlib
from collections.abc import Iterator

_LIMIT = "/proc/sys/fs/inotify/max_user_watches"

# Of a million directories, and of all that is watched besides.
RAISED = 2_000_000


def watch_limit() -> int:
    """Return the limit."""
    with open(_LIMIT, encoding="ascii") as file:
        return int(file.read())


@contextlib.contextmanager
def raised_limit() -> Iterator[None]:
    """Raise the limit meanwhile; needs root."""
    before = watch_limit()
    _set(max(RAISED, before))
    try:
        yield
    finally:
        _set(before)


def _set(limit: int) -> None:
    with open(_LIMIT, "w", encoding="ascii") as file:
        file.write(str(limit))
