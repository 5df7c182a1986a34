"""A restart sends the changes since the last run, and only those."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.counting import CountingRsync
from support.daemon import Pylsyncd, environment
from support.disks import Disk, requires
from support.fanotify import skip_without_fanotify
from support.faults import FaultyRsync, wait_for_file
from support.mounts import Mounts
from support.setups import SyncSetup
from support.trees import equal_within
from support.waiting import wait_until
from support.watch_method import FANOTIFY, INOTIFY, watch_method

from pylsyncd.state.destination_state import DestinationState, decode

pytestmark = pytest.mark.usefixtures("watched_by")

NEVER = "3600"
"""Seconds: a window longer than any test."""


class RestartSetup(SyncSetup):
    """Daemons one after the other that keep their state; their rsync runs are recorded."""

    def __init__(self, top: Path) -> None:
        super().__init__(top, "-v", "-w", "0.1", keeps_state=True)
        self.outside = top / "outside"
        self.outside.mkdir()
        (top / "programs").mkdir()
        self.counting = CountingRsync(top / "programs")
        self._killed = contextlib.ExitStack()

    def daemon(
        self,
        *options: str | os.PathLike[str],
        copies: Sequence[Path] = (),
        prefix: Sequence[str] = (),
        rsync: Path | None = None,
    ) -> Pylsyncd:
        program = rsync or self.counting.program
        return super().daemon("--rsync", program, *options, copies=copies, prefix=prefix)

    def sync_once(self, *options: str | Path) -> None:
        """Create the copy with a daemon that is stopped afterwards."""
        with self.daemon("-i", *options) as daemon:
            daemon.wait_ready()

    def start_to_be_killed(self, *options: str, rsync: Path | None = None) -> Pylsyncd:
        """Start a daemon that the test kills; its children may outlive it."""
        daemon = self.daemon(*options, rsync=rsync)
        self._killed.callback(daemon.__enter__().kill)
        return daemon

    def close(self) -> None:
        """Kill what the killed daemons have left."""
        self._killed.close()

    def saved_state(self) -> DestinationState:
        """Return the saved state of the only copy."""
        (file,) = self.state.glob("*.state")
        return decode(file.read_bytes())


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[RestartSetup]:
    with contextlib.closing(RestartSetup(tmp_path)) as setup:
        yield setup


def settle() -> None:
    """Wait until later changes are newer than the confirmed time plus its slack."""
    # Not a wait for a result: a scan treats ctimes of the last two seconds as changes.
    time.sleep(2.2)


# -- which changes are sent -----------------------------------------------------------------------


@pytest.mark.both_methods
def test_a_start_sends_exactly_the_changes_since_the_stop(setup: RestartSetup) -> None:
    for number in range(3000):
        setup.write(f"{number % 30}/{number % 7}/{number}")
    (setup.outside / "in/old").mkdir(parents=True)
    (setup.outside / "in/old/file").write_text("old")
    setup.write("link/a")
    os.link(setup.source / "link/a", setup.source / "link/b")
    settle()
    setup.sync_once()
    for number in range(10):
        (setup.source / f"{number}/{number % 7}/{number}").write_text("changed")
    (setup.source / "20/6/20").unlink()
    shutil.rmtree(setup.source / "21")
    (setup.source / "22/1").rename(setup.source / "23/renamed")
    (setup.outside / "in").rename(setup.source / "in")
    (setup.source / "link/a").write_text("through one name")
    before = len(setup.counting.changing_runs())
    with setup.daemon() as daemon:
        daemon.wait_for(r"\[copy\] catch-up complete")
        setup.expect_equal()
        runs = setup.counting.changing_runs()[before:]
        # What was moved here may be another file of the same size and time.
        assert [b"--files-from=-" in run and b"--checksum" in run for run in runs] == [True]
        synced = map(int, re.findall(r"synced (\d+) files?, deleted \d+", daemon.log))
        # 10 changed files, two directories with their contents, and two names of one file.
        renamed = len(list((setup.source / "23/renamed").iterdir()))
        assert sum(synced) == 10 + 1 + renamed + 3 + 2
        assert "full sync" not in daemon.log
        assert "Starting a full sync" not in daemon.log
        setup.write("23/renamed/later")
        setup.expect_equal()


def test_a_start_without_changes_runs_no_rsync(setup: RestartSetup) -> None:
    setup.write("d/f")
    settle()
    setup.sync_once()
    before = len(setup.counting.changing_runs())
    with setup.daemon() as daemon:
        daemon.wait_for("catching up with 0 changes")
        with daemon.paused():
            setup.write("d/g")
        setup.expect_equal()
        assert len(setup.counting.changing_runs()) == before + 1


@pytest.mark.both_methods
def test_the_state_of_one_method_of_watching_is_that_of_the_other(
    setup: RestartSetup, watched_by: str
) -> None:
    skip_without_fanotify(setup.source)
    setup.write("d/f")
    with watch_method.using(INOTIFY if watched_by == FANOTIFY else FANOTIFY):
        setup.sync_once()
    setup.write("d/while it was down")
    (setup.source / "d/f").unlink()
    with setup.daemon() as daemon:
        daemon.wait_for("catch-up complete")
        setup.expect_equal()
        assert "Starting a full sync" not in daemon.log


@requires("ext4")
@pytest.mark.parametrize("what", ["source", "destination"])
def test_a_volume_that_was_restored_from_an_older_image_is_compared_as_a_whole(
    setup: RestartSetup, tmp_path: Path, what: str
) -> None:
    volume = setup.source if what == "source" else setup.copy
    volume.mkdir(exist_ok=True)
    with Disk(tmp_path / "image", "ext4") as disk, Mounts() as mounts:
        device = disk.attach()
        mounts.mount_device(device, volume)
        same_time = setup.source / "d/same time"
        for name in ("changed", "d/deleted", "d/same time", "d/untouched"):
            setup.write(name, "old")
        os.utime(same_time, (1e9, 1e9))
        setup.sync_once()
        mounts.unmount(volume)
        image = disk.image.read_bytes()
        mounts.mount_device(device, volume)
        with setup.daemon() as daemon:
            daemon.wait_ready()
            setup.write("changed", "newer")
            setup.write("new", "new")
            setup.write("d/same time", "new")
            os.utime(same_time, (1e9, 1e9))
            (setup.source / "d/deleted").unlink()
            setup.expect_equal()
        mounts.unmount(volume)
        disk.image.write_bytes(image)
        mounts.mount_device(disk.attach(), volume)
        with setup.daemon() as daemon:
            daemon.wait_for(f"Starting a full sync: the {what} was restored from an older copy")
            setup.expect_equal()
        with setup.daemon() as daemon:
            daemon.wait_for("catching up with")
        mounts.unmount(volume)


def test_copies_with_different_states_each_get_their_missing_changes(
    setup: RestartSetup,
) -> None:
    other = setup.copy.with_name("other")
    setup.write("d/f")
    with setup.daemon("-i", copies=[setup.copy, other]) as daemon:
        daemon.wait_ready()
    setup.write("d/only-seen-by-one")
    with setup.daemon() as daemon:
        daemon.wait_for("catch-up complete")
    setup.expect_equal()
    setup.write("e/after")
    with setup.daemon(copies=[setup.copy, other]) as daemon:
        for name in ("copy", "other"):
            daemon.wait_for(rf"\[{name}\] catch-up complete")
        setup.expect_equal(setup.copy, other)
        assert "Starting a full sync" not in daemon.log


@pytest.mark.both_methods
@pytest.mark.parametrize("options", [(), ("--rsync-option=-H",)], ids=["without -H", "with -H"])
def test_a_change_through_one_hard_link_is_synced_under_all_names(
    setup: RestartSetup, options: tuple[str, ...]
) -> None:
    for name in ("a/one", "untouched/f"):
        setup.write(name)
    (setup.source / "b").mkdir()
    os.link(setup.source / "a/one", setup.source / "b/two")
    with setup.daemon("-i", *options) as daemon:
        daemon.wait_ready()
        with (setup.source / "a/one").open("a") as file:
            file.write("more")
        setup.expect_equal()
    (setup.source / "b/two").write_text("while it was down")
    (setup.source / "a/one").chmod(0o600)
    with setup.daemon(*options) as daemon:
        daemon.wait_for("catch-up complete")
        setup.expect_equal()
        (setup.source / "b/two").write_text("and while it was up")
        setup.expect_equal()


# -- no change is lost ----------------------------------------------------------------------------


def test_a_file_closed_while_no_daemon_ran_is_found_by_the_next_scan(
    setup: RestartSetup,
) -> None:
    setup.write("f", "old")
    setup.write("g", "old")
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        # The first window includes all changes since the start, also in open files.
        setup.write("g", "first")
        daemon.wait_for("synced 1 file")
        mark = daemon.log_length()
        with (setup.source / "f").open("w") as open_file:
            open_file.write("new, and longer")
            open_file.flush()
            # The slack of the times that ctimes are compared with.
            time.sleep(2.2)
            setup.write("g", "changed later")
            daemon.wait_for("synced 1 file", after=mark)
            daemon.stop()
    with setup.daemon("--scan-interval", "1") as daemon:
        daemon.wait_for("watching")
        setup.expect_equal()


@pytest.mark.both_methods
def test_repeated_kills_lose_no_change(setup: RestartSetup) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for number in range(50):
        setup.write(f"{number % 5}/{number}")
    setup.sync_once()
    count = 0
    for _ in range(10):
        daemon = setup.start_to_be_killed()
        daemon.wait_ready()
        end = time.monotonic() + chance.uniform(0.0, 0.5)
        while time.monotonic() < end:
            count += 1
            _change(chance, setup, count)
        daemon.crash()
        # Its rsync may still run.
        count += 1
        _change(chance, setup, count)
    with setup.daemon() as daemon:
        daemon.wait_for("complete")
        found = equal_within(os.fsencode(setup.source), os.fsencode(setup.copy), 45)
        assert found == [], f"seed {seed}, {count} changes\n{daemon.log_tail}"
        assert "Starting a full sync" not in daemon.log


def _change(chance: random.Random, setup: RestartSetup, number: int) -> None:
    directories = [setup.source, *(path for path in setup.source.rglob("*") if path.is_dir())]
    files = [path for path in setup.source.rglob("*") if path.is_file()]
    kind = chance.random()
    if kind < 0.5:
        (chance.choice(directories) / f"n{number}").write_text(str(number))
    elif kind < 0.65:
        chance.choice(files).write_text(str(number))
    elif kind < 0.75:
        chance.choice(files).unlink()
    elif kind < 0.85:
        (chance.choice(directories) / f"d{number}").mkdir()
    elif len(directories) > 1:
        chosen = chance.choice(directories[1:])
        chosen.rename(setup.source / f"m{number}")


def test_a_killed_initial_sync_is_repeated_at_the_next_start(
    setup: RestartSetup, tmp_path: Path
) -> None:
    setup.write("d/f")
    faulty = FaultyRsync(tmp_path / "programs")
    faulty.add_fault(wait_for_file(tmp_path / "go"))
    daemon = setup.start_to_be_killed("-i", rsync=faulty.program)
    wait_until(lambda: not faulty.pending_faults)
    daemon.crash()
    (tmp_path / "go").touch()
    with setup.daemon() as daemon:
        daemon.wait_for("Starting a full sync: the last full sync was not completed")
        daemon.wait_for("full sync complete")
        setup.expect_equal()


def test_a_completed_initial_sync_is_not_repeated_after_a_kill(
    setup: RestartSetup,
) -> None:
    setup.write("d/f")
    daemon = setup.start_to_be_killed("-i")
    wait_until(lambda: list(setup.state.glob("*.state")) and not setup.saved_state().pending)
    daemon.crash()
    with setup.daemon() as daemon:
        daemon.wait_for("catching up")
        assert "Starting a full sync" not in daemon.log


@pytest.mark.both_methods
def test_changes_pending_at_a_stop_are_synced_after_the_next_start(setup: RestartSetup) -> None:
    setup.write("keep")
    setup.write("gone")
    away = setup.copy.with_name("away")
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        setup.copy.rename(away)
        setup.copy.write_text("a file in its place")
        setup.write("new/f")
        (setup.source / "gone").unlink()
        daemon.wait_for(
            "the destination is another directory than before: check that its disk is mounted"
        )
        daemon.stop()
        assert "stopped before everything was synced. Pending:" in daemon.log
    setup.copy.unlink()
    away.rename(setup.copy)
    with setup.daemon() as daemon:
        daemon.wait_for("catch-up complete")
        setup.expect_equal()
        assert "Starting a full sync" not in daemon.log


def test_a_stop_that_terminates_rsync_is_a_clean_stop(setup: RestartSetup, tmp_path: Path) -> None:
    setup.write("f")
    faulty = FaultyRsync(tmp_path / "programs")
    with setup.daemon("-i", rsync=faulty.program) as daemon:
        daemon.wait_ready()
        faulty.add_fault("exec sleep 600")
        setup.write("g")
        wait_until(lambda: not faulty.pending_faults)
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait_for("stopping")
        daemon.stop()
    assert setup.saved_state().is_clean_stop


def test_an_rsync_left_by_a_killed_daemon_restores_no_deleted_file(
    setup: RestartSetup, tmp_path: Path
) -> None:
    setup.write("f", "old")
    setup.write("gone")
    faulty = FaultyRsync(tmp_path / "programs")
    daemon = setup.start_to_be_killed("-i", rsync=faulty.program)
    wait_until(lambda: list(setup.state.glob("*.state")) and not setup.saved_state().pending)
    go, begun = tmp_path / "go", tmp_path / "begun"
    faulty.add_fault(
        f"cp -a {setup.source} {tmp_path}/kept; echo $$ >{begun}.new; mv {begun}.new {begun}; "
        f"until [ -e {go} ]; do sleep 0.1; done; cp -a {tmp_path}/kept/. {setup.copy}/; exit 0"
    )
    setup.write("f", "this must not come back")
    wait_until(begun.exists)
    daemon.crash()
    (setup.source / "gone").unlink()
    setup.write("f", "new")
    with setup.daemon(rsync=faulty.program) as following:
        following.wait_for("Terminated .* left by a killed pylsyncd")
        following.wait_for("catch-up complete")
        go.touch()
        wait_until(lambda: not Path(f"/proc/{begun.read_text().strip()}").exists())
        setup.expect_equal()


# -- reasons for a full sync ----------------------------------------------------------------------


def test_an_initial_sync_on_request_ignores_the_state(
    setup: RestartSetup,
) -> None:
    setup.write("f", "right")
    settle()
    setup.sync_once()
    (setup.copy / "f").write_text("drift")
    with setup.daemon() as daemon:
        daemon.wait_for("catching up")
    assert (setup.copy / "f").read_text() == "drift"
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        setup.expect_equal()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-x", "*.tmp"], "the options or the excludes have changed"),
        (["--rsync-option=--chmod=F644"], "the options or the excludes have changed"),
    ],
    ids=["an exclude", "an option"],
)
def test_changed_options_cause_a_full_sync(
    setup: RestartSetup, options: list[str], reason: str
) -> None:
    setup.write("f.tmp").chmod(0o600)
    setup.sync_once("-x", "f.tmp")
    with setup.daemon(*options) as daemon:
        daemon.wait_for(f"Starting a full sync: {reason}")
        daemon.wait_for("full sync complete")


@pytest.mark.both_methods
def test_a_replaced_source_causes_a_full_sync(
    setup: RestartSetup,
) -> None:
    setup.write("f", "old")
    setup.sync_once()
    setup.source.rename(setup.outside / "was")
    setup.source.mkdir()
    setup.write("g", "new")
    with setup.daemon() as daemon:
        daemon.wait_for("Starting a full sync: the source is another directory")
        setup.expect_equal()


def test_a_replaced_copy_causes_a_full_sync(setup: RestartSetup) -> None:
    setup.write("f")
    setup.sync_once()
    shutil.rmtree(setup.copy)
    setup.copy.mkdir()
    with setup.daemon() as daemon:
        daemon.wait_for("Starting a full sync: the destination is another directory")
        setup.expect_equal()


def test_an_unreadable_state_loses_no_change(setup: RestartSetup) -> None:
    setup.write("f")
    setup.sync_once()
    (file,) = setup.state.glob("*.state")
    file.write_bytes(file.read_bytes()[:-20])
    setup.write("g")
    (setup.copy / "f").unlink()
    with setup.daemon() as daemon:
        daemon.wait_for("Starting a full sync: .*state file is damaged")
        setup.expect_equal()


# -- refused starts -------------------------------------------------------------------------------


def refused(*arguments: str | Path) -> str:
    """Run pylsyncd, which must refuse to start; return its message."""
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", *map(str, arguments)],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_second_daemon_for_the_same_copy_is_refused_with_the_pid_of_the_first(
    setup: RestartSetup,
) -> None:
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        says = refused("--state-dir", setup.state, f"{setup.source}/./", f"{setup.copy}/")
        assert str(daemon.pid) in says
        setup.write("f")
        setup.expect_equal()


def test_two_daemons_that_would_sync_in_a_loop_are_refused(setup: RestartSetup) -> None:
    setup.copy.mkdir()
    with setup.daemon("-i") as daemon:
        daemon.wait_ready()
        says = refused("--state-dir", setup.state, f"{setup.copy}/./", f"{setup.source}/")
        assert str(daemon.pid) in says


@pytest.mark.parametrize("inside", ["source", "copy"])
def test_a_state_directory_inside_source_or_destination_is_refused(
    setup: RestartSetup, inside: str
) -> None:
    state = setup.source.with_name(inside) / "state"
    says = refused("--state-dir", state, f"{setup.source}/./", f"{setup.copy}/")
    assert "state directory" in says
    assert not state.exists()
