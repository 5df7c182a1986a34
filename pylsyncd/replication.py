"""One source and its destinations: wires its parts and owns their start, timing and end."""

import logging
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from pylsyncd import __version__
from pylsyncd.calls import Ask, Call, Surroundings
from pylsyncd.destination.beginning import moments
from pylsyncd.destination.crew import GRACE, Crew
from pylsyncd.destination.orders import Order
from pylsyncd.destination.worker import Worker
from pylsyncd.dispatch import Dispatch
from pylsyncd.model import paths
from pylsyncd.model.changes import EVERYTHING, NOTHING, Changes
from pylsyncd.model.errors import PylsyncdError, WatchError
from pylsyncd.model.wording import counted
from pylsyncd.settings.settings import Sync
from pylsyncd.source.buffer import Buffer
from pylsyncd.source.guard import Guard, Standing
from pylsyncd.source.lookout import Calls, Lookout
from pylsyncd.system import clock
from pylsyncd.system.inbox import Inbox
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.part import Part, StoppedError

log = logging.getLogger(__name__)

# Seconds between two looks at the source, and before one that there is a reason for.
_ROUND = 2.0
_MOMENT = 0.2

# Seconds between two looks at whether one who is asked has ended.
_BEAT = 0.1

_STOP = frozenset([signal.SIGTERM, signal.SIGINT])


class Replication(Part):
    """Keeps the destinations of one source equal to it, in a thread of its own.

    Making one takes the locks of its destinations. Raises UsageError if the state directory cannot
    be used, or another pylsyncd is in the way.
    """

    def __init__(self, sync: Sync, surroundings: Surroundings) -> None:
        super().__init__(sync.name or "replication", lambda _: self._fail())
        self.sync = sync
        self._surroundings = surroundings
        self._shown = paths.show(sync.source.path)
        self._inbox: Inbox[Call | Ask | str | signal.Signals] = Inbox()
        self._buffer = Buffer(
            sync.max_changes,
            lambda: self._inbox.put(Call.OPENED),
            lambda: self._inbox.put(Call.FILLED),
        )
        self._guard = Guard(sync.source.path, sync.rules)
        try:
            self._crew = Crew(sync, self._guard, self._inbox.put, surroundings.means)
        except BaseException:
            self._guard.close()
            raise
        self.lookout = Lookout(
            sync, self._guard, self._buffer, surroundings.heartbeat,
            Calls(
                lost=lambda: self._inbox.put(Call.ROOT_LOST),
                failed=self._inbox.put,
                arming=lambda directories: surroundings.arming(self.title, directories),
            ),
        )  # fmt: skip
        if surroundings.counts_events:
            self.lookout.masks = Counter()
        self.dispatch = Dispatch(sync, self._buffer, self.lookout, self._crew, self._go_on)
        # When all has to be over, once told to stop.
        self._ends = math.inf
        self._next_round = math.inf
        self.began = time.monotonic()
        """When it was made."""
        self._has_failed = False
        self.is_new = True
        """Whether an initial sync is for all destinations, not just for those without a state."""
        self.is_ready = False
        """Whether it watches, or waits for its source to come back."""
        self.has_begun = False
        """Whether all workers have their first orders."""
        self.has_ended = False
        self.status = 0
        """The exit status, as far as this source is concerned."""
        self.error: PylsyncdError | None = None
        """Why it could not begin."""

    # For other threads:

    def take(self, number: signal.Signals) -> None:
        """Take a signal that was passed on."""
        if number in _STOP:
            is_first = self._ends == math.inf
            self._ends = time.monotonic() + (GRACE if is_first else 0.0)
        self._inbox.put(number)

    def ask(self, do: Callable[[], object], timeout: float) -> bool:
        """Have something done by its own thread; tell whether that was so in time."""
        asked = Ask(do)
        self.put(asked)
        deadline = time.monotonic() + timeout
        while self.is_alive() and (left := deadline - time.monotonic()) > 0.0:
            if asked.answered.wait(min(left, _BEAT)):
                break
        return asked.was_done

    def put(self, asked: Ask) -> None:
        """Have something done by its own thread; nobody answers once that has ended."""
        self._inbox.put(asked)

    def pause(self, names: Collection[str], *, is_paused: bool = True) -> None:
        """Have no rsync started for some destinations, until that is taken back."""
        self._crew.pause(names, is_paused=is_paused)

    def follow(self, other: "Replication") -> None:
        """Go on, before the start, where another one has ended."""
        self.is_new = other.is_new and not other.has_begun
        is_same = other.sync.source.path == self.sync.source.path
        self._crew.follow(other.spots if is_same else (), other.paused if is_same else ())

    @property
    def held(self) -> str:
        """Why its source, which was there, is held now; empty when it is not."""
        if not self.has_begun:
            return ""
        standing, reason = self._guard.standing()
        return reason if standing is Standing.HELD else ""

    @property
    def spots(self) -> Collection[bytes]:
        """Those of its destinations."""
        return [delivery.destination.spot for delivery in self.sync.deliveries]

    @property
    def paused(self) -> Collection[bytes]:
        """The spots of those of its destinations that are paused."""
        return self._crew.paused

    @property
    def title(self) -> str:
        """What it is called for people: as its section, or by its source."""
        return self.sync.name or self._shown

    @property
    def workers(self) -> Sequence[Worker]:
        """Those of its destinations."""
        return self._crew.workers

    @property
    def buffered(self) -> tuple[int, float | None]:
        """How many changes wait for their window to end, and since when by the monotonic clock."""
        return len(self._buffer), self._buffer.since

    # For its own thread:

    def work(self) -> None:
        """Watch and sync until told to stop."""
        try:
            self._work()
        except PylsyncdError as error:
            self.error = error
            self.status = 1
        finally:
            self.close()
            self.has_ended = True
            self._surroundings.news(self.name)
            self._inbox.abandon()

    def close(self) -> None:
        """Give back the locks; to be called by others only when it was not started."""
        self._crew.close()
        self._guard.close()

    def _fail(self) -> None:
        self.status = 1
        self.has_ended = True
        self._surroundings.news(self.name)

    def _work(self) -> None:
        self._surroundings.heartbeat.listen(self)
        if not self._wait_for_the_source():
            return
        self._begin()
        if self._surroundings.once:
            self._crew.finish(self._is_stop_asked, math.inf)
            self.status |= int(any(worker.debt for worker in self._crew.workers))
        else:
            with suppress(StoppedError):
                self._serve()
            self._wind_up()
        self.status |= int(self._has_failed)

    def _get_ready(self) -> None:
        self.is_ready = True
        self._surroundings.news(self.name)

    # Start

    def _wait_for_the_source(self) -> bool:
        """Wait until the file system that the source was on is mounted; tell whether to go on."""
        is_told = False
        while point := self._guard.missing_mount(self._crew.remembered_mount_points):
            reason = f"nothing is mounted at {paths.show(point)}, where it was in the last run"
            if self._surroundings.once:
                raise WatchError(f"The source {self._shown} is not used: {reason}.")
            if not is_told:
                self.lookout.tell_held(reason)
                self._get_ready()
                is_told = True
            with self.pulse.waiting():
                call = self._inbox.get(_ROUND)
            if call in _STOP:
                return False
            if call is signal.SIGUSR2:
                break
            if isinstance(call, Ask):
                call.refuse()
        return True

    def _begin(self) -> None:
        sync, once = self.sync, self._surroundings.once
        try:
            self._guard.accept(self._crew.remembered_mounts)
            is_vacant = self._guard.is_vacant()
        except OSError as error:
            raise WatchError(
                f"The source {self._shown} cannot be watched: {error.strerror}."
            ) from None
        forced = "initial sync" if sync.initial_sync or once else ""
        beginnings = self._crew.begin(forced=forced, is_new=self.is_new, is_vacant=is_vacant)
        start = self.dispatch.until = clock.now()
        caught_up: Mapping[int, Changes] = {}
        if not once:
            scans = [each.scanned for each in beginnings if each.scanned is not None]
            earliest = min(scans, key=lambda moment: moment.wall, default=None)
            with self.pulse.waiting():
                watching = self.lookout.watch(moments(beginnings), earliest)
            self._surroundings.armed(self.title)
            caught_up = watching.tracker.recovery.caught_up
            watching.tracker.recovery.caught_up = {}
            self._announce("watching", f" ({counted(watching.tracker.directories, 'directory')})")
        else:
            self._announce("syncing")
        self.lookout.tell_mounts()
        self._crew.start(beginnings, caught_up, start, is_last=once)
        self.has_begun = True
        self._get_ready()

    def _announce(self, doing: str, found: str = "") -> None:
        names = ", ".join(delivery.name for delivery in self.sync.deliveries)
        window = "once" if self._surroundings.once else f"window {self.sync.window:g} s"
        is_trial = any(delivery.rsync.dry_run for delivery in self.sync.deliveries)
        log.log(
            NOTICE, "pylsyncd %s %s %s%s for %s, %s%s", __version__, doing, self._shown, found,
            names, window, ", dry run: nothing is changed" if is_trial else "",
        )  # fmt: skip

    # The loop

    def _serve(self) -> None:
        self._next_round = time.monotonic() + _ROUND
        self.dispatch.begin(self.sync)
        for worker in self._crew.workers:
            for part in worker.parts:
                self._surroundings.heartbeat.listen(part)
        while True:
            next_time = min(self._next_round, self.dispatch.due)
            with self.pulse.waiting():
                call = self._inbox.get(max(0.0, next_time - time.monotonic()))
            if call in _STOP:
                return
            if isinstance(call, str):
                self.status = 1
            elif call is not None:
                self._answer(call)
            if self.status:
                return
            self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        self.dispatch.do_what_is_due()
        if time.monotonic() >= self._next_round:
            self._next_round = time.monotonic() + _ROUND
            self._look_after_the_source()
            self.dispatch.learn_links()

    def _answer(self, call: Call | Ask | signal.Signals) -> None:
        if isinstance(call, Ask):
            call.answer()
            return
        answers: dict[Call | signal.Signals, Callable[[], object]] = {
            Call.OPENED: self.dispatch.open_window,
            Call.FILLED: self.dispatch.flush_if_full,
            Call.ROOT_LOST: self._look_soon,
            signal.SIGUSR1: lambda: self.dispatch.flush(is_urgent=True),
            signal.SIGUSR2: self.release,
            signal.SIGHUP: self.dispatch.sync_everything,
        }
        answers[call]()

    def _look_soon(self) -> None:
        # Who renames another directory into the source's place is not done yet.
        self._next_round = min(self._next_round, time.monotonic() + _MOMENT)

    # The source and the parts

    def _look_after_the_source(self) -> None:
        start = self.lookout.look()
        if start is not None:
            self.dispatch.until = start
            self.dispatch.put(Order(EVERYTHING, start, start, ("full sync",), is_urgent=True))

    def release(self, names: Sequence[str] = ()) -> None:
        """Do, once, what is held: somebody has looked."""
        log.log(NOTICE, "released (%s)", ", ".join(names) or "all")
        if names and not self.lookout.held:
            self.dispatch.put(Order(NOTHING, is_urgent=True, is_release=True), names)
        elif self.lookout.trust():
            self.dispatch.put(Order(NOTHING, is_urgent=True, is_release=True))
            self._look_after_the_source()

    def replace(self, sync: Sync) -> None:
        """Go on as another sync of the same source, with the same rules, asks.

        Raises UsageError, and all stays as it is, when another pylsyncd is in the way.
        """
        # What was seen until now belongs to those who are there now.
        self.dispatch.flush()
        newcomers = self._crew.replace(sync, self.dispatch.until, self.dispatch.serial)
        for worker in newcomers:
            for part in worker.parts:
                self._surroundings.heartbeat.listen(part)
        self.sync = sync
        self.dispatch.begin(sync)

    def _wind_up(self) -> None:
        """Sync what has come, within the grace period, and end all parts."""
        watching = self.lookout.watching
        if watching is None or watching.watcher.is_alive():
            try:
                self.dispatch.flush()
            except StoppedError:
                log.warning(
                    "Stopped while %s was looked through for files with several names: what has "
                    "changed last is found and synced by the next start.", self._shown,
                )  # fmt: skip
        if not self.status:
            self.lookout.stop_watching()
        self._crew.finish(self._is_stop_asked, min(GRACE, self._ends - time.monotonic()))

    def _go_on(self) -> None:
        """Report that the work goes on. Raises StoppedError if there is no time for it any more."""
        self.pulse.beat()
        if time.monotonic() >= self._ends:
            raise StoppedError

    def _is_stop_asked(self) -> bool:
        """Take what has come, and tell whether it says to stop at once."""
        self.pulse.beat()
        while (call := self._inbox.get(0.0)) is not None:
            if call in _STOP:
                return True
            if isinstance(call, Ask):
                call.refuse()
            self._has_failed |= isinstance(call, str)
        return False
