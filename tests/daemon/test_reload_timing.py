"""Reloads at unfortunate moments: during a start, a wait, a pause, a hold or a stop."""

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
from support.faults import FaultyRsync, exit_with, hang
from support.mounts import Mounts, can_mount
from support.reloading import LONG_WINDOW, ReloadSetup, reload
from support.waiting import wait_until

ABSENT = 4
"""The exit status of pylsyncctl when no daemon runs."""


class DaemonWithConfiguredState(Pylsyncd):
    """A daemon with the state directory from its configuration file."""

    def _state_option(self) -> list[str]:
        return []


class ReloadTimingSetup(ReloadSetup):
    """A reload setup with an rsync that can fail, and with a lasting state directory."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.faulty = FaultyRsync(top)
        self.state = top / "state"

    def write_file(self, *process: str, initial_sync: str = "yes") -> None:
        super().write_file(*process)
        text = self.file.read_text().replace(
            str(self.counting_rsync.program), str(self.faulty.program)
        )
        self.file.write_text(text.replace("initial_sync = yes", f"initial_sync = {initial_sync}"))

    def wait_until_confirmed(self) -> None:
        # There is no daemon to find before the socket exists.
        wait_until(lambda: self.run("status").returncode != ABSENT)
        super().wait_until_confirmed()

    def add(self, *lines: str) -> None:
        self.file.write_text("\n".join([self.file.read_text(), *lines, ""]))

    def lasting(self) -> Pylsyncd:
        """Return a daemon whose state is kept for the next one."""
        return Pylsyncd(
            *("-v", "-c", self.file),
            state=self.state,
            extra_environment={"RUNTIME_DIRECTORY": str(self.directory)},
        )

    @contextlib.contextmanager
    def waiting(self, seconds: int) -> "Iterator[subprocess.Popen[bytes]]":
        """Run ``pylsyncctl wait`` in the background."""
        command = self.command("wait", "--timeout", str(seconds))
        with processes.running_process(command, env=self.environment()) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def setup(tmp_path: Path) -> ReloadTimingSetup:
    return ReloadTimingSetup(tmp_path)


def test_a_failing_sync_does_not_end_the_others_of_a_single_run(setup: ReloadTimingSetup) -> None:
    setup.set_sync("bad", ["bad"])
    setup.set_sync("good", ["good"])
    (setup.source_path("good") / "f").write_text("f")
    setup.write_file()
    slow = setup.directory_of_test / "slow"
    slow.write_text(
        '#!/bin/sh\ncase " $* " in *copies/bad*) exit 12;; *copies/good*) sleep 1;; esac\n'
        'exec rsync "$@"\n'
    )
    slow.chmod(0o755)
    setup.file.write_text(setup.file.read_text().replace(str(setup.faulty.program), str(slow)))
    ended = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--once", "-c", setup.file], env=environment(),
        stderr=subprocess.PIPE, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert (setup.copy_path("good") / "f").exists(), ended.stderr.decode()


@pytest.mark.parametrize("first", ["giver", "taker"])
def test_a_destination_moves_from_one_sync_to_another(setup: ReloadTimingSetup, first: str) -> None:
    names = ["giver", "taker"] if first == "giver" else ["taker", "giver"]
    for name in names:
        setup.set_sync(name, {"giver": ["one", "two"], "taker": ["three"]}[name])
        (setup.source_path(name) / name).write_text(name)
    setup.write_file()
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        setup.set_sync("giver", ["one"])
        setup.set_sync("taker", ["three", "two"])
        setup.write_file()
        assert "is unchanged" not in reload(daemon)
        setup.wait_until_confirmed()
        setup.expect_equal("taker", "two")


def test_two_syncs_exchange_their_destinations(setup: ReloadTimingSetup) -> None:
    for name, copy in (("web", "one"), ("data", "two")):
        setup.set_sync(name, [copy])
        (setup.source_path(name) / name).write_text(name)
    setup.write_file()
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        setup.set_sync("web", ["two"])
        setup.set_sync("data", ["one"])
        setup.write_file()
        reload(daemon)
        setup.wait_until_confirmed()
        setup.expect_equal("web", "two")
        setup.expect_equal("data", "one")


def test_a_destination_of_a_removed_sync_moves_to_another(setup: ReloadTimingSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.set_sync("data", ["two"])
    (setup.source_path("web") / "f").write_text("f")
    setup.write_file()
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        del setup.syncs["data"]
        setup.set_sync("web", ["one", "two"])
        setup.write_file()
        assert "is unchanged" not in reload(daemon)
        setup.wait_until_confirmed()
        setup.expect_equal("web", "two")


def test_pending_changes_survive_a_move_of_the_state_directory(setup: ReloadTimingSetup) -> None:
    setup.set_sync("web", ["one"], "retry_first = 600")
    setup.copy_path("one").mkdir(parents=True)
    setup.write_file(f"state_dir = {setup.directory_of_test}/here", initial_sync="no")
    daemon = DaemonWithConfiguredState(
        *("-v", "-c", setup.file), extra_environment={"RUNTIME_DIRECTORY": str(setup.directory)}
    )
    with daemon:
        daemon.wait_for("No initial sync")
        wait_until(lambda: setup.run("status").returncode != ABSENT)
        # Nothing is pending, but nothing was ever compared either.
        assert setup.run("status", "--check").returncode == 1
        answer = setup.run("wait", "--timeout", "45")
        assert answer.returncode == 3
        assert "run pylsyncctl sync web/one" in answer.stderr
        setup.faulty.add_fault(exit_with(12))
        (setup.source_path("web") / "pending").write_text("pending")
        daemon.wait_for("Pending: 1 change")
        setup.faulty.add_fault(exit_with(12))
        setup.write_file(f"state_dir = {setup.directory_of_test}/there", initial_sync="no")
        reload(daemon)
        setup.wait_until_confirmed()
        setup.expect_equal("web", "one")
        # It has received everything.
        assert setup.run("status", "--check").returncode == 0


def test_a_wait_does_not_end_while_a_destination_changes_its_worker(
    setup: ReloadTimingSetup,
) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        # The old worker takes two seconds to stop.
        setup.faulty.add_fault(hang(ignore_sigterm=True))
        (setup.source_path("web") / "new").write_text("new")
        wait_until(lambda: not setup.faulty.pending_faults)
        with setup.waiting(90) as wait:
            time.sleep(1)  # it is asked before
            setup.faulty.add_fault(hang())
            setup.add("[destination web/one]", "retry_first = 2")
            reload(daemon)
            wait_until(lambda: not setup.faulty.pending_faults)
            assert wait.poll() is None
            assert not (setup.copy_path("one") / "new").exists()
            setup.add("retry_longest = 900")
            reload(daemon)
            assert wait.wait(95) == 0
            assert (setup.copy_path("one") / "new").exists()


@pytest.mark.parametrize("what", ["exclude = *.tmp", "rsync_option = --chmod=F644"])
def test_a_wait_continues_with_the_new_worker(setup: ReloadTimingSetup, what: str) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        setup.faulty.add_fault(hang())
        (setup.source_path("web") / "new").write_text("new")
        wait_until(lambda: not setup.faulty.pending_faults)
        with setup.waiting(90) as wait:
            time.sleep(1)  # it is asked before
            setup.set_sync("web", ["one"], what)
            setup.write_file()
            reload(daemon)
            assert wait.wait(95) == 0
            assert (setup.copy_path("one") / "new").exists()


def test_a_pause_survives_reloads_and_lasts_until_the_stop(setup: ReloadTimingSetup) -> None:
    setup.set_sync("web", ["one", "two"])
    setup.write_file(f"window = {LONG_WINDOW}")
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        assert setup.run("pause", "web/one").returncode == 0
        (setup.source_path("web") / "new").write_text("new")
        for line in ("retry_first = 2", "exclude = *.tmp", "exclude = *.bak"):
            setup.set_sync("web", ["one", "two"], line)
            setup.write_file(f"window = {LONG_WINDOW}")
            reload(daemon)
            assert setup.run("wait", "web/two", "--timeout", "45").returncode == 0
        daemon.stop()
        assert (setup.copy_path("two") / "new").exists()
        assert not (setup.copy_path("one") / "new").exists()


def test_a_sync_that_is_still_starting_is_replaced_when_it_has_stopped(
    setup: ReloadTimingSetup,
) -> None:
    setup.set_sync("web", ["one"])
    for number in range(20):
        (setup.source_path("web") / f"d{number}").mkdir()
    (setup.source_path("web") / "f.tmp").write_text("f")
    setup.write_file()
    pace = setup.directory_of_test / "pace"
    pace.write_text("0.4")
    program = setup.directory_of_test / "slowly.py"
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
        *("-v", "-c", setup.file),
        extra_environment={"RUNTIME_DIRECTORY": str(setup.directory)},
        program=(program,),
    )
    with daemon:
        wait_until(lambda: any(setup.directory.glob("*.sock")))
        setup.set_sync("web", ["one"], "exclude = *.tmp")
        setup.write_file()
        reload(daemon)
        pace.write_text("0")
        daemon.wait_for("Restarting the sync")
        (setup.source_path("web") / "new").write_text("new")
        (setup.source_path("web") / "new.tmp").write_text("new")
        setup.wait_until_confirmed()
        copied = os.listdir(setup.copy_path("one"))
        assert "new" in copied
        assert "new.tmp" not in copied


def test_a_pending_full_sync_survives_a_change_of_the_configuration(
    setup: ReloadTimingSetup, request: pytest.FixtureRequest
) -> None:
    setup.set_sync("web", ["one"])
    setup.copy_path("one").mkdir(parents=True)
    written = setup.source_path("web") / "f"
    written.write_text("f")
    # The latest change is found in any case.
    wait_until(lambda: time.time() > written.stat().st_ctime + 2.0)
    setup.write_file()
    daemon = setup.lasting()
    request.addfinalizer(daemon.kill)
    daemon.__enter__()
    daemon.wait_for("initial sync complete")
    copied = setup.copy_path("one") / "f"
    setup.faulty.add_fault(f"chmod 600 {copied}; exec sleep 600")
    setup.set_sync("web", ["one"], "rsync_option = --chmod=F600")
    setup.write_file(initial_sync="no")
    reload(daemon)
    wait_until(lambda: copied.stat().st_mode & 0o777 == 0o600)
    daemon.crash()
    setup.set_sync("web", ["one"])
    setup.write_file(initial_sync="no")
    with setup.lasting():
        setup.wait_until_confirmed()
        setup.expect_equal("web", "one")


@pytest.mark.skipif(not can_mount(), reason="takes root, and a kernel that lets it mount")
def test_a_sync_that_waits_for_its_source_applies_a_reload(setup: ReloadTimingSetup) -> None:
    source = setup.source_path("web")
    setup.set_sync("web", ["one"])
    setup.write_file()
    with Mounts() as mounts:
        mounts.mount_tmpfs(source)
        (source / "f").write_text("f")
        with setup.lasting():
            setup.wait_until_confirmed()
        mounts.unmount(source)
        with setup.lasting() as daemon:
            daemon.wait_for("is held")
            assert setup.run("pause", "web/two").returncode != 0
            setup.set_sync("web", ["one", "two"])
            setup.write_file()
            reload(daemon)
            assert setup.run("pause", "web/one").returncode == 0
            mounts.mount_tmpfs(source)
            (source / "g").write_text("g")
            daemon.wait_for("web/two. initial sync complete")
            assert setup.run("wait", "web/two", "--timeout", "45").returncode == 0
            assert not (setup.copy_path("one") / "g").exists()
            assert setup.run("resume").returncode == 0
            setup.wait_until_confirmed()
            setup.expect_equal("web", "one", "two")


@pytest.mark.skipif(not can_mount(), reason="takes root, and a kernel that lets it mount")
def test_a_reload_does_not_release_a_held_source(setup: ReloadTimingSetup) -> None:
    source = setup.source_path("web")
    setup.set_sync("web", ["one"])
    setup.write_file()
    with contextlib.ExitStack() as stack:
        mounts = stack.enter_context(Mounts())
        mounts.mount_tmpfs(source)
        (source / "f").write_text("f")
        daemon = stack.enter_context(setup.make_daemon())
        setup.wait_until_confirmed()
        mounts.unmount(source, lazy=True)
        mounts.mount_tmpfs(source)
        (source / "other").write_text("other")
        daemon.wait_for("is held")
        assert setup.run("wait", "--timeout", "0.5").returncode == 1
        setup.set_sync("web", ["one"], "exclude = *.tmp")
        setup.write_file()
        assert "its source is held" in reload(daemon, "its source is held")
        setup.set_sync("web", ["one", "two"], "exclude = *.tmp")
        setup.write_file()
        reload(daemon, "its source is held")
        assert os.listdir(setup.copy_path("one")) == ["f"]
        assert setup.run("release", "web/one").returncode == 0
        reload(daemon)
        setup.wait_until_confirmed()
        setup.expect_equal("web", "one", "two")


def test_a_wait_includes_changes_whose_events_were_dropped(setup: ReloadTimingSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()
    source = setup.source_path("web")
    for name in ("a/1", "a/2"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("")
    (source / "b").mkdir()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("The kernel's queue is too long to be filled.")
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        daemon.pause()
        for number in range(limit // 2 + 100):
            for name in ("a/1", "a/2"):
                (source / name).chmod(0o600 + number % 2)
        (source / "b/last").write_text("last")
        with setup.waiting(90) as wait:
            time.sleep(0.5)  # it asks before
            daemon.resume()
            assert wait.wait(95) == 0
        daemon.wait_for("dropped events")
        assert (setup.copy_path("one") / "b/last").exists()


def test_reloads_leak_no_descriptors(setup: ReloadTimingSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()

    def held(daemon: Pylsyncd) -> int:
        wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/task")) <= threads)
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
        before = held(daemon)
        for number in range(25):
            setup.set_sync("web", ["one"], f"exclude = *.{number}")
            setup.write_file()
            reload(daemon)
        setup.wait_until_confirmed()
        assert held(daemon) <= before + 4


def test_a_reload_and_a_stop_at_the_same_time_are_both_done(setup: ReloadTimingSetup) -> None:
    setup.set_sync("web", ["one"])
    setup.write_file()
    with setup.make_daemon() as daemon:
        setup.wait_until_confirmed()
        setup.set_sync("web", ["one"], "exclude = *.tmp")
        setup.write_file()
        (setup.source_path("web") / "new").write_text("new")
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            os.kill(daemon.pid, number)
        daemon.stop()
        assert (setup.copy_path("one") / "new").exists()
