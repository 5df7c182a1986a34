"""By which method the daemons under test watch their sources."""

import contextlib
from collections.abc import Collection, Iterator

INOTIFY, FANOTIFY = METHODS = ("inotify", "fanotify")

_OPTION = b"--watch"
_FILE_OPTIONS = frozenset([b"-c", b"--config"])


class WatchMethod:
    """The method of the daemons that are started from now on."""

    def __init__(self) -> None:
        self.name = INOTIFY

    @property
    def reports_moves(self) -> bool:
        """Whether files are moved at all destinations, an rsync daemon among them."""
        return self.name == INOTIFY

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Have daemons started by this method."""
        before, self.name = self.name, name
        try:
            yield
        finally:
            self.name = before

    def arguments(self, others: Collection[bytes]) -> list[bytes]:
        """Return the arguments that choose the method; a configuration file chooses by itself."""
        is_chosen = any(word.split(b"=")[0] in {_OPTION, *_FILE_OPTIONS} for word in others)
        if self.name == INOTIFY or is_chosen:
            return []
        return [_OPTION, self.name.encode()]


watch_method = WatchMethod()
