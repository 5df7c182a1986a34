"""With ``delete = startup`` or ``running``, what a hint names is deleted, and nothing else."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.faults import exit_with, print_error_and_exit
from support.worker_setup import WorkerSetup, carry, entries

from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset, everything_with
from pylsyncd.model.scoped_paths import Change, MutableScopedPaths, Scope
from pylsyncd.rsync.command import DeletionTime
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rules import excludes, filters
from pylsyncd.worker.hinted_deletions import missing_entries
from pylsyncd.worker.publisher import Publisher, TransferConditions

Make = Callable[..., WorkerSetup]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def make(when: DeletionTime = DeletionTime.RUNNING, **options: object) -> WorkerSetup:
            place = WorkerSetup(tmp_path, delete_only=when, **options)  # type: ignore[arg-type]
            stack.enter_context(contextlib.closing(place))
            place.write("kept", "d/kept")
            for name in ("gone", "own", "d/gone", "d/own"):
                (place.copy / name).parent.mkdir(exist_ok=True)
                (place.copy / name).touch()
            return place

        yield make


def changes(*some: Change, deletable: tuple[Change, ...] = ()) -> MutableChangeset:
    made = MutableChangeset()
    for path, scope in some:
        made.add(path, scope)
    for path, scope in deletable:
        made.deletable.add(path, scope)
    return made


def copied(place: WorkerSetup) -> set[str]:
    """Return the paths of all files in the copy."""
    files = (path for path in place.copy.rglob("*") if path.is_file())
    return {str(path.relative_to(place.copy)) for path in files}


def entry(path: bytes) -> Change:
    return Change(path, Scope.ENTRY)


ROOT = Change(b"", Scope.LISTING)
TREE = Change(b"d", Scope.TREE)
GONE = entry(b"gone"), entry(b"d/gone")
OWN = {"d/own", "own"}


@pytest.mark.parametrize(
    ("some", "runs"),
    [
        pytest.param(changes(*GONE, deletable=GONE), 1, id="names"),
        pytest.param(changes(*GONE, ROOT, TREE, deletable=GONE), 1, id="covered"),
        pytest.param(changes(ROOT, TREE, deletable=GONE), 1, id="dropped"),
        pytest.param(everything_with(changes(deletable=GONE)), 2, id="everything"),
    ],
)
def test_what_is_named_is_deleted_and_what_a_listing_finds_is_kept(
    make: Make, some: Changeset, runs: int
) -> None:
    place = make()
    place.faulty.add_rule("", "")
    assert carry(place, some).verdict is Verdict.DONE
    assert copied(place) - {"kept", "d/kept"} == OWN
    assert len(place.faulty.runs) == runs


@pytest.mark.parametrize("when", list(DeletionTime))
@pytest.mark.parametrize("some", [changes(*GONE, ROOT, TREE), EVERYTHING])
def test_without_a_hint_nothing_is_deleted(make: Make, when: DeletionTime, some: Changeset) -> None:
    place = make(when)
    assert carry(place, some).verdict is Verdict.DONE
    assert copied(place) == OWN | {"d/gone", "gone", "d/kept", "kept"}


def test_a_directory_that_took_the_place_of_another_loses_what_only_its_copy_has(
    make: Make,
) -> None:
    place = make()
    assert carry(place, changes(ROOT, TREE, deletable=(TREE,))).verdict is Verdict.DONE
    assert copied(place) == {"d/kept", "gone", "kept", "own"}


def test_a_directory_that_is_gone_is_deleted_with_all_that_only_its_copy_has(make: Make) -> None:
    place = make()
    (place.source / "d/kept").unlink()
    (place.source / "d").rmdir()
    place.faulty.add_rule("", "")
    assert carry(place, changes(ROOT, deletable=(TREE,))).verdict is Verdict.DONE
    assert copied(place) == {"gone", "kept", "own"}
    assert len(place.faulty.runs) == 1


def test_a_directory_that_comes_while_rsync_runs_loses_what_the_one_before_it_had(
    make: Make,
) -> None:
    place = make()
    d = place.source / "d"
    (d / "kept").unlink()
    d.rmdir()
    place.faulty.add_fault(f"mkdir {d}; touch {d}/new")
    assert carry(place, changes(entry(b"d"), deletable=(TREE,))).verdict is Verdict.DONE
    assert not any(path.startswith("d/") for path in copied(place))
    # The list has the change of the directory, but nothing of the new one.
    assert carry(place, changes(TREE)).verdict is Verdict.DONE
    assert copied(place) == {"d/new", "gone", "own"}


def test_a_full_sync_at_the_start_deletes_everything_that_the_source_lacks(make: Make) -> None:
    place = make(DeletionTime.STARTUP)
    assert carry(place, EVERYTHING.with_deletable(EVERYTHING)).verdict is Verdict.DONE
    assert copied(place) == {"d/kept", "kept"}


@pytest.mark.parametrize("fault", [exit_with(12), print_error_and_exit("a message", 23)])
def test_what_has_failed_keeps_its_hint(make: Make, fault: str) -> None:
    place = make()
    place.faulty.add_fault(fault)
    result = carry(place, changes(*GONE, TREE, deletable=(*GONE, TREE)))
    left = result.failed or result.pending
    assert carry(place, left).verdict is Verdict.DONE
    assert "gone" not in copied(place)
    assert "d/own" not in copied(place)


def test_a_failed_path_keeps_its_hint(make: Make) -> None:
    place = make()
    place.make_fail("d/kept")
    result = carry(place, changes(entry(b"d/kept"), ROOT, deletable=(TREE,)))
    assert {change.path for change in result.failed.deletable} == {b"d/kept"}


def test_the_limit_of_deletions_holds_for_names(make: Make) -> None:
    place = make(max_delete=1)
    result = carry(place, changes(*GONE, ROOT, deletable=GONE))
    assert result.verdict is Verdict.HELD
    assert "gone" in copied(place)


def test_an_rsync_that_cannot_delete_by_name_keeps_what_is_deleted_and_that_is_said_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    place = make()
    fault = print_error_and_exit("The server is configured to refuse --delete-missing-args", 4)
    place.faulty.add_rule("", f'case " $* " in *" --delete-missing-args "*) {fault};; esac')
    transfer = place.transfer(place.session())
    for _ in range(2):
        assert transfer.carry(changes(*GONE, ROOT, deletable=GONE)).verdict is Verdict.DONE
    assert copied(place) >= {"gone", "d/gone"}
    assert caplog.text.count("cannot delete by name") == 1


def test_rules_that_tell_files_from_directories_make_no_directory_lose_anything(
    tmp_path: Path,
) -> None:
    with contextlib.closing(WorkerSetup(tmp_path, delete_only=DeletionTime.RUNNING)) as place:
        place.set_rules(excludes.build_rules([filters.parse_exclude(b"gone/")]))
        for name in ("gone", "own"):
            (place.copy / name).touch()
        assert carry(place, changes(GONE[0], deletable=GONE)).verdict is Verdict.DONE
        assert "own" in copied(place)


def test_files_that_go_last_come_before_the_deletions_that_are_named(make: Make) -> None:
    place = make(last=excludes.build_rules([filters.parse_exclude(b"/kept")]))
    publisher = Publisher(place.transfer(place.session()))
    some = changes(*GONE, entry(b"kept"), ROOT, TREE, deletable=GONE)
    place.faulty.add_rule("", f"echo $(ls {place.copy}) >>{place.copy.parent}/trace")
    assert publisher.carry(some, TransferConditions()).verdict is Verdict.DONE
    assert copied(place) == OWN | {"d/kept", "kept"}
    runs = (place.copy.parent / "trace").read_text().splitlines()
    assert runs[-1] == "d gone kept own"


def test_entries_are_missing_if_nothing_has_their_names(make: Make) -> None:
    place = make()
    (place.source / "link").symlink_to("nowhere")
    some = entries(b"gone", b"kept", b"link", b"d/gone", b"d/kept", b"no/such", b"kept/below")
    some.add(b"", Scope.ENTRY)
    missing = missing_entries(os.fsencode(place.source), some.entries)
    assert {path for path, _ in missing} == {b"gone", b"d/gone", b"no/such", b"kept/below"}
    assert not missing_entries(b"/no/such/source", some.entries)


def test_the_hint_of_a_set_is_a_set_of_its_own() -> None:
    hinted = changes(entry(b"a"), deletable=(entry(b"a"),))
    assert isinstance(hinted.deletable, MutableScopedPaths)
    assert hinted.with_new_content(EVERYTHING).deletable is hinted.deletable
    assert hinted.with_moves(None).deletable is hinted.deletable
