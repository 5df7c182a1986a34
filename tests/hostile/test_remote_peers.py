"""A host or an rsync daemon that was taken over harms nothing but its own copy."""

import json
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from hostile.targets import Targets

TIMEOUT = "2"
GARBAGE = bytes(range(256)).decode("latin-1")
SERVER = Path(__file__).with_name("corrupting_server.py")


@dataclass(frozen=True)
class Attack:
    """How a remote side goes wrong."""

    after: int = 0
    """How many bytes of the real rsync's answer come first."""
    bytes: str = ""
    times: int = 1
    banner: str = ""
    hangs: bool = False
    exit_status: int = 1


STAGES = (0, 4, 30, 200)
ATTACKS = {
    **{f"garbage after {stage} bytes": Attack(stage, GARBAGE * 4) for stage in STAGES},
    **{f"a flood after {stage} bytes": Attack(stage, GARBAGE * 256, 300) for stage in STAGES},
    **{f"silence after {stage} bytes": Attack(stage, hangs=True) for stage in STAGES},
    **{f"an end after {stage} bytes": Attack(stage, exit_status=0) for stage in STAGES},
    "a banner that denies": Attack(banner="Permission denied (publickey).\n", exit_status=255),
    "a banner with commands": Attack(banner="\x1b]0;owned\x07\x1b[2J" * 100, exit_status=12),
    "a banner of megabytes": Attack(banner="welcome to this host\n" * 200_000, exit_status=255),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_host_delays_only_itself(tmp_path: Path, attack: str) -> None:
    targets = Targets(tmp_path)
    script, order = tmp_path / "remote-shell", tmp_path / "attack.json"
    words = " ".join(shlex.quote(str(word)) for word in (sys.executable, SERVER, order))
    # Its arguments are the host and the command; the rest is for the login shell there.
    script.write_text(f'#!/bin/sh\nshift\nexec sh -c "{words} $*"\n')
    script.chmod(0o755)
    options = ("-e", str(script), "--timeout", TIMEOUT)
    with targets.daemon(f"host:{targets.hostile}/", options) as daemon:
        daemon.wait_for(r"\[host\] initial sync complete")
        order.write_text(json.dumps(asdict(ATTACKS[attack])))
        targets.change()
        daemon.wait_for(r"\[host\] (?!synced|initial)")
        targets.wait_for_equal(targets.good, daemon)
        order.unlink()
        daemon.flush()
        targets.wait_for_equal(targets.hostile, daemon)
        targets.check_nothing_lost()


class ScriptedDaemon:
    """A TCP server in an rsync daemon's place that sends what it is told, then closes or waits."""

    def __init__(self, answers: list[bytes], *, hangs: bool) -> None:
        self._answers, self._hangs = answers, hangs
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, name="hostile daemon")

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            for connection in self._open:
                connection.close()
            self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with suppress(OSError):
                connection.settimeout(1.0)
                for answer in self._answers:
                    connection.sendall(answer)
                    connection.recv(1000)
            if self._hangs:
                self._open.append(connection)
            else:
                connection.close()


DAEMONS: dict[str, tuple[list[bytes], bool]] = {
    "closes at once": ([], False),
    "says nothing": ([], True),
    "greets with garbage": ([bytes(range(256)) * 10], False),
    "greets with a number of 5,000 digits": ([b"@RSYNCD: " + b"9" * 5000 + b".0\n"], False),
    "greets for ever": ([b"x" * 5_000_000], False),
    "has a motd of megabytes": ([b"@RSYNCD: 31.0\n", b"Quota exceeded\n" * 200_000], False),
    "has a motd like an error": ([b"@RSYNCD: 31.0\n", b"@ERROR: Unknown module 'x'\n"], False),
    "says what is no error": ([b"@RSYNCD: 31.0\n", b"@ERROR: \x1b[2J\x00\xff\n"], False),
    "asks for a password": (
        [b"@RSYNCD: 31.0\n", b"@RSYNCD: AUTHREQD " + b"A" * 1000 + b"\n"],
        True,
    ),
    "sends garbage for a list": ([b"@RSYNCD: 31.0\n", b"@RSYNCD: OK\n" + bytes(4000)], False),
    "falls silent after the module": ([b"@RSYNCD: 31.0\n", b"@RSYNCD: OK\n"], True),
}


@pytest.mark.parametrize("kind", DAEMONS)
def test_a_hostile_rsync_daemon_delays_only_itself(tmp_path: Path, kind: str) -> None:
    targets = Targets(tmp_path)
    server = ScriptedDaemon(DAEMONS[kind][0], hangs=DAEMONS[kind][1])
    url = f"rsync://127.0.0.1:{server.port}/module/"
    with server.running(), targets.daemon(url, ("--timeout", TIMEOUT)) as daemon:
        daemon.wait_for(r"\[127\.0\.0\.1\] (?!synced|initial)")
        targets.change()
        targets.wait_for_equal(targets.good, daemon)
        assert "complete" not in "\n".join(
            line for line in daemon.log.splitlines() if "[127.0.0.1]" in line
        )
