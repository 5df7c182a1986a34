"""The status as a plugin of Nagios and its kin reports it: an exit status and one line. Pure.

After the Monitoring Plugins Development Guidelines: a service that does not run is critical, and
unknown is what the plugin could not find out.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pylsyncd.model.formatting import format_count, format_duration, printable
from pylsyncd.model.status import Condition, DestinationStatus, Status, SyncStatus


class ServiceState(IntEnum):
    """The exit status."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From how many seconds behind on it is serious."""

    max_lag: float
    warn_lag: float | None = None


_Finding = tuple[ServiceState, str]


def evaluate(
    status: Sequence[Status], limits: Thresholds, age: float = 0.0
) -> tuple[ServiceState, str]:
    """Return how serious it stands with all daemons, and the line that says so.

    ``age`` are the seconds since the status was made.
    """
    findings = [found for each in status for found in _findings(each, limits)]
    # Nothing is known since then.
    if age > max(limits.max_lag, 60.0):
        findings.append(
            (ServiceState.CRITICAL, f"nothing heard of pylsyncd for {format_duration(age)}")
        )
    worst = max((level for level, _ in findings), default=ServiceState.OK)
    findings.sort(key=lambda found: -found[0])
    said = "; ".join(text for _, text in findings) or _all_well(status)
    return worst, format_line(worst, said, " ".join(_performance(status, limits)))


def format_line(level: ServiceState, said: str, performance: str = "") -> str:
    """Return the line of a plugin; what stands behind a bar is for graphs."""
    text = f"PYLSYNCD {level.name} - {printable(said).replace('|', '/')}"
    return f"{text} | {performance}" if performance else text


def _all_well(status: Sequence[Status]) -> str:
    lags = [each.behind for one in status for sync in one.syncs for each in sync.destinations]
    behind = format_duration(max(lags, default=0.0))
    return f"{format_count(len(lags), 'destination')}, at most {behind} behind"


def _findings(status: Status, limits: Thresholds) -> Iterator[_Finding]:
    for sync in status.syncs:
        if sync.held:
            yield ServiceState.CRITICAL, f"source {sync.source} held: {sync.held}"
        for each in sync.destinations:
            level = _level(each, limits)
            if level:
                yield level, _described(each)


def _level(each: DestinationStatus, limits: Thresholds) -> ServiceState:
    if each.condition is Condition.HELD or each.behind > limits.max_lag:
        return ServiceState.CRITICAL
    is_late = limits.warn_lag is not None and each.behind > limits.warn_lag
    is_wrong = each.error or each.condition in {Condition.RETRYING, Condition.PAUSED}
    return ServiceState.WARNING if is_late or is_wrong else ServiceState.OK


def _described(each: DestinationStatus) -> str:
    behind = f", {format_duration(each.behind)} behind" if each.behind > 0.0 else ""
    why = f" ({each.error})" if each.error else ""
    return f"{each.name} {each.condition.value}{behind}{why}"


def _performance(status: Sequence[Status], limits: Thresholds) -> Iterator[str]:
    """Yield the lag and the waiting paths of each destination, as the guidelines have them."""
    found = [(sync, each) for one in status for sync in one.syncs for each in sync.destinations]
    names = Counter(each.name for _, each in found)
    warn = "" if limits.warn_lag is None else f"{limits.warn_lag:g}"
    for sync, each in found:
        name = _label(sync, each, is_unique=names[each.name] == 1)
        yield f"'{name} lag'={each.behind:.0f}s;{warn};{limits.max_lag:g};0"
        yield f"'{name} waiting'={each.waiting};;;0"


def _label(sync: SyncStatus, each: DestinationStatus, *, is_unique: bool) -> str:
    name = each.name if is_unique else f"{sync.name or sync.source} {each.name}"
    return printable(name).replace("'", "''").replace("=", "-").replace("|", "/")
