"""What a replication is told by others, and whom it tells."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from pylsyncd.system.threads import ThreadMonitor
from pylsyncd.worker.resources import SharedResources


class Wakeup(Enum):
    """What wakes a replication, besides a signal that is passed on or a part that has failed."""

    FIRST_CHANGE = auto()
    BUFFER_FULL = auto()
    SOURCE_LOST = auto()


@dataclass(slots=True, eq=False)
class Ask:
    """Something to be done by another thread, and an event for when it is answered."""

    do: Callable[[], object]
    answered: threading.Event = field(default_factory=threading.Event)
    was_done: bool = False

    def answer(self) -> None:
        """Do it."""
        try:
            self.do()
            self.was_done = True
        finally:
            self.answered.set()

    def refuse(self) -> None:
        """Let whoever has asked go on without."""
        self.answered.set()


@dataclass(frozen=True, slots=True)
class ReplicationContext:
    """What a replication shares with the others, or calls."""

    thread_monitor: ThreadMonitor
    on_state_changed: Callable[[str], None]
    """Called with its name when it is ready, and when it has ended."""
    resources: SharedResources
    on_watch_progress: Callable[[str, int], None] = lambda *_: None
    """Called now and then while it begins to watch, with the number of directories so far."""
    on_watching: Callable[[str], None] = lambda _: None
    """Called when it watches all."""
    should_count_events: bool = False
    once: bool = False
