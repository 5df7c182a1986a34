"""Moments, and whether the times of change on a disk can be compared with one.

Pure: ``clock`` tells the present moment.
"""

from dataclasses import dataclass

CTIME_SLACK = 2.0
"""Seconds that a time of change may lie before the moment of the change, as the clock tells it.

A kernel takes it from the clock's last tick (10 ms and less); the rest is for what ``distrust``
tolerates.
"""

_TOLERANCE = 1.0

# Seconds: a tick, twice.
_TICKS = 0.02


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment, as told by a clock that people set, and by one that nobody sets.

    ``wall`` is in seconds since the epoch; ``running`` is the seconds since the machine's start,
    suspension included (CLOCK_BOOTTIME); ``boot`` tells one start of a machine from all others,
    and is empty where the system does not tell.
    """

    wall: float
    running: float
    boot: str

    @property
    def since_ns(self) -> int:
        """The ctime, in nanoseconds, from which on an entry may have changed after the moment."""
        return int((self.wall - CTIME_SLACK) * 1e9)


def earliest_ctime_ns(then: Moment, present: Moment) -> int:
    """Return the ctime, in nanoseconds, from which on an entry may have changed in between.

    Both are moments of one run, which tell by how much the clock was set back meanwhile: so there
    need be no slack for that.
    """
    set_back = max(0.0, _set_back(then, present))
    return int((then.wall - set_back - _TICKS) * 1e9)


def _set_back(then: Moment, present: Moment) -> float:
    """Return by how many seconds the clock was set back between two moments of one boot."""
    return (present.running - then.running) - (present.wall - then.wall)


def reason_to_distrust(then: Moment, present: Moment) -> str:
    """Say why ctimes cannot be compared with ``then``; an empty string when they can.

    Both clocks follow the same corrections of speed, so that within one boot only a clock that
    was set makes them differ. Of another boot it is known that it began after ``then``: a clock
    that denies it stands wrong now, or stood wrong then.
    """
    if not then.boot or not present.boot:
        return "the system does not tell whether the machine was started anew"
    if then.boot != present.boot:
        behind = then.wall - (present.wall - present.running)
    elif present.running < then.running:
        return "the machine was set back to an earlier state"
    else:
        behind = _set_back(then, present)
    if behind > _TOLERANCE:
        return f"the clock went backwards by {behind:.0f} seconds"
    return ""


def earliest(*moments: float | None) -> float | None:
    """Return the first of the moments that are known; None if none is."""
    return min((moment for moment in moments if moment is not None), default=None)
