"""What is held is done after a release; other failures delay nothing else."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.setups import SyncSetup
from support.waiting import wait_until

FILES = [f"{directory}/{name}" for directory in ("d", "e") for name in range(5)]


@pytest.fixture
def setup(tmp_path: Path) -> SyncSetup:
    setup = SyncSetup(tmp_path, "-v", "-w", "0.1", keeps_state=True)
    for name in FILES:
        setup.write(name)
    return setup


# -- held -----------------------------------------------------------------------------------------


def test_a_release_does_not_apply_to_later_holds(setup: SyncSetup) -> None:
    with setup.daemon("-i", "--max-delete", "2") as daemon:
        daemon.wait_ready()
        daemon.release()
        daemon.wait_for("released")
        before = setup.copied_files()
        with daemon.paused():
            for number in range(4):
                (setup.source / f"d/{number}").unlink()
        daemon.wait_for("4 would be deleted, --max-delete allows 2")
        assert setup.copied_files() == before


def test_a_run_within_max_delete_is_not_held(setup: SyncSetup) -> None:
    with setup.daemon("-i", "--max-delete", "5") as daemon:
        daemon.wait_ready()
        with daemon.paused():
            for number in range(4):
                (setup.source / f"d/{number}").unlink()
        setup.expect_equal(daemon=daemon)
        assert "held" not in daemon.log.lower()


def test_too_many_deletions_are_held_until_released(setup: SyncSetup) -> None:
    with setup.daemon("-i", "--max-delete", "3") as daemon:
        daemon.wait_ready()
        before = setup.copied_files()
        with daemon.paused():
            shutil.rmtree(setup.source / "d")
        daemon.wait_for(r"6 would be deleted, --max-delete allows 3.*USR2.*Held until you act")
        assert setup.copied_files() == before
        mark = daemon.log_length()
        daemon.release()
        setup.expect_equal(daemon=daemon)
        daemon.wait_for("works again", after=mark)
        # The release applied once.
        mark = daemon.log_length()
        with daemon.paused():
            shutil.rmtree(setup.source / "e")
        daemon.wait_for("6 would be deleted", after=mark)
        assert (setup.copy / "e/0").exists()


def test_a_hold_survives_a_restart(setup: SyncSetup) -> None:
    with setup.daemon("-i", "--max-delete", "3") as daemon:
        daemon.wait_ready()
        with daemon.paused():
            shutil.rmtree(setup.source / "d")
        daemon.wait_for("Held until you act")
    with setup.daemon("--max-delete", "3") as daemon:
        daemon.wait_for("6 would be deleted")
        daemon.release()
        daemon.wait_for("catch-up complete")
        setup.expect_equal(daemon=daemon)


def test_a_source_that_is_empty_at_start_deletes_nothing_until_released(
    setup: SyncSetup,
) -> None:
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
    before = setup.copied_files()
    for name in ("d", "e"):
        shutil.rmtree(setup.source / name)
    with setup.daemon() as daemon:
        daemon.wait_for("the source is empty and the destination is not.*USR2")
        assert setup.copied_files() == before
        daemon.release()
        setup.expect_equal(daemon=daemon)
        setup.write("new")
        setup.expect_equal(daemon=daemon)


def test_an_empty_source_with_an_empty_copy_is_not_held(setup: SyncSetup) -> None:
    for name in ("d", "e"):
        shutil.rmtree(setup.source / name)
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        assert "held" not in daemon.log.lower()


def test_emptying_the_source_of_a_running_daemon_empties_the_copy(setup: SyncSetup) -> None:
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        for name in ("d", "e"):
            shutil.rmtree(setup.source / name)
        setup.expect_equal(daemon=daemon)


# -- periodic full syncs --------------------------------------------------------------------------


def test_periodic_full_syncs_repair_changes_made_at_the_destination(setup: SyncSetup) -> None:
    with setup.daemon("-i", "--full-sync-interval", "1") as daemon:
        daemon.wait_ready()
        (setup.copy / "d/0").write_text("drift")
        (setup.copy / "more").touch()
        setup.expect_equal(daemon=daemon)
        (setup.copy / "d/1").unlink()
        setup.expect_equal(daemon=daemon)


# -- failures of single paths ---------------------------------------------------------------------

# Root without the capabilities that bypass permissions; see capabilities(7).
HEEDING = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def heeding_permissions() -> tuple[str, ...]:
    """Return the command prefix with which permissions apply to root, too."""
    if os.geteuid():
        return ()
    try:
        answer = subprocess.run((*HEEDING, "true"), capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("setpriv is not installed")
    if answer.returncode:
        pytest.skip(f"capabilities cannot be dropped: {answer.stderr!r}")
    return HEEDING


def test_an_unreadable_file_is_retried_and_delays_nothing_else(
    setup: SyncSetup,
) -> None:
    shut = setup.write("d/shut", "secret")
    shut.chmod(0)
    with setup.daemon("-i", prefix=heeding_permissions()) as daemon:
        daemon.wait_for("initial sync complete, except for 1 path")
        assert setup.copied_files() == set(FILES)
        (setup.source / "e/0").unlink()
        setup.write("e/new")
        wait_until(lambda: setup.copied_files() == {*FILES, "e/new"} - {"e/0"})
        shut.chmod(0o600)
        setup.expect_equal(daemon=daemon)
        daemon.wait_for("works again")


def test_an_unreadable_directory_prevents_no_deletions_elsewhere(setup: SyncSetup) -> None:
    setup.write("shut/deep/f")
    with setup.daemon("-i", prefix=heeding_permissions()) as daemon:
        daemon.wait_ready()
        (setup.copy / "e/too much").touch()
        (setup.source / "shut").chmod(0)
        try:
            daemon.full_sync()
            daemon.wait_for("full sync complete, except for 1 path")
            expected = {*FILES, "shut/deep/f"}
            # Unreadable files do not count as deleted.
            (setup.copy / "shut").chmod(0o700)
            assert setup.copied_files() == expected
            shutil.rmtree(setup.source / "d")
            wait_until(lambda: not (setup.copy / "d").exists())
        finally:
            (setup.source / "shut").chmod(0o755)
        setup.expect_equal(daemon=daemon)


def test_an_unreadable_file_stays_pending_over_a_restart(setup: SyncSetup) -> None:
    setup.write("shut/deep/f", "old")
    prefix = heeding_permissions()
    with setup.daemon("-i", prefix=prefix) as daemon:
        daemon.wait_ready()
    setup.write("shut/deep/f", "changed, and then not to be seen")
    (setup.source / "shut").chmod(0)
    try:
        with setup.daemon(prefix=prefix) as daemon:
            daemon.wait_for("catch-up complete, except for 1 path")
        (setup.source / "shut").chmod(0o755)
        with setup.daemon(prefix=prefix) as daemon:
            daemon.wait_for("catch-up complete")
            setup.expect_equal(daemon=daemon)
    finally:
        (setup.source / "shut").chmod(0o755)


@contextlib.contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Make a file immutable, so that not even root can change or delete it."""
    if not _chattr("+i", path):
        pytest.skip("files cannot be made immutable here")
    try:
        yield
    finally:
        assert _chattr("-i", path)


def _chattr(mode: str, path: Path) -> bool:
    command = [shutil.which("chattr") or "false", mode, path]
    return not subprocess.run(command, check=False, capture_output=True).returncode


def test_a_copy_that_cannot_be_replaced_delays_nothing_else(setup: SyncSetup) -> None:
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        with immutable(setup.copy / "d/0"):
            setup.write("d/0", "changed")
            daemon.wait_for("some paths cannot be written")
            (setup.source / "e/0").unlink()
            setup.write("d/new")
            wait_until(lambda: setup.copied_files() == {*FILES, "d/new"} - {"e/0"})
            assert (setup.copy / "d/0").read_text() == "x"
        setup.expect_equal(daemon=daemon)
        daemon.wait_for("works again")
