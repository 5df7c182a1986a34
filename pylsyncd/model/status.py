"""The status of the daemon: the same for the table, the JSON output and the metrics.

Points in time are in seconds since the epoch, which have the same meaning on another machine.
Durations are in seconds.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice
from typing import Final

from pylsyncd.model import paths
from pylsyncd.model.formatting import format_count

MAX_NAMED_PATHS: Final = 10
"""How many of the paths that a destination lacks a status names."""


STATUS_FILE_INTERVAL: Final = 10.0
"""Seconds after which an unchanged status is written again, so that its age shows a dead daemon."""

STALE_STATUS_AGE: Final = 3 * STATUS_FILE_INTERVAL
"""Seconds: the daemon of an older status file has ended or hangs."""

UNVERIFIED: Final = "unverified"
"""The word for a destination that was never compared with the source as a whole."""


def selecting_names(sync: str, name: str, notation: str) -> frozenset[str]:
    """Return the names that select a destination in a command.

    Its name with or without that of its sync, its notation, and the name of its sync for all of
    its destinations.
    """
    short = name.removeprefix(f"{sync}/") if sync else name
    return frozenset({name, short, notation, sync} - {""})


class Condition(Enum):
    """The state of a destination; the value is the word that is shown."""

    STARTING = "starting"
    IN_SYNC = "in sync"
    WAITING = "waiting"
    """There are changes, whose window is open or which wait for the current transfer."""
    SYNCING = "syncing"
    RETRYING = "retrying"
    """The last attempt has failed; the next one is scheduled."""
    HELD = "held"
    """It needs an administrator."""
    PAUSED = "paused"
    """``pylsyncctl pause`` has paused it."""
    FAILED = "failed"
    """An unexpected error has ended its worker; a new one starts after a pause."""


STATE_WORDS: Final = (*(each.value for each in Condition), UNVERIFIED)
"""All words for the state of a destination."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The result of a destination's last rsync."""

    ended: float
    seconds: float
    outcome: str
    """A verdict (done, again, partial, later, held), or the capability that the destination's rsync
    lacks and that the next run does without."""
    code: int
    files: int = 0
    deleted: int = 0
    bytes_sent: int = 0


LAG_BOUNDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Seconds: the upper bounds of the lag counts; one more count is for larger lags."""


@dataclass(frozen=True, slots=True)
class DestinationCounts:
    """The counters of a destination since the start."""

    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Runs by outcome, as in :class:`RunStatus`."""
    codes: Mapping[int, int] = field(default_factory=dict)
    """Runs by rsync's exit status; a negative one is the signal that ended rsync."""
    files: int = 0
    deleted: int = 0
    bytes_sent: int = 0
    full_syncs: Mapping[str, int] = field(default_factory=dict)
    """Completed full syncs by their title in the log: "initial sync", "full sync"."""
    lags: tuple[int, ...] = (0,) * (len(LAG_BOUNDS) + 1)
    """Confirmed changesets by the time since their first event, with ``LAG_BOUNDS``."""
    lag_sum: float = 0.0
    repaired: int = 0
    """Paths that others had changed at the destination, found by ``--repair-interval``."""
    moved_files: int = 0
    """Files that were moved at the destination, and so not sent."""
    moved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PathSummary:
    """A number of paths, and the names of some."""

    count: int = 0
    names: tuple[str, ...] = ()
    """At most ``MAX_NAMED_PATHS``, with control characters escaped."""

    @classmethod
    def of(cls, count: int, found: Iterable[bytes]) -> "PathSummary":
        """Return the summary of so many relative paths."""
        named = sorted(islice(found, MAX_NAMED_PATHS))
        return cls(count, tuple(map(paths.printable, named)))


@dataclass(frozen=True, slots=True)
class SetAside:
    """What a destination lacks although nothing else is pending for it."""

    failed: PathSummary = PathSummary()
    """Paths that rsync cannot carry; they are tried again with growing pauses."""
    held: PathSummary = PathSummary()
    """Subtrees of the source whose file systems were mounted, unmounted or exchanged."""
    unset_attributes: PathSummary = PathSummary()
    """Paths whose content is there, without all of their attributes."""

    @property
    def count(self) -> int:
        """The number of all these paths."""
        return self.failed.count + self.held.count + self.unset_attributes.count

    def descriptions(self) -> Iterator[str]:
        """Yield for each reason how many paths there are, and the names of the first ones."""
        for noun, suffix, found in (
            ("failed path", "", self.failed),
            ("held subtree", "", self.held),
            ("path", " with other attributes", self.unset_attributes),
        ):
            if found.count:
                more = ", ..." if found.count > len(found.names) else ""
                yield f"{format_count(found.count, noun)}{suffix}: {', '.join(found.names)}{more}"

    def with_held(self, subtrees: Collection[bytes]) -> "SetAside":
        """Return the same with more subtrees that are held, some of which it may contain."""
        more = PathSummary.of(len(subtrees), subtrees)
        names = sorted({*self.held.names, *more.names})[:MAX_NAMED_PATHS]
        count = max(self.held.count, more.count, len(names))
        return replace(self, held=PathSummary(count, tuple(names)))


@dataclass(frozen=True, slots=True)
class WaitResult:
    """How the wait for some destinations has ended."""

    late: tuple[str, ...] = ()
    """The destinations that have not confirmed all changes."""
    set_aside: Mapping[str, SetAside] = field(default_factory=dict)
    """What others lack although they have confirmed all else, by their names."""
    unverified: Mapping[str, str] = field(default_factory=dict)
    """Why some that have confirmed all changes are unverified, and what to do, by their names."""


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """The status of a destination."""

    name: str
    target: str
    """The destination as it is configured."""
    condition: Condition
    behind: float = 0.0
    """Seconds since it was last in sync: the age of the oldest unconfirmed change."""
    waiting: int = 0
    """The number of unconfirmed changes."""
    owes_everything: bool = False
    """True if one of them is the whole tree."""
    last_run: RunStatus | None = None
    last_success: float | None = None
    """When the last successful rsync ended; None if there was none since the start."""
    next_attempt: float | None = None
    """Seconds until the retry of a failed transfer; None if none has failed."""
    compared_since: float | None = None
    """The time since which all of it was compared with the source; None if unknown."""
    error: str = ""
    """The failure that keeps it from being in sync, as a sentence; empty if there is none."""
    failing_since: float | None = None
    """When the first of the attempts failed since which it has not worked; None if it works."""
    set_aside: SetAside = SetAside()
    """What it lacks apart from the changes that wait for the next run."""
    counts: DestinationCounts = field(default_factory=DestinationCounts)
    unverified: str = ""
    """Why it may differ from the source although no change waits, and what to do; empty if it was
    compared as a whole."""

    @property
    def state_word(self) -> str:
        """The word that people are shown: a copy that was never compared is not "in sync"."""
        is_unverified = self.unverified and self.condition is Condition.IN_SYNC
        return UNVERIFIED if is_unverified else self.condition.value


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The status of a source and its destinations."""

    name: str
    source: str
    held: str = ""
    """Why the source is held; empty if it is not."""
    held_subtrees: Mapping[str, str] = field(default_factory=dict)
    """The subtrees whose copies stay unchanged, and why: at most ``MAX_NAMED_PATHS``."""
    is_watching: bool = False
    directories: int = 0
    """The number of watched directories."""
    unwatched: int = 0
    """The number of directories that cannot be watched and are polled."""
    window: float = 0.0
    destinations: tuple[DestinationStatus, ...] = ()
    overflows: int = 0
    oldest_look: float | None = None
    """The age of the oldest look at a directory of the source; None if no scan looks at them."""
    events: Mapping[str, int] = field(default_factory=dict)
    """Events by their inotify type; empty if they are not counted."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of the daemon."""

    version: str
    pid: int
    time: float
    """The time of this status."""
    started: float
    watch_limit: int
    """fs.inotify.max_user_watches."""
    syncs: tuple[SyncStatus, ...] = ()
    last_reload: float | None = None
    """When the configuration was last read again; None if it was not since the start."""
    reload_error: str = ""
    """Why that failed; empty if it did not."""
    status_file_written: float | None = None
    """When the status file was last written, 0.0 if never; None if none is configured."""
    configuration: str = ""
    """The absolute path of the configuration file; empty without one."""
    stopped: float | None = None
    """The time at which the daemon stopped as it was told to; None while it runs."""
    stuck_threads: tuple[str, ...] = ()
    """The names of threads that make no progress: what the status says of their work is old."""
