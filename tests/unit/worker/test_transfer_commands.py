"""What the destination's rsync is capable of is found out once. With real rsyncs."""

import logging
from collections.abc import Callable

import pytest
from support.faults import exit_with, print_error_and_exit
from support.worker_setup import WorkerSetup, carry, changed_paths, copied, entries

from pylsyncd.rsync.outcomes import Outcome, Verdict, interpret


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("rsync: --mkpath: unknown option", 1),
        ("invalid file mode 00 for x [Receiver]", 2),
    ],
)
def test_a_run_is_repeated_once_without_a_missing_capability(
    place: WorkerSetup, message: str, status: int
) -> None:
    place.write("a")
    place.faulty.add_fault(print_error_and_exit(message, status))
    assert carry(place, entries(b"a")).verdict is Verdict.DONE
    assert copied(place) == ["a"]
    for _ in range(2):
        place.faulty.add_fault(print_error_and_exit(message, status))
    result = carry(place, entries(b"a"))
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.RETRY_LATER, [b"a"])
    assert not place.faulty.pending_faults


def test_a_failed_probe_before_a_run_leaves_everything_pending(
    make: Callable[..., WorkerSetup],
) -> None:
    place = make(is_probed=False)
    place.write("a")
    transfer = place.transfer(place.session())
    place.faulty.add_fault(exit_with(30))
    result = transfer.carry(entries(b"a"))
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.RETRY_LATER, [b"a"])
    assert copied(place) == []
    assert transfer.was_probe_tried
    assert transfer.carry(entries(b"a")).verdict is Verdict.DONE


@pytest.mark.parametrize(
    "message",
    [
        "",
        "invalid file mode 00 for .pylsyncd-probe [Receiver]",
        "invalid file",
        "File-list index 2 not in 0 - 1 (recv_files) [Receiver]",
    ],
)
def test_a_probe_that_ends_with_a_protocol_error_finds_no_deletion_by_name(
    make: Callable[..., WorkerSetup], caplog: pytest.LogCaptureFixture, message: str
) -> None:
    caplog.set_level(logging.INFO)
    place = make(is_probed=False)
    (place.copy / "b").touch()
    session = place.session()
    transfer = place.transfer(session)
    place.faulty.add_fault(print_error_and_exit(message, 2))
    assert transfer.probe() == Outcome(Verdict.DONE)
    assert "cannot delete by name (rsync issue 910): continuing without it." in caplog.text
    assert not session.statistics.counts().codes
    # Nothing fails after that, and the deletion arrives.
    place.faulty.add_rule("", 'case " $* " in *" --delete-missing-args "*) exit 2;; esac')
    assert transfer.carry(entries(b"b")).verdict is Verdict.DONE
    assert copied(place) == []


@pytest.mark.parametrize(
    ("message", "status", "verdict"),
    [
        ("protocol version mismatch -- is your shell clean?", 2, Verdict.HELD),
        ("", 12, Verdict.RETRY_LATER),
    ],
)
def test_a_probe_that_fails_for_another_reason_tells_nothing_about_deletion_by_name(
    make: Callable[..., WorkerSetup], message: str, status: int, verdict: Verdict
) -> None:
    place = make(is_probed=False)
    transfer = place.transfer(place.session())
    place.faulty.add_fault(print_error_and_exit(message, status))
    outcome = transfer.probe()
    assert (outcome.verdict, outcome.missing_capability) == (verdict, None)
    assert transfer.probe().verdict is Verdict.DONE


def test_a_probe_that_always_ends_with_a_protocol_error_is_a_failure(
    make: Callable[..., WorkerSetup],
) -> None:
    place = make(is_probed=False)
    place.faulty.add_rule("", "exit 2")
    transfer = place.transfer(place.session())
    assert transfer.probe() == interpret(2, [])
    assert len(place.faulty.runs) == 2


def test_a_probe_changes_nothing_and_returns_its_outcome(make: Callable[..., WorkerSetup]) -> None:
    place = make(is_probed=False)
    place.write("a")
    (place.copy / "b").touch()
    transfer = place.transfer(place.session())
    assert not transfer.was_probe_tried
    assert transfer.probe() == Outcome(Verdict.DONE)
    assert transfer.was_probe_tried
    assert copied(place) == ["b"]
    place.source.rename(place.source.with_name("away"))
    assert transfer.probe().verdict is Verdict.SOURCE_UNSAFE
