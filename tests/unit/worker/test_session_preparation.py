"""An attempt connects before it enters the source, unless the last run reached the destination."""

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import processes
from support.servers import LOOPBACK, RsyncDaemon, SshServer

from pylsyncd.model.changes import EVERYTHING
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.session import STOPPED, RsyncSession, SessionRun

SECONDS = 45.0


class RemoteSetup:
    """A source, its copy, and sessions to that through servers on the loopback."""

    def __init__(self, top: Path) -> None:
        self.source, self.copy = top / "source", top / "copy"
        for path in (self.source, self.copy):
            path.mkdir()
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.resources = SharedResources()
        self._sessions: list[RsyncSession] = []

    def session(
        self, transport: Transport, target: str, rsh: str = "ssh", *, shares: bool = True
    ) -> RsyncSession:
        options = RsyncOptions("rsync", (3, 2, 7), rsh=rsh, share_ssh=shares)
        destination = Destination("copy", target, transport, "h", f"{target}/".encode())
        session = RsyncSession(destination, options, resources=self.resources)
        self._sessions.append(session)
        return session

    def over_ssh(self, rsh: str, *, shares: bool = True) -> RsyncSession:
        return self.session(Transport.SHELL, f"localhost:{self.copy}", rsh, shares=shares)

    def prepare(self, session: RsyncSession) -> SessionRun:
        return session.prepare(self.guard, EVERYTHING)

    def run(self, session: RsyncSession) -> Verdict:
        options = session.with_shared_ssh(session.options)
        command = options.full_sync_command(
            CURRENT_DIRECTORY, session.destination, RsyncCapabilities()
        )
        with self.guard.open_checked() as root:
            return session.run(root, command, b"").outcome.verdict

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        self.resources.ssh_sharing.close()
        self.guard.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RemoteSetup]:
    with contextlib.closing(RemoteSetup(tmp_path)) as made:
        yield made


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Yield a socket that listens and never answers."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.settimeout(SECONDS)
        yield listener


def shell_to(listener: socket.socket) -> str:
    """Return a remote shell that connects to a port of the loopback."""
    port = listener.getsockname()[1]
    return f"ssh -F /dev/null -o BatchMode=yes -o HostName={LOOPBACK} -o Port={port}"


@pytest.mark.parametrize("shares", [True, False])
def test_the_first_attempt_logs_in_and_a_shared_connection_stays_for_the_run(
    place: RemoteSetup, ssh_server: SshServer, *, shares: bool
) -> None:
    logged = ssh_server.log.stat().st_size
    session = place.over_ssh(ssh_server.rsh, shares=shares)
    for _ in range(2):
        assert place.prepare(session).outcome.verdict is Verdict.DONE
        assert place.run(session) is Verdict.DONE
    logins = ssh_server.log.read_bytes()[logged:].count(b"Accepted publickey")
    # Without sharing: one for the first attempt, and one for each run.
    assert logins == (1 if shares else 3)
    assert not session.is_preparing


@pytest.mark.parametrize("shares", [True, False])
def test_nothing_is_in_the_source_while_a_host_does_not_answer(
    place: RemoteSetup, silent: socket.socket, *, shares: bool
) -> None:
    session = place.over_ssh(shell_to(silent), shares=shares)
    ended: list[SessionRun] = []
    thread = threading.Thread(target=lambda: ended.append(place.prepare(session)))
    thread.start()
    connection, _ = silent.accept()
    with connection:
        assert session.is_preparing
        directories = {os.readlink(f"/proc/{each.pid}/cwd") for each in ssh_processes()}
        assert directories == {"/"}
        opened = {os.readlink(f"/proc/self/fd/{name}") for name in open_descriptors()}
        assert str(place.source) not in opened
    thread.join()
    outcome = ended[0].outcome
    assert outcome.verdict is Verdict.RETRY_LATER
    # The words of ssh itself, which depend on its version.
    assert outcome.message.startswith(("kex_exchange_identification: ", "Connection closed by "))
    assert ended[0].is_counted
    assert session.statistics.counts().codes == {255: 1}


def ssh_processes() -> list[processes.Process]:
    return [each for each in processes.descendants(os.getpid()) if each.name == "ssh"]


def open_descriptors() -> list[str]:
    # Without that of the listing itself.
    return [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]


def test_an_abort_ends_the_attempt_to_connect(place: RemoteSetup, silent: socket.socket) -> None:
    session = place.over_ssh(shell_to(silent))
    ended: list[SessionRun] = []
    thread = threading.Thread(target=lambda: ended.append(place.prepare(session)))
    thread.start()
    connection, _ = silent.accept()
    with connection:
        session.abort(signal.SIGTERM)
        thread.join()
    assert [run.outcome for run in ended] == [STOPPED]
    assert not session.statistics.counts().codes


def test_a_host_that_refuses_is_not_connected_to_by_rsync(
    place: RemoteSetup, silent: socket.socket
) -> None:
    rsh = shell_to(silent)
    silent.close()
    run = place.prepare(place.over_ssh(rsh))
    assert run.outcome.verdict is Verdict.RETRY_LATER
    assert run.outcome.message.endswith(": Connection refused")
    assert run.result.exit_status == 255


def test_after_a_run_that_failed_the_connection_comes_first_again(
    place: RemoteSetup, ssh_server: SshServer
) -> None:
    session = place.over_ssh(ssh_server.rsh)
    assert place.prepare(session).outcome.verdict is Verdict.DONE
    assert place.run(session) is Verdict.DONE
    # The host goes down.
    session.options = replace(session.options, rsh="ssh -F /dev/null -o ProxyCommand=false")
    session.close()
    assert place.prepare(session).outcome.verdict is Verdict.DONE
    assert place.run(session) is Verdict.RETRY_LATER
    assert place.prepare(session).outcome.verdict is Verdict.RETRY_LATER
    # And up again.
    session.options = replace(session.options, rsh=ssh_server.rsh)
    assert place.prepare(session).outcome.verdict is Verdict.DONE
    assert place.run(session) is Verdict.DONE


def test_a_remote_shell_that_is_no_ssh_is_left_to_rsync(place: RemoteSetup, tmp_path: Path) -> None:
    session = place.over_ssh(f"{tmp_path}/not-there")
    assert place.prepare(session).outcome.verdict is Verdict.DONE


def test_an_rsync_daemon_is_asked_first(place: RemoteSetup, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    daemon = RsyncDaemon(tmp_path / "server", {"copy": place.copy})
    with daemon:
        session = place.session(Transport.DAEMON, daemon.url("copy").rstrip("/"))
        assert place.prepare(session).outcome.verdict is Verdict.DONE
        assert place.run(session) is Verdict.DONE
    assert place.prepare(session).outcome.verdict is Verdict.DONE
    assert place.run(session) is Verdict.RETRY_LATER
    run = place.prepare(session)
    assert (run.outcome.verdict, run.result.exit_status) == (Verdict.RETRY_LATER, 10)
    assert "Connection refused" in run.outcome.message
    with daemon:
        assert place.prepare(session).outcome.verdict is Verdict.DONE


def test_a_held_source_is_not_connected_for(place: RemoteSetup, silent: socket.socket) -> None:
    session = place.over_ssh(shell_to(silent))
    place.source.rmdir()
    assert place.prepare(session).outcome.verdict is Verdict.DONE
    # The connection would wait in the socket's queue.
    assert not select.select([silent], [], [], 0)[0]
