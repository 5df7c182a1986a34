"""The settings of the daemon: whatever they were read from, they are known to be usable."""

from dataclasses import dataclass

from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.rsync.commands import Rsync

WINDOW = 60.0
"""Seconds that changes are aggregated."""

MAX_CHANGES = 100_000
"""Distinct changes that end a window early.

rsync reads its list byte by byte, 13 microseconds a name: a list of this length takes it a second
and a half before the first file is sent. More in one run would make later changes wait, and take
more memory here (some 10 MB as it is), without making the run cheaper.
"""

SCAN_INTERVAL = 86400.0
"""Seconds between two scans for what sends no events although it is watched.

Such are writes to a mapped file that is never closed, truncate(2) by path, and changes through a
hard link that is made and removed again before anybody could look at it.
"""

POLL_INTERVAL = 60.0
"""Seconds between two looks at what sends no events."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon does; see the README for the meaning of each."""

    source: Source
    destinations: tuple[Destination, ...]
    rsync: Rsync
    window: float = WINDOW
    max_changes: int = MAX_CHANGES
    initial_sync: bool = False
    once: bool = False
    modify: bool = False
    state_dir: bytes | None = None
    """None where nothing is kept: for what changes no destination."""
    poll_interval: float = POLL_INTERVAL
    scan_interval: float = SCAN_INTERVAL
    full_sync_interval: float = 0.0
    """Seconds; 0.0 for no full syncs but those that there is a reason for."""
