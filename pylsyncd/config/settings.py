"""The settings of the daemon: whatever they were read from, they are known to be usable."""

from dataclasses import dataclass, field

from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rules.excludes import Rules

DEFAULT_WINDOW = 60.0
"""Seconds that changes are aggregated."""

DEFAULT_MAX_CHANGES = 100_000
"""Distinct changes that end a window early.

rsync reads its list byte by byte, 13 microseconds a name: a list of this length takes it a second
and a half before the first file is sent. More in one run would make later changes wait, and take
more memory here (some 10 MB as it is), without making the run cheaper.
"""

DEFAULT_SCAN_INTERVAL = 86400.0
"""Seconds between two scans for what sends no events although it is watched.

Such are writes to a mapped file that is never closed, truncate(2) by path, and changes through a
hard link that is made and removed again before anybody could look at it.
"""

DEFAULT_POLL_INTERVAL = 60.0
"""Seconds between two looks at what sends no events."""

DEFAULT_DIRECTORY = "/"
"""Where the process works in the background; in the foreground, any other one is changed to."""

DEFAULT_UMASK = 0o022
"""What files made in the background do not get; in the foreground, any other one is set."""

DEFAULT_HOOK_TIMEOUT = 60.0
"""Seconds that a hook may take."""


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Commands that are run when something has happened, as words; empty for none."""

    batch: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    recovery: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    timeout: float = DEFAULT_HOOK_TIMEOUT

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.batch or self.error or self.recovery or self.held)


@dataclass(frozen=True, slots=True)
class DestinationSettings:
    """One destination, and how it is served."""

    destination: Destination
    rsync: RsyncOptions
    window: float = DEFAULT_WINDOW
    """Seconds; the sync's window is the shortest of its deliveries'."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    batch_size_limit: int | None = None
    """Bytes; a larger file is sent by a run of its own. None for no such runs."""

    @property
    def name(self) -> str:
        """What it is called in the log and by the control command; unique in the process."""
        return self.destination.name


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """One source and its destinations, as pylsyncd.conf(5) has them. Times are in seconds."""

    source: Source
    destinations: tuple[DestinationSettings, ...]
    rules: Rules = field(default_factory=Rules)
    name: str = ""
    """Of its section in the configuration file; empty for a command line."""
    delete: bool = True
    window: float = DEFAULT_WINDOW
    max_changes: int = DEFAULT_MAX_CHANGES
    initial_sync: bool = False
    modify: bool = False
    state_dir: bytes | None = None
    """None where nothing is kept: for what changes no destination."""
    poll_interval: float = DEFAULT_POLL_INTERVAL
    scan_interval: float = DEFAULT_SCAN_INTERVAL
    full_sync_interval: float = 0.0
    """Seconds; 0.0 for no full syncs but those that there is a reason for."""
    hooks: HookSettings = field(default_factory=HookSettings)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where the log goes, and how much of it."""

    level: int
    syslog: bool = False
    facility: str = "daemon"
    file: str | None = None
    """An absolute path; None for standard error."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What concerns the process, not one of its syncs. Paths are absolute."""

    log: LogSettings
    once: bool = False
    """Sync everything, then exit."""
    background: bool = False
    """Fork, leave the terminal, and go on as a daemon."""
    pidfile: str | None = None
    user: str | None = None
    group: str | None = None
    directory: str = DEFAULT_DIRECTORY
    umask: int = DEFAULT_UMASK
    control: str | None = None
    """The socket for the control command; None for none."""
    status_file: str | None = None
    metrics_file: str | None = None
    metrics_port: int | None = None
    """On the loopback; None for no HTTP."""
    max_runs: int | None = None
    """How many rsyncs run at a time; None for no limit."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a command line and a configuration file have asked for."""

    process: ProcessSettings
    syncs: tuple[SyncSettings, ...]
