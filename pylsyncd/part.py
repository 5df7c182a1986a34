"""A thread of the daemon whose death is noticed."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Part(threading.Thread):
    """Runs :meth:`work`; ``failed(name)`` is called if that raises, after the traceback's line."""

    def __init__(self, name: str, failed: Callable[[str], None]) -> None:
        # A daemon thread, so that one which cannot be ended does not keep the process alive.
        super().__init__(name=name, daemon=True)
        self._failed = failed

    def run(self) -> None:
        """Run until the work is done or fails."""
        try:
            self.work()
        except Exception:
            log.exception("%s failed. This is a bug in pylsyncd: please report it.", self.name)
            self._failed(self.name)

    def work(self) -> None:
        """Do what the part is there for; overridden by each."""
        raise NotImplementedError
