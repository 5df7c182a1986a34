"""A status with known metrics, and what the client library's parser reads of them."""

import os
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample

from pylsyncd.model.status import (
    LAG_BOUNDS,
    Condition,
    DestinationCounts,
    DestinationStatus,
    PathSummary,
    RunStatus,
    SetAside,
    Status,
    SyncStatus,
)
from pylsyncd.report import metric_families
from pylsyncd.report.http_response import Pages
from pylsyncd.report.metrics import MetricsExporter

METRIC_NAMES = {
    "in_sync", "state", "behind_seconds", "lag_seconds", "waiting_paths", "owes_everything", "runs",
    "rsync_exits", "sent_bytes", "files", "deletions", "events", "overflows", "watches",
    "watch_limit", "unwatched_directories", "full_syncs", "build_info", "start_time_seconds",
    "watching", "source_held", "oldest_look_seconds", "held_subtrees", "failed_paths", "held_paths",
    "unset_attribute_paths", "unverified",
    "moved_files", "moved_bytes", "repaired_paths", "compared_since_seconds",
    "last_success_seconds", "failing_since_seconds", "last_reload_successful",
    "last_reload_seconds", "status_file_written_seconds", "stuck_threads",
}  # fmt: skip

COUNTS = DestinationCounts(
    outcomes={"done": 5, "later": 2},
    codes={0: 5, 255: 1, -15: 1},
    files=100,
    deleted=7,
    bytes_sent=123456,
    full_syncs={"initial sync": 1, "full sync": 2},
    lags=(1, 2, *(0 for _ in LAG_BOUNDS[2:]), 4),
    lag_sum=99.5,
    repaired=11,
    moved_files=1204,
    moved_bytes=2100,
)
WEB1 = DestinationStatus(
    "web1", "web1:/srv", Condition.IN_SYNC,
    last_run=RunStatus(1000.0, 1.0, "done", 0), compared_since=4321.0, counts=COUNTS,
    last_success=1000.0,
)  # fmt: skip
WEB2 = DestinationStatus(
    "web2",
    "web2:/srv",
    Condition.RETRYING,
    behind=12.5,
    waiting=3,
    owes_everything=True,
    set_aside=SetAside(PathSummary(3), PathSummary(2), PathSummary(1)),
    unverified="its full sync is not complete",
    failing_since=4990.0,
)
WWW = SyncStatus(
    "www", "/srv", is_watching=True, directories=1000, unwatched=2, destinations=(WEB1, WEB2),
    held_subtrees={"nested": "why"}, overflows=1, events={"CREATE": 10, "DELETE": 0},
    oldest_look=300.0,
)  # fmt: skip
STATUS = Status(
    "2.0", 1, 5000.0, 4000.0, 8192, (WWW,), last_reload=4500.0, reload_error="no such file",
    status_file_written=4999.0, stuck_threads=("watcher",),
)  # fmt: skip


def format_text(status: Status) -> str:
    """Return the metrics of a status in Prometheus's text format."""
    return metric_families.format_metrics(lambda: status).decode()


def samples(text: str) -> dict[str, list[Sample]]:
    """Return what the parser finds, by the name of each sample."""
    found: dict[str, list[Sample]] = {}
    for family in parse(text):
        for sample in family.samples:
            found.setdefault(sample.name.removeprefix("pylsyncd_"), []).append(sample)
    return found


def value(text: str, name: str, **labels: str) -> float:
    """Return the one value that a series with these labels has."""
    wanted = labels.items()
    (sample,) = [each for each in samples(text)[name] if wanted <= each.labels.items()]
    return sample.value


def family_names(text: str) -> set[str]:
    """Return the names of all metrics in a text."""
    return {family.name.removeprefix("pylsyncd_") for family in parse(text)}


def fail(name: str) -> None:
    """Fail since a thread has failed."""
    raise AssertionError(f"{name} failed")


@contextmanager
def exporting(
    read: Callable[[], Status] = lambda: STATUS,
    *,
    file: Path | None = None,
    port: int | None = None,
    pages: Pages = MappingProxyType({}),
    interval: float = 0.02,
) -> Iterator[MetricsExporter]:
    """Yield a running exporter, and stop it at the end."""
    name = None if file is None else os.fspath(file)
    metrics = MetricsExporter(read, fail, file=name, port=port, pages=pages, interval=interval)
    metrics.start()
    try:
        yield metrics
    finally:
        metrics.stop()


def fetch(metrics: MetricsExporter, accept: str = "text/plain") -> str:
    """Return the metrics that are served over HTTP."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{metrics.port}/metrics", headers={"Accept": accept}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # our own address
        assert answer.status == 200
        content: bytes = answer.read()
    return content.decode()
