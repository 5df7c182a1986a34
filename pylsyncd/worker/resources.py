"""What the workers of all destinations share: run slots, ssh connections, callbacks."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pylsyncd.model.notices import Notice
from pylsyncd.report.hook_process import HookCommand
from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.rsync.ssh_sharing import SshSharing

# Seconds between two checks of a waiting thread whether it should stop.
_STOP_CHECK_INTERVAL = 0.1


class RunSlots:
    """The slots for rsync runs of all destinations. Any thread may use it.

    Waiting threads get a slot in the order in which they asked: a destination that always has work
    does not keep the others waiting.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Create ``limit`` slots; None means no limit."""
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._running = 0

    def set_limit(self, limit: int | None) -> None:
        """Change the number of slots; slots in use are kept until they are released."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    @contextlib.contextmanager
    def acquire(self, should_stop: Callable[[], bool]) -> Iterator[bool]:
        """Wait for a slot and hold it; yield False soon after ``should_stop()`` is true.

        That is called several times a second with a lock held: it must neither block nor use this
        object. The wait has no time limit.
        """
        is_granted = self._wait(should_stop)
        try:
            yield is_granted
        finally:
            if is_granted:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

    def _wait(self, should_stop: Callable[[], bool]) -> bool:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not should_stop():
                    if self._is_next(ticket):
                        self._running += 1
                        return True
                    self._changed.wait(_STOP_CHECK_INTERVAL)
                return False
            finally:
                self._waiting.remove(ticket)
                # More than one slot may be free.
                self._changed.notify_all()

    def _is_next(self, ticket: object) -> bool:
        is_free = self._limit is None or self._running < self._limit
        return is_free and self._waiting[0] is ticket


@dataclass(frozen=True, slots=True)
class SharedResources:
    """What all workers use together. The callbacks must not block."""

    run_slots: RunSlots = field(default_factory=RunSlots)
    ssh_sharing: SshSharing = field(default_factory=SshSharing)
    on_notice: Callable[[Notice], None] = lambda _: None
    """Called with each event that hooks are run for."""
    find_before_hook: Callable[[str], HookCommand | None] = lambda _: None
    """Returns the command to run before the runs for the destination of a name, if there is one."""
    on_progress: Callable[[str, RsyncProgress], None] = lambda *_: None
    """Called with the destination's name during a full sync."""
    on_progress_end: Callable[[str], None] = lambda _: None
    """Called with the destination's name after each run."""
