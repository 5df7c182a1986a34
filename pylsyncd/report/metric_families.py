"""The status as Prometheus metrics: the only module that imports the client library.

Every series has the label ``sync``: its name, or its source where it has none. So several daemons
of one machine do not clash in one collector, and series of a sync can be divided by each other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import MetricsHandler
from prometheus_client.registry import Collector

from pylsyncd.model.status import (
    LAG_BOUNDS,
    Condition,
    DestinationCounts,
    DestinationStatus,
    Status,
    SyncStatus,
)
from pylsyncd.rsync.outcomes import Verdict

_OfSync = Callable[[SyncStatus], float]
_OfDestination = Callable[[DestinationStatus], float]
_CountsByWord = Callable[[DestinationCounts], Mapping[str, int]]

# They are there from the start, so that the first one is an increase. The other verdicts are of no
# run (a source that is held), or rare.
_OUTCOMES = tuple(
    verdict.value
    for verdict in (
        Verdict.DONE,
        Verdict.RETRY_NOW,
        Verdict.PARTIAL,
        Verdict.RETRY_LATER,
        Verdict.HELD,
    )
)

_SYNC_GAUGES: tuple[tuple[str, str, _OfSync], ...] = (
    ("watching", "Whether the source is watched.", lambda sync: sync.is_watching),
    ("source_held", "Whether nothing is sent since something is wrong with the source.",
     lambda sync: bool(sync.held)),
    ("watches", "Directories that are watched.", lambda sync: sync.directories),
    ("unwatched_directories", "Directories that cannot be watched, and are polled.",
     lambda sync: sync.unwatched),
)  # fmt: skip

_GAUGES: tuple[tuple[str, str, _OfDestination], ...] = (
    ("in_sync", "Whether the destination has all changes.",
     lambda to: to.condition is Condition.IN_SYNC),
    ("behind_seconds", "Age of the oldest change that the destination has not confirmed.",
     lambda to: to.behind),
    ("waiting_paths", "Changes that the destination has not confirmed.", lambda to: to.waiting),
    ("owes_everything", "Whether one of them is the whole source.", lambda to: to.owes_everything),
)  # fmt: skip

_COUNTERS: tuple[tuple[str, str, Callable[[DestinationCounts], int]], ...] = (
    ("sent_bytes", "Bytes that rsync has sent.", lambda counts: counts.bytes_sent),
    ("files", "Files that were sent or created.", lambda counts: counts.files),
    ("deletions", "Files that were deleted.", lambda counts: counts.deleted),
)  # fmt: skip

_COUNTERS_BY_WORD: tuple[tuple[str, str, str, _CountsByWord], ...] = (
    ("runs", "outcome", "Runs of rsync by what they came to.",
     lambda counts: {**dict.fromkeys(_OUTCOMES, 0), **counts.outcomes}),
    ("rsync_exits", "code", "Runs of rsync by exit status, negative for a signal.",
     lambda counts: {str(code): number for code, number in counts.codes.items()}),
    ("full_syncs", "reason", "Completed syncs of everything.", lambda counts: counts.full_syncs),
)  # fmt: skip


class _StatusCollector(Collector):
    """Makes the metrics of what ``read`` returns, anew each time that they are asked for."""

    def __init__(self, read: Callable[[], Status]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        status = self._read()
        yield from _of_process(status)
        yield from _of_syncs(status)
        yield from _of_destinations(status)


def make_registry(read: Callable[[], Status]) -> CollectorRegistry:
    """Return what the library serves: our metrics alone, and nothing of Python."""
    ours = CollectorRegistry(auto_describe=False)
    ours.register(_StatusCollector(read))
    return ours


def format_metrics(read: Callable[[], Status]) -> bytes:
    """Return the metrics in Prometheus's text format."""
    return generate_latest(make_registry(read))


def make_handler(read: Callable[[], Status]) -> type[BaseHTTPRequestHandler]:
    """Return the library's handler of HTTP requests, for our metrics."""
    handler_class: type[BaseHTTPRequestHandler] = MetricsHandler.factory(make_registry(read))
    return handler_class


def _of_process(status: Status) -> Iterator[Metric]:
    build = _gauge("build_info", "The version that runs.", ["sync", "version"])
    start = _gauge("start_time_seconds", "When it was started, since the epoch.", ["sync"])
    limit = _gauge("watch_limit", "fs.inotify.max_user_watches, for all of a user.", ["sync"])
    for sync in status.syncs:
        build.add_metric([_name(sync), _label(status.version)], 1.0)
        start.add_metric([_name(sync)], status.started)
        limit.add_metric([_name(sync)], status.watch_limit)
    yield from (build, start, limit)


def _of_syncs(status: Status) -> Iterator[Metric]:
    for name, meaning, value in _SYNC_GAUGES:
        gauge = _gauge(name, meaning, ["sync"])
        for sync in status.syncs:
            gauge.add_metric([_name(sync)], float(value(sync)))
        yield gauge
    overflows = _counter("overflows", "How often the kernel has dropped events.", ["sync"])
    events = _counter("events", "Events of inotify by type.", ["sync", "type"])
    for sync in status.syncs:
        overflows.add_metric([_name(sync)], sync.overflows)
        for kind, number in sync.events.items():
            events.add_metric([_name(sync), _label(kind)], number)
    yield from (overflows, events)


def _of_destinations(status: Status) -> Iterator[Metric]:
    labels = ["sync", "destination"]
    served = [
        ([_name(sync), _label(each.name)], each)
        for sync in status.syncs
        for each in sync.destinations
    ]
    for name, meaning, value in _GAUGES:
        gauge = _gauge(name, meaning, labels)
        for values, each in served:
            gauge.add_metric(values, float(value(each)))
        yield gauge
    state = _gauge("state", "1 for the state that the destination is in.", [*labels, "state"])
    lag = HistogramMetricFamily(
        "pylsyncd_lag_seconds", "From the first event to the confirmation.", labels=labels
    )
    for values, each in served:
        for condition in Condition:
            is_so = float(each.condition is condition)
            state.add_metric([*values, condition.name.lower()], is_so)
        lag.add_metric(values, _buckets(each.counts.lags), each.counts.lag_sum)
    yield from (state, lag)
    yield from _counters(served, labels)


def _counters(
    served: list[tuple[list[str], DestinationStatus]], labels: list[str]
) -> Iterator[Metric]:
    for name, meaning, value in _COUNTERS:
        counter = _counter(name, meaning, labels)
        for values, each in served:
            counter.add_metric(values, value(each.counts))
        yield counter
    for name, label, meaning, by_word in _COUNTERS_BY_WORD:
        counter = _counter(name, meaning, [*labels, label])
        for values, each in served:
            for word, number in by_word(each.counts).items():
                counter.add_metric([*values, _label(word)], number)
        yield counter


def _buckets(lags: tuple[int, ...]) -> list[tuple[str, float]]:
    """Return how many lags there were up to each bound, as the format wants it."""
    bounds = [*map(str, LAG_BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(lags)), strict=True))


def _gauge(name: str, meaning: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pylsyncd_{name}", meaning, labels=labels)


def _counter(name: str, meaning: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"pylsyncd_{name}", meaning, labels=labels)


def _name(sync: SyncStatus) -> str:
    return _label(sync.name or sync.source)


def _label(word: str) -> str:
    """Return a word as a label's value, whatever it was decoded from."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
