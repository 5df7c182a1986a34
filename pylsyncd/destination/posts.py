"""What is known of each destination before its worker begins: its lock, its state."""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from pylsyncd.destination.beginning import Beginning, begin
from pylsyncd.destination.orders import Order
from pylsyncd.destination.worker import Worker
from pylsyncd.model.changes import EVERYTHING
from pylsyncd.model.wording import counted
from pylsyncd.settings.settings import Delivery, Sync
from pylsyncd.source.guard import Guard
from pylsyncd.state import claims, orphans
from pylsyncd.state.checkpoint import Checkpoint, Remembered
from pylsyncd.state.claims import Claim
from pylsyncd.state.statedir import StateDirectory
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Post:
    """One destination, before and after its worker has begun."""

    delivery: Delivery
    key: str = ""
    """Of its state and its lock."""
    checkpoint: Checkpoint | None = None
    remembered: Remembered = field(default_factory=Remembered)
    claim: Claim | None = None
    """As it was made: where the source is may have changed since."""
    worker: Worker | None = None
    is_paused: bool = False

    def begin(self, *, forced: str, is_vacant: bool) -> Beginning:
        """Decide how it begins; see :func:`pylsyncd.destination.beginning.begin`."""
        return begin(
            self.delivery.name, self.checkpoint, self.remembered,
            forced=forced, is_vacant=is_vacant,
        )  # fmt: skip

    def continued(self, order: Order) -> Order:
        """Return the order with which it goes on, when it is served differently from now on."""
        state = self.remembered.state
        if self.checkpoint is None or state is None:
            return order
        if reason := self.checkpoint.doubt(state):
            log.log(NOTICE, "[%s] Everything is compared: %s.", self.delivery.name, reason)
            # Whatever the next start is told to do: this is owed from now on.
            until, scanned = order.until or state.confirmed, order.scanned or state.scanned
            self.checkpoint.confirm(until, EVERYTHING, scanned)
            titles = order.titles or ("full sync",)
            return replace(order, changeset=EVERYTHING, titles=titles)
        self.checkpoint.resume(state)
        return order


class Registry:
    """The state directory of one source's destinations: who has a lock in it, and what it holds.

    Raises UsageError when it cannot be used.
    """

    def __init__(self, sync: Sync, guard: Guard) -> None:
        self.sync = sync
        self._guard = guard
        self._directory = StateDirectory(sync.state_dir) if sync.state_dir is not None else None

    def close(self) -> None:
        """Give back all locks."""
        if self._directory is not None:
            self._directory.close()

    def enter(self, deliveries: Collection[Delivery]) -> list[Post]:
        """Take the locks of destinations, read their states, and end what a killed one has left."""
        posts: list[Post] = []
        try:
            for delivery in deliveries:
                posts.append(self._enter(delivery, None))  # noqa: PERF401  # those before are given back
            keys = [post.key for post in posts if post.key]
            if ended := orphans.end(keys):
                left = counted(ended, "process")
                log.log(NOTICE, "Ended %s that a killed pylsyncd had left.", left)
        except BaseException:
            for post in posts:
                self.leave(post)
            raise
        return posts

    def enter_again(self, delivery: Delivery, before: Post) -> Post:
        """Keep a destination's lock, and read what is known of it by now."""
        return self._enter(delivery, before.claim)

    def _enter(self, delivery: Delivery, claimed: Claim | None) -> Post:
        if self._directory is None:
            return Post(delivery)
        claim = claimed or self._claim_of(delivery)
        self._directory.claim(claim)
        # Not the real path, which is another one when a symlink to the source was switched.
        key = claims.key(self.sync.source.path, delivery.destination.spot)
        checkpoint = Checkpoint(
            self._directory, key, self._guard, delivery.destination, delivery.rsync
        )
        return Post(delivery, key, checkpoint, checkpoint.load(), claim)

    def leave(self, post: Post) -> None:
        """Give back a destination's lock."""
        if self._directory is not None and post.claim is not None:
            self._directory.disclaim(post.claim)

    def _claim_of(self, delivery: Delivery) -> Claim:
        source = os.path.realpath(self.sync.source.path)
        return Claim(source, delivery.destination.spot, self.sync.delete)
