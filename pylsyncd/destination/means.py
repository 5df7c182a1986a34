"""What the destinations of the process share, and whom they tell what they do."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pylsyncd.destination.turns import Turns
from pylsyncd.model.notices import Notice
from pylsyncd.rsync.progress import Transferred
from pylsyncd.rsync.sharing import Sharing


@dataclass(frozen=True, slots=True)
class Means:
    """Used by all workers; what is called must not block."""

    turns: Turns = field(default_factory=Turns)
    sharing: Sharing = field(default_factory=Sharing)
    tell: Callable[[Notice], None] = lambda _: None
    """Called with what hooks want to know."""
    sending: Callable[[str, Transferred], None] = lambda *_: None
    """Called while everything is sent to a destination, with its name."""
    sent: Callable[[str], None] = lambda _: None
    """Called when that has ended."""
