"""One changeset, one rsync, one result. With real rsyncs."""

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.faults import exit_with, print_error_and_exit
from support.limits import user_prefix
from support.servers import Unavailable
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


MANY = 1_100


def complain(place: WorkerSetup, line: str, *, work: bool = True) -> None:
    """Make the next run print a line for each of many numbers, after its work."""
    seq = f"seq -f {shlex.quote(line)} 1 {MANY} >&2"
    first = f'{place.faulty.real_rsync} "$@"; ' if work else ""
    place.faulty.add_fault(f"{first}{seq}; exit 23")


def test_all_names_of_a_hard_linked_file_fail_together(make: Make) -> None:
    place = make(extra_options=("--hard-links",))
    place.write("d/bad", "good", "also")
    (place.source / "other-name").hardlink_to(place.source / "d/bad")
    (place.source / "e").mkdir()
    (place.source / "e/third").hardlink_to(place.source / "d/bad")
    place.make_fail("d/bad")
    result = carry(place, EVERYTHING)
    assert paths(result.pending) == []
    assert paths(result.failed) == [b"d/bad", b"e/third", b"other-name"]
    # They are carried together, and so linked.
    assert carry(place, result.failed).verdict is Verdict.DONE
    assert (place.copy / "e/third").stat().st_nlink == 3
    # Of a file that is gone, the other names are not known.
    place.make_fail("gone")
    result = carry(place, entries(b"gone", b"good"))
    assert (paths(result.failed), paths(result.pending)) == ([], [b"gone", b"good"])


def test_however_many_paths_fail_all_others_are_confirmed(place: WorkerSetup) -> None:
    names = [f"d/f{number}" for number in range(1, MANY + 1)]
    place.write(*names, "good")
    complain(place, f'rsync: [sender] send_files failed to open "{place.source}/d/f%.0f": {DENIED}')
    listing = entries(b"good")
    listing.add(b"d", Scope.TREE)
    result = carry(place, listing)
    assert (result.verdict, paths(result.pending)) == (Verdict.PARTIAL, [])
    assert paths(result.failed) == sorted(map(os.fsencode, names))


def test_attributes_that_cannot_be_set_leave_nothing_pending(tmp_path: Path) -> None:
    """Owners that the user namespace of the destination's rsync does not know."""
    if os.geteuid():
        pytest.skip("only root can make files of another user")
    try:
        prefix = user_prefix(is_root=True)
    except Unavailable as reason:
        pytest.skip(str(reason))
    prelude = f"exec {shlex.join(prefix)}"
    with contextlib.closing(
        WorkerSetup(tmp_path, prelude=prelude, extra_options=("--numeric-ids",))
    ) as place:
        place.write(*(f"f{number}" for number in range(MANY)), "other")
        for number in range(MANY):
            os.chown(place.source / f"f{number}", 12345, 12345)
        result = carry(place, EVERYTHING)
    assert result.verdict is Verdict.PARTIAL
    assert [*result.pending, *result.failed] == []
    assert paths(result.unset_attributes) == sorted(b"f%d" % number for number in range(MANY))
    assert "attributes" in result.outcome.reason
    assert (place.copy / "f7").read_text() == "f7"


def test_attributes_that_do_not_fit_leave_nothing_pending(place: WorkerSetup) -> None:
    """An extended attribute of 20,000 bytes on ext4."""
    place.write("a", "b")
    said = f'rsync: [receiver] rsync_xal_set: fsetxattr("{place.copy}/.a.Y7sFkQ","user.x") failed: '
    work = f'{place.faulty.real_rsync} "$@"'
    place.faulty.add_fault(f"{work}; echo '{said}No space left on device (28)' >&2; exit 23")
    result = carry(place, entries(b"a", b"b"))
    assert (result.verdict, [*result.pending, *result.failed]) == (Verdict.PARTIAL, [])
    assert list(result.unset_attributes) == [(b"a", Scope.ENTRY)]


@pytest.mark.parametrize("changes", [EVERYTHING, None], ids=["full sync", "listed"])
def test_skipped_deletions_are_made_at_once_without_sending_anything(
    place: WorkerSetup, changes: Changeset | None
) -> None:
    place.write("d/bad", "d/good", "shut/x", "e/f")
    (place.copy / "shut").mkdir()
    for name in ("d", "e"):
        (place.copy / name).mkdir()
        (place.copy / name / "gone").touch()
    (place.copy / "shut/kept").touch()
    if changes is None:
        changes = MutableChangeset()
        for path in (b"d", b"e", b"shut"):
            changes.add(path, Scope.LISTING)
    skipped = "IO error encountered -- skipping file deletion"
    unreadable = f'rsync: [sender] send_files failed to open "{place.source}/d/bad": {DENIED}'
    shut = f'rsync: [sender] opendir "{place.source}/shut" failed: {DENIED}'
    place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{unreadable}\n{shut}", 23))
    result = carry(place, changes)
    assert (paths(result.failed), paths(result.pending)) == ([b"d/bad", b"shut"], [])
    assert result.verdict is Verdict.PARTIAL
    found = {str(path.relative_to(place.copy)) for path in place.copy.rglob("*")}
    assert found == {"d", "e", "shut", "shut/kept"}


def test_deletions_that_are_skipped_twice_stay_pending(place: WorkerSetup) -> None:
    place.write("bad", "good")
    skipped = "IO error encountered -- skipping file deletion"
    said = f'rsync: [sender] send_files failed to open "{place.source}/bad": {DENIED}'
    other = f'rsync: [sender] opendir "{place.source}/d" failed: {DENIED}'
    changes = entries(b"bad", b"good")
    changes.add(b"d", Scope.LISTING)
    for text in (said, other):
        place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{text}", 23))
    result = carry(place, changes)
    assert result.verdict is Verdict.PARTIAL
    assert set(paths(result.failed)) >= {b"bad"}
    assert set(paths(result.pending)) >= {b"good"}


def test_skipped_deletions_count_against_the_limit(make: Make) -> None:
    place = make(max_delete=1)
    place.write("bad")
    for name in ("x", "y"):
        (place.copy / name).touch()
    skipped = "IO error encountered -- skipping file deletion"
    said = f'rsync: [sender] send_files failed to open "{place.source}/bad": {DENIED}'
    for _ in range(2):  # the dry run, and the run
        place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{said}", 23))
    result = carry(place, EVERYTHING)
    assert result.verdict is Verdict.HELD
    assert "2 would be deleted" in result.outcome.reason
    assert copied(place) == ["x", "y"]


def test_a_file_at_which_the_run_breaks_off_is_named_and_all_else_is_pending(make: Make) -> None:
    place = make(prelude="ulimit -f 64;")
    place.write("a", "z")
    (place.source / "large").write_bytes(bytes(200_000))
    result = carry(place, entries(b"a", b"large", b"z"))
    assert result.verdict is Verdict.PARTIAL
    assert (paths(result.aborting), paths(result.pending)) == ([b"large"], [b"a", b"z"])
    assert paths(result.failed) == []
    result = place.transfer(place.session()).carry(EVERYTHING, frozenset([b"large"]))
    assert result.verdict is Verdict.DONE
    assert copied(place) == ["a", "z"]


@pytest.mark.parametrize(
    "said",
    [
        'rsync: [receiver] mkdir "{copy}" failed: No space left on device (28)',
        'rsync: [receiver] write failed on "{copy}/d": No space left on device (28)',
        'rsync: [receiver] write failed on "{copy}/other": No space left on device (28)',
        "rsync: [receiver] error allocating core memory buffers",
    ],
)
def test_a_run_that_breaks_off_elsewhere_leaves_everything_pending(
    place: WorkerSetup, said: str
) -> None:
    place.write("a", "d/f", "other")
    place.faulty.add_fault(print_error_and_exit(said.format(copy=place.copy), 11))
    result = carry(place, entries(b"a", b"d"))
    assert (result.verdict, paths(result.pending)) == (Verdict.RETRY_LATER, [b"a", b"d"])
    assert not result.aborting


def test_a_directory_that_may_not_be_written_to_is_deleted_by_listing(make: Make) -> None:
    try:
        prefix = user_prefix(is_root=False) if os.geteuid() == 0 else ()
    except Unavailable as reason:
        pytest.skip(str(reason))
    place = make(prelude=f"exec {shlex.join(prefix)}")
    (place.copy / "d").mkdir()
    (place.copy / "d/f").touch()
    (place.copy / "d").chmod(0o555)
    result = carry(place, entries(b"d"))
    assert (paths(result.failed), paths(result.pending)) == ([b"d"], [])
    result = carry(place, entries(b"d"), deletes_by_listing=True)
    assert (result.verdict, copied(place)) == (Verdict.DONE, [])


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
