"""Metrics: what the client library's own parser reads in the file and over HTTP."""

import dataclasses
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample
from support.daemon import environment
from support.waiting import wait_until

from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import (
    LAG_BOUNDS,
    Condition,
    DestinationCounts,
    DestinationStatus,
    RunStatus,
    Status,
    SyncStatus,
)
from pylsyncd.report import metric_families
from pylsyncd.report.metrics import MetricsExporter
from pylsyncd.report.metrics_server import MAX_CONNECTIONS

PROMISED = {
    "in_sync", "state", "behind_seconds", "lag_seconds", "waiting_paths", "owes_everything", "runs",
    "rsync_exits", "sent_bytes", "files", "deletions", "events", "overflows", "watches",
    "watch_limit", "unwatched_directories", "full_syncs", "build_info", "start_time_seconds",
    "watching", "source_held",
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
)
WEB1 = DestinationStatus(
    "web1", "web1:/srv", Condition.IN_SYNC,
    last_run=RunStatus(1000.0, 1.0, "done", 0), counts=COUNTS,
)  # fmt: skip
WEB2 = DestinationStatus(
    "web2", "web2:/srv", Condition.RETRYING, behind=12.5, waiting=3, owes_everything=True
)
WWW = SyncStatus(
    "www", "/srv", is_watching=True, directories=1000, unwatched=2, destinations=(WEB1, WEB2),
    overflows=1, events={"CREATE": 10, "DELETE": 0},
)  # fmt: skip
STATUS = Status("2.0", 1, 5000.0, 4000.0, 8192, (WWW,))


def of(status: Status) -> str:
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


def never(name: str) -> None:
    raise AssertionError(f"{name} failed")


@contextmanager
def telling(
    read: Callable[[], Status] = lambda: STATUS,
    *,
    file: Path | None = None,
    port: int | None = None,
    interval: float = 0.02,
) -> Iterator[MetricsExporter]:
    name = None if file is None else os.fspath(file)
    metrics = MetricsExporter(read, never, file=name, port=port, interval=interval)
    metrics.start()
    try:
        yield metrics
    finally:
        metrics.stop()


def fetch(metrics: MetricsExporter, accept: str = "text/plain") -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{metrics.port}/metrics", headers={"Accept": accept}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  # our own address
        assert answer.status == 200
        content: bytes = answer.read()
    return content.decode()


def test_every_metric_that_is_promised_is_there() -> None:
    found = {family.name.removeprefix("pylsyncd_") for family in parse(of(STATUS))}
    assert found == PROMISED


def test_metrics_have_types_and_words_that_say_what_they_are() -> None:
    for family in parse(of(STATUS)):
        assert family.name.startswith("pylsyncd_")
        assert family.type in {"gauge", "counter", "histogram"}
        assert family.documentation.endswith(".")


def test_the_text_needs_nothing_of_python_or_of_this_process() -> None:
    assert "python_" not in of(STATUS)
    assert "process_" not in of(STATUS)


def test_there_are_no_two_of_one_series() -> None:
    for name, found in samples(of(STATUS)).items():
        series = [frozenset(sample.labels.items()) for sample in found]
        assert len(series) == len(set(series)), name


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("in_sync", {"destination": "web1"}, 1),
        ("in_sync", {"destination": "web2"}, 0),
        ("state", {"destination": "web1", "state": "in_sync"}, 1),
        ("state", {"destination": "web1", "state": "held"}, 0),
        ("state", {"destination": "web2", "state": "retrying"}, 1),
        ("behind_seconds", {"destination": "web2"}, 12.5),
        ("waiting_paths", {"destination": "web2"}, 3),
        ("owes_everything", {"destination": "web2"}, 1),
        ("runs_total", {"destination": "web1", "outcome": "done"}, 5),
        ("runs_total", {"destination": "web1", "outcome": "held"}, 0),
        ("rsync_exits_total", {"destination": "web1", "code": "255"}, 1),
        ("rsync_exits_total", {"destination": "web1", "code": "-15"}, 1),
        ("sent_bytes_total", {"destination": "web1"}, 123456),
        ("files_total", {"destination": "web1"}, 100),
        ("deletions_total", {"destination": "web1"}, 7),
        ("full_syncs_total", {"destination": "web1", "reason": "initial sync"}, 1),
        ("events_total", {"type": "CREATE"}, 10),
        ("events_total", {"type": "DELETE"}, 0),
        ("overflows_total", {"sync": "www"}, 1),
        ("watches", {"sync": "www"}, 1000),
        ("watch_limit", {"sync": "www"}, 8192),
        ("unwatched_directories", {"sync": "www"}, 2),
        ("watching", {"sync": "www"}, 1),
        ("source_held", {"sync": "www"}, 0),
        ("start_time_seconds", {"sync": "www"}, 4000),
        ("build_info", {"version": "2.0"}, 1),
        ("lag_seconds_bucket", {"destination": "web1", "le": "0.1"}, 1),
        ("lag_seconds_bucket", {"destination": "web1", "le": "0.5"}, 3),
        ("lag_seconds_bucket", {"destination": "web1", "le": "86400.0"}, 3),
        ("lag_seconds_bucket", {"destination": "web1", "le": "+Inf"}, 7),
        ("lag_seconds_count", {"destination": "web1"}, 7),
        ("lag_seconds_sum", {"destination": "web1"}, 99.5),
    ],
)  # fmt: skip
def test_a_metric_says_what_the_status_says(
    name: str, labels: dict[str, str], expected: float
) -> None:
    assert value(of(STATUS), name, **labels) == expected


def test_a_destination_is_in_exactly_one_state() -> None:
    for condition in Condition:
        to = dataclasses.replace(WEB1, condition=condition)
        text = of(
            dataclasses.replace(STATUS, syncs=(dataclasses.replace(WWW, destinations=(to,)),))
        )
        states = {s.labels["state"]: s.value for s in samples(text)["state"]}
        assert states == {each.name.lower(): float(each is condition) for each in Condition}
        assert value(text, "in_sync") == float(condition is Condition.IN_SYNC)


def test_a_sync_without_a_name_is_known_by_its_source() -> None:
    text = of(dataclasses.replace(STATUS, syncs=(dataclasses.replace(WWW, name=""),)))
    assert value(text, "watches", sync="/srv") == 1000


def test_there_is_nothing_yet_and_no_error_before_the_first_sync_has_begun() -> None:
    assert samples(of(dataclasses.replace(STATUS, syncs=()))) == {}


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "{}", "ä", "\u2028", ""])
def test_names_come_through_whatever_they_are(name: str) -> None:
    to = dataclasses.replace(WEB1, name=name)
    text = of(dataclasses.replace(STATUS, syncs=(dataclasses.replace(WWW, destinations=(to,)),)))
    assert value(text, "waiting_paths", destination=name) == 0


def test_a_name_that_is_not_utf8_is_escaped() -> None:
    sync = dataclasses.replace(WWW, name="", source=os.fsdecode(b"/srv/\xff"))
    assert value(of(dataclasses.replace(STATUS, syncs=(sync,))), "watches", sync=r"/srv/\xff")


def test_the_file_is_readable_by_all_and_complete_whenever_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "pylsyncd.prom"
    count = 0

    def read() -> Status:
        nonlocal count
        count += 1
        return dataclasses.replace(STATUS, watch_limit=count)

    with telling(read, file=file, interval=0.0):
        wait_until(file.exists)
        limits = []
        for _ in range(100):
            text = file.read_text()
            assert {f.name.removeprefix("pylsyncd_") for f in parse(text)} == PROMISED
            limits.append(value(text, "watch_limit"))
            others = [name for name in os.listdir(tmp_path) if name.endswith(".prom")]
            assert others == ["pylsyncd.prom"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert limits == sorted(limits)
    assert len(set(limits)) > 1


def test_the_file_goes_with_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "pylsyncd.prom"
    with telling(file=file):
        wait_until(file.exists)
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pylsyncd.report.metrics")
    directory = tmp_path / "d"
    directory.mkdir()
    with telling(file=directory / "pylsyncd.prom"):
        wait_until((directory / "pylsyncd.prom").exists)
        directory.rename(tmp_path / "e")
        wait_until(lambda: caplog.records)
        directory.mkdir()
        wait_until((directory / "pylsyncd.prom").exists)
        wait_until(lambda: len(caplog.records) == 2)
    shown = f"The metrics file {directory}/pylsyncd.prom"
    assert [each.getMessage() for each in caplog.records] == [
        f"{shown} cannot be written: No such file or directory. Retrying.",
        f"{shown} is written again.",
    ]


def test_they_are_served_on_the_loopback_alone() -> None:
    with telling(port=0) as metrics:
        assert {f.name.removeprefix("pylsyncd_") for f in parse(fetch(metrics))} == PROMISED
        listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        ours = f":{metrics.port:04X}"
        addresses = [
            line.split()[1]
            for line in listening.splitlines()
            if ours in line.split()[1] and line.split()[3] == "0A"
        ]
        assert addresses == [f"0100007F{ours}"]


def test_the_newer_format_is_served_to_who_asks_for_it() -> None:
    with telling(port=0) as metrics:
        text = fetch(metrics, "application/openmetrics-text; version=1.0.0")
    found = {family.name.removeprefix("pylsyncd_") for family in parse_openmetrics(text)}
    assert found == PROMISED


def test_what_is_served_is_what_is_so_at_that_moment() -> None:
    limits = iter(range(1, 100))
    read = lambda: dataclasses.replace(STATUS, watch_limit=next(limits))  # noqa: E731
    with telling(read, port=0) as metrics:
        found = [value(fetch(metrics), "watch_limit") for _ in range(3)]
    assert found == [1, 2, 3]


def test_both_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "pylsyncd.prom"
    with telling(file=file, port=0) as metrics:
        wait_until(file.exists)
        assert value(fetch(metrics), "watches") == 1000


def test_a_port_in_use_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            MetricsExporter(lambda: STATUS, never, port=port)
    assert str(caught.value) == (
        f"Cannot listen on port {port} of 127.0.0.1: Address already in use. Stop the process "
        "that uses it, or choose another port with --metrics-port."
    )


def test_a_port_is_free_again_at_once() -> None:
    with telling(port=0) as metrics:
        port = metrics.port
        fetch(metrics)
    with telling(port=port) as metrics:
        fetch(metrics)


def test_who_says_nothing_or_garbage_does_not_keep_others_waiting() -> None:
    with telling(port=0) as metrics:
        address = ("127.0.0.1", metrics.port)
        mute = [socket.create_connection(address) for _ in range(3 * MAX_CONNECTIONS)]
        try:
            for _ in range(10):
                with socket.create_connection(address) as garbage:
                    garbage.sendall(b"\0\xff" * 1000 + b"\r\n\r\n")
            # Long before they have been silent for too long.
            deadline = time.monotonic() + 5
            while True:
                try:
                    text = fetch(metrics)
                    break
                except OSError:
                    assert time.monotonic() < deadline
            assert value(text, "watches") == 1000
            serving = [each for each in threading.enumerate() if each.name == "metrics"]
            assert len(serving) <= MAX_CONNECTIONS + 1
        finally:
            for each in mute:
                each.close()


def test_a_stop_does_not_wait_for_who_says_nothing() -> None:
    with telling(port=0) as metrics:
        mute = socket.create_connection(("127.0.0.1", metrics.port))
        wait_until(lambda: sum(each.name == "metrics" for each in threading.enumerate()) == 2)
        started = time.monotonic()
    mute.close()
    assert time.monotonic() - started < 5


def test_a_stop_before_the_start_is_no_error() -> None:
    MetricsExporter(lambda: STATUS, never, port=0).stop()


def test_a_file_that_can_never_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        MetricsExporter(lambda: STATUS, never, file=f"{tmp_path}/none/x.prom")
    assert str(caught.value) == (
        f"The directory of the metrics file {tmp_path}/none/x.prom is missing: create it, or name "
        "another file with --metrics-file."
    )
    with pytest.raises(UsageError, match="is a directory: name a file in it"):
        MetricsExporter(lambda: STATUS, never, file=f"{tmp_path}")


def test_a_missing_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "pylsyncd.report.metric_families")
    monkeypatch.delattr("pylsyncd.report.metric_families")
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    with pytest.raises(UsageError, match=r"pip install 'pylsyncd\[metrics\]'"):
        MetricsExporter(lambda: STATUS, never, port=0)


class _Missing:
    """Finds no client library, wherever it is."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "prometheus_client":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("dear", ["prometheus_client", "http.server", "ssl"])
def test_what_only_some_want_is_not_imported_for_all(dear: str) -> None:
    code = f"import sys, pylsyncd.cli; sys.exit({dear!r} in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert ended.returncode == 0
