"""When a wait for all changes is over, and what it says is lacking: on real replications."""

import os
from pathlib import Path

import pytest
from support.faults import FaultyRsync, exit_with
from support.mounts import Mounts, can_mount
from support.services import ServiceDirectory
from support.waiting import wait_until

from pylsyncd.confirmation import ConfirmationWait
from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import Condition, PathSummary, SetAside, WaitResult
from pylsyncd.operations import Operations
from pylsyncd.supervisor import Supervisor

SYNCS = {"web": ("one",)}
CONFIRMED = WaitResult()
TIMEOUT = 45.0


@pytest.fixture
def directory(tmp_path: Path) -> ServiceDirectory:
    return ServiceDirectory(tmp_path)


def operations_of(supervisor: Supervisor) -> Operations:
    return Operations(supervisor, lambda: None)


def test_a_wait_ends_when_all_but_failing_paths_is_confirmed(directory: ServiceDirectory) -> None:
    faulty = FaultyRsync(directory.top)
    options = (f"rsync = {faulty.program}", "retry_first = 600", "retry_longest = 600")
    with directory.supervisor(SYNCS, *options) as supervisor:
        operations = operations_of(supervisor)
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        message = 'rsync: [sender] open "/proc/self/cwd/bad": Permission denied (13)'
        # By the end of the window, and by the flush of the wait.
        for _ in range(2):
            faulty.add_fault(f"{faulty.real_rsync} \"$@\"; echo '{message}' >&2; exit 23")
        directory.write("web", "bad")
        directory.write("web", "good")
        failed = SetAside(failed=PathSummary(1, ("bad",)))
        assert operations.wait(timeout=TIMEOUT) == WaitResult((), {"web/one": failed})
        (sync,) = operations.status().syncs
        assert sync.destinations[0].set_aside == failed
        assert sync.destinations[0].condition is Condition.RETRYING
        assert (directory.copy("one") / "good").exists()
        faulty.discard_faults()
        # The path is tried once more by each wait, whatever the pause.
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED


def test_a_wait_tells_that_a_destination_was_never_compared_until_a_full_sync_has(
    directory: ServiceDirectory,
) -> None:
    directory.write("web", "old")
    with directory.supervisor(SYNCS, initial_sync=False) as supervisor:
        operations = operations_of(supervisor)
        directory.write("web", "new")
        reason = "it was never compared with the source as a whole: run pylsyncctl sync web/one"
        assert operations.wait(timeout=TIMEOUT) == WaitResult((), {}, {"web/one": reason})
        (sync,) = operations.status().syncs
        assert (sync.destinations[0].unverified, sync.destinations[0].waiting) == (reason, 0)
        operations.sync(["web/one"])
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        assert sorted(os.listdir(directory.copy("one"))) == ["new", "old"]
    with directory.supervisor(SYNCS, initial_sync=False) as supervisor:
        assert operations_of(supervisor).wait(timeout=TIMEOUT) == CONFIRMED


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_held_subtree_is_named_and_all_else_is_confirmed(directory: ServiceDirectory) -> None:
    nested, disk = directory.source("web") / "nested", directory.top / "disk"
    nested.mkdir()
    disk.mkdir()
    held = SetAside(held=PathSummary(1, ("nested",)))
    with Mounts() as mounts:
        mounts.mount_tmpfs(disk)
        mounts.mount_bind(disk, nested)
        directory.write("web", "nested/f")
        with directory.supervisor(SYNCS) as supervisor:
            operations = operations_of(supervisor)
            assert operations.wait(timeout=TIMEOUT) == CONFIRMED
            mounts.unmount(nested)
            for name in ("one", "two"):
                assert operations.wait(timeout=TIMEOUT) == WaitResult((), {"web/one": held})
                (sync,) = operations.status().syncs
                assert sync.held_subtrees == {
                    "nested": "the file system that was mounted there is gone"
                }
                (to,) = sync.destinations
                assert (to.condition, to.set_aside, to.waiting, to.next_attempt) == (
                    Condition.HELD, held, 0, None,
                )  # fmt: skip
                directory.write("web", name)
            (disk / "f").write_text("changed elsewhere")
            mounts.mount_bind(disk, nested)
            assert operations.wait(timeout=TIMEOUT) == CONFIRMED
            assert (directory.copy("one") / "nested/f").read_text() == "changed elsewhere"
            assert (directory.copy("one") / "two").exists()
            (sync,) = operations.status().syncs
            assert sync.destinations[0].condition is Condition.IN_SYNC
            assert sync.held_subtrees == {}


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_held_subtree_is_released_by_the_name_of_a_destination(
    directory: ServiceDirectory,
) -> None:
    nested = directory.source("web") / "nested"
    nested.mkdir()
    directory.write("web", "nested/f")
    (nested / "same").write_text("before")
    os.utime(nested / "same", (1, 1))
    with Mounts() as mounts, directory.supervisor(SYNCS) as supervisor:
        operations = operations_of(supervisor)
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        mounts.mount_tmpfs(nested)
        directory.write("web", "nested/g")
        # Of the same size and time as the file that was there before.
        same = directory.source("web") / "nested/same"
        same.write_text("after!")
        os.utime(same, (1, 1))
        assert "web/one" in operations.wait(timeout=TIMEOUT).set_aside
        assert (directory.copy("one") / "nested/f").exists()
        operations.release(["one"])
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        copies = {
            path.name: path.read_text() for path in (directory.copy("one") / "nested").iterdir()
        }
        assert copies == {"g": "nested/g", "same": "after!"}


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
@pytest.mark.parametrize("is_copy_missing", [False, True])
def test_a_mount_over_a_directory_that_is_empty_at_all_copies_is_taken(
    directory: ServiceDirectory, *, is_copy_missing: bool
) -> None:
    nested = directory.source("web") / "a/nested"
    nested.mkdir(parents=True)
    with Mounts() as mounts, directory.supervisor({"web": ("one", "two")}) as supervisor:
        operations = operations_of(supervisor)
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        if is_copy_missing:
            (directory.copy("two") / "a/nested").rmdir()
            (directory.copy("two") / "a").rmdir()
        disk = directory.top / "disk"
        disk.mkdir()
        mounts.mount_tmpfs(disk)
        (disk / "f").write_text("mounted")
        mounts.mount_bind(disk, nested)
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        for copy in ("one", "two"):
            assert (directory.copy(copy) / "a/nested/f").read_text() == "mounted"
        (nested / "g").write_text("watched")
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        assert (directory.copy("one") / "a/nested/g").exists()
        # From now on it is known: without it, its copies stay.
        mounts.unmount(nested)
        held = SetAside(held=PathSummary(1, ("a/nested",)))
        assert operations.wait(timeout=TIMEOUT).set_aside == {"web/one": held, "web/two": held}
        assert (directory.copy("one") / "a/nested/f").exists()


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_mount_is_taken_although_the_destination_cannot_be_asked_at_first(
    directory: ServiceDirectory,
) -> None:
    nested = directory.source("web") / "nested"
    nested.mkdir()
    faulty = FaultyRsync(directory.top)
    options = (f"rsync = {faulty.program}", "retry_first = 0.1", "retry_longest = 0.1")
    with Mounts() as mounts, directory.supervisor(SYNCS, *options) as supervisor:
        operations = operations_of(supervisor)
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        for _ in range(3):
            faulty.add_fault(exit_with(10))
        mounts.mount_tmpfs(nested)
        (nested / "f").touch()
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        assert faulty.pending_faults == 0
        assert (directory.copy("one") / "nested/f").exists()


@pytest.mark.skipif(not can_mount(), reason="mounting is not permitted here")
def test_a_mount_over_a_directory_that_one_copy_has_files_in_is_held_for_all(
    directory: ServiceDirectory,
) -> None:
    nested = directory.source("web") / "nested"
    nested.mkdir()
    with Mounts() as mounts, directory.supervisor({"web": ("one", "two")}) as supervisor:
        operations = operations_of(supervisor)
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        (directory.copy("two") / "nested/precious").touch()
        mounts.mount_tmpfs(nested)
        (nested / "f").touch()
        held = SetAside(held=PathSummary(1, ("nested",)))
        assert operations.wait(timeout=TIMEOUT).set_aside == {"web/one": held, "web/two": held}
        assert not (directory.copy("one") / "nested/f").exists()
        assert (directory.copy("two") / "nested/precious").exists()


def test_a_copy_that_is_the_source_of_another_sync_is_waited_for_last(
    directory: ServiceDirectory,
) -> None:
    # The order in the file is not that of the changes.
    (directory.top / "copies").symlink_to(directory.top)
    syncs = {"last": ("end",), "middle": ("source-last",), "first": ("source-middle",)}
    with directory.supervisor(syncs) as supervisor:
        operations = operations_of(supervisor)
        for number in range(5):
            (directory.source("first") / "f").write_text(str(number))
            assert operations.wait(timeout=TIMEOUT) == CONFIRMED
            assert (directory.copy("end") / "f").read_text() == str(number)


def test_a_destination_that_is_removed_during_a_wait_for_it_is_an_error(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one", "two")}) as supervisor:
        operations = operations_of(supervisor)
        assert operations.wait(timeout=TIMEOUT) == CONFIRMED
        operations.pause()
        directory.write("web", "f")

        def remove_one() -> bool:
            supervisor.apply(directory.settings({"web": ("two",)}).syncs)
            return False

        with pytest.raises(UsageError, match="no destination one"):
            operations.wait(["one"], TIMEOUT, remove_one)


def test_sources_that_seem_to_feed_each_other_do_not_wait_for_ever(
    directory: ServiceDirectory,
) -> None:
    with directory.supervisor({"web": ("one",), "data": ("two",)}) as supervisor:
        selected = [(each, [each.sync.destinations[0].name]) for each in supervisor]
        wait = ConfirmationWait(supervisor, selected)
        web, data = wait._waits  # noqa: SLF001  # no configuration is accepted that is so
        wait._upstream.update({web: {data}, data: {web}})  # noqa: SLF001

        def is_over() -> bool:
            wait.update()
            return wait.is_over

        wait_until(is_over)
