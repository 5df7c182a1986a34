"""What the destinations of the process share, and whom they tell what they do."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pylsyncd.model.notices import Notice
from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.rsync.ssh_sharing import SshSharing
from pylsyncd.worker.turns import RunSlots


@dataclass(frozen=True, slots=True)
class SharedResources:
    """Used by all workers; what is called must not block."""

    run_slots: RunSlots = field(default_factory=RunSlots)
    ssh_sharing: SshSharing = field(default_factory=SshSharing)
    on_notice: Callable[[Notice], None] = lambda _: None
    """Called with what hooks want to know."""
    on_progress: Callable[[str, RsyncProgress], None] = lambda *_: None
    """Called while everything is sent to a destination, with its name."""
    on_progress_end: Callable[[str], None] = lambda _: None
    """Called when that has ended."""
