"""The process of a daemon, with a stand-in for the service."""

import contextlib
import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import processes
from support.daemon import environment
from support.installation import UNPRIVILEGED_USER, Installation
from support.waiting import wait_until

STANDIN = Path(__file__).with_name("service_stand_in.py")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class BackgroundService:
    """Starts daemons with a pid file and a log in a directory, and kills them at the end."""

    def __init__(self, top: Path, installation: Installation | None = None) -> None:
        self.pidfile, self.log = top / "run/pid", top / "log/pylsyncd.log"
        self.environment = environment({"PYTHONPATH": installation.path} if installation else {})
        self._python = installation.python if installation else sys.executable
        self.log.parent.mkdir()
        self.pidfile.parent.mkdir()
        self._program = shutil.copy(STANDIN, top)
        self._started: list[int] = []

    def command(self, **asked: Any) -> list[str]:
        daemon = {"background": True, "pidfile": str(self.pidfile)} | asked.pop("daemon", {})
        log = {"file": str(self.log)} | asked.pop("log", {})
        return [
            self._python, self._program, json.dumps({"daemon": daemon, "log": log} | asked)
        ]  # fmt: skip

    def start(
        self, *, fds: tuple[int, ...] = (), **asked: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command until it returns; the daemon continues."""
        run = subprocess.run(
            self.command(**asked), env=self.environment, capture_output=True, text=True, timeout=60,
            check=False, pass_fds=fds,
        )  # fmt: skip
        if run.returncode == 0:
            self._started.append(self.pid)
        return run

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text())

    def status(self, field: str) -> list[str]:
        found = re.search(
            rf"^{field}:\s*(.*)$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE
        )
        assert found
        return found[1].split()

    def stop(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))

    def kill_all(self) -> None:
        for pid in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[BackgroundService]:
    made = BackgroundService(tmp_path)
    yield made
    made.kill_all()


def test_a_daemon_runs_in_its_own_session_with_its_streams_on_dev_null(
    service: BackgroundService,
) -> None:
    run = service.start()
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    wait_until(lambda: "standard:" in service.log.read_text())
    assert "['/dev/null', '/dev/null', '/dev/null']" in service.log.read_text()
    pid = service.pid
    assert os.getsid(pid) not in {pid, os.getsid(0)}, "a session leader could get a terminal"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert service.status("Umask") == ["0022"]
    service.stop()
    assert not service.pidfile.exists()


def test_the_parent_ends_when_the_daemon_has_its_pid_file_and_is_ready(
    service: BackgroundService,
) -> None:
    service.start()
    assert os.path.exists(f"/proc/{service.pid}")
    assert "standard:" in service.log.read_text()


@pytest.mark.parametrize(
    ("ends", "status", "says"),
    [
        ("usage", 2, "The state directory is in use.\nSo it is."),
        ("watch", 1, "The source cannot be watched."),
        ("bug", 1, "The daemon stopped before it was ready: see the log "),
        ("death", 1, "The daemon died before it was ready: see the log "),
        ("nothing", 1, "The daemon stopped before it was ready: see the log "),
    ],
)
def test_a_failure_after_the_fork_is_printed_and_sets_the_exit_status(
    ends: str, status: int, says: str, service: BackgroundService
) -> None:
    run = service.start(ends=ends)
    assert run.returncode == status
    assert run.stderr.startswith(f"pylsyncd: {says}")
    assert ends == "death" or not service.pidfile.exists()


def test_the_parent_does_not_wait_forever_for_a_slow_start(service: BackgroundService) -> None:
    run = service.start(ends="delay", patience=0.3)
    assert run.returncode == 0
    assert f"The daemon is still starting (pid {service.pid})" in run.stderr


@pytest.mark.parametrize("is_known", [True, False])
def test_ctrl_c_during_the_start_ends_the_daemon(
    is_known: bool, service: BackgroundService
) -> None:
    with processes.running_process(
        service.command(ends="delay"), env=service.environment, stderr=subprocess.PIPE, text=True
    ) as starting:
        if not is_known:
            # Before the parent has read the pid of the daemon.
            children = Path(f"/proc/{starting.pid}/task/{starting.pid}/children")
            wait_until(children.read_text, interval=0.0)
            starting.send_signal(signal.SIGSTOP)
        wait_until(lambda: service.log.exists() and "line 1" in service.log.read_text())
        pid = service.pid
        starting.send_signal(signal.SIGINT)
        starting.send_signal(signal.SIGCONT)
        assert starting.wait(45) == 128 + signal.SIGINT
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_thread_created_before_the_fork_is_an_error(service: BackgroundService) -> None:
    run = service.start(ends="thread")
    assert run.returncode == 1
    assert "created before the fork" in run.stderr


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(service: BackgroundService) -> None:
    service.start()
    run = service.start()
    assert run.returncode == 2
    assert f"pylsyncd is already running (pid {service.pid})" in run.stderr
    service.stop()


def test_a_stale_pid_file_is_taken_over(service: BackgroundService) -> None:
    service.start()
    os.kill(service.pid, signal.SIGKILL)
    pid = service.pid
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert service.start().returncode == 0
    assert service.pid != pid
    # The pid in an unlocked pid file may be that of an unrelated process.
    service.stop()
    service.pidfile.write_text(f"{os.getpid()}\n")
    assert service.start().returncode == 0


def test_inherited_descriptors_are_closed(service: BackgroundService, tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    service.start(fds=(lock,))
    held = [os.readlink(entry) for entry in Path(f"/proc/{service.pid}/fd").iterdir()]
    os.close(lock)
    assert str(tmp_path / "lock") not in held


def test_no_file_takes_the_place_of_a_closed_standard_stream(
    service: BackgroundService,
) -> None:
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *service.command()]
    subprocess.run(command, env=service.environment, check=True, timeout=60)
    wait_until(lambda: "standard:" in service.log.read_text())
    assert "['/dev/null', '/dev/null', '/dev/null']" in service.log.read_text()
    service.stop()


def test_blocked_signals_reach_a_daemon(service: BackgroundService) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        service.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    service.stop()


def test_the_working_directory_and_the_umask_are_set(
    service: BackgroundService, tmp_path: Path
) -> None:
    service.start(daemon={"directory": str(tmp_path), "umask": 0o077})
    assert os.readlink(f"/proc/{service.pid}/cwd") == str(tmp_path)
    assert service.status("Umask") == ["0077"]


def test_a_process_in_the_foreground_has_a_pid_file_while_it_runs(
    service: BackgroundService,
) -> None:
    command = service.command(daemon={"background": False}, log={"file": None})
    with processes.running_process(
        command, env=service.environment, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr
        assert "standard" in run.stderr.readline()
        assert service.pid == run.pid
        run.terminate()
        run.stderr.read()
        assert run.wait(45) == 0
    assert not service.pidfile.exists()


# -- changing the user ----------------------------------------------------------------------------


@pytest.fixture
def shared_standin(open_directory: Path, installation: Installation) -> Iterator[BackgroundService]:
    made = BackgroundService(open_directory, installation)
    yield made
    made.kill_all()


@only_root
def test_a_daemon_has_only_the_ids_and_groups_of_its_user(
    shared_standin: BackgroundService, open_directory: Path
) -> None:
    service, nobody = shared_standin, pwd.getpwnam(UNPRIVILEGED_USER)
    state = open_directory / "var/state"
    service.environment["RUNTIME_DIRECTORY"] = str(open_directory / "run")
    run = service.start(daemon={"user": UNPRIVILEGED_USER, "control": ""}, state=str(state))
    assert run.returncode == 0, run.stderr
    assert service.status("Uid") == [str(nobody.pw_uid)] * 4
    assert service.status("Gid") == [str(nobody.pw_gid)] * 4
    groups = os.getgrouplist(UNPRIVILEGED_USER, nobody.pw_gid)
    assert sorted(service.status("Groups")) == sorted(map(str, groups))
    assert set(service.status("CapEff") + service.status("CapPrm")) == {"0" * 16}
    for path, mode in (
        (state, 0o700),
        (service.log, 0o640),
        (open_directory / "run/nobody", 0o700),
    ):
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (*nobody[2:4], mode)
    # The user has no permission to remove a file in root's directory.
    assert service.pidfile.stat().st_uid == 0
    service.stop()
    assert service.pidfile.read_text() == ""
    assert service.start().returncode == 0


@only_root
def test_users_and_groups_may_be_numbers(shared_standin: BackgroundService) -> None:
    service = shared_standin
    run = service.start(daemon={"user": "54321", "group": "54322"})
    assert run.returncode == 0, run.stderr
    assert service.status("Uid") == ["54321"] * 4
    assert service.status("Gid") == ["54322"] * 4
    assert service.status("Groups") == ["54322"]


@only_root
def test_a_number_without_a_user_needs_a_group(service: BackgroundService) -> None:
    run = service.start(daemon={"user": "54321"})
    assert run.returncode == 2
    assert "name its group with --group" in run.stderr


@only_root
def test_a_user_who_cannot_read_pylsyncd_is_refused(
    shared_standin: BackgroundService, open_directory: Path, installation: Installation
) -> None:
    own = open_directory / "own"
    shutil.copytree(installation.path, own)
    own.chmod(0o700)
    shared_standin.environment["PYTHONPATH"] = str(own)
    run = shared_standin.start(daemon={"user": UNPRIVILEGED_USER})
    assert run.returncode == 2
    assert f"The user nobody cannot read {own}/pylsyncd/daemonize.py" in run.stderr
    assert shared_standin.pidfile.read_text() == ""


@pytest.mark.parametrize(
    ("who", "says"),
    [
        ({"user": "no such user"}, "There is no user 'no such user'"),
        ({"group": "no such group"}, "There is no group 'no such group'"),
        ({"user": "4294967295"}, "There is no user '4294967295'"),
    ],
)
def test_an_unknown_user_or_group_is_refused(
    who: dict[str, str], says: str, service: BackgroundService
) -> None:
    run = service.start(daemon=who)
    assert run.returncode == 2
    assert says in run.stderr
    assert not service.pidfile.exists()


@only_root
def test_only_root_becomes_another_user(service: BackgroundService) -> None:
    nobody = pwd.getpwnam("nobody")

    def as_nobody(**who: str) -> str:
        run = service.start(daemon={"pidfile": None, **who}, **{"as": nobody[2:4]})
        assert run.returncode == 2
        return run.stderr

    assert "Only root can switch to the user root" in as_nobody(user="root")
    assert "Only root can switch to the group root" in as_nobody(group="root")
    # Staying the same user needs no root; then opening the log in root's directory fails.
    assert "log file" in as_nobody(user="nobody")


@only_root
def test_a_user_without_permission_to_create_a_log_keeps_the_old_one_until_there_is_a_new_one(
    shared_standin: BackgroundService,
) -> None:
    service = shared_standin
    service.start(daemon={"user": UNPRIVILEGED_USER})
    rotated = service.log.with_suffix(".1")
    service.log.rename(rotated)
    wait_until(lambda: "cannot be opened again" in rotated.read_text())
    # As logrotate does: under another name first.
    new = service.log.with_suffix(".new")
    new.touch()
    os.chown(new, pwd.getpwnam(UNPRIVILEGED_USER).pw_uid, -1)
    new.rename(service.log)
    wait_until(lambda: "line" in service.log.read_text())


# -- the log --------------------------------------------------------------------------------------


def test_no_line_is_lost_when_the_log_is_rotated_while_it_is_written(
    service: BackgroundService,
) -> None:
    service.start()
    for number in range(20):
        wait_until(lambda: service.log.exists() and service.log.stat().st_size > 400)
        service.log.rename(service.log.with_suffix(f".{number}"))
    wait_until(service.log.exists)
    service.stop()
    text = "".join(
        path.read_text()
        for path in sorted(service.log.parent.iterdir(), key=lambda p: p.stat().st_mtime_ns)
    )
    numbers = sorted(int(number) for number in re.findall(r"line (\d+)\n", text))
    assert numbers == list(range(numbers[-1] + 1))


def test_a_full_disk_does_not_end_a_daemon(service: BackgroundService) -> None:
    assert service.start(log={"file": "/dev/full"}).returncode == 0
    # About a tenth of a second later.
    switches = int(service.status("voluntary_ctxt_switches")[0])
    wait_until(lambda: int(service.status("voluntary_ctxt_switches")[0]) > switches + 50)
    service.stop()


def test_a_full_disk_is_reported_in_the_terminal(service: BackgroundService) -> None:
    command = service.command(daemon={"background": False}, log={"file": "/dev/full"})
    with processes.running_process(
        command, env=service.environment, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr
        assert "/dev/full cannot be written: No space left on device" in run.stderr.readline()
        run.terminate()
        assert run.stderr.read() == "", "it is reported once"
        assert run.wait(45) == 0
