"""How a destination starts: with a full sync, with what changed since the last run, or as it is."""

import logging
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pylsyncd.model.changes import (
    ALL_NEW,
    EVERYTHING,
    NOTHING,
    Changeset,
    everything_with,
    union,
)
from pylsyncd.model.formatting import format_count
from pylsyncd.model.moments import Moment
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.widening import with_parent_listings
from pylsyncd.pipeline.work_queue import CATCH_UP, WorkItem
from pylsyncd.state.checkpoint import Checkpoint, LoadedState
from pylsyncd.system.logs import NOTICE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartPlan:
    """How one destination starts, decided before the source is scanned."""

    name: str
    checkpoint: Checkpoint | None
    loaded: LoadedState
    title: str = ""
    """The title of a full sync; empty for none."""
    reason: str = ""
    """Why there is a full sync that was not asked for."""
    is_all_new: bool = False
    """Whether the source is another directory, or the source or the destination an older copy: then
    size and time can be those of other contents."""
    contents_known_until: Moment | None = None
    """Of a full sync: since when a scan can find the contents that size and time do not tell."""
    deletes_only_now: bool = False
    """Whether a full sync at the start is the only run that deletes something."""
    is_verified: bool = False
    """Whether the copy was carried as a whole, and nothing speaks against it now."""
    missing_since: Moment | None = None
    """The start of the wait for a source that was not there; None if there was no wait."""

    @property
    def since_ns(self) -> int | None:
        """The ctime from which on changes have to be found; None if no scan is needed."""
        if self.title:
            known = self.contents_known_until
            return None if known is None or self.is_all_new else known.since_ns
        state = self.loaded.state
        known = self.missing_since if state is None else state.confirmed
        return None if known is None else known.since_ns

    @property
    def last_scan(self) -> Moment | None:
        """The start of the last scan whose findings are synced; None if that is unimportant."""
        state = self.loaded.state
        return None if self.title or state is None else state.scanned

    def after_wait(self, since: Moment, *, is_source_new: bool) -> "StartPlan":
        """Return the plan for a source that was not there at a moment, and then came.

        All in a new source was made since. An older one may have come with its file system: then
        what was changed since is known by its ctime, as it is after a restart.
        """
        if self.title or self.loaded.state is not None:
            return self
        if is_source_new:
            return replace(self, title="full sync", reason="the source was created after the start")
        return replace(self, missing_since=since)

    def first_item(self, caught_up: Mapping[int, Changeset], start: Moment) -> WorkItem:
        """Return the first work item; save it, so that a restart does not lose it.

        ``start`` is a moment before the scan of the source.
        """
        state = self.loaded.state
        if self.title:
            if self.reason:
                reason = self.reason.rstrip(".")
                log.log(NOTICE, "[%s] Starting a full sync: %s.", self.name, reason)
            return self._confirm_and_create(self._everything(caught_up), start, (self.title,))
        if state is None or self.since_ns is None:
            changes = NOTHING if self.since_ns is None else caught_up[self.since_ns]
            log.log(
                NOTICE, "[%s] No initial sync (-i) and no saved state: differences that already "
                "exist are not synced. To sync them, run pylsyncctl sync %s.",
                self.name, shlex.quote(self.name),
            )  # fmt: skip
            return self._confirm_and_create(changes, start, (CATCH_UP,) if changes else ())
        is_deferred = self.since_ns not in caught_up
        changes = union(caught_up.get(self.since_ns, NOTHING), state.pending)
        if not state.is_clean_stop:
            # The runs at that moment were killed as well: their temporary files may be there.
            changes = with_parent_listings(changes)
            # Some of what was moved may have been carried, so what is at the old paths is unknown.
            changes.moves = None
        for path in self.checkpoint.changed_mounts(state) if self.checkpoint is not None else []:
            changes.add(path, Scope.TREE)
        made = "made while pylsyncd was not running, or still pending from the last run"
        if is_deferred:
            made = "pending from the last run, and with what a scan of the source will find"
        count = format_count(len(changes), "change")
        log.log(NOTICE, "[%s] catching up with %s: %s", self.name, count, made)
        if self.checkpoint is not None:
            self.checkpoint.resume_from(state)
        titles = (CATCH_UP,) if changes and not is_deferred else ()
        return WorkItem(changes, start, state.scanned, titles)

    def _everything(self, caught_up: Mapping[int, Changeset]) -> Changeset:
        """Return the change of everything, with what is known of the contents."""
        if self.is_all_new:
            everything = ALL_NEW
        else:
            pending = NOTHING if self.loaded.state is None else self.loaded.state.pending
            found = NOTHING if self.since_ns is None else caught_up.get(self.since_ns, NOTHING)
            everything = everything_with(pending, found)
        return everything.with_deletable(EVERYTHING) if self.deletes_only_now else everything

    def while_running(self) -> "StartPlan":
        """Return the plan of a destination that is added to a watched source."""
        if self.title or self.loaded.state is None:
            return self
        reason = "the destination was not served until now"
        return replace(self, title="full sync", reason=reason, is_verified=False)

    def _confirm_and_create(
        self, changeset: Changeset, start: Moment, titles: tuple[str, ...]
    ) -> WorkItem:
        if self.checkpoint is not None:
            self.checkpoint.confirm(start, changeset, is_verified=self.is_verified)
        return WorkItem(changeset, start, start, titles)


def plan_start(  # noqa: PLR0913  # all but three are passed by name
    name: str,
    checkpoint: Checkpoint | None,
    loaded: LoadedState,
    *,
    requested_title: str,
    is_source_empty: bool,
    deletes_only_now: bool = False,
) -> StartPlan:
    """Return how a destination starts. The source guard must have accepted the source.

    ``requested_title`` is the title of a full sync that was asked for, empty if none was.
    """
    state = loaded.state
    reason, older_copy, is_other, known = loaded.error, "", False, None
    if state is not None and checkpoint is not None:
        is_other = checkpoint.is_other_source(state)
        older_copy = checkpoint.find_older_copy(state)
        known = checkpoint.contents_known_until(state)
        if state.pending.is_everything:
            reason = "the last full sync was not completed"
        else:
            reason = (
                checkpoint.full_sync_reason(state)
                or older_copy
                or checkpoint.reason_against_scan()
                or ("the source is empty" if is_source_empty else "")
            )
    title = requested_title or ("full sync" if reason else "")
    return StartPlan(
        name, checkpoint, loaded, title, "" if requested_title else reason,
        is_all_new=bool(older_copy) or is_other, contents_known_until=known,
        deletes_only_now=deletes_only_now,
        is_verified=state is not None and state.is_verified and not reason,
    )  # fmt: skip


def catchup_times(plans: Collection[StartPlan]) -> Sequence[int]:
    """Return the distinct ctimes from which on changes have to be found, in order."""
    return sorted({plan.since_ns for plan in plans if plan.since_ns is not None})


def deferrable_since(plans: Collection[StartPlan]) -> Moment | None:
    """Return the moment since which a scan may find changes after the start.

    None if there is no scan, or if a destination cannot start without it: the contents that it
    finds belong to a full sync, or there is no state yet that tells how long a restart has to scan.
    """
    moments = []
    for plan in plans:
        if plan.since_ns is None:
            continue
        if plan.title or plan.loaded.state is None:
            return None
        moments.append(plan.loaded.state.confirmed)
    return min(moments, key=lambda moment: moment.since_ns, default=None)
