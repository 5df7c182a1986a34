"""What a configuration that is read again must not do, whatever happens at the same time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes
from support.daemon import Pylsyncd, environment
from support.faults import FaultyRsync, exits, hangs
from support.mounts import Mounts, can_mount
from support.reloading import NEVER, Place, reload
from support.waiting import wait_until

ABSENT = 4
"""The exit status of pylsyncctl when no daemon runs."""


class ToldByItsFile(Pylsyncd):
    """A daemon whose file says where it keeps its state."""

    def _state_option(self) -> list[str]:
        return []


class Trial(Place):
    """The same with an rsync that fails when it is told to, and with the state's place."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.faulty = FaultyRsync(top)
        self.state = top / "state"

    def write(self, *process: str, initial_sync: str = "yes") -> None:
        super().write(*process)
        text = self.file.read_text().replace(str(self.counting.program), str(self.faulty.program))
        self.file.write_text(text.replace("initial_sync = yes", f"initial_sync = {initial_sync}"))

    def confirm(self) -> None:
        # Until it has a socket, nobody is found there.
        wait_until(lambda: self.run("status").returncode != ABSENT)
        super().confirm()

    def add(self, *lines: str) -> None:
        self.file.write_text("\n".join([self.file.read_text(), *lines, ""]))

    def lasting(self) -> Pylsyncd:
        """Return a daemon whose state stays where it is for the next one."""
        return Pylsyncd(
            *("-v", "-c", self.file),
            state=self.state,
            extra_environment={"RUNTIME_DIRECTORY": str(self.directory)},
        )

    @contextlib.contextmanager
    def waiting(self, seconds: int) -> "Iterator[subprocess.Popen[bytes]]":
        """Wait for all to be confirmed, while something else happens."""
        command = self.command("wait", "--timeout", str(seconds))
        with processes.running_process(command, env=self.environment()) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def place(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def test_one_sync_that_fails_does_not_end_the_others_of_a_single_run(place: Trial) -> None:
    place.sync("bad", ["bad"])
    place.sync("good", ["good"])
    (place.source("good") / "f").write_text("f")
    place.write()
    slow = place.top / "slow"
    slow.write_text(
        '#!/bin/sh\ncase " $* " in *copies/bad*) exit 12;; *copies/good*) sleep 1;; esac\n'
        'exec rsync "$@"\n'
    )
    slow.chmod(0o755)
    place.file.write_text(place.file.read_text().replace(str(place.faulty.program), str(slow)))
    ended = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--once", "-c", place.file], env=environment(),
        stderr=subprocess.PIPE, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert (place.copy("good") / "f").exists(), ended.stderr.decode()


@pytest.mark.parametrize("first", ["giver", "taker"])
def test_a_destination_goes_from_one_sync_to_another(place: Trial, first: str) -> None:
    names = ["giver", "taker"] if first == "giver" else ["taker", "giver"]
    for name in names:
        place.sync(name, {"giver": ["one", "two"], "taker": ["three"]}[name])
        (place.source(name) / name).write_text(name)
    place.write()
    with place.daemon() as daemon:
        place.confirm()
        place.sync("giver", ["one"])
        place.sync("taker", ["three", "two"])
        place.write()
        assert "is unchanged" not in reload(daemon)
        place.confirm()
        place.expect_equal("taker", "two")


def test_two_syncs_exchange_their_destinations(place: Trial) -> None:
    for name, copy in (("web", "one"), ("data", "two")):
        place.sync(name, [copy])
        (place.source(name) / name).write_text(name)
    place.write()
    with place.daemon() as daemon:
        place.confirm()
        place.sync("web", ["two"])
        place.sync("data", ["one"])
        place.write()
        reload(daemon)
        place.confirm()
        place.expect_equal("web", "two")
        place.expect_equal("data", "one")


def test_a_destination_of_a_sync_that_goes_comes_to_another(place: Trial) -> None:
    place.sync("web", ["one"])
    place.sync("data", ["two"])
    (place.source("web") / "f").write_text("f")
    place.write()
    with place.daemon() as daemon:
        place.confirm()
        del place.syncs["data"]
        place.sync("web", ["one", "two"])
        place.write()
        assert "is unchanged" not in reload(daemon)
        place.confirm()
        place.expect_equal("web", "two")


def test_what_is_owed_is_not_forgotten_when_the_state_is_kept_elsewhere(place: Trial) -> None:
    place.sync("web", ["one"], "retry_first = 600")
    place.copy("one").mkdir(parents=True)
    place.write(f"state_dir = {place.top}/here", initial_sync="no")
    daemon = ToldByItsFile(
        *("-v", "-c", place.file), extra_environment={"RUNTIME_DIRECTORY": str(place.directory)}
    )
    with daemon:
        daemon.wait_for("No initial sync")
        place.confirm()
        place.faulty.order(exits(12))
        (place.source("web") / "owed").write_text("owed")
        daemon.wait_for("Owed")
        place.faulty.order(exits(12))
        place.write(f"state_dir = {place.top}/there", initial_sync="no")
        reload(daemon)
        place.confirm()
        place.expect_equal("web", "one")


def test_no_wait_is_over_while_a_destination_is_between_two_servants(place: Trial) -> None:
    place.sync("web", ["one"])
    place.write()
    with place.daemon() as daemon:
        place.confirm()
        # The old one takes two seconds to end.
        place.faulty.order(hangs(stubbornly=True))
        (place.source("web") / "new").write_text("new")
        wait_until(lambda: not place.faulty.waiting)
        with place.waiting(30) as wait:
            time.sleep(1)  # it is asked before
            place.faulty.order(hangs())
            place.add("[destination web/one]", "retry_first = 2")
            reload(daemon)
            wait_until(lambda: not place.faulty.waiting)
            assert wait.poll() is None
            assert not (place.copy("one") / "new").exists()
            place.add("retry_longest = 900")
            reload(daemon)
            assert wait.wait(20) == 0
            assert (place.copy("one") / "new").exists()


@pytest.mark.parametrize("what", ["exclude = *.tmp", "rsync_option = --chmod=F644"])
def test_a_wait_goes_on_with_who_serves_then(place: Trial, what: str) -> None:
    place.sync("web", ["one"])
    place.write()
    with place.daemon() as daemon:
        place.confirm()
        place.faulty.order(hangs())
        (place.source("web") / "new").write_text("new")
        wait_until(lambda: not place.faulty.waiting)
        with place.waiting(40) as wait:
            time.sleep(1)  # it is asked before
            place.sync("web", ["one"], what)
            place.write()
            reload(daemon)
            assert wait.wait(30) == 0
            assert (place.copy("one") / "new").exists()


def test_a_pause_outlasts_whatever_is_read_and_a_stop(place: Trial) -> None:
    place.sync("web", ["one", "two"])
    place.write(f"window = {NEVER}")
    with place.daemon() as daemon:
        place.confirm()
        assert place.run("pause", "web/one").returncode == 0
        (place.source("web") / "new").write_text("new")
        for line in ("retry_first = 2", "exclude = *.tmp", "exclude = *.bak"):
            place.sync("web", ["one", "two"], line)
            place.write(f"window = {NEVER}")
            reload(daemon)
            assert place.run("wait", "web/two", "--timeout", "20").returncode == 0
        daemon.stop()
        assert (place.copy("two") / "new").exists()
        assert not (place.copy("one") / "new").exists()


def test_who_is_still_arming_is_followed_when_that_has_ended(place: Trial) -> None:
    place.sync("web", ["one"])
    for number in range(20):
        (place.source("web") / f"d{number}").mkdir()
    (place.source("web") / "f.tmp").write_text("f")
    place.write()
    pace = place.top / "pace"
    pace.write_text("0.4")
    program = place.top / "slowly.py"
    program.write_text(
        "import pathlib, sys, time\n"
        "from pylsyncd.cli import main\n"
        "from pylsyncd.watcher.inotify import Inotify\n"
        "add_watch = Inotify.add_watch\n"
        "def slowly(self, directory):\n"
        f"    time.sleep(float(pathlib.Path({str(pace)!r}).read_text()))\n"
        "    return add_watch(self, directory)\n"
        "Inotify.add_watch = slowly\n"
        "sys.exit(main())\n"
    )
    daemon = Pylsyncd(
        *("-v", "-c", place.file),
        extra_environment={"RUNTIME_DIRECTORY": str(place.directory)},
        program=(program,),
    )
    with daemon:
        wait_until(lambda: any(place.directory.glob("*.sock")))
        place.sync("web", ["one"], "exclude = *.tmp")
        place.write()
        reload(daemon)
        pace.write_text("0")
        daemon.wait_for("Restarting the sync")
        (place.source("web") / "new").write_text("new")
        (place.source("web") / "new.tmp").write_text("new")
        place.confirm()
        copied = os.listdir(place.copy("one"))
        assert "new" in copied
        assert "new.tmp" not in copied


def test_a_full_sync_is_owed_whatever_the_next_start_reads(
    place: Trial, request: pytest.FixtureRequest
) -> None:
    place.sync("web", ["one"])
    place.copy("one").mkdir(parents=True)
    written = place.source("web") / "f"
    written.write_text("f")
    # What has just changed is found anyway.
    wait_until(lambda: time.time() > written.stat().st_ctime + 2.0)
    place.write()
    daemon = place.lasting()
    request.addfinalizer(daemon.kill)
    daemon.__enter__()
    daemon.wait_for("initial sync complete")
    copied = place.copy("one") / "f"
    place.faulty.order(f"chmod 600 {copied}; exec sleep 600")
    place.sync("web", ["one"], "rsync_option = --chmod=F600")
    place.write(initial_sync="no")
    reload(daemon)
    wait_until(lambda: copied.stat().st_mode & 0o777 == 0o600)
    daemon.crash()
    place.sync("web", ["one"])
    place.write(initial_sync="no")
    with place.lasting():
        place.confirm()
        place.expect_equal("web", "one")


@pytest.mark.skipif(not can_mount(), reason="takes root, and a kernel that lets it mount")
def test_who_waits_for_its_source_takes_what_is_read_again(place: Trial) -> None:
    source = place.source("web")
    place.sync("web", ["one"])
    place.write()
    with Mounts() as mounts:
        mounts.tmpfs(source)
        (source / "f").write_text("f")
        with place.lasting():
            place.confirm()
        mounts.unmount(source)
        with place.lasting() as daemon:
            daemon.wait_for("is held")
            assert place.run("pause", "web/two").returncode != 0
            place.sync("web", ["one", "two"])
            place.write()
            reload(daemon)
            assert place.run("pause", "web/one").returncode == 0
            mounts.tmpfs(source)
            (source / "g").write_text("g")
            daemon.wait_for("web/two. initial sync complete")
            assert place.run("wait", "web/two", "--timeout", "20").returncode == 0
            assert not (place.copy("one") / "g").exists()
            assert place.run("resume").returncode == 0
            place.confirm()
            place.expect_equal("web", "one", "two")


@pytest.mark.skipif(not can_mount(), reason="takes root, and a kernel that lets it mount")
def test_a_held_source_is_not_released_by_what_is_read_again(place: Trial) -> None:
    source = place.source("web")
    place.sync("web", ["one"])
    place.write()
    with contextlib.ExitStack() as stack:
        mounts = stack.enter_context(Mounts())
        mounts.tmpfs(source)
        (source / "f").write_text("f")
        daemon = stack.enter_context(place.daemon())
        place.confirm()
        mounts.unmount(source, lazily=True)
        mounts.tmpfs(source)
        (source / "other").write_text("other")
        daemon.wait_for("is held")
        assert place.run("wait", "--timeout", "0.5").returncode == 1
        place.sync("web", ["one"], "exclude = *.tmp")
        place.write()
        assert "its source is held" in reload(daemon, "its source is held")
        place.sync("web", ["one", "two"], "exclude = *.tmp")
        place.write()
        reload(daemon, "its source is held")
        assert os.listdir(place.copy("one")) == ["f"]
        assert place.run("release", "web/one").returncode == 0
        reload(daemon)
        place.confirm()
        place.expect_equal("web", "one", "two")


def test_a_wait_is_not_over_before_what_the_kernel_dropped_was_found(place: Trial) -> None:
    place.sync("web", ["one"])
    place.write()
    source = place.source("web")
    for name in ("a/1", "a/2"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("")
    (source / "b").mkdir()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("The kernel's queue is too long to be filled.")
    with place.daemon() as daemon:
        place.confirm()
        daemon.pause()
        for number in range(limit // 2 + 100):
            for name in ("a/1", "a/2"):
                (source / name).chmod(0o600 + number % 2)
        (source / "b/last").write_text("last")
        with place.waiting(30) as wait:
            time.sleep(0.5)  # it asks before
            daemon.resume()
            assert wait.wait(40) == 0
        assert "dropped events" in daemon.log
        assert (place.copy("one") / "b/last").exists()


def test_reading_again_leaves_nothing_open(place: Trial) -> None:
    place.sync("web", ["one"])
    place.write()

    def held(daemon: Pylsyncd) -> int:
        wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/task")) <= threads)
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    with place.daemon() as daemon:
        place.confirm()
        threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
        before = held(daemon)
        for number in range(25):
            place.sync("web", ["one"], f"exclude = *.{number}")
            place.write()
            reload(daemon)
        place.confirm()
        assert held(daemon) <= before + 4


def test_a_hangup_and_a_stop_at_once_are_both_done(place: Trial) -> None:
    place.sync("web", ["one"])
    place.write()
    with place.daemon() as daemon:
        place.confirm()
        place.sync("web", ["one"], "exclude = *.tmp")
        place.write()
        (place.source("web") / "new").write_text("new")
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(daemon.pid, number)
        daemon.stop()
        assert (place.copy("one") / "new").exists()
