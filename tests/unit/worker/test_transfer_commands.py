"""What the destination's rsync is capable of is found out once. With real rsyncs."""

from collections.abc import Callable

import pytest
from support.faults import exit_with, print_error_and_exit
from support.worker_setup import WorkerSetup, carry, changed_paths, copied, entries

from pylsyncd.rsync.outcomes import Outcome, Verdict


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
