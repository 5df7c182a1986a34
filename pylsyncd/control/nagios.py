"""The status as a monitoring plugin reports it: an exit status and one line. Pure.

As in the Monitoring Plugins Development Guidelines, a service that does not run is CRITICAL, and
UNKNOWN means that the plugin could not find out.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pylsyncd.model.formatting import format_count, format_duration, printable
from pylsyncd.model.status import (
    STALE_STATUS_AGE,
    UNVERIFIED,
    Condition,
    DestinationStatus,
    Status,
    SyncStatus,
)

DEFAULT_MAX_LAG = 600.0
"""Seconds above which a destination is critical, if no other limit is given."""


class ServiceState(IntEnum):
    """The exit status of the plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The lags in seconds above which a destination is critical, or a warning."""

    max_lag: float
    warn_lag: float | None = None


Finding = tuple[ServiceState, str]
"""What is wrong, and how much that matters."""

# The Monitoring Plugins Development Guidelines leave open which of them wins: what is known to be
# wrong, here, before what is not known.
_BY_URGENCY = (
    ServiceState.CRITICAL, ServiceState.UNKNOWN, ServiceState.WARNING, ServiceState.OK,
)  # fmt: skip


def evaluate(
    statuses: Sequence[Status],
    limits: Thresholds,
    age: float = 0.0,
    findings: Iterable[Finding] = (),
) -> tuple[ServiceState, str]:
    """Return the state of all daemons together, and the line of the plugin.

    ``age`` is the age of the oldest status in seconds, and ``findings`` tells what is wrong with
    daemons that have sent no status.
    """
    state, text = judge(statuses, limits, age, findings)
    return state, format_line(state, text, " ".join(_performance_data(statuses, limits)))


def judge(
    statuses: Sequence[Status],
    limits: Thresholds,
    age: float = 0.0,
    findings: Iterable[Finding] = (),
) -> tuple[ServiceState, str]:
    """Return the state of all daemons together, and its reasons, the worst ones first."""
    found = [*findings, *_findings_about_daemons(statuses, age)]
    found += (finding for status in statuses for finding in _findings(status, limits))
    found.sort(key=lambda finding: _BY_URGENCY.index(finding[0]))
    worst = found[0][0] if found else ServiceState.OK
    return worst, "; ".join(text for _, text in found) or _ok_text(statuses)


def format_line(state: ServiceState, text: str, performance_data: str = "") -> str:
    """Return the line of the plugin; what follows the bar is for graphs."""
    line = f"PYLSYNCD {state.name} - {printable(text).replace('|', '/')}"
    return f"{line} | {performance_data}" if performance_data else line


def _ok_text(statuses: Sequence[Status]) -> str:
    lags = [each.behind for _, each in _destinations(statuses)]
    behind = format_duration(max(lags, default=0.0))
    return f"{format_count(len(lags), 'destination')}, at most {behind} behind"


def _destinations(statuses: Sequence[Status]) -> list[tuple[SyncStatus, DestinationStatus]]:
    return [
        (sync, each) for status in statuses for sync in status.syncs for each in sync.destinations
    ]


def _findings_about_daemons(statuses: Sequence[Status], age: float) -> Iterator[Finding]:
    """Yield a finding for each daemon that does not run any more."""
    for status in statuses:
        if status.stopped is not None:
            ago = format_duration(max(0.0, age))
            yield ServiceState.CRITICAL, f"pylsyncd was stopped {ago} ago"
        elif age > STALE_STATUS_AGE:
            silence = f"no status from pylsyncd for {format_duration(age)}: it has ended or hangs"
            yield ServiceState.CRITICAL, silence
        elif age < -STALE_STATUS_AGE:
            ahead = f"the status is {format_duration(-age)} ahead of the clock of this machine"
            yield ServiceState.CRITICAL, f"{ahead}: pylsyncd has ended, or a clock is wrong"


def _findings(status: Status, limits: Thresholds) -> Iterator[Finding]:
    if status.stuck_threads:
        yield ServiceState.CRITICAL, f"no progress of {', '.join(status.stuck_threads)}"
    if status.reload_error:
        yield ServiceState.WARNING, f"the last reload has failed: {status.reload_error}"
    for sync in status.syncs:
        if sync.held:
            yield ServiceState.CRITICAL, f"source {sync.source} held: {sync.held}"
        for path, reason in sync.held_subtrees.items():
            yield ServiceState.CRITICAL, f"{path} in {sync.source} held: {reason}"
        for each in sync.destinations:
            state = _state(each, limits)
            if state:
                yield state, _describe(each)


def _state(each: DestinationStatus, limits: Thresholds) -> ServiceState:
    needs_person = each.condition in {Condition.HELD, Condition.FAILED}
    if needs_person or each.behind > limits.max_lag:
        return ServiceState.CRITICAL
    is_late = limits.warn_lag is not None and each.behind > limits.warn_lag
    is_stopped = each.condition in {Condition.RETRYING, Condition.PAUSED}
    is_failing = is_stopped or each.error or each.set_aside.count or each.unverified
    return ServiceState.WARNING if is_late or is_failing else ServiceState.OK


def _describe(each: DestinationStatus) -> str:
    behind = f", {format_duration(each.behind)} behind" if each.behind > 0.0 else ""
    unverified = each.unverified
    if unverified and each.state_word != UNVERIFIED:
        unverified = f"{UNVERIFIED}: {unverified}"
    texts = each.error, *each.set_aside.descriptions(), unverified
    reasons = "; ".join(filter(None, texts))
    return f"{each.name} {each.state_word}{behind}{f' ({reasons})' if reasons else ''}"


def _performance_data(statuses: Sequence[Status], limits: Thresholds) -> Iterator[str]:
    """Yield the lag and the waiting paths of each destination, in the format of the guidelines."""
    destinations = _destinations(statuses)
    counts = Counter(each.name for _, each in destinations)
    warn = "" if limits.warn_lag is None else f"{limits.warn_lag:g}"
    for sync, each in destinations:
        label = _label(sync, each, is_unique=counts[each.name] == 1)
        # U is an unknown value.
        lag = f"{each.behind:.0f}s" if math.isfinite(each.behind) else "U"
        yield f"'{label} lag'={lag};{warn};{limits.max_lag:g};0"
        yield f"'{label} waiting'={each.waiting};;;0"


def _label(sync: SyncStatus, each: DestinationStatus, *, is_unique: bool) -> str:
    name = each.name if is_unique else f"{sync.name or sync.source} {each.name}"
    return printable(name).replace("'", "''").replace("=", "-").replace("|", "/")
