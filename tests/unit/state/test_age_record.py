"""Which ctimes are recorded of a source and a destination, and what they prove later."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mounts import Mounts, can_mount
from support.trees import change_after

from pylsyncd.model.changes import EVERYTHING, NOTHING, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.rules.excludes import Rules, build_rules
from pylsyncd.rules.filters import parse_exclude
from pylsyncd.state.age_record import AgeRecord
from pylsyncd.watcher.source_guard import SourceGuard

RULES = build_rules([parse_exclude(b"cache/")])


class Recorded:
    """A source, its copy, and what is recorded of them."""

    def __init__(self, top: Path) -> None:
        self.source, self.copy = top / "source", top / "copy"
        for path in (self.source, self.copy):
            (path / "d").mkdir(parents=True)
            (path / "d/f").touch()
            change_after(path / "d/f", path / "d")
            (path / "cache").mkdir()
            (path / "cache/x").touch()
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()

    def record(self, transport: Transport = Transport.LOCAL) -> AgeRecord:
        target = os.fsencode(self.copy) + b"/"
        destination = Destination("copy", "", transport, None, target, target)
        return AgeRecord(self.guard, destination, RULES)

    def look(self, record: AgeRecord, *, is_complete: bool = False) -> set[bytes]:
        """Return the paths that are recorded of the source after a look."""
        record.look(self.guard.accepted, is_complete=is_complete)
        return set(record.source.ctimes)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    made = Recorded(tmp_path)
    with contextlib.closing(made.guard):
        yield made


def changes(*some: tuple[bytes, Scope]) -> MutableChangeset:
    made = MutableChangeset()
    for path, scope in some:
        made.add(path, scope)
    return made


def test_some_paths_of_each_run_are_recorded_at_both_ends(recorded: Recorded) -> None:
    record = recorded.record()
    record.record_run(changes((b"d/f", Scope.ENTRY), (b"d", Scope.LISTING)))
    record.record_run(changes((b"gone/f", Scope.TREE)))
    # Of what is gone, the directory above it.
    assert recorded.look(record) == {b"d/f", b"d", b""}
    assert set(record.destination.ctimes) == {b"d/f", b"d", b""}


def test_after_everything_was_carried_the_newest_entries_are_recorded(recorded: Recorded) -> None:
    record = recorded.record()
    record.record_run(changes((b"d/f", Scope.ENTRY)))
    recorded.look(record)
    record.record_run(EVERYTHING)
    assert not record.source
    assert not record.destination
    assert recorded.look(record, is_complete=True) >= {b"d/f"}
    assert b"d/f" in record.destination.ctimes
    assert not any(path.startswith(b"cache") for path in record.source.ctimes)


def test_while_everything_is_pending_nothing_is_searched(recorded: Recorded) -> None:
    assert recorded.look(recorded.record()) == set()


def test_a_long_run_is_recorded_in_part(recorded: Recorded) -> None:
    record = recorded.record()
    many = MutableChangeset()
    for number in range(1000):
        (recorded.source / str(number)).mkdir()
        many.add(b"%d/f" % number, Scope.ENTRY)
    record.record_run(many)
    assert len(recorded.look(record)) <= 8


def test_of_each_directory_one_entry_of_a_run_is_recorded(recorded: Recorded) -> None:
    for name in ("g", "h"):
        (recorded.source / "d" / name).touch()
    record = recorded.record()
    some = [(b"d/f", Scope.ENTRY), (b"d/g", Scope.ENTRY), (b"d/h", Scope.ENTRY)]
    record.record_run(changes(*some))
    assert len(recorded.look(record)) == 1


def test_a_directory_in_the_sources_place_is_not_recorded(recorded: Recorded) -> None:
    record = recorded.record()
    record.record_run(changes((b"d/f", Scope.ENTRY)))
    recorded.source.rename(recorded.source.with_name("was"))
    recorded.source.mkdir()
    assert recorded.look(record, is_complete=True) == set()


def test_a_remote_destination_is_not_recorded(recorded: Recorded) -> None:
    record = recorded.record(Transport.SHELL)
    record.record_run(changes((b"d/f", Scope.ENTRY)))
    recorded.look(record)
    assert record.destination.ctimes == {}
    later = {b"d/f": time.time_ns() - 1}
    assert record.find_older_copy({}, later, []) == ""


def test_what_was_recorded_is_not_older_and_what_is_older_is_named(recorded: Recorded) -> None:
    record = recorded.record()
    recorded.look(record, is_complete=True)
    source, destination = record.source.ctimes, record.destination.ctimes
    assert record.find_older_copy(source, destination, []) == ""
    later = {b"d/f": time.time_ns() - 1}
    assert "the source was restored" in record.find_older_copy(later, destination, [])
    assert "the destination was restored" in record.find_older_copy(source, later, [])
    # Below another mount, older files are no older copy of the same ones.
    assert record.find_older_copy(later, destination, [b"d"]) == ""
    again = recorded.record()
    again.resume_from(source, destination)
    again.record_run(NOTHING)
    recorded.look(again)
    assert dict(again.source.ctimes) == dict(source)
    assert dict(again.destination.ctimes) == dict(destination)


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_each_mount_is_recorded_and_a_held_one_proves_nothing(
    recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    with Mounts() as mounts:
        mounts.mount_tmpfs(tmp_path / "disk")
        (tmp_path / "disk/nested").touch()
        change_after(tmp_path / "disk/nested", tmp_path / "disk")
        mounts.mount_bind(tmp_path / "disk", recorded.source / "d")
        recorded.guard.accept()
        record = recorded.record()
        assert b"d/nested" in recorded.look(record, is_complete=True)
        seen = record.source.ctimes
        assert record.find_older_copy(seen, {}, []) == ""
        mounts.unmount(recorded.source / "d")
        recorded.guard.update_held_subtrees()
        assert record.find_older_copy(seen, {}, []) == ""
        mounts.mount_tmpfs(recorded.source / "d")
        (recorded.source / "d/other").touch()
        recorded.guard.update_held_subtrees()
        seen_now = recorded.look(recorded.record(), is_complete=True)
        assert not any(path.startswith(b"d") for path in seen_now)
