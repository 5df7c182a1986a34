"""The status as Prometheus metrics: the only module that imports the client library.

Every series has the label ``sync``: its name, or its source if it has none. So several daemons
of one machine do not clash in one collector, and series of a sync can be divided by each other.
"""

import platform
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
    STATE_WORDS,
    Condition,
    DestinationCounts,
    DestinationStatus,
    Status,
    SyncStatus,
)
from pylsyncd.rsync.outcomes import Verdict

_SyncValue = Callable[[SyncStatus], float]
_DestinationValue = Callable[[DestinationStatus], float]
_LabelledCounts = Callable[[DestinationCounts], Mapping[str, int]]

# Exported as 0 from the start, so that the first run of each is an increase. Other outcomes are not
# of a run (a held source), or rare.
_RUN_VERDICTS = (
    Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL, Verdict.RETRY_LATER, Verdict.HELD,
)  # fmt: skip
_NO_RUNS = {verdict.value: 0 for verdict in _RUN_VERDICTS}

_PROCESS_GAUGES: tuple[tuple[str, str, Callable[[Status], float | None]], ...] = (
    ("start_time_seconds", "Start time in seconds since the epoch.", lambda status: status.started),
    ("watch_limit", "fs.inotify.max_user_watches, which is per user.",
     lambda status: status.watch_limit),
    ("last_reload_successful", "Whether the last reload has succeeded; 1 before the first one.",
     lambda status: not status.reload_error),
    ("last_reload_seconds", "When the configuration was last read, in seconds since the epoch.",
     lambda status: status.last_reload or status.started),
    ("stuck_threads", "Threads that make no progress.", lambda status: len(status.stuck_threads)),
    ("status_file_written_seconds",
     "When the status file was last written, in seconds since the epoch; 0 if never.",
     lambda status: status.status_file_written),
)  # fmt: skip

_SYNC_GAUGES: tuple[tuple[str, str, _SyncValue], ...] = (
    ("watching", "Whether the source is watched.", lambda sync: sync.is_watching),
    ("source_held", "Whether the source is held: nothing is sent from it.",
     lambda sync: bool(sync.held)),
    ("held_subtrees", "File systems below the source whose copies stay unchanged.",
     lambda sync: len(sync.held_subtrees)),
    ("watches", "Watched directories.", lambda sync: sync.directories),
    ("unwatched_directories", "Directories that cannot be watched, and are polled instead.",
     lambda sync: sync.unwatched),
)  # fmt: skip

_OPTIONAL_SYNC_GAUGES: tuple[tuple[str, str, Callable[[SyncStatus], float | None]], ...] = (
    ("oldest_look_seconds", "Age of the oldest look of the scan at a directory of the source.",
     lambda sync: sync.oldest_look),
)  # fmt: skip

_GAUGES: tuple[tuple[str, str, _DestinationValue], ...] = (
    ("in_sync", "Whether the destination has all changes, and was compared as a whole.",
     lambda to: to.state_word == Condition.IN_SYNC.value),
    ("behind_seconds", "Age of the oldest change that the destination has not confirmed.",
     lambda to: to.behind),
    ("waiting_paths", "Changes that the destination has not confirmed.", lambda to: to.waiting),
    ("failed_paths", "Paths that rsync cannot carry, while all others are confirmed.",
     lambda to: to.set_aside.failed.count),
    ("held_paths", "Subtrees whose copies stay unchanged, while all else is confirmed.",
     lambda to: to.set_aside.held.count),
    ("unset_attribute_paths", "Paths whose content is confirmed, but not all attributes.",
     lambda to: to.set_aside.unset_attributes.count),
    ("owes_everything", "Whether a full sync is waiting.", lambda to: to.owes_everything),
    ("unverified", "Whether the destination was never compared with the source as a whole.",
     lambda to: bool(to.unverified)),
)  # fmt: skip

_OPTIONAL_GAUGES: tuple[tuple[str, str, Callable[[DestinationStatus], float | None]], ...] = (
    ("compared_since_seconds",
     "The time since which all of the destination was compared, in seconds since the epoch.",
     lambda to: to.compared_since),
    ("last_success_seconds", "When the last successful rsync ended, in seconds since the epoch.",
     lambda to: to.last_success),
    ("failing_since_seconds",
     "When the first of the failed attempts was, in seconds since the epoch.",
     lambda to: to.failing_since),
)  # fmt: skip

_COUNTERS: tuple[tuple[str, str, Callable[[DestinationCounts], int]], ...] = (
    ("sent_bytes", "Bytes sent by rsync.", lambda counts: counts.bytes_sent),
    ("files", "Files sent or created.", lambda counts: counts.files),
    ("deletions", "Files deleted.", lambda counts: counts.deleted),
    ("repaired_paths", "Paths that did not equal the source when they were compared again.",
     lambda counts: counts.repaired),
    ("moved_files", "Files moved at the destination instead of sent.",
     lambda counts: counts.moved_files),
    ("moved_bytes", "Size of the files moved at the destination.",
     lambda counts: counts.moved_bytes),
)  # fmt: skip

_LABELLED_COUNTERS: tuple[tuple[str, str, str, _LabelledCounts], ...] = (
    ("runs", "outcome", "Runs of rsync by outcome.",
     lambda counts: {**_NO_RUNS, **counts.outcomes}),
    ("rsync_exits", "code", "Runs of rsync by exit status, negative for a signal.",
     lambda counts: {str(code): count for code, count in counts.codes.items()}),
    ("full_syncs", "reason", "Completed full syncs by reason.", lambda counts: counts.full_syncs),
)  # fmt: skip


class _StatusCollector(Collector):
    """The metrics of the status that ``read`` returns at each collection."""

    def __init__(self, read: Callable[[], Status]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        status = self._read()
        yield from _process_metrics(status)
        yield from _sync_metrics(status)
        yield from _destination_metrics(status)


def make_registry(read: Callable[[], Status]) -> CollectorRegistry:
    """Return a registry with the metrics of pylsyncd alone, without those of Python."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(read))
    return registry


def format_metrics(read: Callable[[], Status]) -> bytes:
    """Return the metrics in Prometheus's text format."""
    return generate_latest(make_registry(read))


def make_handler(read: Callable[[], Status]) -> type[BaseHTTPRequestHandler]:
    """Return the library's handler class for HTTP requests of these metrics."""
    handler_class: type[BaseHTTPRequestHandler] = MetricsHandler.factory(make_registry(read))
    return handler_class


def _process_metrics(status: Status) -> Iterator[Metric]:
    build = _gauge("build_info", "The running version.", ["sync", "version", "python"])
    for sync in status.syncs:
        values = [_name(sync), _label(status.version), platform.python_version()]
        build.add_metric(values, 1.0)
    yield build
    for name, description, value in _PROCESS_GAUGES:
        gauge = _gauge(name, description, ["sync"])
        for sync in status.syncs:
            if (number := value(status)) is not None:
                gauge.add_metric([_name(sync)], number)
        yield gauge


def _sync_metrics(status: Status) -> Iterator[Metric]:
    for name, description, value in _SYNC_GAUGES:
        gauge = _gauge(name, description, ["sync"])
        for sync in status.syncs:
            gauge.add_metric([_name(sync)], float(value(sync)))
        yield gauge
    for name, description, optional_value in _OPTIONAL_SYNC_GAUGES:
        gauge = _gauge(name, description, ["sync"])
        for sync in status.syncs:
            if (number := optional_value(sync)) is not None:
                gauge.add_metric([_name(sync)], number)
        yield gauge
    overflows = _counter("overflows", "How often the kernel dropped events.", ["sync"])
    events = _counter("events", "inotify events by type.", ["sync", "type"])
    for sync in status.syncs:
        overflows.add_metric([_name(sync)], sync.overflows)
        for type_name, count in sync.events.items():
            events.add_metric([_name(sync), _label(type_name)], count)
    yield from (overflows, events)


def _destination_metrics(status: Status) -> Iterator[Metric]:
    labels = ["sync", "destination"]
    destinations = [
        ([_name(sync), _label(each.name)], each)
        for sync in status.syncs
        for each in sync.destinations
    ]
    for name, description, value in _GAUGES:
        gauge = _gauge(name, description, labels)
        for values, each in destinations:
            gauge.add_metric(values, float(value(each)))
        yield gauge
    for name, description, optional_value in _OPTIONAL_GAUGES:
        gauge = _gauge(name, description, labels)
        for values, each in destinations:
            if (number := optional_value(each)) is not None:
                gauge.add_metric(values, number)
        yield gauge
    state = _gauge("state", "1 for the current state, 0 for the others.", [*labels, "state"])
    lag = HistogramMetricFamily(
        "pylsyncd_lag_seconds", "Time from the first event to the confirmation.", labels=labels
    )
    for values, each in destinations:
        for word in STATE_WORDS:
            is_current = float(each.state_word == word)
            state.add_metric([*values, word.replace(" ", "_")], is_current)
        lag.add_metric(values, _buckets(each.counts.lags), each.counts.lag_sum)
    yield from (state, lag)
    yield from _counters(destinations, labels)


def _counters(
    destinations: list[tuple[list[str], DestinationStatus]], labels: list[str]
) -> Iterator[Metric]:
    for name, description, value in _COUNTERS:
        counter = _counter(name, description, labels)
        for values, each in destinations:
            counter.add_metric(values, value(each.counts))
        yield counter
    for name, label, description, counts_by_label in _LABELLED_COUNTERS:
        counter = _counter(name, description, [*labels, label])
        for values, each in destinations:
            for text, count in counts_by_label(each.counts).items():
                counter.add_metric([*values, _label(text)], count)
        yield counter


def _buckets(lags: tuple[int, ...]) -> list[tuple[str, float]]:
    """Return the cumulative counts of the lags up to each bound."""
    bounds = [*map(str, LAG_BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(lags)), strict=True))


def _gauge(name: str, description: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pylsyncd_{name}", description, labels=labels)


def _counter(name: str, description: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"pylsyncd_{name}", description, labels=labels)


def _name(sync: SyncStatus) -> str:
    return _label(sync.name or sync.source)


def _label(text: str) -> str:
    """Return a text as the value of a label, with bytes that are not UTF-8 escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
