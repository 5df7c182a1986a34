"""The validated settings of the daemon."""

from dataclasses import dataclass, field
from enum import Enum

from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.rsync.command import DeletionTime, RsyncOptions
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rules.excludes import Rules

# Times are in seconds.

DEFAULT_WINDOW = 60.0

DEFAULT_MAX_CHANGES = 100_000
"""The number of changed paths that ends a window early.

rsync reads its list byte by byte, 13 microseconds a name: with a list of this length, the first
file is sent after a second and a half. A longer list would delay later changes and take more memory
(already some 10 MB), without making the run cheaper.
"""

DEFAULT_SCAN_BUDGET = 0.005
"""The share of one processor that the scan for changes without events may take.

Examples are writes to a mapped file that is never closed, and changes through a hard link outside
the source. A million files take 4 seconds of a processor: with this share, 13 minutes.
"""

DEFAULT_POLL_INTERVAL = 60.0

_WINDOWS_PER_OPEN_FILE_INTERVAL = 10
"""The time between two scans of directories that cannot be watched."""

DEFAULT_DIRECTORY = "/"
"""The working directory in the background. In the foreground, only another setting is applied."""

DEFAULT_UMASK = 0o022
"""The umask in the background. In the foreground, only another setting is applied."""

DEFAULT_STATUS_FILE_MODE = 0o640
"""The status names paths, which not all users may know."""

DEFAULT_HOOK_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class HookSettings:
    """The hook commands of a sync, as words; an empty command is not run."""

    before: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    recovery: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    repair: tuple[str, ...] = ()
    timeout: float = DEFAULT_HOOK_TIMEOUT

    def __bool__(self) -> bool:
        """Return True if there is at least one command."""
        return any((self.before, self.batch, self.error, self.recovery, self.held, self.repair))


@dataclass(frozen=True, slots=True)
class DestinationSettings:
    """A destination and how it is synced."""

    destination: Destination
    rsync: RsyncOptions
    window: float = DEFAULT_WINDOW
    """The window of the sync is the shortest of its destinations."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    repair_interval: float = 0.0
    """The time in which every directory is offered to it once; 0.0 for never."""
    batch_size_limit: int | None = None
    """In bytes: a larger file is sent in a run of its own. None for no such runs."""

    @property
    def name(self) -> str:
        """The name in the log and for pylsyncctl; unique in the process."""
        return self.destination.name


class WatchMethod(Enum):
    """What reports the changes of a source."""

    INOTIFY = "inotify"
    """A watch on each directory."""
    FANOTIFY = "fanotify"
    """A mark on each file system, where that is possible."""
    AUTO = "auto"
    """fanotify for a tree that needs more than half of the permitted watches."""


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """A source and its destinations, with the keys of a [sync] section."""

    source: Source
    destinations: tuple[DestinationSettings, ...]
    rules: Rules = field(default_factory=Rules)
    name: str = ""
    """The name of its section; empty for a command line."""
    delete: bool = True
    delete_only: DeletionTime | None = None
    """When something is deleted; None for always, if at all."""
    window: float = DEFAULT_WINDOW
    max_changes: int = DEFAULT_MAX_CHANGES
    initial_sync: bool = False
    open_file_interval: float | None = None
    """Seconds; None for the default, a number of windows."""
    state_dir: bytes | None = None
    """None if no state is kept: for runs that change no destination."""
    watch: WatchMethod = WatchMethod.INOTIFY
    poll_interval: float = DEFAULT_POLL_INTERVAL
    scan_budget: float = DEFAULT_SCAN_BUDGET
    """The share of one processor, up to 1.0; 0.0 for no scan in slices."""
    scan_interval: float = 0.0
    """0.0 for no scan of the whole source at once."""
    full_sync_interval: float = 0.0
    """0.0 for no periodic full sync."""
    hooks: HookSettings = field(default_factory=HookSettings)

    @property
    def open_file_delay(self) -> float:
        """How old the copy of a file may be, in seconds, that is written to and not closed."""
        if self.open_file_interval is None:
            return _WINDOWS_PER_OPEN_FILE_INTERVAL * self.window
        return self.open_file_interval


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where to log, and how much."""

    level: int
    syslog: bool = False
    facility: str = "daemon"
    file: str | None = None
    """An absolute path; None for standard error."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """The settings of the process as a whole. Paths are absolute."""

    log: LogSettings
    once: bool = False
    """Sync everything, then exit."""
    background: bool = False
    """Detach from the terminal and run as a daemon."""
    pidfile: str | None = None
    user: str | None = None
    group: str | None = None
    directory: str = DEFAULT_DIRECTORY
    umask: int = DEFAULT_UMASK
    control: str | None = None
    """The path of the control socket; empty for the default path, None for no socket."""
    status_file: str | None = None
    status_file_mode: int = DEFAULT_STATUS_FILE_MODE
    metrics_file: str | None = None
    metrics_port: int | None = None
    """On the loopback interface; None for no HTTP."""
    max_runs: int | None = None
    """The number of rsync processes at a time; None for no limit."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings made from a command line and its configuration file."""

    process: ProcessSettings
    syncs: tuple[SyncSettings, ...]
