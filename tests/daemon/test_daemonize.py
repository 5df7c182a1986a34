"""pylsyncd as a Unix daemon: in the background, found by its pid file, and as another user."""

import itertools
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes
from support.daemon import ENVIRONMENT_MARK, environment
from support.installation import UNPRIVILEGED_USER, Installation
from support.waiting import wait_until

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
WINDOW = "0.1"


class Background:
    """A source, a destination, and a daemon in the background that is found by its pid file."""

    def __init__(self, top: Path, installation: Installation | None = None) -> None:
        self._python = installation.python if installation else sys.executable
        self._environment = {"PYTHONPATH": installation.path} if installation else {}
        self.source, self.destination = top / "src", top / "dst"
        self.pidfile, self.log, self.state = top / "pid", top / "pylsyncd.log", top / "state"
        self.configuration = top / "pylsyncd.conf"
        self.source.mkdir()
        self.destination.mkdir()
        self._runtime = top / "run"
        self._mark = str(uuid.uuid4())

    def start(self, *options: str, words: tuple[str, ...] = ("-i", "-v", "-w", WINDOW)) -> None:
        """Run the command until it returns; the daemon continues."""
        run = self.run(*words, *options)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

    def refused(self, *options: str) -> str:
        """Run the command, which must refuse its arguments; return standard error."""
        run = self.run(*options)
        assert run.returncode == 2, run.stderr
        assert "Traceback" not in run.stderr
        return run.stderr

    def run(self, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run the command until it returns."""
        return self.command(
            "--daemon", f"--pidfile={self.pidfile}", f"--logfile={self.log}",
            f"--state-dir={self.state}", *options, f"{self.source}/./", f"{self.destination}/",
        )  # fmt: skip

    def command(self, *words: str, user: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run the command with exactly these arguments."""
        extra = {
            ENVIRONMENT_MARK: self._mark,
            "RUNTIME_DIRECTORY": str(self._runtime),
            **self._environment,
        }
        return subprocess.run(
            [self._python, "-m", "pylsyncd", *words], env=environment(extra), cwd="/", user=user,
            group=pwd.getpwnam(user).pw_gid if user else None, extra_groups=[] if user else None,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def configure(self, window: str) -> tuple[str, ...]:
        """Write the configuration file; return the arguments for it."""
        self.configuration.write_text(
            f"[pylsyncd]\ndaemon = yes\npidfile = {self.pidfile}\nlogfile = {self.log}\n"
            f"state_dir = {self.state}\n[sync one]\nsource = {self.source}/./\n"
            f"destinations = {self.destination}/\nwindow = {window}\n"
        )
        return ("-c", str(self.configuration))

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    @property
    def text(self) -> str:
        return self.log.read_text()

    def status(self, field: str) -> list[str]:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.split()[1:] for line in lines if line.startswith(f"{field}:"))

    def stop(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))

    def kill(self) -> None:
        processes.kill_processes_with_environment(f"{ENVIRONMENT_MARK}={self._mark}")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Background]:
    made = Background(tmp_path)
    yield made
    made.kill()


def test_a_daemon_syncs_in_the_background_until_it_is_stopped(daemon: Background) -> None:
    (daemon.source / "old").write_text("x")
    daemon.start()
    # The source is watched when the command returns.
    assert "watching" in daemon.text
    (daemon.source / "new").write_text("y")
    wait_until((daemon.destination / "new").exists)
    wait_until((daemon.destination / "old").exists)
    pid = daemon.pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    (daemon.source / "last").write_text("z")
    daemon.stop()
    assert (daemon.destination / "last").exists(), "the last changes were synced before the end"
    assert not daemon.pidfile.exists()
    assert daemon.text.splitlines()[-1].endswith("stopped")


def test_the_locks_of_the_state_have_the_pid_of_the_daemon(daemon: Background) -> None:
    daemon.start()
    (lock,) = daemon.state.glob("*.lock")
    assert f'"pid": {daemon.pid},' in lock.read_text()
    assert f"(pid {daemon.pid})" in daemon.refused(f"--pidfile={daemon.pidfile}.2")
    daemon.stop()
    daemon.start()
    daemon.stop()


def test_a_second_start_is_refused_with_the_pid_of_the_daemon(daemon: Background) -> None:
    daemon.start()
    assert f"pylsyncd is already running (pid {daemon.pid})" in daemon.refused()
    daemon.stop()


def test_after_a_crash_the_stale_pid_file_is_taken_over(daemon: Background) -> None:
    daemon.start()
    pid = daemon.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert daemon.pid == pid
    daemon.start()
    assert daemon.pid != pid
    daemon.stop()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--logfile={top}/none/log"], "none"),
        (["--pidfile={top}/none/pid"], "none"),
        (["--pidfile={top}/src"], "src"),
        (["--rsync=no-such-rsync"], "Install rsync"),
        (["--user=no-such-user"], "no-such-user"),
        (["--chdir={top}/none"], "none"),
        (["--state-dir={top}/src"], "is in the source"),
        (["-w", "never"], "never"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_at_start_is_printed_and_sets_the_exit_status(
    options: list[str], says: str, daemon: Background, tmp_path: Path
) -> None:
    assert says in daemon.refused(*(option.format(top=tmp_path) for option in options))
    assert not daemon.pidfile.exists()


def test_a_missing_source_is_reported_in_the_terminal(daemon: Background) -> None:
    daemon.source.rmdir()
    assert "does not exist" in daemon.refused()


def test_log_rotation_loses_no_line_and_no_change(daemon: Background) -> None:
    daemon.start(words=("-i", "-d", "-w", WINDOW))
    may_end, written = threading.Event(), itertools.count()

    def write() -> None:
        while not may_end.wait(0.005):
            (daemon.source / f"f{next(written)}").write_text("x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(10):
            wait_until(daemon.log.exists)
            daemon.log.rename(daemon.log.with_suffix(f".{number}"))
            time.sleep(0.05)  # the pace
    finally:
        may_end.set()
        writer.join()
    count = next(written)
    wait_until(lambda: len(list(daemon.destination.iterdir())) == count)
    daemon.stop()
    logs = [path.read_text() for path in daemon.log.parent.glob("pylsyncd.*") if path.is_file()]
    assert len(logs) == 11
    assert all(log.endswith("\n") for log in logs if log)
    counted = sum(
        int(number) for log in logs for number in re.findall(r"\] synced (\d+) files?", log)
    )
    assert counted >= count, "a line about a run is missing"
    assert not any("missing here" in log for log in logs)
    assert sum("initial sync complete" in log for log in logs) == 1


def test_hup_reloads_the_configuration_of_a_daemon_in_the_background(daemon: Background) -> None:
    run = daemon.command(*daemon.configure(window="3600"))
    assert (run.returncode, run.stderr) == (0, "")
    (daemon.source / "f").touch()
    daemon.configure(WINDOW)
    os.kill(daemon.pid, signal.SIGHUP)
    wait_until((daemon.destination / "f").exists)
    daemon.stop()


def test_the_command_line_keeps_a_daemon_in_the_foreground(daemon: Background) -> None:
    words = (sys.executable, "-m", "pylsyncd", "--foreground", "--control=no")
    command = (*words, *daemon.configure(WINDOW))
    with processes.running_process(command, env=environment()) as run:
        wait_until(lambda: daemon.log.exists() and "watching" in daemon.text)
        assert daemon.pid == run.pid
        run.terminate()
        assert run.wait(45) == 0
    assert not daemon.pidfile.exists()


# -- as another user ------------------------------------------------------------------------------


@pytest.fixture
def shared_daemon(open_directory: Path, installation: Installation) -> Iterator[Background]:
    """Return a daemon in directories that every user can search, unlike pytest's own."""
    made = Background(open_directory, installation)
    yield made
    made.kill()


@only_root
def test_a_daemon_gives_up_root_and_still_syncs(shared_daemon: Background) -> None:
    daemon, nobody = shared_daemon, pwd.getpwnam(UNPRIVILEGED_USER)
    os.chown(daemon.destination, nobody.pw_uid, nobody.pw_gid)
    daemon.start(f"--user={UNPRIVILEGED_USER}")
    assert daemon.status("Uid") == [str(nobody.pw_uid)] * 4
    assert daemon.status("Gid") == [str(nobody.pw_gid)] * 4
    groups = os.getgrouplist(UNPRIVILEGED_USER, nobody.pw_gid)
    assert sorted(daemon.status("Groups")) == sorted(map(str, groups))
    assert daemon.status("CapEff") == daemon.status("CapPrm") == ["0" * 16]
    (daemon.source / "f").write_text("x")
    wait_until((daemon.destination / "f").exists)
    for made in (daemon.destination / "f", daemon.state, daemon.log):
        assert made.stat().st_uid == nobody.pw_uid
    # The user can empty the pid file in root's directory, but not remove it.
    daemon.stop()
    assert daemon.pidfile.read_text() == ""
    daemon.start(f"--user={UNPRIVILEGED_USER}")
    daemon.stop()


@only_root
def test_a_daemon_that_gives_up_root_says_so_where_fanotify_needs_it(
    shared_daemon: Background,
) -> None:
    daemon, nobody = shared_daemon, pwd.getpwnam(UNPRIVILEGED_USER)
    os.chown(daemon.destination, nobody.pw_uid, nobody.pw_gid)
    daemon.start(f"--user={UNPRIVILEGED_USER}", "--watch=fanotify")
    (daemon.source / "f").write_text("x")
    wait_until((daemon.destination / "f").exists)
    daemon.stop()
    assert (
        "is watched by inotify: fanotify is not possible (it needs CAP_SYS_ADMIN and "
        "CAP_DAC_READ_SEARCH: run pylsyncd as root, without --user)"
    ) in daemon.text


@only_root
def test_a_user_goes_on_with_the_state_that_root_has_left(shared_daemon: Background) -> None:
    daemon, nobody = shared_daemon, pwd.getpwnam(UNPRIVILEGED_USER)
    # The owner of the source, which root gives to the copy.
    os.chown(daemon.source, nobody.pw_uid, nobody.pw_gid)
    daemon.start()
    wait_until(lambda: daemon.destination.stat().st_uid == nobody.pw_uid)
    refused = daemon.refused(f"--user={UNPRIVILEGED_USER}", "--pidfile=/run/pylsyncd-other.pid")
    assert f"another pylsyncd (pid {daemon.pid})" in refused
    daemon.stop()
    (daemon.source / "meanwhile").write_text("x")
    daemon.start(f"--user={UNPRIVILEGED_USER}", words=("-v", "-w", WINDOW))
    # Without -i: found by its state alone.
    wait_until((daemon.destination / "meanwhile").exists)
    assert "Gave the state of 1 destination" in daemon.text
    daemon.stop()
    (daemon.state / "foreign").touch()
    os.chown(daemon.state, 0, 0)
    refused = daemon.refused(f"--user={UNPRIVILEGED_USER}", "--check-config")
    assert "something else in it (foreign)" in refused


@only_root
def test_an_unprivileged_user_can_run_a_daemon(shared_daemon: Background) -> None:
    daemon = shared_daemon
    top = daemon.source.parent
    os.chown(top, pwd.getpwnam(UNPRIVILEGED_USER).pw_uid, -1)
    os.chown(daemon.destination, pwd.getpwnam(UNPRIVILEGED_USER).pw_uid, -1)
    words = ("--daemon", f"--pidfile={daemon.pidfile}", f"--logfile={daemon.log}", "-w", WINDOW)
    places = (f"--state-dir={daemon.state}", f"{daemon.source}/./", f"{daemon.destination}/")
    refused = daemon.command(*words, "--user=root", *places, user=UNPRIVILEGED_USER)
    assert "Only root can switch to the user root" in refused.stderr
    run = daemon.command(*words, *places, user=UNPRIVILEGED_USER)
    assert (run.returncode, run.stderr) == (0, "")
    (daemon.source / "f").write_text("x")
    wait_until((daemon.destination / "f").exists)
    daemon.stop()
    assert not daemon.pidfile.exists()
