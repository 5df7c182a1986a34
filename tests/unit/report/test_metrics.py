"""The exporter keeps the metrics file current, and refuses what can never work."""

import dataclasses
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import environment
from support.metrics import METRIC_NAMES, STATUS, exporting, fail, family_names, fetch, value
from support.waiting import wait_until

from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import Status
from pylsyncd.report.metrics import MetricsExporter


def test_the_file_is_readable_by_all_and_complete_at_any_time(tmp_path: Path) -> None:
    file = tmp_path / "pylsyncd.prom"
    count = 0

    def read() -> Status:
        nonlocal count
        count += 1
        return dataclasses.replace(STATUS, watch_limit=count)

    with exporting(read, file=file, interval=0.0):
        wait_until(file.exists)
        limits = []
        for _ in range(100):
            text = file.read_text()
            assert family_names(text) == METRIC_NAMES
            limits.append(value(text, "watch_limit"))
            others = [name for name in os.listdir(tmp_path) if name.endswith(".prom")]
            assert others == ["pylsyncd.prom"]
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert limits == sorted(limits)
    assert len(set(limits)) > 1


def test_a_stop_removes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pylsyncd.prom"
    with exporting(file=file):
        wait_until(file.exists)
    assert os.listdir(tmp_path) == []


def test_a_failure_to_write_is_logged_once_and_retried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pylsyncd.report.metrics")
    directory = tmp_path / "d"
    directory.mkdir()
    with exporting(file=directory / "pylsyncd.prom"):
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


def test_a_file_and_a_port_can_be_combined(tmp_path: Path) -> None:
    file = tmp_path / "pylsyncd.prom"
    with exporting(file=file, port=0) as metrics:
        wait_until(file.exists)
        assert value(fetch(metrics), "watches") == 1000


def test_an_exporter_that_was_never_started_can_be_stopped() -> None:
    MetricsExporter(lambda: STATUS, fail, port=0).stop()


def test_an_impossible_path_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        MetricsExporter(lambda: STATUS, fail, file=f"{tmp_path}/none/x.prom")
    assert str(caught.value) == (
        f"The directory of the metrics file {tmp_path}/none/x.prom is missing: create it, or name "
        "another file with --metrics-file."
    )
    with pytest.raises(UsageError, match="is a directory: name a file in it"):
        MetricsExporter(lambda: STATUS, fail, file=f"{tmp_path}")


def test_a_missing_library_is_an_error_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "pylsyncd.report.metric_families")
    monkeypatch.delattr("pylsyncd.report.metric_families")
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    with pytest.raises(UsageError, match=r"pip install 'pylsyncd\[metrics\]'"):
        MetricsExporter(lambda: STATUS, fail, port=0)


class _Missing:
    """Finds no client library, wherever it is."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "prometheus_client":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("library", ["prometheus_client", "http.server", "ssl"])
def test_optional_libraries_are_imported_only_if_needed(library: str) -> None:
    code = f"import sys, pylsyncd.cli; sys.exit({library!r} in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert ended.returncode == 0
