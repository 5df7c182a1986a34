"""What pylsyncctl can ask of a daemon, on real replications."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.services import ServiceDirectory
from support.waiting import DEADLINE, wait_until

from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import Condition, WaitResult
from pylsyncd.operations import Operations
from pylsyncd.supervisor import ApplyError, Supervisor

SYNCS = {"web": ("one", "two"), "data": ("three",)}
ALL = ["web/one", "web/two", "data/three"]


@pytest.fixture
def directory(tmp_path: Path) -> ServiceDirectory:
    return ServiceDirectory(tmp_path)


@pytest.fixture
def supervisor(directory: ServiceDirectory) -> Iterator[Supervisor]:
    with directory.supervisor(SYNCS) as supervisor:
        yield supervisor


@pytest.fixture
def operations(supervisor: Supervisor) -> Operations:
    return Operations(supervisor, lambda: None)


def late_after(operations: Operations, *arguments: object, **options: object) -> list[str]:
    """Return the destinations that are late after a wait."""
    result = operations.wait(*arguments, **options)  # type: ignore[arg-type]
    assert result.set_aside == {}
    return list(result.late)


def is_confirmed(operations: Operations, names: Sequence[str] = ()) -> bool:
    """Wait, and return True if nothing is late or set aside."""
    return operations.wait(names, 20.0) == WaitResult()


def conditions(operations: Operations) -> dict[str, Condition]:
    syncs = operations.status().syncs
    return {each.name: each.condition for sync in syncs for each in sync.destinations}


def test_a_wait_ends_when_all_changes_are_confirmed(
    directory: ServiceDirectory, operations: Operations
) -> None:
    directory.write("web", "f")
    assert is_confirmed(operations)
    for copy in SYNCS["web"]:
        assert (directory.copy(copy) / "f").exists()
    assert conditions(operations) == dict.fromkeys(ALL, Condition.IN_SYNC)


@pytest.mark.parametrize(
    ("names", "late"),
    [
        ((), ALL),
        (("web",), ["web/one", "web/two"]),
        (("web/two",), ["web/two"]),
        (("two", "three"), ["web/two", "data/three"]),
    ],
    ids=repr,
)
def test_a_name_stands_for_a_sync_or_for_a_destination(
    operations: Operations, directory: ServiceDirectory, names: tuple[str, ...], late: list[str]
) -> None:
    assert is_confirmed(operations)
    operations.pause()
    for sync in SYNCS:
        directory.write(sync, "f")
    assert late_after(operations, names, timeout=0.5) == late
    operations.resume()
    assert is_confirmed(operations, names)


def exchange(source: Path, number: int) -> None:
    """Put a new directory in the place of the source, as a deployment does."""
    new = source.with_name(f"new-{number}")
    new.mkdir()
    (new / "f").write_text(f"version {number}")
    source.rename(source.with_name(f"old-{number}"))
    new.rename(source)


def test_a_wait_right_after_the_source_was_replaced_covers_the_new_one(
    directory: ServiceDirectory, operations: Operations
) -> None:
    assert is_confirmed(operations)
    for number in range(3):
        exchange(directory.source("web"), number)
        assert is_confirmed(operations, ["web"])
        for copy in SYNCS["web"]:
            assert (directory.copy(copy) / "f").read_text() == f"version {number}"


def test_a_replaced_source_is_in_sync_only_when_its_full_sync_is_complete(
    directory: ServiceDirectory, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without the look that a busy machine delays, the status does not know.
    monkeypatch.setattr("pylsyncd.operations._LOOK_TIMEOUT", DEADLINE)
    assert is_confirmed(operations)
    exchange(directory.source("web"), 1)
    wait_until(lambda: conditions(operations)["web/one"] is Condition.IN_SYNC)
    assert (directory.copy("one") / "f").read_text() == "version 1"


def test_a_wait_right_after_the_source_link_was_retargeted_covers_the_new_target(
    directory: ServiceDirectory,
) -> None:
    link = directory.source("web")
    releases = [directory.top / f"release-{number}" for number in range(3)]
    for release in releases:
        release.mkdir()
        (release / "f").write_text(release.name)
    link.rmdir()
    link.symlink_to(releases[0])
    with directory.supervisor({"web": ("one",)}) as supervisor:
        operations = Operations(supervisor, lambda: None)
        for release in releases:
            new = directory.top / "new"
            new.symlink_to(release)
            new.rename(link)
            assert is_confirmed(operations)
            assert (directory.copy("one") / "f").read_text() == release.name


def test_the_status_names_the_threads_that_are_stuck(supervisor: Supervisor) -> None:
    operations = Operations(supervisor, lambda: None, lambda: ("watcher",))
    assert operations.known_status().stuck_threads == ("watcher",)


def test_while_the_source_is_away_nothing_is_confirmed(
    directory: ServiceDirectory, operations: Operations
) -> None:
    assert is_confirmed(operations)
    source = directory.source("web")
    away = source.rename(source.with_name("away"))
    assert late_after(operations, ["web"], timeout=0.5) == ["web/one", "web/two"]
    assert conditions(operations)["web/one"] is not Condition.IN_SYNC
    assert is_confirmed(operations, ["data"])
    (away / "f").write_text("while away")
    away.rename(source)
    assert is_confirmed(operations, ["web"])
    assert (directory.copy("one") / "f").exists()


def test_a_flush_follows_a_replaced_source_at_once(
    directory: ServiceDirectory, supervisor: Supervisor, operations: Operations
) -> None:
    assert is_confirmed(operations)
    replication = supervisor.find("web")
    assert replication is not None
    exchange(directory.source("web"), 1)
    session = replication.source_monitor.session
    operations.flush(["web"])
    assert replication.source_monitor.session is not session


def test_a_wait_covers_changes_that_no_event_reports(
    directory: ServiceDirectory, supervisor: Supervisor, operations: Operations
) -> None:
    (directory.source("web") / "d").mkdir()
    directory.write("web", "d/f")
    outside = directory.top / "outside"
    outside.hardlink_to(directory.source("web") / "d/f")
    assert is_confirmed(operations)
    replication = supervisor.find("web")
    assert replication is not None
    assert replication.source_monitor.session is not None
    replication.source_monitor.session.rescanner.set_mounts([b"d"], [])
    for text in ("changed", "changed again"):
        # Through a name outside the source: there is no event in it.
        outside.write_text(text)
        assert is_confirmed(operations, ["web"])
        for copy in SYNCS["web"]:
            assert (directory.copy(copy) / "d/f").read_text() == text


def test_a_file_that_is_not_closed_is_covered_by_a_wait_and_not_in_sync_before(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one",)}, window=3600.0) as supervisor:
        operations = Operations(supervisor, lambda: None)
        assert is_confirmed(operations)
        with (directory.source("web") / "log").open("w") as file:
            assert is_confirmed(operations)
            for line in ("first\n", "second\n"):
                file.write(line)
                file.flush()
                wait_until(lambda: conditions(operations)["web/one"] is Condition.WAITING)
                assert is_confirmed(operations)
                assert conditions(operations)["web/one"] is Condition.IN_SYNC
                assert (directory.copy("one") / "log").read_text().endswith(line)


def test_a_cancelled_wait_returns_at_once(
    operations: Operations, directory: ServiceDirectory
) -> None:
    assert is_confirmed(operations)
    operations.pause()
    directory.write("web", "f")
    directory.write("data", "f")
    assert late_after(operations, timeout=600, is_cancelled=lambda: True) == ALL


@pytest.mark.parametrize("operation", ["flush", "sync", "pause", "resume", "release", "wait"])
def test_an_unknown_name_is_refused_with_the_known_ones(
    operations: Operations, operation: str
) -> None:
    with pytest.raises(UsageError, match=r"no destination x\. .*web/one, web/two, data/three\."):
        getattr(operations, operation)(["x", "one"])


def test_a_destination_is_selected_by_the_way_it_is_written(
    operations: Operations, directory: ServiceDirectory
) -> None:
    operations.pause([f"{directory.copy('two')}/"])
    found = conditions(operations)
    assert [name for name in found if found[name] is Condition.PAUSED] == ["web/two"]


def test_a_pause_of_one_destination_does_not_stop_the_others(
    operations: Operations, directory: ServiceDirectory
) -> None:
    assert is_confirmed(operations)
    operations.pause(["two"])
    directory.write("web", "f")
    assert is_confirmed(operations, ["one"])
    assert not (directory.copy("two") / "f").exists()
    assert conditions(operations)["web/two"] is Condition.PAUSED
    operations.resume(["two"])
    directory.wait_copied("two", "f")


def test_a_full_sync_repairs_the_named_destination_only(
    operations: Operations, directory: ServiceDirectory
) -> None:
    directory.write("web", "f")
    assert is_confirmed(operations)
    for copy in SYNCS["web"]:
        (directory.copy(copy) / "f").unlink()
    operations.sync(["one"])
    directory.wait_copied("one", "f")
    assert not (directory.copy("two") / "f").exists()


def test_the_status_counts_changes_that_are_still_in_the_buffer(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one",)}) as supervisor:
        operations = Operations(supervisor, lambda: None)
        assert is_confirmed(operations)
        syncs = directory.settings({"web": ("one",)}, window=3600.0).syncs
        assert supervisor.apply(syncs) == []
        directory.write("web", "f")
        wait_until(lambda: conditions(operations)["web/one"] is Condition.WAITING)
        (sync,) = operations.status().syncs
        assert (sync.window, sync.is_watching, sync.directories) == (3600.0, True, 1)
        assert sync.destinations[0].waiting >= 1
        operations.flush()
        directory.wait_copied("one", "f")


def test_a_release_without_anything_held_does_no_harm(
    operations: Operations, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    operations.release(["one"])
    operations.release(["data"])
    assert is_confirmed(operations)
    assert "released (web/one)" in caplog.text
    assert "released (all)" in caplog.text


def test_the_log_level_is_set_by_its_name(operations: Operations) -> None:
    root = logging.getLogger()
    before = root.level
    try:
        operations.set_level("debug")
        assert logging.getLogger("pylsyncd.operations").isEnabledFor(logging.DEBUG)
        with pytest.raises(UsageError):
            operations.set_level("loud")
    finally:
        root.setLevel(before)


def test_a_reload_is_that_of_the_service(supervisor: Supervisor) -> None:
    calls: list[None] = []
    Operations(supervisor, lambda: calls.append(None)).reload()
    assert calls == [None]


@pytest.mark.parametrize("level", ["error", "warning", "notice", "info", "debug"])
def test_the_log_level_is_the_one_that_was_set(operations: Operations, level: str) -> None:
    before = operations.level()
    operations.set_level(level)
    try:
        assert operations.level() == level
    finally:
        operations.set_level(before)


def test_a_full_sync_of_a_sync_that_waits_for_its_source_is_refused_at_once(
    directory: ServiceDirectory,
) -> None:
    directory.write("web", "f")
    missing = directory.source("data")
    with directory.supervisor({"web": ("one",)}, waits_for_source=True) as supervisor:
        settings = directory.settings({"web": ("one",), "data": ("two",)})
        missing.rmdir()
        assert supervisor.apply(settings.syncs) != []
        operations = Operations(supervisor, lambda: None)
        wait_until(lambda: conditions(operations)["data/two"] is Condition.HELD)
        with pytest.raises(UsageError, match="No full sync of data: the source is held"):
            operations.sync()
        # It must not wait until the source comes.
        operations.flush()
        operations.sync(["web"])
        assert not missing.exists()


def test_a_reload_has_not_failed_any_more_once_the_sync_that_lacked_its_source_runs(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one",)}, waits_for_source=True) as supervisor:
        operations = Operations(supervisor, lambda: None)
        settings = directory.settings({"web": ("one",), "data": ("two",)})
        directory.source("data").rmdir()
        errors = supervisor.apply(settings.syncs)
        operations.record_reload(errors)
        assert "The sync data is held" in operations.known_status().reload_error
        directory.source("data")
        wait_until(lambda: not operations.known_status().reload_error)
        operations.record_reload([*errors, ApplyError("line 1: no:\nline 2: no")])
        assert operations.known_status().reload_error == "line 1: no: line 2: no"
