"""Points in time, and whether the ctimes on a disk can be compared with them. Pure."""

from dataclasses import dataclass, field

CTIME_SLACK = 2.0
"""Seconds that the ctime of a change may lie before the time of the change by the clock.

The kernel takes it from the clock's last tick (10 ms or less); the rest is the tolerance of
``reason_to_distrust``.
"""

# Seconds that the clock may be set back without making ctimes useless.
_SET_BACK_TOLERANCE = 1.0

# Seconds: two ticks.
_CTIME_GRANULARITY = 0.02


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, by the wall clock and by the clock that only runs forward.

    ``wall`` is in seconds since the epoch; ``running`` is in seconds since the machine booted,
    suspension included (CLOCK_BOOTTIME); ``boot`` identifies the boot, and is empty if the system
    does not provide an identifier. ``boot_began`` is the value of ``running`` at which that boot
    began: 0.0 on a machine of its own. A container has identifiers of its own, and the clock of the
    machine that it runs on.
    """

    wall: float
    running: float
    boot: str
    boot_began: float = field(default=0.0, compare=False)

    @property
    def since_ns(self) -> int:
        """The smallest ctime, in nanoseconds, of an entry that may have changed since."""
        return int((self.wall - CTIME_SLACK) * 1e9)


def earliest_ctime_ns(then: Moment, now: Moment) -> int:
    """Return the smallest ctime, in nanoseconds, of an entry that may have changed in between.

    Both moments are of the same run of the daemon, so it is known how far the clock was set back
    and no slack is needed for that.
    """
    set_back = max(0.0, _set_back(then, now))
    return int((then.wall - set_back - _CTIME_GRANULARITY) * 1e9)


def _set_back(then: Moment, now: Moment) -> float:
    """Return by how many seconds the clock was set back between two moments of one boot."""
    return (now.running - then.running) - (now.wall - then.wall)


def reason_to_distrust(then: Moment, now: Moment) -> str:
    """Return why ctimes cannot be compared with ``then``; empty if they can.

    NTP adjusts the speed of both clocks alike, so within one boot they differ only if the wall
    clock was set. Another boot must have begun after ``then``; if the wall clock contradicts that,
    it was wrong at one of the two moments. The machine of a container may have gone on meanwhile:
    then both clocks have, by the same time.
    """
    if not then.boot or not now.boot:
        return "the system does not report whether the machine was rebooted"
    if then.boot != now.boot:
        behind = then.wall - (now.wall - (now.running - now.boot_began))
        if behind <= _SET_BACK_TOLERANCE and not _has_steady_clock(then, now):
            return "the clock went backwards, or this container is on another machine than before"
    elif now.running < then.running:
        return "the machine was reset to an earlier state"
    else:
        behind = _set_back(then, now)
    if behind > _SET_BACK_TOLERANCE:
        return f"the clock went backwards by {behind:.0f} seconds"
    return ""


def _has_steady_clock(then: Moment, now: Moment) -> bool:
    """Return True if the machine has booted since ``then``, or its clock was not set back since."""
    machine_booted = now.wall - now.running
    if now.boot_began == 0.0 or machine_booted >= then.wall - _SET_BACK_TOLERANCE:
        return True
    return now.running >= then.running and _set_back(then, now) <= _SET_BACK_TOLERANCE


def earliest(*times: float | None) -> float | None:
    """Return the first of the known times; None if none is known."""
    return min((time for time in times if time is not None), default=None)
