"""From one run of the daemon to the next: what has changed is sent, and only that."""

import contextlib
import os
import random
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
from support.faults import FaultyRsync, wait_for_file
from support.trees import equal_within
from support.waiting import wait_until

from pylsyncd.state.destination_state import DestinationState, decode

NEVER = "3600"
"""A window that no test waits for."""


class Place:
    """A source, a copy, and daemons one after the other that keep their state."""

    def __init__(self, top: Path) -> None:
        self.source, self.copy, self.state = top / "source", top / "copy", top / "state"
        self.outside = top / "outside"
        self.source.mkdir()
        self.outside.mkdir()
        (top / "programs").mkdir()
        self.counting = CountingRsync(top / "programs")
        self._ends = contextlib.ExitStack()

    def daemon(
        self,
        *options: str | Path,
        copies: Sequence[Path] = (),
        rsync: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> Pylsyncd:
        copies = copies or [self.copy]
        return Pylsyncd(
            *("-v", "-w", "0.1", "--rsync", rsync or self.counting.program, *options),
            *(f"{self.source}/./", *(f"{copy}/" for copy in copies)),
            names=[copy.name for copy in copies], state=self.state, prefix=prefix,
        )  # fmt: skip

    def synced(self, *options: str | Path) -> None:
        """Have the copy made by a daemon that is stopped again."""
        with self.daemon("-i", *options) as daemon:
            daemon.wait_ready()

    def doomed(self, *options: str, rsync: Path | None = None) -> Pylsyncd:
        """Start a daemon that is not going to end in order; what it starts may outlive it."""
        daemon = self.daemon(*options, rsync=rsync)
        self._ends.callback(daemon.__enter__().kill)
        return daemon

    def close(self) -> None:
        """End what the doomed daemons have left."""
        self._ends.close()

    def expect_equal(self, *copies: Path, seconds: float = 20) -> None:
        for copy in copies or (self.copy,):
            found = equal_within(os.fsencode(self.source), os.fsencode(copy), seconds)
            assert found == []

    def write(self, name: str, text: str = "x") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def kept(self) -> DestinationState:
        """Return what is kept of the only copy."""
        (file,) = self.state.glob("*.state")
        return decode(file.read_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with contextlib.closing(Place(tmp_path)) as made:
        yield made


def settle() -> None:
    """Wait until what is changed from now on is younger than what is confirmed, by the slack."""
    # Not for a result: a scan takes what is younger than two seconds for changed, to be safe.
    time.sleep(2.2)


# -- what is sent ---------------------------------------------------------------------------------


def test_a_start_sends_exactly_what_has_changed_meanwhile_in_one_run(place: Place) -> None:
    for number in range(3000):
        place.write(f"{number % 30}/{number % 7}/{number}")
    (place.outside / "in/old").mkdir(parents=True)
    (place.outside / "in/old/file").write_text("old")
    place.write("link/a")
    os.link(place.source / "link/a", place.source / "link/b")
    settle()
    place.synced()
    for number in range(10):
        (place.source / f"{number}/{number % 7}/{number}").write_text("changed")
    (place.source / "20/6/20").unlink()
    shutil.rmtree(place.source / "21")
    (place.source / "22/1").rename(place.source / "23/renamed")
    (place.outside / "in").rename(place.source / "in")
    (place.source / "link/a").write_text("through one name")
    before = len(place.counting.changing_runs())
    with place.daemon() as daemon:
        daemon.wait_for(r"\[copy\] catch-up complete")
        place.expect_equal()
        (run,) = place.counting.changing_runs()[before:]
        assert b"--files-from=-" in run
        line = daemon.wait_for(r"synced \d+ files?, deleted \d+")
        # 10 changed, two directories with what is in them, and two names of one file.
        renamed = len(list((place.source / "23/renamed").iterdir()))
        assert f"synced {10 + 1 + renamed + 3 + 2} files, " in line
        assert "full sync" not in daemon.log
        assert "Starting a full sync" not in daemon.log
        place.write("23/renamed/later")
        place.expect_equal()


def test_a_start_after_which_nothing_has_changed_runs_nothing(place: Place) -> None:
    place.write("d/f")
    settle()
    place.synced()
    before = len(place.counting.changing_runs())
    with place.daemon() as daemon:
        daemon.wait_for("catching up with 0 changes")
        place.write("d/g")
        place.expect_equal()
        assert len(place.counting.changing_runs()) == before + 1


def test_two_copies_that_were_left_at_different_times_each_get_what_they_lack(
    place: Place,
) -> None:
    other = place.copy.with_name("other")
    place.write("d/f")
    with place.daemon("-i", copies=[place.copy, other]) as daemon:
        daemon.wait_ready()
    place.write("d/only-seen-by-one")
    with place.daemon() as daemon:
        daemon.wait_for("catch-up complete")
    place.expect_equal()
    place.write("e/after")
    with place.daemon(copies=[place.copy, other]) as daemon:
        for name in ("copy", "other"):
            daemon.wait_for(rf"\[{name}\] catch-up complete")
        place.expect_equal(place.copy, other)
        assert "Starting a full sync" not in daemon.log


@pytest.mark.parametrize("options", [(), ("--rsync-option=-H",)], ids=["without -H", "with -H"])
def test_a_file_changed_through_one_name_is_changed_through_all(
    place: Place, options: tuple[str, ...]
) -> None:
    for name in ("a/one", "untouched/f"):
        place.write(name)
    (place.source / "b").mkdir()
    os.link(place.source / "a/one", place.source / "b/two")
    with place.daemon("-i", *options) as daemon:
        daemon.wait_ready()
        with (place.source / "a/one").open("a") as file:
            file.write("more")
        place.expect_equal()
    (place.source / "b/two").write_text("while it was down")
    (place.source / "a/one").chmod(0o600)
    with place.daemon(*options) as daemon:
        daemon.wait_for("catch-up complete")
        place.expect_equal()
        (place.source / "b/two").write_text("and while it was up")
        place.expect_equal()


# -- no change is lost ----------------------------------------------------------------------------


def test_a_file_that_was_closed_while_nobody_looked_is_found_by_the_next_scan(
    place: Place,
) -> None:
    place.write("f", "old")
    place.write("g", "old")
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        # The first window takes all that has changed since the start, closed or not.
        place.write("g", "first")
        daemon.wait_for("synced 1 file")
        mark = daemon.log_length()
        with (place.source / "f").open("w") as open_file:
            open_file.write("new, and longer")
            open_file.flush()
            # The slack of the moments that ctimes are compared with.
            time.sleep(2.2)
            place.write("g", "changed later")
            daemon.wait_for("synced 1 file", after=mark)
            daemon.stop()
    with place.daemon("--scan-interval", "1") as daemon:
        daemon.wait_for("watching")
        place.expect_equal()


def test_however_often_it_is_killed_no_change_is_lost(place: Place) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for number in range(50):
        place.write(f"{number % 5}/{number}")
    place.synced()
    count = 0
    for _ in range(10):
        daemon = place.doomed()
        daemon.wait_ready()
        end = time.monotonic() + chance.uniform(0.0, 0.5)
        while time.monotonic() < end:
            count += 1
            _change(chance, place, count)
        daemon.crash()
        # Its rsync may go on.
        count += 1
        _change(chance, place, count)
    with place.daemon() as daemon:
        daemon.wait_for("complete")
        found = equal_within(os.fsencode(place.source), os.fsencode(place.copy), 20)
        assert found == [], f"seed {seed}, {count} changes\n{daemon.log_tail}"
        assert "Starting a full sync" not in daemon.log


def _change(chance: random.Random, place: Place, number: int) -> None:
    directories = [place.source, *(path for path in place.source.rglob("*") if path.is_dir())]
    files = [path for path in place.source.rglob("*") if path.is_file()]
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
        chosen.rename(place.source / f"m{number}")


def test_an_initial_sync_that_was_killed_is_done_again_without_being_asked_for(
    place: Place, tmp_path: Path
) -> None:
    place.write("d/f")
    faulty = FaultyRsync(tmp_path / "programs")
    faulty.add_fault(wait_for_file(tmp_path / "go"))
    daemon = place.doomed("-i", rsync=faulty.program)
    wait_until(lambda: not faulty.pending_faults)
    daemon.crash()
    (tmp_path / "go").touch()
    with place.daemon() as daemon:
        daemon.wait_for("Starting a full sync: the last full sync was not completed")
        daemon.wait_for("full sync complete")
        place.expect_equal()


def test_an_initial_sync_that_was_completed_is_not_done_again_after_a_kill(place: Place) -> None:
    place.write("d/f")
    daemon = place.doomed("-i")
    wait_until(lambda: list(place.state.glob("*.state")) and not place.kept().pending)
    daemon.crash()
    with place.daemon() as daemon:
        daemon.wait_for("catching up")
        assert "Starting a full sync" not in daemon.log


def test_what_was_owed_at_a_stop_is_paid_after_the_next_start(place: Place) -> None:
    place.write("keep")
    place.write("gone")
    away = place.copy.with_name("away")
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        place.copy.rename(away)
        place.copy.write_text("a file in its place")
        place.write("new/f")
        (place.source / "gone").unlink()
        daemon.wait_for(
            "the destination is another directory than before: check that its disk is mounted"
        )
        daemon.stop()
        assert "stopped before everything was synced. Pending:" in daemon.log
    place.copy.unlink()
    away.rename(place.copy)
    with place.daemon() as daemon:
        daemon.wait_for("catch-up complete")
        place.expect_equal()
        assert "Starting a full sync" not in daemon.log


def test_a_stop_that_has_to_end_rsync_is_one_in_order(place: Place, tmp_path: Path) -> None:
    place.write("f")
    faulty = FaultyRsync(tmp_path / "programs")
    with place.daemon("-i", rsync=faulty.program) as daemon:
        daemon.wait_ready()
        faulty.add_fault("exec sleep 600")
        place.write("g")
        wait_until(lambda: not faulty.pending_faults)
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait_for("stopping")
        daemon.stop()
    assert place.kept().is_clean_stop


def test_an_rsync_that_a_killed_daemon_has_left_brings_back_nothing(
    place: Place, tmp_path: Path
) -> None:
    place.write("f", "old")
    place.write("gone")
    faulty = FaultyRsync(tmp_path / "programs")
    daemon = place.doomed("-i", rsync=faulty.program)
    wait_until(lambda: list(place.state.glob("*.state")) and not place.kept().pending)
    faulty.add_fault(
        f"cp -a {place.source} {tmp_path}/kept; touch {tmp_path}/begun; "
        f"sleep 2; cp -a {tmp_path}/kept/. {place.copy}/; touch {tmp_path}/ended; exit 0"
    )
    place.write("f", "this must not come back")
    wait_until((tmp_path / "begun").exists)
    daemon.crash()
    (place.source / "gone").unlink()
    place.write("f", "new")
    with place.daemon(rsync=faulty.program) as following:
        following.wait_for("Terminated .* left by a killed pylsyncd")
        following.wait_for("catch-up complete")
        place.expect_equal()
        # As long as the old one would have taken.
        time.sleep(2.0)
        assert not (tmp_path / "ended").exists()
        place.expect_equal()


# -- what a start says ----------------------------------------------------------------------------


def test_a_forced_initial_sync_compares_everything_in_spite_of_the_state(place: Place) -> None:
    place.write("f", "right")
    settle()
    place.synced()
    (place.copy / "f").write_text("drift")
    with place.daemon() as daemon:
        daemon.wait_for("catching up")
    assert (place.copy / "f").read_text() == "drift"
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        place.expect_equal()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-x", "*.tmp"], "the options or the excludes have changed"),
        (["--rsync-option=--chmod=F644"], "the options or the excludes have changed"),
    ],
    ids=["an exclude", "an option"],
)
def test_with_other_options_everything_is_compared(
    place: Place, options: list[str], reason: str
) -> None:
    place.write("f.tmp").chmod(0o600)
    place.synced("-x", "f.tmp")
    with place.daemon(*options) as daemon:
        daemon.wait_for(f"Starting a full sync: {reason}")
        daemon.wait_for("full sync complete")


def test_where_another_directory_has_become_the_source_everything_is_compared(
    place: Place,
) -> None:
    place.write("f", "old")
    place.synced()
    place.source.rename(place.outside / "was")
    place.source.mkdir()
    place.write("g", "new")
    with place.daemon() as daemon:
        daemon.wait_for("Starting a full sync: the source is another directory")
        place.expect_equal()


def test_where_the_copy_was_replaced_everything_is_compared(place: Place) -> None:
    place.write("f")
    place.synced()
    shutil.rmtree(place.copy)
    place.copy.mkdir()
    with place.daemon() as daemon:
        daemon.wait_for("Starting a full sync: the destination is another directory")
        place.expect_equal()


def test_a_state_that_cannot_be_read_is_no_reason_to_lose_a_change(place: Place) -> None:
    place.write("f")
    place.synced()
    (file,) = place.state.glob("*.state")
    file.write_bytes(file.read_bytes()[:-20])
    place.write("g")
    (place.copy / "f").unlink()
    with place.daemon() as daemon:
        daemon.wait_for("Starting a full sync: .*state file is damaged")
        place.expect_equal()


# -- who may not start ----------------------------------------------------------------------------


def refused(*arguments: str | Path) -> str:
    """Run pylsyncd, which has to refuse; return its sentence."""
    run = subprocess.run(
        [sys.executable, "-m", "pylsyncd", *map(str, arguments)],
        env=environment(), capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_second_daemon_for_the_same_copy_is_refused_with_the_pid_of_the_first(
    place: Place,
) -> None:
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        says = refused("--state-dir", place.state, f"{place.source}/./", f"{place.copy}/")
        assert str(daemon.pid) in says
        place.write("f")
        place.expect_equal()


def test_a_loop_is_refused(place: Place) -> None:
    place.copy.mkdir()
    with place.daemon("-i") as daemon:
        daemon.wait_ready()
        says = refused("--state-dir", place.state, f"{place.copy}/./", f"{place.source}/")
        assert str(daemon.pid) in says


@pytest.mark.parametrize("inside", ["source", "copy"])
def test_a_state_directory_that_would_be_synced_or_deleted_is_refused(
    place: Place, inside: str
) -> None:
    state = place.source.with_name(inside) / "state"
    says = refused("--state-dir", state, f"{place.source}/./", f"{place.copy}/")
    assert "state directory" in says
    assert not state.exists()
