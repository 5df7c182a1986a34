"""The control server answers valid requests, disconnects other clients, and never blocks."""

import contextlib
import json
import logging
import os
import resource
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import IN_SYNC_STATUS, RecordingCommands, destination, status
from support.waiting import DEADLINE, wait_until

from pylsyncd.control import client, protocol
from pylsyncd.control.client import NoAnswerError
from pylsyncd.control.protocol import (
    ControlRequest,
    NoDaemonError,
    NotPermittedError,
    ProtocolError,
)
from pylsyncd.control.server import ClientLimits, ControlServer
from pylsyncd.model.status_json import decode_status, encode_status
from pylsyncd.system import unix_sockets

NOBODY = 65534
AT_ONCE = 50


@contextlib.contextmanager
def serving(
    directory: Path | str, commands: RecordingCommands, limits: ClientLimits | None = None
) -> Iterator[ControlServer]:
    failed: list[str] = []
    control = ControlServer(f"{directory}/", commands, failed.append, limits)
    control.start()
    try:
        yield control
    finally:
        control.stop()
    assert not control.is_alive()
    assert failed == []


@pytest.fixture
def commands() -> RecordingCommands:
    return RecordingCommands()


@pytest.fixture
def control(tmp_path: Path, commands: RecordingCommands) -> Iterator[ControlServer]:
    with serving(tmp_path, commands) as running:
        yield running


@contextlib.contextmanager
def connected(control: ControlServer) -> Iterator[socket.socket]:
    connection = unix_sockets.connect(control.path, 20.0)
    try:
        yield connection
    finally:
        connection.close()


def read_all(connection: socket.socket) -> bytes:
    """Return all bytes until the server disconnects."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            found += chunk
    return found


def read_answer(connection: socket.socket) -> Any:
    line = b""
    while not line.endswith(b"\n"):
        chunk = connection.recv(1)
        assert chunk, f"disconnected after {line!r}"
        line += chunk
    return json.loads(line)


def assert_answers(control: ControlServer) -> None:
    assert (
        decode_status(client.send_request(control.path, ControlRequest("status"))["status"])
        == IN_SYNC_STATUS
    )


# -- valid requests -----------------------------------------------------------------------------


def test_a_status_arrives_unchanged(control: ControlServer) -> None:
    assert_answers(control)


@pytest.mark.parametrize("command", ["flush", "sync", "pause", "resume", "release"])
@pytest.mark.parametrize("names", [(), ("srv2",), ("srv2", "srv2")])
def test_a_command_arrives_with_its_names(
    control: ControlServer, commands: RecordingCommands, command: str, names: tuple[str, ...]
) -> None:
    client.send_request(control.path, ControlRequest(command, names))
    assert commands.calls == [(command, *names)]


def test_names_that_are_not_utf_8_arrive(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xfcro \xff\n")
    commands = RecordingCommands(status(destination(name)))
    with serving(tmp_path, commands) as control:
        client.send_request(control.path, ControlRequest("flush", (name,)))
        found = decode_status(client.send_request(control.path, ControlRequest("status"))["status"])
    assert commands.calls == [("flush", name)]
    assert found.syncs[0].destinations[0].name == name


def test_a_log_level_and_a_reload_arrive(
    control: ControlServer, commands: RecordingCommands
) -> None:
    client.send_request(control.path, ControlRequest("log-level", level="debug"))
    client.send_request(control.path, ControlRequest("reload"))
    assert commands.calls == [("level", "debug"), ("reload",)]


def test_a_wait_returns_the_names_that_are_late(
    control: ControlServer, commands: RecordingCommands
) -> None:
    commands.late = ["srv2"]
    answer = client.send_request(control.path, ControlRequest("wait", ("srv2",), timeout=1.5))
    assert answer["late"] == ["srv2"]
    assert commands.calls == [("wait", "srv2"), ("timeout", 1.5)]


def test_a_usage_error_is_answered_and_the_connection_stays_open(
    control: ControlServer,
) -> None:
    with connected(control) as connection:
        connection.sendall(protocol.encode_request(ControlRequest("flush", ("srv3",))))
        assert read_answer(connection)["error"] == "There is no destination srv3."
        connection.sendall(protocol.encode_request(ControlRequest("status")) * 2)
        for _ in range(2):
            assert read_answer(connection)["status"] == encode_status(IN_SYNC_STATUS)


def test_an_unexpected_exception_is_answered_and_logged_and_the_server_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(RecordingCommands):
        def flush(self, names: object) -> None:  # noqa: ARG002
            raise ZeroDivisionError

    with serving(tmp_path, Broken()) as control:
        with pytest.raises(ProtocolError, match="This is a bug in pylsyncd: see its log"):
            client.send_request(control.path, ControlRequest("flush"))
        assert_answers(control)
    assert "A command failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_many_clients_at_once_are_all_answered(control: ControlServer) -> None:
    with contextlib.ExitStack() as stack:
        asked = [
            stack.enter_context(client.PendingRequest(control.path, ControlRequest("status")))
            for _ in range(AT_ONCE)
        ]
        for each in reversed(asked):
            assert decode_status(each.wait_for_answer()["status"]) == IN_SYNC_STATUS


def test_a_waiting_client_does_not_delay_others(
    control: ControlServer, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    with client.PendingRequest(control.path, ControlRequest("wait")) as waiting:
        wait_until(lambda: ("wait",) in commands.calls)
        for _ in range(3):
            assert_answers(control)
        commands.wait_may_end.set()
        assert waiting.wait_for_answer()["late"] == []


# -- garbage ------------------------------------------------------------------------------------

REFUSED = {
    "empty line": b"\n",
    "no JSON": b"GET / HTTP/1.1\n",
    "binary": bytes(range(1, 256)) + b"\n",
    "NUL": b"\0\n",
    "half an object": b'{"version": 1, "command": \n',
    "nested too deep": b"[" * 60000 + b"\n",
    "a number": b"7\n",
    "a huge number": b"9" * 60000 + b"\n",
    "a list": b'["status"]\n',
    "no version": b'{"command": "status"}\n',
    "another version": b'{"version": 2, "command": "status"}\n',
    "no command": b'{"version": 1}\n',
    "unknown command": b'{"version": 1, "command": "shutdown"}\n',
    "command of a wrong type": b'{"version": 1, "command": ["status"]}\n',
    "names of a wrong type": b'{"version": 1, "command": "flush", "names": "srv2"}\n',
    "a name of a wrong type": b'{"version": 1, "command": "flush", "names": ["srv2", null]}\n',
    "level of a wrong type": b'{"version": 1, "command": "log-level", "level": 10}\n',
    "negative timeout": b'{"version": 1, "command": "wait", "timeout": -1}\n',
    "no timeout": b'{"version": 1, "command": "wait", "timeout": NaN}\n',
    "timeout of a wrong type": b'{"version": 1, "command": "wait", "timeout": "60"}\n',
    "true for a timeout": b'{"version": 1, "command": "wait", "timeout": true}\n',
    "longer than any request": b" " * (64 << 10) + b"x" * 5000,
    "endless": b"x" * (1 << 20),
}


@pytest.mark.parametrize("garbage", REFUSED.values(), ids=REFUSED.keys())
def test_garbage_is_answered_with_an_error_and_disconnected(
    control: ControlServer, commands: RecordingCommands, garbage: bytes
) -> None:
    with connected(control) as connection:
        # The server may disconnect before everything is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(garbage)
        answer = json.loads(read_all(connection))
    assert answer["error"].endswith(".")
    assert set(answer) == {"version", "error"}
    assert commands.calls == []
    assert_answers(control)


def test_an_infinite_timeout_becomes_the_maximum(
    control: ControlServer, commands: RecordingCommands
) -> None:
    with connected(control) as connection:
        connection.sendall(b'{"version": 1, "command": "wait", "timeout": Infinity}\n')
        assert read_answer(connection)["late"] == []
    assert commands.calls[-1] == ("timeout", protocol.MAX_WAIT_SECONDS)


def test_a_wait_is_cancelled_when_its_client_disconnects(
    control: ControlServer, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    with connected(control) as connection:
        connection.sendall(b'{"version": 1, "command": "wait", "timeout": 600}\n')
        wait_until(lambda: ("timeout", 600.0) in commands.calls)
        assert ("cancelled",) not in commands.calls
    wait_until(lambda: ("cancelled",) in commands.calls)


def test_a_client_that_disconnects_within_a_line_does_no_harm(
    control: ControlServer, commands: RecordingCommands
) -> None:
    for _ in range(5):
        with connected(control) as connection:
            connection.sendall(b'{"version": 1, "command": "flush"')
    with connected(control) as connection:
        connection.sendall(b'{"version": 1, "command": "flush"')
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    assert_answers(control)
    assert commands.calls == []


def test_a_client_that_disconnects_before_its_answer_does_no_harm(
    control: ControlServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        with connected(control) as connection:
            connection.sendall(protocol.encode_request(ControlRequest("status")) * 10)
    assert_answers(control)
    wait_until(lambda: threading.active_count() == 2 + _other_threads())
    assert caplog.text == ""


def _other_threads() -> int:
    """Return how many threads belong neither to the server nor to this test."""
    named = [thread.name for thread in threading.enumerate()]
    return sum(name not in {"MainThread", "control", "control client"} for name in named)


# -- slow and many clients ----------------------------------------------------------------------

SHORT_TIMEOUT = ClientLimits(max_connections=4, max_waits=2, line_timeout=1.0)


def test_a_silent_client_is_disconnected(tmp_path: Path, commands: RecordingCommands) -> None:
    with (
        serving(tmp_path, commands, SHORT_TIMEOUT) as control,
        connected(control) as silent,
        connected(control) as stuck,
    ):
        stuck.sendall(b'{"version": 1, ')
        assert read_all(silent) == read_all(stuck) == b""


def test_a_client_that_sends_a_byte_now_and_then_is_disconnected(
    tmp_path: Path, commands: RecordingCommands
) -> None:
    with serving(tmp_path, commands, SHORT_TIMEOUT) as control, connected(control) as slow:
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            # Each pause is much shorter than the time limit.
            for byte in protocol.encode_request(ControlRequest("flush")) * 100:
                slow.sendall(bytes([byte]))
                sent += 1
                time.sleep(0.1)
        # All of them take minutes.
        assert sent < 400
    assert commands.calls == []


def test_a_client_that_never_reads_delays_no_other_and_is_disconnected(tmp_path: Path) -> None:
    large = status(*(destination(f"srv{number}" * 20) for number in range(2000)))
    with (
        serving(tmp_path, RecordingCommands(large), SHORT_TIMEOUT) as control,
        connected(control) as deaf,
        connected(control) as second_deaf,
    ):
        for each in (deaf, second_deaf):
            each.sendall(protocol.encode_request(ControlRequest("status")))
        assert client.send_request(control.path, ControlRequest("status"))[
            "status"
        ] == encode_status(large)
        wait_until(lambda: not _client_threads())
        assert b"\n" not in read_all(deaf)


def _client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "control client"]


def test_too_many_clients_get_an_error_until_others_have_gone(
    tmp_path: Path, commands: RecordingCommands
) -> None:
    limits = ClientLimits(max_connections=3, max_waits=2)
    with serving(tmp_path, commands, limits) as control, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connected(control))
        wait_until(lambda: len(_client_threads()) == 3)
        for _ in range(20):
            with pytest.raises(ProtocolError, match="already has 3 open connections: try again"):
                client.send_request(control.path, ControlRequest("status"))
        stack.close()
        wait_until(lambda: not _client_threads())
        assert_answers(control)


def test_clients_that_have_left_do_not_count(tmp_path: Path, commands: RecordingCommands) -> None:
    limits = ClientLimits(max_connections=1, max_waits=1)
    with serving(tmp_path, commands, limits) as control:
        for _ in range(500):
            assert_answers(control)


def test_waiting_clients_leave_connections_for_others(
    tmp_path: Path, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    limits = ClientLimits(max_connections=4, max_waits=2)
    with serving(tmp_path, commands, limits) as control, contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(client.PendingRequest(control.path, ControlRequest("wait")))
            for _ in range(2)
        ]
        wait_until(lambda: commands.calls.count(("wait",)) == 2)
        with pytest.raises(ProtocolError, match="2 clients already wait for this pylsyncd"):
            client.send_request(control.path, ControlRequest("wait"))
        assert_answers(control)
        commands.wait_may_end.set()
        assert [each.wait_for_answer()["late"] for each in waiting] == [[], []]
        assert client.send_request(control.path, ControlRequest("wait"))["late"] == []


# -- permissions --------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_other_users_are_refused_even_if_the_file_modes_admit_them(
    commands: RecordingCommands,
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="pylsyncd-sockets-") as directory,
        serving(directory, commands) as control,
    ):
        os.chmod(directory, 0o711)  # noqa: S103  # a mistake of an administrator
        os.chmod(control.path, 0o666)  # noqa: S103  # likewise
        os.seteuid(NOBODY)
        try:
            with pytest.raises(ProtocolError, match="Only root and user id 0 may control"):
                client.send_request(control.path, ControlRequest("flush"))
        finally:
            os.seteuid(0)
        os.chmod(control.path, 0o600)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(NotPermittedError, match=r"65534 may not use .*: run this .*sudo"):
                client.send_request(control.path, ControlRequest("flush"))
        finally:
            os.seteuid(0)
    assert commands.calls == []


# -- stop, and lack of resources -----------------------------------------------------------------


def test_a_stop_removes_the_socket_and_disconnects_waiting_clients(
    tmp_path: Path, commands: RecordingCommands
) -> None:
    commands.wait_may_end.clear()
    with contextlib.ExitStack() as stack:
        with serving(tmp_path, commands) as control:
            silent = stack.enter_context(connected(control))
            waiting = stack.enter_context(
                client.PendingRequest(control.path, ControlRequest("wait"))
            )
            wait_until(lambda: ("wait",) in commands.calls)
            wait_until(lambda: len(_client_threads()) == 2)
            start = time.monotonic()
        assert time.monotonic() - start < 45.0
        assert os.listdir(tmp_path) == []
        assert read_all(silent) == b""
        with pytest.raises(NoAnswerError, match=r"incomplete \(connection closed\): check that"):
            waiting.wait_for_answer()
        with pytest.raises(
            NoDaemonError, match=r"No pylsyncd listens at .*\.sock: start it, or name"
        ):
            client.send_request(control.path, ControlRequest("status"))
        commands.wait_may_end.set()
        wait_until(lambda: not _client_threads())


def test_a_server_that_was_never_started_can_be_stopped(
    tmp_path: Path, commands: RecordingCommands
) -> None:
    control = ControlServer(f"{tmp_path}/", commands, lambda _: None)
    with client.PendingRequest(control.path, ControlRequest("status")):
        control.stop()
    assert os.listdir(tmp_path) == []


def test_a_stop_does_not_wait_until_the_socket_is_checked(
    tmp_path: Path, commands: RecordingCommands
) -> None:
    limits = ClientLimits(socket_check_interval=4 * DEADLINE)
    with serving(tmp_path, commands, limits):
        started = time.monotonic()
    assert time.monotonic() - started < DEADLINE


def test_a_socket_that_was_removed_is_created_again(
    tmp_path: Path, commands: RecordingCommands, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "run/pylsyncd"
    limits = ClientLimits(socket_check_interval=0.01)
    commands.wait_may_end.clear()
    with serving(directory, commands, limits) as control, connected(control) as waiting:
        waiting.sendall(protocol.encode_request(ControlRequest("wait")))
        wait_until(lambda: ("wait",) in commands.calls)
        for removed in (Path(control.path), directory, directory.parent):
            removed.rename(tmp_path / f"removed {removed.name}")
            wait_until(Path(control.path).exists)
            assert_answers(control)
            assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600
        # A client that is connected notices nothing.
        commands.wait_may_end.set()
        assert read_answer(waiting)["late"] == []
        wait_until(lambda: caplog.text.count("was removed, and is created again.") == 3)
    assert os.listdir(directory) == []


def test_a_socket_that_cannot_be_created_again_is_logged_once_and_tried_again(
    tmp_path: Path, commands: RecordingCommands, caplog: pytest.LogCaptureFixture
) -> None:
    limits = ClientLimits(socket_check_interval=0.01)
    with serving(tmp_path / "run", commands, limits) as control:
        path = Path(control.path)
        other = tmp_path / "other"
        other.touch()
        other.rename(path)
        wait_until(lambda: "was removed, so that pylsyncctl does not find this" in caplog.text)
        assert path.is_file()
        path.unlink()
        wait_until(path.is_socket)
        assert_answers(control)
        wait_until(lambda: "is created again" in caplog.text)
    first, second = (record.getMessage() for record in caplog.records)
    assert "there is a file that is not a socket. Remove it, or" in first
    assert first.endswith("--control. Retrying.")
    assert "is created again" in second


def test_a_lack_of_descriptors_is_logged_once_and_survived(
    control: ControlServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        with no_descriptors():
            # accept(2) has reserved a descriptor for the first connection already.
            for connection in (first, second):
                connection.settimeout(45.0)
                connection.connect(control.path)
            wait_until(lambda: "Cannot accept a connection" in caplog.text)
        for connection in (first, second):
            connection.sendall(protocol.encode_request(ControlRequest("status")))
            assert read_answer(connection)["status"] == encode_status(IN_SYNC_STATUS)
    assert caplog.text.count("pylsyncctl: Too many open files. Retrying.") == 1


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Leave no free descriptor."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(0))
        yield
