"""Replications are started, changed and stopped as the configuration asks."""

import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from support.limits import no_more_threads
from support.services import ServiceDirectory
from support.waiting import wait_until

from pylsyncd.model.errors import UsageError
from pylsyncd.replication import ReplicationState
from pylsyncd.supervisor import Supervisor


@pytest.fixture
def directory(tmp_path: Path) -> ServiceDirectory:
    return ServiceDirectory(tmp_path)


def test_each_sync_has_a_replication_in_the_order_of_the_file(directory: ServiceDirectory) -> None:
    with directory.supervisor({"web": ("one",), "data": ("two",)}) as supervisor:
        assert [each.sync.name for each in supervisor] == ["web", "data"]
        found = supervisor.find("data")
        assert found is not None
        assert found.sync.name == "data"
        assert supervisor.find("none") is None
    assert {each.state for each in supervisor} == {ReplicationState.STOPPED}


def test_if_one_replication_cannot_be_created_the_locks_of_the_others_are_released(
    directory: ServiceDirectory,
) -> None:
    settings = directory.settings({"web": ("one",), "data": ("two",)})
    blocking = directory.make(settings.syncs[1])
    with pytest.raises(UsageError, match="another"):
        Supervisor(settings.syncs, directory.make)
    directory.make(settings.syncs[0]).close()
    blocking.close()


def test_unchanged_syncs_are_not_touched(
    directory: ServiceDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with directory.supervisor({"web": ("one",)}) as supervisor:
        before = list(supervisor)
        assert supervisor.apply(directory.settings({"web": ("one",)}).syncs) == []
        assert list(supervisor) == before
    assert "No sync has changed." in caplog.text


def test_a_sync_that_is_added_is_started_and_one_that_is_removed_is_stopped(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one",)}) as supervisor:
        (web,) = supervisor
        assert supervisor.apply(directory.settings({"data": ("two",)}).syncs) == []
        assert [each.sync.name for each in supervisor] == ["data"]
        assert web.state is ReplicationState.STOPPED
        directory.write("data", "f")
        directory.wait_copied("two", "f")


def test_a_sync_that_lacks_a_thread_does_not_affect_the_others(directory: ServiceDirectory) -> None:
    with directory.supervisor({"web": ("one",)}) as supervisor:
        both: dict[str, tuple[str, ...]] = {"web": ("one",), "data": ("two",)}
        with no_more_threads():
            errors = supervisor.apply(directory.settings(both).syncs)
        assert [each.message.split(": ")[0] for each in errors] == ["Cannot start the sync data"]
        assert "Cannot start the thread data: the limit of threads is reached." in errors[0].message
        assert [each.sync.name for each in supervisor] == ["web"]
        assert supervisor.apply(directory.settings(both).syncs) == []
        directory.write("data", "f")
        directory.wait_copied("two", "f")


def test_new_destinations_do_not_restart_the_replication(
    directory: ServiceDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with directory.supervisor({"web": ("one",)}) as supervisor:
        (web,) = supervisor
        assert supervisor.apply(directory.settings({"web": ("two",)}).syncs) == []
        assert list(supervisor) == [web]
        directory.wait_copied("two", "")
    assert "Changing the sync web (added web/two; removed web/one)." in caplog.text


def test_other_rules_restart_the_replication(
    directory: ServiceDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with directory.supervisor({"web": ("one",)}) as supervisor:
        (web,) = supervisor
        syncs = directory.settings({"web": ("one",)}, "exclude = *.tmp").syncs
        assert supervisor.apply(syncs) == []
        (restarted,) = supervisor
        assert restarted is not web
        wait_until(lambda: restarted.state is ReplicationState.RUNNING)
    assert "Restarting the sync web (changed rules" in caplog.text


def test_a_destination_that_another_process_serves_leaves_the_sync_unchanged(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one",)}) as supervisor:
        wanted = directory.settings({"web": ("one", "two")}).syncs
        # Another sync of the same source and copy, as another process would lock it.
        blocking = directory.make(directory.settings({"web": ("two",)}).syncs[0])
        (error,) = supervisor.apply(wanted)
        assert error.message.startswith("The sync web is unchanged: ")
        (web,) = supervisor
        assert [each.name for each in web.sync.destinations] == ["web/one"]
        blocking.close()
        # An rsync that this process is starting has the lock open for another moment.
        wait_until(lambda: supervisor.apply(wanted) == [])


def test_a_start_that_failed_is_removed_with_its_error_logged(
    directory: ServiceDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    with directory.supervisor({"web": ("one",)}) as supervisor:
        settings = directory.settings({"web": ("one",), "data": ("two",)})
        directory.source("data").rmdir()
        assert supervisor.apply(settings.syncs) == []
        wait_until(lambda: all(each.state is not ReplicationState.STARTING for each in supervisor))
        supervisor.remove_failed_starts()
        assert [each.sync.name for each in supervisor] == ["web"]
    assert "Cannot watch the source" in caplog.text


def test_a_sync_that_comes_without_its_source_is_an_error_and_starts_with_its_source(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one",)}, waits_for_source=True) as supervisor:
        settings = directory.settings({"web": ("one",), "data": ("two",)})
        directory.source("data").rmdir()
        (error,) = supervisor.apply(settings.syncs)
        missing = directory.top / "source-data"
        held = f"The sync data is held: the source {missing} does not exist."
        assert error.message.startswith(held)
        assert error.waiting_sync == "data"
        assert supervisor.waits("data")
        assert not supervisor.waits("web")
        data = supervisor.find("data")
        assert data is not None
        wait_until(lambda: data.state is ReplicationState.WAITING)
        # It was not changed since.
        assert supervisor.apply(settings.syncs) == []
        directory.write("data", "f")
        directory.wait_copied("two", "f")


def test_a_held_source_that_is_exchanged_for_another_one_is_not_waited_for(
    directory: ServiceDirectory,
) -> None:
    directory.write("other", "f")
    with directory.supervisor({"web": ("one",)}, waits_for_source=True) as supervisor:
        (web,) = supervisor
        directory.source("web").rmdir()
        wait_until(web.find_hold_reason)
        sync = directory.settings({"web": ("one",)}).syncs[0]
        other = directory.settings({"other": ("one",)}).syncs[0]
        (error,) = supervisor.apply([replace(sync, max_changes=9)])
        assert "unchanged because its source is held" in error.message
        assert supervisor.apply([replace(sync, source=other.source)]) == []
        directory.wait_copied("one", "f")


def test_destinations_that_a_busy_sync_changes_later_are_waited_for_until_then(
    directory: ServiceDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory.supervisor({"web": ("one",)}) as supervisor:
        (web,) = supervisor
        is_free = threading.Event()
        web.submit(is_free.wait)
        with monkeypatch.context() as patch:
            patch.setattr("pylsyncd.supervisor._STOP_TIMEOUT", 0.05)
            (error,) = supervisor.apply(directory.settings({"web": ("two",)}).syncs)
        assert error.message == "The sync web is busy: its destinations change later."
        assert supervisor.waits(error.waiting_sync)
        is_free.set()
        wait_until(lambda: not supervisor.waits("web"))
        assert [each.name for each in web.sync.destinations] == ["web/two"]
