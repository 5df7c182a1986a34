"""A worker is created with what its destination's settings ask for."""

from dataclasses import replace

import pytest
from support.worker_setup import WorkerSetup, entries

from pylsyncd.config.settings import DestinationSettings
from pylsyncd.model.status import Condition
from pylsyncd.pipeline.work_queue import WorkItem
from pylsyncd.system.restarts import DelayedStart
from pylsyncd.worker.registry import DestinationEntry
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.worker import Worker
from pylsyncd.worker.worker_factory import WorkerFactory


def create(
    place: WorkerSetup, settings: DestinationSettings, start: DelayedStart | None = None
) -> Worker:
    factory = WorkerFactory(place.guard, [].append, SharedResources(), lambda: 1)
    entry, item = DestinationEntry(settings), WorkItem(entries(b"f"), serial=1)
    context = factory.create_context(entry)
    return factory.create(entry, item, context, extra_window=0.0, delayed_start=start)


@pytest.fixture
def settings(place: WorkerSetup) -> DestinationSettings:
    session = place.session()
    return DestinationSettings(session.destination, session.options, 1.0)


def test_a_new_worker_has_its_first_item_and_is_not_started(
    place: WorkerSetup, settings: DestinationSettings
) -> None:
    worker = create(place, settings)
    assert (worker.name, worker.pending_count, worker.ident) == ("copy", 1, None)
    assert worker.status().condition is Condition.WAITING
    late = create(place, settings, DelayedStart(600.0))
    assert late.status().condition is Condition.FAILED


def test_only_a_limit_of_the_batch_size_takes_a_thread_for_large_files(
    place: WorkerSetup, settings: DestinationSettings
) -> None:
    assert len(create(place, settings).threads) == 1
    assert len(create(place, replace(settings, batch_size_limit=0)).threads) == 2


def test_a_dry_run_does_not_care_which_directory_the_destination_is(
    place: WorkerSetup, settings: DestinationSettings
) -> None:
    factory = WorkerFactory(place.guard, [].append, SharedResources(), lambda: 1)
    dry = replace(settings, rsync=replace(settings.rsync, dry_run=True))
    guards = [factory.create_context(DestinationEntry(each)).guard for each in (settings, dry)]
    for guard in guards:
        guard.verify_unchanged()
    place.copy.rename(place.copy.with_name("away"))
    place.copy.mkdir()
    assert [guard.is_unchanged() for guard in guards] == [False, True]
