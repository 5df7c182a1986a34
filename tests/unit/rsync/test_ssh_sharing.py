"""Shared ssh connections: a real sshd counts the logins, /proc shows the processes left."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import processes
from support.daemon import environment
from support.servers import SshServer
from support.waiting import wait_until

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import (
    CURRENT_DIRECTORY,
    DEFAULT_REMOTE_SHELL,
    RsyncCapabilities,
    RsyncOptions,
)
from pylsyncd.rsync.outcomes import Verdict, interpret
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.rsync.ssh_sharing import SshConnection, SshSharing, can_share

SECONDS = 45.0


class SshTestbed:
    """A source, a replica reached by ssh, and a directory for sockets."""

    def __init__(self, directory: Path, server: SshServer) -> None:
        self.server = server
        self.source, self.replica = directory / "source", directory / "replica"
        self.base = directory / "run"
        self.source.mkdir()
        self.replica.mkdir()
        self.rsync = RsyncOptions("rsync", (3, 2, 7), rsh=server.rsh)
        self._logged = server.log.stat().st_size

    def run(self, rsync: RsyncOptions, runner: Runner | None = None) -> RunResult:
        to = Destination(
            "h", "", Transport.SHELL, "localhost", f"localhost:{self.replica}/".encode()
        )
        command = rsync.file_list_command(
            CURRENT_DIRECTORY, to, RsyncCapabilities(), create_parents=False
        )
        descriptor = os.open(self.source, os.O_RDONLY)
        try:
            return (runner or Runner()).run(command, b"./file\0", directory=descriptor)
        finally:
            os.close(descriptor)

    def sync(self, connection: SshConnection, content: str) -> RunResult:
        """Send this content to the file of the replica."""
        (self.source / "file").write_text(content)
        run = self.run(connection.apply_to(self.rsync))
        connection.record_exit(run.exit_status)
        if run.exit_status == 0:
            assert (self.replica / "file").read_text() == content
        return run

    @property
    def logins(self) -> int:
        """The number of logins at sshd since this object was created."""
        return self.server.log.read_bytes()[self._logged :].count(b"Accepted publickey")

    def masters(self) -> list[int]:
        """Return the masters, which hold connections open."""
        found = []
        for process in processes.list_processes():
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                if title.startswith(b"ssh: %b/" % os.fsencode(self.base)):
                    found.append(process.pid)
        return found


@pytest.fixture
def short() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ssh-") as directory:
        yield Path(directory)


@pytest.fixture
def testbed(short: Path, ssh_server: SshServer) -> SshTestbed:
    return SshTestbed(short, ssh_server)


@pytest.fixture
def sharing(testbed: SshTestbed) -> Iterator[SshSharing]:
    made = SshSharing(str(testbed.base))
    yield made
    made.close()
    wait_until(lambda: not testbed.masters(), message="all masters have ended")
    assert not testbed.base.exists() or not list(testbed.base.iterdir())


def test_many_runs_need_one_login(testbed: SshTestbed, sharing: SshSharing) -> None:
    connection = sharing.new_connection()
    for number in range(5):
        run = testbed.sync(connection, str(number))
        assert (run.exit_status, list(run.messages)) == (0, [])
    assert testbed.logins == 1


def test_each_ssh_connection_is_separate(testbed: SshTestbed, sharing: SshSharing) -> None:
    for connection in (sharing.new_connection(), sharing.new_connection()):
        testbed.sync(connection, "x")
    assert (testbed.logins, len(testbed.masters())) == (2, 2)


def test_without_the_option_no_connection_is_shared(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    testbed.rsync = replace(testbed.rsync, share_ssh=False)
    connection = sharing.new_connection()
    assert connection.apply_to(testbed.rsync) == testbed.rsync
    testbed.sync(connection, "one")
    testbed.sync(connection, "two")
    assert testbed.logins == 2
    assert not testbed.base.exists()


def test_the_master_keeps_neither_the_source_nor_a_pipe_of_rsync_open(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    testbed.sync(sharing.new_connection(), "x")
    (master,) = testbed.masters()
    assert os.readlink(f"/proc/{master}/cwd") == "/"
    held = [os.readlink(link) for link in Path(f"/proc/{master}/fd").iterdir()]
    assert [name for name in held if not name.startswith("socket:")] == ["/dev/null"] * 3


def test_only_its_user_can_use_the_connection(testbed: SshTestbed, sharing: SshSharing) -> None:
    testbed.sync(sharing.new_connection(), "x")
    (directory,) = testbed.base.iterdir()
    assert [path.stat().st_mode & 0o077 for path in (testbed.base, directory)] == [0, 0]


def test_a_stopped_run_leaves_the_connection_open_and_no_files_at_the_destination(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    connection = sharing.new_connection()
    testbed.sync(connection, "before")
    (testbed.source / "file").write_bytes(os.urandom(20_000_000))
    slow = connection.apply_to(replace(testbed.rsync, extra_options=("--bwlimit=100",)))
    runner = Runner()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(testbed.run(slow, runner).exit_status))
    thread.start()
    temporary = lambda: [path.name for path in testbed.replica.iterdir() if path.name != "file"]  # noqa: E731
    wait_until(lambda: bool(temporary()), message="the file is on its way")
    runner.send_signal(signal.SIGTERM)
    thread.join()
    assert codes != [0]
    wait_until(lambda: not temporary(), message="the rsync there has ended")
    assert testbed.sync(connection, "after").exit_status == 0
    assert testbed.logins == 1


def test_a_refused_login_prints_the_same_messages_as_without_sharing(
    testbed: SshTestbed, sharing: SshSharing, tmp_path: Path
) -> None:
    nobody = tmp_path / "key"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", nobody), check=True)  # noqa: S607
    configuration = (testbed.server.directory / "ssh_config").read_text()
    other = tmp_path / "ssh_config"
    other.write_text(re.sub(r"IdentityFile \S+", f"IdentityFile {nobody}", configuration))
    rsync = replace(testbed.rsync, rsh=f"ssh -F {other}")
    shared = sharing.new_connection().apply_to(rsync)
    assert shared != rsync
    runs = [testbed.run(each) for each in (rsync, shared)]
    # rsync exits with ssh's status, 255, or with its own, by chance.
    assert {run.exit_status for run in runs} <= {255, 12}
    assert {interpret(run.exit_status, run.messages).verdict for run in runs} == {Verdict.HELD}
    of_ssh = [[line for line in run.messages if not line.startswith("rsync")] for run in runs]
    assert of_ssh[0] == of_ssh[1]
    assert any("Permission denied" in line for line in of_ssh[0])


def test_a_dead_peer_is_detected_and_the_run_logs_in_by_itself(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    rsh = testbed.rsync.rsh + " -o ServerAliveInterval=1 -o ServerAliveCountMax=1"
    testbed.rsync = replace(testbed.rsync, rsh=rsh)
    connection = sharing.new_connection()
    before = {process.pid for process in processes.descendants(testbed.server.pid)}
    testbed.sync(connection, "one")
    stopped = {process.pid for process in processes.descendants(testbed.server.pid)} - before
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        run = testbed.sync(connection, "two")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert (run.exit_status, testbed.logins) == (0, 2)


def test_after_a_broken_run_ssh_logs_in_by_itself_until_a_run_succeeds(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    connection = sharing.new_connection()
    testbed.sync(connection, "one")
    assert connection.apply_to(testbed.rsync) != testbed.rsync
    connection.record_exit(255)
    wait_until(lambda: not testbed.masters(), message="the connection is closed")
    for code in (255, -15, 12):
        assert connection.apply_to(testbed.rsync) == testbed.rsync
        connection.record_exit(code)
    testbed.sync(connection, "two")
    assert testbed.logins == 2
    testbed.sync(connection, "three")
    testbed.sync(connection, "four")
    assert testbed.logins == 3


def test_sharing_stops_if_it_always_fails(short: Path) -> None:
    sharing = SshSharing(str(short))
    connection, rsync = sharing.new_connection(), RsyncOptions("rsync", (3, 2, 7))
    for _ in range(3):
        assert connection.apply_to(rsync) != rsync
        connection.record_exit(255)
        assert connection.apply_to(rsync) == rsync
        connection.record_exit(0)
    assert connection.apply_to(rsync) == rsync
    sharing.close()


def test_a_removed_socket_directory_is_created_again(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    connection = sharing.new_connection()
    testbed.sync(connection, "one")
    (master,) = testbed.masters()
    shutil.rmtree(testbed.base)
    assert testbed.sync(connection, "two").exit_status == 0
    assert testbed.logins == 2
    # Its socket is gone; it would exit by itself.
    os.kill(master, signal.SIGTERM)


KILLED = """
    import os, signal, sys
    from pylsyncd.model.endpoints import Destination
    from pylsyncd.model.destination_notation import Transport
    from pylsyncd.rsync.command import RsyncCapabilities, RsyncOptions
    from pylsyncd.rsync.runner import Runner
    from pylsyncd.rsync.ssh_sharing import SshSharing
    base, source, target, rsh = sys.argv[1:]
    rsync = SshSharing(base).new_connection().apply_to(RsyncOptions("rsync", (3, 2, 7), rsh=rsh))
    to = Destination("h", "", Transport.SHELL, "localhost", target.encode())
    command = rsync.full_sync_command(source.encode(), to, RsyncCapabilities())
    assert Runner().run(command, b"").exit_status == 0
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_process_closes_the_connections_of_a_killed_one(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    program = [sys.executable, "-c", textwrap.dedent(KILLED)]
    arguments = [
        str(testbed.base),
        str(testbed.source),
        f"localhost:{testbed.replica}/",
        testbed.rsync.rsh,
    ]
    ended = subprocess.run(program + arguments, env=environment(), check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = testbed.base.iterdir()
    (master,) = testbed.masters()
    ours = sharing.socket_path("1")
    assert ours.startswith(os.fsencode(testbed.base))
    wait_until(lambda: master not in testbed.masters(), message="the connection is closed")
    assert not left.exists()


def test_the_connections_of_running_processes_stay_open(
    testbed: SshTestbed, sharing: SshSharing
) -> None:
    connection = sharing.new_connection()
    testbed.sync(connection, "one")
    other = SshSharing(str(testbed.base))
    assert other.socket_path("1")
    other.close()
    testbed.sync(connection, "two")
    assert testbed.logins == 1


def test_a_master_that_does_not_answer_delays_the_end_only_briefly(short: Path) -> None:
    sharing = SshSharing(str(short))
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(sharing.socket_path("1"))
        mute.listen()
        began = time.monotonic()
        sharing.close()
        assert time.monotonic() - began < SECONDS
    assert not list(short.iterdir())


@pytest.mark.parametrize("name", ["with blank", "with%h", "x" * 90])
def test_a_directory_name_that_ssh_cannot_use_is_not_used(short: Path, name: str) -> None:
    sharing = SshSharing(str(short / name))
    path = sharing.socket_path("1")
    assert path
    assert not path.startswith(os.fsencode(short))
    sharing.close()
    assert not os.path.exists(os.path.dirname(path))


def test_no_socket_is_created_in_a_source_or_a_destination(short: Path) -> None:
    sharing = SshSharing(str(short / "run"))
    sharing.avoid([os.fsencode(short)])
    assert not sharing.socket_path("1").startswith(os.fsencode(short))
    sharing.avoid([b"/"])
    assert not sharing.socket_path("1")
    sharing.avoid([os.fsencode(short / "ru")])
    assert sharing.socket_path("1").startswith(os.fsencode(short / "run/"))
    sharing.close()


@pytest.mark.parametrize(
    ("rsh", "expected"),
    [
        (DEFAULT_REMOTE_SHELL, True),
        ("ssh", True),
        ("/usr/bin/ssh -p 22", True),
        ("ssh -i /key -o Compression=yes -4C -l user", True),
        ("ssh -lMary -iMS", True),
        ("ssh -l M", True),
        ("ssh -M", False),
        ("ssh -4M", False),
        ("ssh -S /socket", False),
        ("ssh -o ControlMaster=no", False),
        ("ssh -ocontrolpath=none", False),
        ("ssh -4o 'ControlPersist yes'", False),
        ("ssh host", False),
        ("rsh", False),
        ("env ssh", False),
        ("./ssh", False),
        ("/no/such/ssh", False),
        ("'ssh'", False),
        ("ssh 'unfinished", False),
        ("", False),
    ],
)
def test_only_ssh_without_options_on_sharing_is_shared(rsh: str, expected: bool) -> None:
    assert can_share(rsh) is expected


def test_the_users_keep_alive_options_stay(short: Path) -> None:
    sharing = SshSharing(str(short))
    plain = RsyncOptions("rsync", (3, 2, 7), rsh="ssh -p 22")
    own = RsyncOptions("rsync", (3, 2, 7), rsh="ssh -o serveraliveinterval=3")
    assert "ServerAliveInterval=15" in sharing.new_connection().apply_to(plain).rsh
    assert "ServerAliveInterval=15" not in sharing.new_connection().apply_to(own).rsh
    sharing.close()
