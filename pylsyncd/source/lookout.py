"""Looks after the source: watches it while it is there, and finds out when it is there again."""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pylsyncd.model import paths
from pylsyncd.model.errors import WatchError
from pylsyncd.model.moments import Moment
from pylsyncd.model.wording import counted
from pylsyncd.settings.settings import Sync
from pylsyncd.source.buffer import Buffer
from pylsyncd.source.guard import Guard, Standing
from pylsyncd.source.recovery import Plan
from pylsyncd.source.watching import Watching
from pylsyncd.system import clock
from pylsyncd.system.heartbeat import Heartbeat
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Calls:
    """What a lookout calls, from any thread."""

    lost: Callable[[], None]
    """When the source itself has gone."""
    failed: Callable[[str], None]
    """When the watcher has failed, or is stuck, with its name."""
    arming: Callable[[int], None] = lambda _: None
    """Now and then while the source is armed, with the number of directories so far."""


class Lookout:
    """Has the source watched, gives it up when it is lost, and follows it when it is back.

    Used by the source's own thread.
    """

    def __init__(
        self,
        sync: Sync,
        guard: Guard,
        buffer: Buffer,
        heartbeat: Heartbeat,
        calls: Calls,
    ) -> None:
        self._sync = sync
        self._heartbeat = heartbeat
        self._guard = guard
        self._buffer = buffer
        self._calls = calls
        self._shown = paths.show(sync.source.path)
        self.masks: Counter[int] | None = None
        """See the tracker's."""
        self.held = ""
        """Why the source is held; empty when it is not."""
        # The subtrees that were said to be held.
        self._told: dict[bytes, str] = {}
        self._told_failure = ""
        self._overflows = 0
        self._told_eventless: set[bytes] = set()
        self.watching: Watching | None = None
        """None while the source is held."""

    def watch(self, moments: Collection[int] = (), scanned: Moment | None = None) -> Watching:
        """Begin to watch the source; what has changed since each moment is found on the way.

        ``scanned`` is when the last scan began for what no event tells, in an earlier run.
        Raises WatchError if it cannot be watched.
        """
        sync, calls = self._sync, self._calls
        plan = Plan(
            moments, self._guard.eventless(),
            sync.poll_interval, sync.scan_interval, scanned, calls.arming,
        )  # fmt: skip
        self._tell_eventless(plan.eventless)
        watching = Watching(sync, plan, self._buffer, calls.lost, calls.failed)
        watching.tracker.masks = self.masks
        watching.start()
        self._heartbeat.listen(watching.watcher, calls.failed)
        self.watching = watching
        self.held = ""
        return watching

    def stop_watching(self) -> None:
        """Give up all watches."""
        if self.watching is not None:
            self.watching.stop()
            self._overflows += self.watching.tracker.recovery.overflows
            self.watching = None

    @property
    def overflows(self) -> int:
        """How often the kernel has dropped events since the start."""
        watching = self.watching
        present = watching.tracker.recovery.overflows if watching is not None else 0
        return self._overflows + present

    def look(self) -> Moment | None:
        """Compare the source with what it was.

        Returns a moment when it is another one, or back: everything has to be compared, and what
        changes after that moment is seen.
        """
        standing, reason = self._guard.standing()
        if standing is Standing.HELD:
            if self.watching is not None:
                self.stop_watching()
                self.tell_held(reason)
            return None
        watching, start = self.watching, None
        if standing is Standing.REPLACED or watching is None or watching.tracker.root_lost:
            start = self._follow(is_same=standing is Standing.SAME)
        self._guard.look_at_mounts()
        released = [*self.tell_mounts(), *self._guard.mounted_anew()]
        if released and self.watching is not None:
            eventless = self._guard.eventless()
            self._tell_eventless(eventless)
            self.watching.tracker.recovery.eventless = tuple(eventless)
            for path in released:
                self.watching.watcher.place_again(path)
        return start

    def trust(self) -> bool:
        """Take the source, and what is mounted below it, as it is now; tell whether it is there."""
        try:
            self._guard.accept()
        except OSError as error:
            log.error(  # noqa: TRY400  # it is not about the program
                "The source %s cannot be used: %s.", self._shown, error.strerror
            )
            return False
        return True

    def tell_held(self, reason: str) -> None:
        """Say that the source is held."""
        self.held = reason
        log.error(
            "The source %s is held: %s. Nothing is sent, and nothing deleted, until it is back. "
            "If it is meant to be as it is now, say so with pylsyncctl release, or the signal "
            "USR2.", self._shown, reason,
        )  # fmt: skip

    def tell_mounts(self) -> list[bytes]:
        """Say which subtrees are held; return those that are so no more."""
        held = dict(self._guard.held)
        for path, reason in held.items():
            if path not in self._told:
                log.error(
                    "%s in the source is held: %s. Its copies stay as they are until that is "
                    "undone, or pylsyncctl release, or the signal USR2, says that it is meant so.",
                    paths.show(path), reason,
                )  # fmt: skip
        released = [path for path in self._told if path not in held]
        for path in released:
            log.log(NOTICE, "%s in the source is synced again.", paths.show(path))
        self._told = held
        return released

    def _tell_eventless(self, eventless: Collection[bytes]) -> None:
        """Say what is looked through since its file system does not tell what happens elsewhere."""
        for path in sorted(set(eventless) - self._told_eventless):
            log.warning(
                "%s is on a file system that does not tell what is changed elsewhere: it is looked "
                "through every %g s.",
                paths.show(path) if path else self._shown, self._sync.poll_interval,
            )  # fmt: skip
        self._told_eventless.update(eventless)

    def _follow(self, *, is_same: bool) -> Moment | None:
        """Take what stands in the source's place for the source."""
        self.stop_watching()
        # It is all compared.
        self._buffer.take()
        start = clock.now()
        try:
            self._guard.accept(self._guard.footing.mounts)
            directories = self.watch().tracker.directories
        except (OSError, WatchError) as error:
            if str(error) != self._told_failure:
                log.error("%s", error)  # noqa: TRY400  # it is not about the program
                self._told_failure = str(error)
            self.held = f"it cannot be watched ({error})"
            return None
        self._told_failure = ""
        log.log(
            NOTICE, "The source %s %s (%s). Everything is compared.",
            self._shown, "is back" if is_same else "was replaced by another directory",
            counted(directories, "directory"),
        )  # fmt: skip
        return start
