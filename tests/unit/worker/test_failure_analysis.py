"""What a failed run has not carried is told by its messages. With real rsyncs."""

import contextlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import print_error_and_exit
from support.limits import user_prefix
from support.servers import Unavailable
from support.worker_setup import DENIED, WorkerSetup, carry, changed_paths, copied, entries

from pylsyncd.model.changes import EVERYTHING
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rsync.outcomes import Verdict

MANY = 1_100


def test_failed_paths_are_set_apart_if_rsync_names_them(place: WorkerSetup) -> None:
    place.write("bad", "good")
    place.make_fail("bad")
    result = carry(place, entries(b"bad", b"good"))
    assert result.verdict is Verdict.PARTIAL
    assert (changed_paths(result.failed), changed_paths(result.pending)) == ([b"bad"], [])


@pytest.mark.parametrize(
    "message",
    [
        f'rsync: [sender] open "/proc/self/cwd/other": {DENIED}',
        f'rsync: [sender] open "/proc/self/cwd/../x": {DENIED}',
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
    assert (changed_paths(result.failed), changed_paths(result.pending)) == ([], [b"a", b"b"])
    honest = f'rsync: [sender] open "/proc/self/cwd/a": {DENIED}'
    place.faulty.add_fault(print_error_and_exit(f"{honest}\n{shown}", 23))
    result = carry(place, entries(b"a", b"b"))
    assert (changed_paths(result.failed), changed_paths(result.pending)) == ([b"a"], [])


def test_the_source_itself_is_not_left_out_of_a_run_for_the_sake_of_deletions(
    place: WorkerSetup,
) -> None:
    place.write("a")
    skipped = "IO error encountered -- skipping file deletion"
    failed = f'rsync: [generator] failed to set times on "{place.copy}/.": {DENIED}'
    place.faulty.add_fault(print_error_and_exit(f"{skipped}\n{failed}", 23))
    result = carry(place, entries(b"a"))
    assert (changed_paths(result.failed), changed_paths(result.pending)) == ([], [b"a"])


def complain(place: WorkerSetup, line: str, *, work: bool = True) -> None:
    """Make the next run print a line for each of many numbers, after its work."""
    seq = f"seq -f {shlex.quote(line)} 1 {MANY} >&2"
    first = f'{place.faulty.real_rsync} "$@"; ' if work else ""
    place.faulty.add_fault(f"{first}{seq}; exit 23")


def test_all_names_of_a_hard_linked_file_fail_together(make: Callable[..., WorkerSetup]) -> None:
    place = make(extra_options=("--hard-links",))
    place.write("d/bad", "good", "also")
    (place.source / "other-name").hardlink_to(place.source / "d/bad")
    (place.source / "e").mkdir()
    (place.source / "e/third").hardlink_to(place.source / "d/bad")
    place.make_fail("d/bad")
    result = carry(place, EVERYTHING)
    assert changed_paths(result.pending) == []
    assert changed_paths(result.failed) == [b"d/bad", b"e/third", b"other-name"]
    # They are carried together, and so linked.
    assert carry(place, result.failed).verdict is Verdict.DONE
    assert (place.copy / "e/third").stat().st_nlink == 3
    # Of a file that is gone, the other names are not known.
    place.make_fail("gone")
    result = carry(place, entries(b"gone", b"good"))
    assert (changed_paths(result.failed), changed_paths(result.pending)) == ([], [b"gone", b"good"])


def test_however_many_paths_fail_all_others_are_confirmed(place: WorkerSetup) -> None:
    names = [f"d/f{number}" for number in range(1, MANY + 1)]
    place.write(*names, "good")
    complain(place, f'rsync: [sender] send_files failed to open "/proc/self/cwd/d/f%.0f": {DENIED}')
    listing = entries(b"good")
    listing.add(b"d", Scope.TREE)
    result = carry(place, listing)
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.PARTIAL, [])
    assert changed_paths(result.failed) == sorted(map(os.fsencode, names))


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
    assert changed_paths(result.unset_attributes) == sorted(
        b"f%d" % number for number in range(MANY)
    )
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


def test_a_file_at_which_the_run_breaks_off_is_named_and_all_else_is_pending(
    make: Callable[..., WorkerSetup],
) -> None:
    place = make(prelude="ulimit -f 64;")
    place.write("a", "z")
    (place.source / "large").write_bytes(bytes(200_000))
    result = carry(place, entries(b"a", b"large", b"z"))
    assert result.verdict is Verdict.PARTIAL
    assert (changed_paths(result.aborting), changed_paths(result.pending)) == (
        [b"large"],
        [b"a", b"z"],
    )
    assert changed_paths(result.failed) == []
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
    assert (result.verdict, changed_paths(result.pending)) == (Verdict.RETRY_LATER, [b"a", b"d"])
    assert not result.aborting
