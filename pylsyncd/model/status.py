"""What can be told of the daemon at a moment: the same for people, programs and metrics.

Seconds are floats. Moments are seconds since the epoch, so that they mean the same elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Condition(Enum):
    """How a destination stands; the value is the word for people."""

    STARTING = "starting"
    IN_SYNC = "in sync"
    WAITING = "waiting"
    """There are changes, and their window is open, or others are being carried."""
    SYNCING = "syncing"
    RETRYING = "retrying"
    """The last attempt has failed; the next one comes by itself."""
    HELD = "held"
    """Somebody has to look."""
    PAUSED = "paused"
    """Somebody has asked for it."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How the last rsync for a destination went."""

    ended: float
    seconds: float
    outcome: str
    """A verdict's name in lower case: done, again, partial, later or held; or how the next one, at
    once, does without what the destination's rsync lacks."""
    code: int
    files: int = 0
    deleted: int = 0
    bytes_sent: int = 0


LAG_BOUNDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Seconds: the upper bounds of the counts of lags; more than the last has a count of its own."""


@dataclass(frozen=True, slots=True)
class DestinationCounts:
    """What has been counted of a destination since the start."""

    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Runs by outcome, as in :class:`RunStatus`."""
    codes: Mapping[int, int] = field(default_factory=dict)
    """Runs by rsync's exit status; negative for the signal that has ended it."""
    files: int = 0
    deleted: int = 0
    bytes_sent: int = 0
    full_syncs: Mapping[str, int] = field(default_factory=dict)
    """Completed syncs of everything by their title, as in the log: "initial sync", "full sync"."""
    lags: tuple[int, ...] = (0,) * (len(LAG_BOUNDS) + 1)
    """How often changes were confirmed that late after the first event, by ``LAG_BOUNDS``."""
    lag_sum: float = 0.0


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """How a destination stands."""

    name: str
    target: str
    """As it was written by the user."""
    condition: Condition
    behind: float = 0.0
    """Seconds since it was last in sync: the age of the oldest change that is not confirmed."""
    waiting: int = 0
    """Changes that are not confirmed."""
    owes_everything: bool = False
    """Whether one of them is the whole tree."""
    last_run: RunStatus | None = None
    next_attempt: float | None = None
    """Seconds until what has failed is tried again; None when nothing has."""
    error: str = ""
    """Why it is not in sync, as a sentence; empty when nothing has failed."""
    counts: DestinationCounts = field(default_factory=DestinationCounts)


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """How a source stands, and its destinations."""

    name: str
    source: str
    held: str = ""
    """Why the source is held; empty when it is not."""
    is_watching: bool = False
    directories: int = 0
    """That are watched."""
    unwatched: int = 0
    """Directories that cannot be watched, and are polled."""
    window: float = 0.0
    destinations: tuple[DestinationStatus, ...] = ()
    overflows: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    """By type, as inotify names them; empty when they are not counted."""


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon stands."""

    version: str
    pid: int
    time: float
    """When this was made."""
    started: float
    watch_limit: int
    """fs.inotify.max_user_watches."""
    syncs: tuple[SyncStatus, ...] = ()
