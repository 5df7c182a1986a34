"""The workers of all destinations: how they are made, what they begin with, and how they end."""

import logging
import signal
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace as changed_in
from functools import partial

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model.changes import MutableChangeset
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.state import orphans
from pylsyncd.state.checkpoint import LoadedState
from pylsyncd.system.processes import terminate
from pylsyncd.system.threads import join_all
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.registry import DestinationEntry, DestinationRegistry
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.start_plan import StartPlan
from pylsyncd.worker.transfer import Transfer
from pylsyncd.worker.worker import Worker

log = logging.getLogger(__name__)

STOP_GRACE_PERIOD = 10.0
"""Seconds from the word to stop to the end of what still runs."""

# Seconds from SIGTERM to SIGKILL, and to the end of the daemon without a worker that waits for a
# file system that does not respond.
_KILL_AFTER = 2.0
_GIVE_UP_AFTER = 7.0

_JOIN_INTERVAL = 0.05


class WorkerPool:
    """One worker for each destination. Used by the source's own thread.

    Making one takes the locks of all destinations and reads their states. ``failed(name)`` is
    called by a worker that fails. Raises UsageError when the state directory cannot be used, or
    another pylsyncd is in the way.
    """

    def __init__(
        self,
        sync: SyncSettings,
        guard: SourceGuard,
        on_failed: Callable[[str], None],
        resources: SharedResources | None = None,
    ) -> None:
        self._sync = sync
        self._guard = guard
        self._failed = on_failed
        self._means = resources or SharedResources()
        self._registry = DestinationRegistry(sync, guard)
        # By their destinations' spots: names may change.
        self._posts: dict[bytes, DestinationEntry] = {}
        try:
            posts = self._registry.add(sync.destinations)
        except BaseException:
            self._registry.close()
            raise
        self._posts = {post.settings.destination.location: post for post in posts}

    def close(self) -> None:
        """End whatever still runs, and give back the locks."""
        for worker in self.workers:
            worker.abort(signal.SIGTERM)
        self._registry.close()

    def pause(self, names: Container[str], *, is_paused: bool = True) -> None:
        """Pause destinations, or end that, whether they have begun or not; any thread may ask."""
        for post in list(self._posts.values()):
            if post.settings.name in names:
                post.is_paused = is_paused
                if post.worker is not None:
                    post.worker.pause(is_paused=is_paused)

    @property
    def paused(self) -> frozenset[bytes]:
        """The spots of the destinations that are paused; any thread may ask."""
        posts = list(self._posts.items())
        return frozenset(spot for spot, post in posts if post.is_paused)

    def take_over(self, served: Collection[bytes], paused: Container[bytes]) -> None:
        """Go on, before the start, where others end that served these spots of the same source.

        Those that were paused are so still. Of one whose state is not here nobody knows what it
        was owed: everything is compared.
        """
        for spot, post in self._posts.items():
            post.is_paused = spot in paused
            if spot in served and post.loaded == LoadedState():
                post.loaded = LoadedState(error="its state is not where it is kept now")

    @property
    def workers(self) -> list[Worker]:
        """Those that were started; any thread may ask."""
        posts = list(self._posts.values())
        return [post.worker for post in posts if post.worker is not None]

    @property
    def saved_mount_points(self) -> list[bytes]:
        """Where the file systems were mounted that the source was on."""
        states = [post.loaded.state for post in self._posts.values()]
        return [state.mount for state in states if state is not None]

    @property
    def saved_mounts(self) -> Mapping[bytes, str]:
        """What was mounted below the source."""
        found: dict[bytes, str] = {}
        for post in self._posts.values():
            if post.loaded.state is not None:
                found.update(post.loaded.state.mounts)
        return found

    def plan_starts(
        self, *, requested_title: str, is_new: bool, is_source_empty: bool
    ) -> list[StartPlan]:
        """Decide how each destination begins; see :func:`pylsyncd.worker.start_plan.begin`.

        Unless the source ``is_new``, nothing is forced on a destination that has a state.
        """
        posts = self._posts.values()
        titles = [requested_title if is_new or post.loaded.state is None else "" for post in posts]
        return [
            post.plan_start(requested_title=title, is_source_empty=is_source_empty)
            for post, title in zip(posts, titles, strict=True)
        ]

    def start_workers(
        self,
        beginnings: Sequence[StartPlan],
        caught_up: Mapping[int, MutableChangeset],
        start: Moment,
        *,
        is_final: bool = False,
    ) -> None:
        """Start the workers, each with its first order already there: so none begins by a probe.

        ``is_last`` if it is their last one, too.
        """
        for post, beginning in zip(self._posts.values(), beginnings, strict=True):
            self._hire(post, changed_in(beginning.first_item(caught_up, start), is_final=is_final))
        for worker in self.workers:
            worker.start()

    def put(self, order: WorkItem) -> None:
        """Give all workers an order."""
        for worker in self.workers:
            worker.put(order)

    def reconfigure(self, sync: SyncSettings, start: Moment, serial: int) -> list[Worker]:
        """Serve the destinations of another sync of the same source; return who is new.

        ``start`` is a moment before which all changes were put, ``serial`` that of the last order.
        Who served a destination that is served differently now hands over what is owed. Raises
        UsageError, and nothing is changed, when another pylsyncd is in the way.
        """
        wanted = {delivery.destination.location: delivery for delivery in sync.destinations}
        added = self._registry.add(
            [each for spot, each in wanted.items() if spot not in self._posts]
        )
        gone = [spot for spot in self._posts if spot not in wanted]
        stays = [(spot, self._posts[spot]) for spot in wanted if spot in self._posts]
        changed = [spot for spot, post in stays if post.settings != wanted[spot]]
        self._sync = self._registry.sync = sync
        leaving = [self._posts.pop(spot) for spot in gone + changed]
        orders = dict(zip(gone + changed, self._dismiss(leaving), strict=True))
        for post in leaving[: len(gone)]:
            self._registry.remove(post)
        for spot, before in zip(changed, leaving[len(gone) :], strict=True):
            self._posts[spot] = post = self._registry.reload(wanted[spot], before)
            post.is_paused = before.is_paused
            # It has all that was put to who was there before.
            self._hire(post, changed_in(post.continued_item(orders[spot]), serial=serial))
        title = "initial sync" if sync.initial_sync else ""
        for post in added:
            self._posts[post.settings.destination.location] = post
            begins = post.plan_start(requested_title=title, is_source_empty=False)
            self._hire(post, changed_in(begins.first_item_while_running(start), serial=serial))
        for post in self._posts.values():
            if post.worker is not None:
                post.worker.extra_window = post.settings.window - sync.window
        newcomers = [worker for worker in self.workers if worker.ident is None]
        for worker in newcomers:
            worker.start()
        return newcomers

    def stop_workers(
        self, is_stop_requested: Callable[[], bool], grace: float = STOP_GRACE_PERIOD
    ) -> None:
        """Let the workers carry what they have, for so many seconds, and end them.

        ``is_stop_asked()`` tells that somebody does not want to wait so long.
        """
        for post in list(self._posts.values()):
            if post.worker is not None:
                if post.is_paused:
                    post.worker.abort(signal.SIGTERM)
                post.worker.request_stop()
        deadline = time.monotonic() + grace
        while living := [worker for worker in self.workers if worker.is_alive()]:
            living[0].join(_JOIN_INTERVAL)
            if is_stop_requested() or time.monotonic() >= deadline:
                _stop_now(living)
                break
        for worker in self.workers:
            if worker.pending_count:
                is_everything = worker.status().owes_everything
                owed = (
                    "everything" if is_everything else format_count(worker.pending_count, "change")
                )
                log.warning("[%s] stopped before all was synced: owed %s.", worker.name, owed)

    def _hire(self, post: DestinationEntry, order: WorkItem) -> None:
        """Make a destination's worker, with its first order."""
        delivery = post.settings
        marks = {orphans.RUN_KEY_VARIABLE: post.state_key} if post.state_key else {}
        carrier = Transfer(self._guard, delivery.destination, delivery.rsync, marks, self._means)
        if delivery.batch_size_limit is not None:
            carrier.size_limit = SizeLimit(
                delivery.batch_size_limit, delivery.rsync.preserves_hard_links
            )
        worker = Worker(
            carrier, delivery.retry_policy, post.checkpoint, self._failed, self._means.on_notice
        )
        worker.extra_window = delivery.window - self._sync.window
        worker.put(order)
        post.worker = worker
        # Asked after that, so that no pause is lost which comes meanwhile.
        if post.is_paused:
            worker.pause()

    def _dismiss(self, posts: Sequence[DestinationEntry]) -> Iterator[WorkItem]:
        """End workers at once, and return what each has not done."""
        workers = [post.worker for post in posts if post.worker is not None]
        for worker in workers:
            # First, so that none tries once more what it hands over.
            worker.abort(signal.SIGTERM)
            worker.request_stop()
        _stop_now(workers)
        return (worker.take_unconfirmed() for worker in workers)


def _stop_now(workers: Collection[Worker]) -> None:
    """Stop the workers and the rsyncs that they still run."""

    def send_signal(number: signal.Signals) -> None:
        for worker in workers:
            if worker.is_alive():
                worker.abort(number)

    if not terminate(
        send_signal, partial(join_all, workers),
        kill_after=_KILL_AFTER, give_up_after=_GIVE_UP_AFTER, interval=_JOIN_INTERVAL,
    ):  # fmt: skip
        names = ", ".join(worker.name for worker in workers if worker.is_alive())
        log.error("Shutdown timed out; still running: %s.", names)
