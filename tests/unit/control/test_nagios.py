"""The monitoring plugin reports the worst state, its reasons and the performance data."""

import math
import re
from dataclasses import replace

import pytest
from support.commands import IN_SYNC_STATUS, MIXED_STATUS, NOW, destination, status

from pylsyncd.control.nagios import ServiceState, Thresholds, evaluate, format_line
from pylsyncd.model.status import Condition, DestinationStatus, PathSummary, SetAside

LIMITS = Thresholds(60.0, 30.0)


@pytest.mark.parametrize(
    ("each", "limits", "level", "text"),
    [
        (destination("a"), LIMITS, ServiceState.OK, "1 destination, at most 0 s behind"),
        (destination("a", Condition.SYNCING, behind=30.0), LIMITS, ServiceState.OK, "30 s behind"),
        (destination("a", Condition.SYNCING, behind=30.1), LIMITS, ServiceState.WARNING,
         "a syncing, 30 s behind"),
        (destination("a", Condition.SYNCING, behind=60.1), LIMITS, ServiceState.CRITICAL,
         "a syncing, 1 min behind"),
        (destination("a", Condition.SYNCING, behind=59), Thresholds(60.0), ServiceState.OK,
         "59 s behind"),
        (destination("a", Condition.RETRYING, behind=1.0, error="it is full"), LIMITS,
         ServiceState.WARNING, "a retrying, 1 s behind (it is full)"),
        (destination("a", Condition.RETRYING, behind=99.0), LIMITS, ServiceState.CRITICAL,
         "a retrying"),
        (destination("a", Condition.PAUSED), LIMITS, ServiceState.WARNING, "a paused"),
        (destination("a", Condition.HELD, error="x | y"), LIMITS, ServiceState.CRITICAL,
         "a held (x / y)"),
        (destination("a", Condition.FAILED, error="it is a bug"), LIMITS, ServiceState.CRITICAL,
            "a failed (it is a bug)"),
        (destination("a", Condition.STARTING), LIMITS, ServiceState.OK, "0 s behind"),
    ],
)  # fmt: skip
def test_the_state_of_the_plugin_follows_from_condition_and_lag(
    each: DestinationStatus, limits: Thresholds, level: ServiceState, text: str
) -> None:
    found, line = evaluate([status(destination("b"), each)], limits)
    assert found is level
    assert line.startswith(f"PYLSYNCD {level.name} - ")
    assert text.replace("1 destination,", "2 destinations,") in line.partition(" | ")[0]


def test_the_worst_state_wins_and_critical_findings_come_first() -> None:
    level, line = evaluate([MIXED_STATUS], LIMITS)
    assert level is ServiceState.CRITICAL
    text = line.partition(" | ")[0].partition(" - ")[2].split("; ")
    assert [each.split()[0] for each in text] == ["srv4", "srv5", "srv6"]


def test_a_held_source_is_critical() -> None:
    level, line = evaluate([status(destination("a"), held="nothing is mounted there")], LIMITS)
    assert level is ServiceState.CRITICAL
    assert "source /srv/www held: nothing is mounted there" in line


def test_a_held_subtree_is_critical_and_a_path_that_is_lacking_is_a_warning() -> None:
    held = status(destination("a"), held_subtrees={"nested": "another file system"})
    level, line = evaluate([held], LIMITS)
    assert level is ServiceState.CRITICAL
    assert "nested in /srv/www held: another file system" in line
    for lacking in (
        SetAside(failed=PathSummary(1, ("f",))),
        SetAside(unset_attributes=PathSummary(1, ("f",))),
    ):
        level, line = evaluate([status(destination("a", set_aside=lacking))], LIMITS)
        assert level is ServiceState.WARNING
        assert re.search(r"a in sync \(1 .*: f\) \|", line)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Condition.IN_SYNC, "a unverified (never compared)"),
        (Condition.SYNCING, "a syncing (unverified: never compared)"),
    ],
)
def test_an_unverified_destination_is_a_warning(condition: Condition, text: str) -> None:
    each = destination("a", condition, unverified="never compared")
    level, line = evaluate([status(each)], LIMITS)
    assert level is ServiceState.WARNING
    assert line.startswith(f"PYLSYNCD WARNING - {text} |")


def test_a_thread_that_makes_no_progress_is_critical() -> None:
    level, line = evaluate([replace(IN_SYNC_STATUS, stuck_threads=("a", "b"))], LIMITS)
    assert level is ServiceState.CRITICAL
    assert line.startswith("PYLSYNCD CRITICAL - no progress of a, b |")


def test_a_reload_that_failed_is_a_warning() -> None:
    level, line = evaluate([replace(IN_SYNC_STATUS, reload_error="line 1: no")], LIMITS)
    assert level is ServiceState.WARNING
    assert line.startswith("PYLSYNCD WARNING - the last reload has failed: line 1: no |")


@pytest.mark.parametrize("limits", [Thresholds(1.0), Thresholds(86400.0)])
def test_a_status_that_is_older_than_three_of_its_intervals_is_critical(limits: Thresholds) -> None:
    for age in (0.0, 30.0, -30.0):
        assert evaluate([IN_SYNC_STATUS], limits, age=age)[0] is ServiceState.OK
    for age, text in (
        (31.0, "no status from pylsyncd for 31 s: it has ended or hangs"),
        (-31.0, "31 s ahead of the clock of this machine: pylsyncd has ended, or a clock is wrong"),
    ):
        level, line = evaluate([IN_SYNC_STATUS], limits, age=age)
        assert level is ServiceState.CRITICAL
        assert text in line


@pytest.mark.parametrize("age", [0.0, 100.0])
def test_a_daemon_that_was_stopped_is_critical_at_once(age: float) -> None:
    level, line = evaluate([replace(IN_SYNC_STATUS, stopped=NOW)], LIMITS, age=age)
    assert level is ServiceState.CRITICAL
    assert re.search(r"CRITICAL - pylsyncd was stopped .* ago \|", line)


@pytest.mark.parametrize(
    ("condition", "state"),
    [
        (Condition.IN_SYNC, ServiceState.UNKNOWN),
        (Condition.PAUSED, ServiceState.UNKNOWN),
        (Condition.HELD, ServiceState.CRITICAL),
    ],
)
def test_a_daemon_without_a_status_hides_nothing_of_another(
    condition: Condition, state: ServiceState
) -> None:
    findings = [(ServiceState.UNKNOWN, "no answer")]
    found, line = evaluate([status(destination("a", condition))], LIMITS, findings=findings)
    assert found is state
    assert "no answer" in line
    assert (f"a {condition.value}" in line) is (condition is not Condition.IN_SYNC)
    assert "'a lag'=0s" in line


def test_performance_data_has_a_unique_label_for_each_destination() -> None:
    both = [
        status(destination("a", Condition.WAITING, behind=2.0, waiting=3), destination("it's=|")),
        status(destination("a"), name="other"),
    ]
    assert evaluate(both, LIMITS)[1].partition(" | ")[2] == (
        "'web a lag'=2s;30;60;0 'web a waiting'=3;;;0 'it''s-/ lag'=0s;30;60;0 "
        "'it''s-/ waiting'=0;;;0 'other a lag'=0s;30;60;0 'other a waiting'=0;;;0"
    )


def test_control_characters_are_escaped() -> None:
    evil = "\x1b]0;title\x07\x9b2J\r\n\u202egnp.\udcff"
    each = status(destination(evil, error=evil), name=evil, source=evil, held=evil)
    assert evaluate([each], Thresholds(1.0))[1].isprintable()


def test_the_line_has_one_bar_at_most_however_the_text_reads() -> None:
    assert format_line(ServiceState.UNKNOWN, "a | b") == "PYLSYNCD UNKNOWN - a / b"
    assert format_line(ServiceState.OK, "a", "'x'=1") == "PYLSYNCD OK - a | 'x'=1"


def test_an_unknown_lag_is_critical_and_has_no_number() -> None:
    found, line = evaluate([status(destination("a", behind=math.inf))], LIMITS)
    assert found is ServiceState.CRITICAL
    assert "'a lag'=U;30;60;0" in line
