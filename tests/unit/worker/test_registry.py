"""Destinations are locked for one pylsyncd, and their saved states are loaded."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pylsyncd.config.settings import DestinationSettings, SyncSettings
from pylsyncd.model.changes import NOTHING, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.errors import UsageError
from pylsyncd.model.scoped_paths import Change, Scope
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.registry import DestinationRegistry

New = Callable[[], DestinationRegistry]


@pytest.fixture
def sync(tmp_path: Path) -> SyncSettings:
    source = tmp_path / "source"
    source.mkdir()
    destinations = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        target = os.fsencode(tmp_path / name) + b"/"
        destination = Destination(name, "", Transport.LOCAL, None, target, target[:-1])
        destinations.append(DestinationSettings(destination, RsyncOptions("rsync", (3, 5, 0))))
    return SyncSettings(
        Source(os.fsencode(source), b"", is_full_path=False), tuple(destinations),
        state_dir=os.fsencode(tmp_path / "state"),
    )  # fmt: skip


@pytest.fixture
def guard(sync: SyncSettings) -> Iterator[SourceGuard]:
    with contextlib.closing(SourceGuard(sync.source.path, Rules())) as guard:
        guard.accept()
        yield guard


@pytest.fixture
def new(sync: SyncSettings, guard: SourceGuard) -> Iterator[New]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(
            contextlib.closing(DestinationRegistry(sync.state_dir, guard))
        )


def test_each_destination_gets_an_entry_with_its_own_state(sync: SyncSettings, new: New) -> None:
    entries = new().add(sync, sync.destinations)
    assert [entry.location for entry in entries] == [
        each.destination.location for each in sync.destinations
    ]
    assert len({entry.state_key for entry in entries}) == 2
    assert all(entry.loaded.state is None for entry in entries)


def test_a_locked_destination_is_refused_to_another_registry_until_removed(
    sync: SyncSettings, new: New
) -> None:
    first, second = new(), new()
    one, two = sync.destinations
    entry, _ = first.add(sync, [one, two])
    with pytest.raises(UsageError):
        second.add(sync, [one])
    first.remove(entry)
    second.add(sync, [one])


def test_a_refused_destination_releases_the_locks_taken_before_it(
    sync: SyncSettings, new: New
) -> None:
    first, second = new(), new()
    one, two = sync.destinations
    first.add(sync, [two])
    with pytest.raises(UsageError):
        second.add(sync, [one, two])
    first.add(sync, [one])


def test_a_reloaded_destination_keeps_its_lock_and_has_its_present_state(
    sync: SyncSettings, new: New
) -> None:
    first, second = new(), new()
    one, _ = sync.destinations
    (entry,) = first.add(sync, [one])
    assert entry.checkpoint is not None
    entry.checkpoint.confirm(clock.now(), NOTHING)
    again = first.reload(sync, replace(one, window=1.0), entry)
    assert again.settings.window == 1.0
    assert again.loaded.state is not None
    with pytest.raises(UsageError):
        second.add(sync, [one])


def test_without_a_state_directory_nothing_is_locked_or_loaded(
    sync: SyncSettings, guard: SourceGuard
) -> None:
    for registry in (DestinationRegistry(None, guard), DestinationRegistry(None, guard)):
        entries = registry.add(sync, sync.destinations)
        assert all(entry.checkpoint is None for entry in entries)
        registry.remove(entries[0])


def pending(*paths: bytes) -> MutableChangeset:
    changes = MutableChangeset()
    for path in paths:
        changes.add(path, Scope.ENTRY)
    return changes


def test_under_new_settings_a_destination_continues_with_what_is_not_confirmed(
    sync: SyncSettings, new: New
) -> None:
    registry = new()
    (entry,) = registry.add(sync, sync.destinations[:1])
    item = WorkItem(pending(b"f"), titles=("catch-up",))
    assert entry.continued_item(item) is item, "there is no state yet"
    assert entry.checkpoint is not None
    entry.checkpoint.confirm(clock.now(), pending(b"f"))
    entry = registry.reload(sync, entry.settings, entry)
    assert entry.continued_item(item) is item
    assert not entry.verification().is_verified
    # The worker may have ended before it saved that.
    assert entry.verification(was_verified=True).is_verified


def test_a_replaced_destination_continues_with_a_full_sync_that_is_saved(
    sync: SyncSettings, new: New, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry = new()
    (entry,) = registry.add(sync, sync.destinations[:1])
    assert entry.checkpoint is not None
    entry.checkpoint.confirm(clock.now(), NOTHING)
    (tmp_path / "one").rename(tmp_path / "was")
    (tmp_path / "one").mkdir()
    entry = registry.reload(sync, entry.settings, entry)
    unconfirmed = MutableChangeset()
    unconfirmed.add_new_content(b"f", Scope.ENTRY)
    item = entry.continued_item(WorkItem(unconfirmed))
    assert item.changeset.is_everything
    assert set(item.changeset.new_content) == {Change(b"f", Scope.ENTRY)}
    assert item.titles == ("full sync",)
    assert not entry.verification().is_verified
    assert "[one] Starting a full sync: the destination is another directory." in caplog.text
    state = registry.reload(sync, entry.settings, entry).loaded.state
    assert state is not None
    assert set(state.pending) == {Change(b"", Scope.TREE)}
    assert set(state.pending.new_content) == {Change(b"f", Scope.ENTRY)}
