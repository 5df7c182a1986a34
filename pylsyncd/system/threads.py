"""Listens to the parts of the daemon: none may stand still without a word."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pylsyncd.system.part import ActivityTimer, SupervisedThread

log = logging.getLogger(__name__)

# Seconds without a beat after which a part is stuck: longer than a slow disk takes to list its
# largest directory. And seconds between two looks.
STUCK_THREAD_TIMEOUT = 900.0
_INTERVAL = 5.0


@dataclass(slots=True)
class _MonitoredThread:
    name: str
    pulse: ActivityTimer
    failed: Callable[[str], None] | None
    """To be called when it is stuck, if it may recover when started anew."""
    is_told: bool = False


class ThreadMonitor(SupervisedThread):
    """Says which part is stuck. ``beat()`` is called at each round in which none is."""

    def __init__(
        self,
        failed: Callable[[str], None],
        stuck: float = STUCK_THREAD_TIMEOUT,
        interval: float = _INTERVAL,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("heartbeat", failed)
        self._beat = beat
        self._stuck = stuck
        self._interval = interval
        # By the parts themselves, None being the main thread: a name may be a destination's, too.
        self._listened: dict[SupervisedThread | None, _MonitoredThread] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()

    def add_thread(
        self, part: SupervisedThread, failed: Callable[[str], None] | None = None
    ) -> None:
        """Listen to a part that runs, for as long as it lives.

        ``failed(name)`` is called when it is stuck, for one that may recover when started anew.
        """
        with self._lock:
            self._listened[part] = _MonitoredThread(part.name, part.activity, failed)

    def add_main_thread(self, pulse: ActivityTimer) -> None:
        """Listen to the main thread, which nobody could start anew."""
        with self._lock:
            self._listened[None] = _MonitoredThread("main", pulse, None)

    def work(self) -> None:
        """Listen until stopped."""
        while not self._end.wait(self._interval):
            living = self._living()
            for each in living:
                self._listen(each)
            if not any(each.is_told for each in living):
                self._beat()

    def stop(self) -> None:
        """Stop listening."""
        self._end.set()
        if self.is_alive():
            self.join()

    def _living(self) -> list[_MonitoredThread]:
        """Forget the parts that have ended, and return what there is to listen to."""
        with self._lock:
            for part in [*self._listened]:
                if part is not None and not part.is_alive():
                    del self._listened[part]
            return list(self._listened.values())

    def _listen(self, each: _MonitoredThread) -> None:
        is_stuck = each.pulse.inactive_seconds >= self._stuck
        if is_stuck and not each.is_told:
            log.error(
                "[%s] has not moved for %.0f s: see whether the file systems of the source and of "
                "local destinations answer.", each.name, each.pulse.inactive_seconds,
            )  # fmt: skip
            if each.failed is not None:
                each.failed(each.name)
        elif each.is_told and not is_stuck:
            log.warning("[%s] moves again.", each.name)
        each.is_told = is_stuck
