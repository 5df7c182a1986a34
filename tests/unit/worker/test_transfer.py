"""One changeset, one rsync, one result. With real rsyncs."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.faults import exit_with, print_error_and_exit
from support.worker_setup import WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, NOTHING, Changeset, MutableChangeset, Scope
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.rsync.size_limit import SizeLimit
from pylsyncd.worker.transfer import TransferResult

Make = Callable[..., WorkerSetup]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def made(**options: object) -> WorkerSetup:
            return stack.enter_context(contextlib.closing(WorkerSetup(tmp_path, **options)))  # type: ignore[arg-type]

        yield made


@pytest.fixture
def place(make: Make) -> WorkerSetup:
    return make()


def carry(place: WorkerSetup, changeset: Changeset, **options: bool) -> TransferResult:
    return place.transfer(place.session()).carry(changeset, **options)  # type: ignore[arg-type]


def copied(place: WorkerSetup) -> list[str]:
    return sorted(os.listdir(place.copy))


def paths(changeset: Changeset) -> list[bytes]:
    return sorted(change.path for change in changeset)


def test_a_carried_changeset_leaves_nothing_pending(place: WorkerSetup) -> None:
    place.write("a", "b")
    result = carry(place, entries(b"a"))
    assert result.verdict is Verdict.DONE
    assert [*result.pending, *result.failed, *result.large_files] == []
    assert result.run is not None
    assert result.run.result.files == 1
    assert copied(place) == ["a"]


def test_an_empty_list_needs_no_run(place: WorkerSetup) -> None:
    assert carry(place, NOTHING).run is None


def test_a_failed_run_leaves_everything_pending(place: WorkerSetup) -> None:
    place.write("a")
    place.faulty.add_fault(print_error_and_exit("rsync: connection reset", 12))
    result = carry(place, entries(b"a"))
    assert (result.verdict, paths(result.pending)) == (Verdict.RETRY_LATER, [b"a"])
    assert result.outcome.message == "rsync: connection reset"
    assert result.run is not None
    assert result.run.result.exit_status == 12


def test_failed_paths_are_set_apart_if_rsync_names_them(place: WorkerSetup) -> None:
    place.write("bad", "good")
    place.make_fail("bad")
    result = carry(place, entries(b"bad", b"good"))
    assert result.verdict is Verdict.PARTIAL
    assert (paths(result.failed), paths(result.pending)) == ([b"bad"], [])


DENIED = "Permission denied (13)"


@pytest.mark.parametrize(
    "message",
    [
        f'rsync: [sender] open "{{source}}/other": {DENIED}',
        f'rsync: [sender] open "{{source}}/../x": {DENIED}',
        "cannot delete non-empty directory: ..",
        "cannot delete non-empty directory: a\\#000b",
        f'rsync: [receiver] mkstemp "{{copy}}/....abcdef" failed: {DENIED}',
    ],
)
def test_what_was_not_carried_does_not_become_pending(place: WorkerSetup, message: str) -> None:
    place.write("a", "b", "other")
    shown = message.format(source=place.source, copy=place.copy)
    place.faulty.add_fault(print_error_and_exit(shown, 23))
    result = carry(place, entries(b"a", b"b"))
    assert (paths(result.failed), paths(result.pending)) == ([], [b"a", b"b"])
    honest = f'rsync: [sender] open "{place.source}/a": {DENIED}'
    place.faulty.add_fault(print_error_and_exit(f"{honest}\n{shown}", 23))
    result = carry(place, entries(b"a", b"b"))
    assert (paths(result.failed), paths(result.pending)) == ([b"a"], [])


def test_the_source_itself_is_not_left_out_of_a_run_for_the_sake_of_deletions(
    place: WorkerSetup,
) -> None:
    place.write("a")
    skipped = "IO error encountered -- skipping file deletion"
    failed = f'rsync: [generator] failed to set times on "{place.copy}/.": {DENIED}'
    place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{failed}", 23))
    result = carry(place, entries(b"a"))
    assert (paths(result.failed), paths(result.pending)) == ([], [b"a"])


def test_excluded_paths_are_neither_sent_nor_deleted(place: WorkerSetup) -> None:
    place.write("d/new", "d/excluded")
    (place.copy / "d").mkdir()
    (place.copy / "d/kept").touch()
    listing = MutableChangeset()
    listing.add(b"d", Scope.LISTING)
    place.transfer(place.session()).carry(listing, frozenset([b"d/excluded", b"d/kept"]))
    assert sorted(path.name for path in (place.copy / "d").iterdir()) == ["kept", "new"]


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
    assert (result.verdict, paths(result.pending)) == (Verdict.RETRY_LATER, [b"a"])
    assert not place.faulty.pending_faults


def test_large_files_are_left_out_only_if_asked_and_never_of_a_full_sync(make: Make) -> None:
    place = make(size_limit=SizeLimit(100, preserves_hard_links=False))
    (place.source / "large").write_bytes(b"x" * 101)
    (place.source / "small").write_bytes(b"x" * 100)
    both = entries(b"large", b"small")
    result = carry(place, both, exclude_large=True)
    assert (result.verdict, paths(result.large_files)) == (Verdict.DONE, [b"large"])
    assert copied(place) == ["small"]
    assert not carry(place, both).large_files
    assert copied(place) == ["large", "small"]
    (place.copy / "large").unlink()
    assert not carry(place, EVERYTHING, exclude_large=True).large_files
    assert copied(place) == ["large", "small"]


def test_a_source_replaced_during_the_run_confirms_nothing_and_keeps_the_run(
    place: WorkerSetup,
) -> None:
    place.write("a")
    place.faulty.add_fault(
        f"mv '{place.source}' '{place.source}-was'; mkdir '{place.source}'; exit 0"
    )
    result = carry(place, entries(b"a"))
    assert (result.verdict, paths(result.pending)) == (Verdict.SOURCE_UNSAFE, [b"a"])
    assert result.run is not None
    assert result.run.outcome.verdict is Verdict.DONE


def test_nothing_is_sent_to_a_replaced_destination_until_released(place: WorkerSetup) -> None:
    place.write("a", "b")
    carry(place, entries(b"a"))
    place.copy.rename(place.copy.with_name("was"))
    place.copy.mkdir()
    result = carry(place, entries(b"b"))
    assert (result.verdict, paths(result.pending)) == (Verdict.SOURCE_UNSAFE, [b"b"])
    assert "pylsyncctl release" in result.outcome.message
    assert result.run is None
    assert copied(place) == []
    # A released directory is compared as a whole.
    assert carry(place, entries(b"b"), is_released=True).verdict is Verdict.DONE
    assert copied(place) == ["a", "b"]


def test_more_deletions_than_allowed_are_held_until_released(make: Make) -> None:
    place = make(max_delete=1)
    for name in ("a", "b"):
        (place.copy / name).touch()
    gone = entries(b"a", b"b")
    result = carry(place, gone)
    assert (result.verdict, paths(result.pending), result.run) == (
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


def test_a_failed_probe_before_a_run_leaves_everything_pending(make: Make) -> None:
    place = make(is_probed=False)
    place.write("a")
    transfer = place.transfer(place.session())
    place.faulty.add_fault(exit_with(30))
    result = transfer.carry(entries(b"a"))
    assert (result.verdict, paths(result.pending)) == (Verdict.RETRY_LATER, [b"a"])
    assert copied(place) == []
    assert transfer.was_probe_tried
    assert transfer.carry(entries(b"a")).verdict is Verdict.DONE


def test_a_probe_changes_nothing_and_returns_its_outcome(make: Make) -> None:
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
