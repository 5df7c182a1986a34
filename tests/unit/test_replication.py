"""One source with its destinations, in this process: its states, and what others ask of it."""

import shutil
import signal
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from support.services import ServiceDirectory, stop
from support.waiting import wait_until

from pylsyncd.config.settings import SyncSettings
from pylsyncd.model.errors import UsageError, WatchError
from pylsyncd.replication import ReplicationState


@pytest.fixture
def directory(tmp_path: Path) -> ServiceDirectory:
    return ServiceDirectory(tmp_path)


def test_changes_go_through_all_stages_until_it_is_stopped(directory: ServiceDirectory) -> None:
    with directory.replication("one", "two") as replication:
        wait_until(lambda: replication.state is ReplicationState.RUNNING)
        directory.write("web", "f")
        for copy in ("one", "two"):
            directory.wait_copied(copy, "f")
    assert (replication.state, replication.exit_status) == (ReplicationState.STOPPED, 0)
    assert replication.error is None
    assert directory.changed == ["web", "web"], "when it was ready, and when it ended"


def test_changes_of_an_open_window_are_synced_before_it_stops(directory: ServiceDirectory) -> None:
    with directory.replication("one") as replication:
        wait_until(lambda: replication.state is ReplicationState.RUNNING)
        directory.write("web", "last")
    assert (directory.copy("one") / "last").exists()


def test_a_submitted_function_returns_its_result(directory: ServiceDirectory) -> None:
    with directory.replication("one") as replication:
        assert replication.submit(lambda: replication.name).result(45) == "web"


def test_an_expected_error_of_a_submitted_function_is_for_the_caller_alone(
    directory: ServiceDirectory,
) -> None:
    def fail() -> None:
        raise UsageError("no")

    with directory.replication("one") as replication:
        with pytest.raises(UsageError, match="no"):
            replication.submit(fail).result(45)
        assert replication.submit(lambda: 1).result(45) == 1


def test_any_other_error_of_a_submitted_function_ends_the_replication(
    directory: ServiceDirectory,
) -> None:
    with directory.replication("one") as replication:
        wait_until(lambda: replication.state is ReplicationState.RUNNING)
        with pytest.raises(ZeroDivisionError):
            replication.submit(lambda: 1 / 0).result(45)
        replication.join(45)
        assert (replication.state, replication.exit_status) == (ReplicationState.FAILED, 1)
        # In the daemon the process ends then, and with it all other threads.
        replication.source_monitor.stop_watching()
        for worker in replication.workers:
            worker.request_stop()
            worker.join(45)


def test_a_function_that_is_submitted_to_an_ended_replication_is_cancelled(
    directory: ServiceDirectory,
) -> None:
    with directory.replication("one") as replication:
        stop(replication)
        with pytest.raises(CancelledError):
            replication.submit(lambda: 1).result(45)


def test_a_source_that_cannot_be_watched_fails_the_start(directory: ServiceDirectory) -> None:
    settings = directory.settings({"web": ("one",)})
    replication = directory.make(settings.syncs[0])
    shutil.rmtree(directory.source("web"))
    replication.start()
    replication.join(45)
    assert (replication.state, replication.exit_status) == (ReplicationState.START_FAILED, 1)
    assert isinstance(replication.error, WatchError)
    assert not replication.state.is_ready


def test_a_source_that_comes_and_goes_again_before_it_is_watched_is_waited_for(
    directory: ServiceDirectory,
) -> None:
    source = directory.source("web")
    visits: list[str] = []

    def find_conflict(_: SyncSettings) -> str:
        visits.append("")
        if len(visits) == 1:
            source.rmdir()
        return ""

    settings = directory.settings({"web": ("one",)}, initial_sync=False)
    source.rmdir()
    replication = directory.make(
        settings.syncs[0], waits_for_source=True, find_conflict=find_conflict
    )
    replication.start()
    try:
        wait_until(lambda: replication.state is ReplicationState.WAITING)
        source.mkdir()
        wait_until(lambda: visits)
        directory.write("web", "f")
        # All in it was made after the start, so it is copied without an initial sync.
        directory.wait_copied("one", "f")
        assert replication.source_monitor.hold_reason == ""
    finally:
        stop(replication)


def test_with_once_it_ends_by_itself(directory: ServiceDirectory) -> None:
    directory.write("web", "f")
    with directory.replication("one", once=True) as replication:
        replication.join(45)
        assert replication.state is ReplicationState.STOPPED
    assert (directory.copy("one") / "f").exists()


def test_with_once_pending_changes_are_a_failure(directory: ServiceDirectory) -> None:
    (directory.top / "copies").write_text("a file in the way")
    with directory.replication("one", once=True) as replication:
        replication.join(45)
        assert (replication.state, replication.exit_status) == (ReplicationState.FAILED, 1)
        assert replication.error is None


def test_a_destination_is_locked_as_long_as_the_replication_lives(
    directory: ServiceDirectory,
) -> None:
    with directory.replication("one") as replication:
        with pytest.raises(UsageError, match="another"):
            directory.make(replication.sync)
        stop(replication)
        directory.make(replication.sync).close()


def test_a_successor_keeps_the_pause_and_starts_no_second_initial_sync(
    directory: ServiceDirectory,
) -> None:
    with directory.replication("one", "two") as replication:
        wait_until(lambda: replication.state is ReplicationState.RUNNING)
        replication.set_paused(["web/one"], is_paused=True)
    successor = directory.make(replication.sync, replication)
    assert list(successor.paused_locations) == [
        replication.sync.destinations[0].destination.location
    ]
    assert not successor.needs_initial_sync
    successor.close()


def test_destinations_are_replaced_while_the_source_is_watched(
    directory: ServiceDirectory,
) -> None:
    with directory.replication("one") as replication:
        wait_until(lambda: replication.state is ReplicationState.RUNNING)
        session = replication.source_monitor.session
        directory.write("web", "f")
        sync = directory.settings({"web": ("two",)}).syncs[0]
        replication.submit(lambda: replication.replace_destinations(sync)).result(45)
        directory.wait_copied("two", "f")
        assert replication.source_monitor.session is session
        assert [worker.name for worker in replication.workers] == ["web/two"]


def test_a_full_sync_repairs_a_copy(directory: ServiceDirectory) -> None:
    directory.write("web", "f")
    with directory.replication("one") as replication:
        directory.wait_copied("one", "f")
        (directory.copy("one") / "f").unlink()
        replication.handle_signal(signal.SIGHUP)
        directory.wait_copied("one", "f")


@pytest.mark.parametrize("state", ReplicationState)
def test_a_failed_start_is_never_ready(state: ReplicationState) -> None:
    is_early = state in {ReplicationState.STARTING, ReplicationState.START_FAILED}
    assert state.is_ready is not is_early
