"""Nothing is deleted before it is known how much would be. With real rsyncs."""

from collections.abc import Callable

from support.faults import print_error_and_exit
from support.worker_setup import DENIED, WorkerSetup, carry, changed_paths, copied, entries

from pylsyncd.model.changes import EVERYTHING
from pylsyncd.rsync.outcomes import Verdict


def test_more_deletions_than_allowed_are_held_until_released(
    make: Callable[..., WorkerSetup],
) -> None:
    place = make(max_delete=1)
    for name in ("a", "b"):
        (place.copy / name).touch()
    gone = entries(b"a", b"b")
    result = carry(place, gone)
    assert (result.verdict, changed_paths(result.pending), result.run) == (
        Verdict.HELD, [b"a", b"b"], None,
    )  # fmt: skip
    assert copied(place) == ["a", "b"]
    assert carry(place, gone, is_released=True).verdict is Verdict.DONE
    assert copied(place) == []


def test_an_empty_source_empties_a_destination_only_when_released(place: WorkerSetup) -> None:
    (place.copy / "precious").touch()
    result = carry(place, EVERYTHING)
    assert result.verdict is Verdict.SOURCE_UNSAFE
    assert copied(place) == ["precious"]
    assert carry(place, EVERYTHING, is_released=True).verdict is Verdict.DONE
    assert copied(place) == []


def test_skipped_deletions_count_against_the_limit(make: Callable[..., WorkerSetup]) -> None:
    place = make(max_delete=1)
    place.write("bad")
    for name in ("x", "y"):
        (place.copy / name).touch()
    skipped = "IO error encountered -- skipping file deletion"
    said = f'rsync: [sender] send_files failed to open "/proc/self/cwd/bad": {DENIED}'
    for _ in range(2):  # the dry run, and the run
        place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{said}", 23))
    result = carry(place, EVERYTHING)
    assert result.verdict is Verdict.HELD
    assert "2 would be deleted" in result.outcome.reason
    assert copied(place) == ["x", "y"]
