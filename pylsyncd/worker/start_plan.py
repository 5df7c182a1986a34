"""What a destination begins with: a full sync, what has changed since it was left, or nothing."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset, Scope
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.state.checkpoint import Checkpoint, LoadedState
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartPlan:
    """How one destination begins, decided before the source is surveyed."""

    name: str
    checkpoint: Checkpoint | None
    loaded: LoadedState
    title: str = ""
    """Of a full sync; empty for none."""
    reason: str = ""
    """Why everything is compared, where nobody has asked for it."""

    @property
    def since_ns(self) -> int | None:
        """The ctime in nanoseconds since which changes are to be found, if that is enough."""
        state = self.loaded.state
        return None if self.title or state is None else state.confirmed.since_ns

    @property
    def last_scan(self) -> Moment | None:
        """When the last scan began whose findings this destination has; None for the start."""
        state = self.loaded.state
        return None if self.title or state is None else state.scanned

    def first_item(self, caught_up: Mapping[int, MutableChangeset], start: Moment) -> WorkItem:
        """Return the first order, of all that may differ, and see that no restart forgets it.

        ``start`` is a moment before the source was surveyed.
        """
        state = self.loaded.state
        if self.title:
            if self.reason:
                reason = self.reason.rstrip(".")
                log.log(NOTICE, "[%s] Everything is compared: %s.", self.name, reason)
            return self._first(EVERYTHING, start, (self.title,))
        if state is None or self.since_ns is None:
            log.log(
                NOTICE, "[%s] No initial sync (-i), and no state of an earlier run: what differs "
                "already stays as it is.", self.name,
            )  # fmt: skip
            return self._first(NOTHING, start, ())
        changes = MutableChangeset()
        changes.merge(caught_up[self.since_ns])
        changes.merge(state.debt)
        for path in self.checkpoint.changed_mounts(state) if self.checkpoint is not None else []:
            changes.add(path, Scope.TREE)
        log.log(
            NOTICE, "[%s] catching up with %s: made while pylsyncd did not run, or owed before",
            self.name, format_count(len(changes), "change"),
        )  # fmt: skip
        if self.checkpoint is not None:
            self.checkpoint.resume_from(state)
        titles = ("catch-up",) if changes else ()
        return WorkItem(changes, start, state.scanned, titles)

    def first_item_while_running(self, start: Moment) -> WorkItem:
        """Return the first order of a destination that comes to a source which is watched."""
        if self.title or self.loaded.state is None:
            return self.first_item({}, start)
        return replace(self, title="full sync", reason="it was not served").first_item({}, start)

    def _first(self, changeset: Changeset, start: Moment, titles: tuple[str, ...]) -> WorkItem:
        if self.checkpoint is not None:
            self.checkpoint.confirm(start, changeset)
        return WorkItem(changeset, start, start, titles)


def plan_start(
    name: str,
    checkpoint: Checkpoint | None,
    remembered: LoadedState,
    *,
    requested_title: str,
    is_source_empty: bool,
) -> StartPlan:
    """Decide how a destination begins.

    ``forced`` is the title of a full sync that was asked for, empty if none was; ``is_vacant``
    tells that the source is empty. The guard must have accepted the source.
    """
    state = remembered.state
    reason = remembered.error
    if state is not None and checkpoint is not None:
        if state.debt.is_everything:
            reason = "the last full sync was not completed"
        else:
            reason = checkpoint.full_sync_reason(state) or (
                "the source is empty" if is_source_empty else ""
            )
    title = requested_title or ("full sync" if reason else "")
    return StartPlan(name, checkpoint, remembered, title, "" if requested_title else reason)


def catchup_times(beginnings: Collection[StartPlan]) -> Sequence[int]:
    """Return the moments since which changes have to be found."""
    return sorted({each.since_ns for each in beginnings if each.since_ns is not None})
