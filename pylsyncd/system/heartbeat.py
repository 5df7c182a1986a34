"""Listens to the parts of the daemon: none may stand still without a word."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pylsyncd.system.part import Part, Pulse

log = logging.getLogger(__name__)

# Seconds without a beat after which a part is stuck: longer than a slow disk takes to list its
# largest directory. And seconds between two looks.
STUCK = 900.0
_INTERVAL = 5.0


@dataclass(slots=True)
class _Listened:
    name: str
    pulse: Pulse
    is_vital: bool
    is_told: bool = False


class Heartbeat(Part):
    """Says which part is stuck. One that is vital and may recover when started anew has failed."""

    def __init__(
        self, failed: Callable[[str], None], stuck: float = STUCK, interval: float = _INTERVAL
    ) -> None:
        super().__init__("heartbeat", failed)
        self._stuck = stuck
        self._interval = interval
        # By the parts themselves, None being the main thread: a name may be a destination's, too.
        self._listened: dict[Part | None, _Listened] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()

    def listen(self, part: Part, *, is_vital: bool = False) -> None:
        """Listen to a part that runs, for as long as it lives."""
        with self._lock:
            self._listened[part] = _Listened(part.name, part.pulse, is_vital)

    def listen_to_main(self, pulse: Pulse) -> None:
        """Listen to the main thread, which nobody could start anew."""
        with self._lock:
            self._listened[None] = _Listened("main", pulse, is_vital=False)

    def work(self) -> None:
        """Listen until stopped."""
        while not self._end.wait(self._interval):
            for each in self._living():
                self._listen(each)

    def stop(self) -> None:
        """Stop listening."""
        self._end.set()
        if self.is_alive():
            self.join()

    def _living(self) -> list[_Listened]:
        """Forget the parts that have ended, and return what there is to listen to."""
        with self._lock:
            for part in [*self._listened]:
                if part is not None and not part.is_alive():
                    del self._listened[part]
            return list(self._listened.values())

    def _listen(self, each: _Listened) -> None:
        is_stuck = each.pulse.silence >= self._stuck
        if is_stuck and not each.is_told:
            log.error(
                "[%s] has not moved for %.0f s: see whether the file systems of the source and of "
                "local destinations answer.", each.name, each.pulse.silence,
            )  # fmt: skip
            if each.is_vital:
                self.failed(each.name)
        elif each.is_told and not is_stuck:
            log.warning("[%s] moves again.", each.name)
        each.is_told = is_stuck
