"""The metrics of a status, as the client library's own parser reads them."""

import dataclasses
import os
import platform

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from support.metrics import (
    METRIC_NAMES,
    STATUS,
    WEB1,
    WWW,
    family_names,
    format_text,
    samples,
    value,
)

from pylsyncd.model.status import Condition


def test_every_documented_metric_is_exported() -> None:
    found = family_names(format_text(STATUS))
    assert found == METRIC_NAMES


def test_every_metric_has_a_type_and_a_description() -> None:
    for family in parse(format_text(STATUS)):
        assert family.name.startswith("pylsyncd_")
        assert family.type in {"gauge", "counter", "histogram"}
        assert family.documentation.endswith(".")


def test_metrics_of_python_and_of_the_process_are_left_out() -> None:
    assert "python_" not in format_text(STATUS)
    assert "process_" not in format_text(STATUS)


def test_every_series_occurs_once() -> None:
    for name, found in samples(format_text(STATUS)).items():
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
        ("repaired_paths_total", {"destination": "web1"}, 11),
        ("moved_files_total", {"destination": "web1"}, 1204),
        ("moved_bytes_total", {"destination": "web1"}, 2100),
        ("compared_since_seconds", {"destination": "web1"}, 4321),
        ("full_syncs_total", {"destination": "web1", "reason": "initial sync"}, 1),
        ("events_total", {"type": "CREATE"}, 10),
        ("events_total", {"type": "DELETE"}, 0),
        ("overflows_total", {"sync": "www"}, 1),
        ("watches", {"sync": "www"}, 1000),
        ("watch_limit", {"sync": "www"}, 8192),
        ("unwatched_directories", {"sync": "www"}, 2),
        ("watching", {"sync": "www"}, 1),
        ("oldest_look_seconds", {"sync": "www"}, 300),
        ("source_held", {"sync": "www"}, 0),
        ("held_subtrees", {"sync": "www"}, 1),
        ("failed_paths", {"destination": "web1"}, 0),
        ("failed_paths", {"destination": "web2"}, 3),
        ("held_paths", {"destination": "web2"}, 2),
        ("unset_attribute_paths", {"destination": "web2"}, 1),
        ("unverified", {"destination": "web1"}, 0),
        ("unverified", {"destination": "web2"}, 1),
        ("start_time_seconds", {"sync": "www"}, 4000),
        ("build_info", {"version": "2.0", "python": platform.python_version()}, 1),
        ("last_success_seconds", {"destination": "web1"}, 1000),
        ("failing_since_seconds", {"destination": "web2"}, 4990),
        ("last_reload_successful", {"sync": "www"}, 0),
        ("last_reload_seconds", {"sync": "www"}, 4500),
        ("status_file_written_seconds", {"sync": "www"}, 4999),
        ("stuck_threads", {"sync": "www"}, 1),
        ("lag_seconds_bucket", {"destination": "web1", "le": "0.1"}, 1),
        ("lag_seconds_bucket", {"destination": "web1", "le": "0.5"}, 3),
        ("lag_seconds_bucket", {"destination": "web1", "le": "86400.0"}, 3),
        ("lag_seconds_bucket", {"destination": "web1", "le": "+Inf"}, 7),
        ("lag_seconds_count", {"destination": "web1"}, 7),
        ("lag_seconds_sum", {"destination": "web1"}, 99.5),
    ],
)  # fmt: skip
def test_a_metric_has_the_value_of_the_status(
    name: str, labels: dict[str, str], expected: float
) -> None:
    assert value(format_text(STATUS), name, **labels) == expected


def test_a_destination_is_in_exactly_one_state() -> None:
    for condition in Condition:
        to = dataclasses.replace(WEB1, condition=condition)
        text = format_text(
            dataclasses.replace(STATUS, syncs=(dataclasses.replace(WWW, destinations=(to,)),))
        )
        states = {s.labels["state"]: s.value for s in samples(text)["state"]}
        conditions = {each.name.lower(): float(each is condition) for each in Condition}
        assert states == {**conditions, "unverified": 0.0}
        assert value(text, "in_sync") == float(condition is Condition.IN_SYNC)


def test_a_sync_without_a_name_is_labelled_with_its_source() -> None:
    text = format_text(dataclasses.replace(STATUS, syncs=(dataclasses.replace(WWW, name=""),)))
    assert value(text, "watches", sync="/srv") == 1000


def test_what_has_never_happened_has_no_time_and_the_start_counts_as_a_reload() -> None:
    never = dataclasses.replace(STATUS, last_reload=None, reload_error="", status_file_written=None)
    text = format_text(never)
    assert value(text, "last_reload_seconds") == never.started
    assert value(text, "last_reload_successful") == 1
    found = samples(text)
    assert "status_file_written_seconds" not in found
    assert [each.labels["destination"] for each in found["last_success_seconds"]] == ["web1"]
    assert [each.labels["destination"] for each in found["failing_since_seconds"]] == ["web2"]


def test_a_status_without_syncs_has_no_samples() -> None:
    assert samples(format_text(dataclasses.replace(STATUS, syncs=()))) == {}


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "{}", "ä", "\u2028", ""])
def test_any_name_is_kept_in_its_label(name: str) -> None:
    to = dataclasses.replace(WEB1, name=name)
    text = format_text(
        dataclasses.replace(STATUS, syncs=(dataclasses.replace(WWW, destinations=(to,)),))
    )
    assert value(text, "waiting_paths", destination=name) == 0


def test_a_name_that_is_not_utf8_is_escaped() -> None:
    sync = dataclasses.replace(WWW, name="", source=os.fsdecode(b"/srv/\xff"))
    assert value(
        format_text(dataclasses.replace(STATUS, syncs=(sync,))), "watches", sync=r"/srv/\xff"
    )


def test_the_outcomes_of_runs_are_exported_as_zero_from_the_start() -> None:
    found = {
        each.labels["outcome"]: each.value
        for each in samples(format_text(STATUS))["runs_total"]
        if each.labels["destination"] == "web2"
    }
    assert found == dict.fromkeys(["done", "again", "partial", "later", "held"], 0.0)


def test_a_destination_that_is_unverified_is_not_in_sync() -> None:
    web = dataclasses.replace(WEB1, unverified="it was never compared")
    sync = dataclasses.replace(WWW, destinations=(web,))
    found = samples(format_text(dataclasses.replace(STATUS, syncs=(sync,))))
    states = {each.labels["state"]: each.value for each in found["state"]}
    assert [name for name, value in states.items() if value] == ["unverified"]
    assert [each.value for each in found["in_sync"]] == [0]
