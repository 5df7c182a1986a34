"""The client of the control socket reports why a daemon does not answer."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pylsyncd.control import client
from pylsyncd.control.client import AnswerTimeoutError, NoAnswerError, PendingRequest, send_request
from pylsyncd.control.protocol import ControlRequest, NoDaemonError, ProtocolError

STATUS = ControlRequest("status")


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen at a path, and call ``serve`` with the first connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with suppress(OSError), listener.accept()[0] as connection:
                connection.settimeout(45.0)
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield str(path)
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return serve


def test_an_answer_may_come_in_parts(tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        for byte in b'{"version": 1, "late": []}\n':
            connection.sendall(bytes([byte]))

    with listening(tmp_path / "sock", serve) as path:
        assert send_request(path, STATUS)["late"] == []


def test_a_path_without_a_socket_means_that_no_daemon_runs(tmp_path: Path) -> None:
    with pytest.raises(NoDaemonError, match=r"No pylsyncd listens at .*/sock: start it, or name"):
        send_request(f"{tmp_path}/sock", STATUS)


def test_a_socket_of_a_killed_daemon_means_that_no_daemon_runs(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/sock")
    with pytest.raises(NoDaemonError, match="No pylsyncd listens at"):
        send_request(f"{tmp_path}/sock", STATUS)


def test_a_path_that_cannot_be_reached_is_an_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoAnswerError, match=r"Cannot connect to the socket .*: Not a directory\."):
        send_request(f"{tmp_path}/file/sock", STATUS)


def test_a_daemon_that_does_not_answer_in_time_is_an_error(tmp_path: Path) -> None:
    has_ended = threading.Event()

    def serve(_: socket.socket) -> None:
        has_ended.wait(45.0)

    with listening(tmp_path / "sock", serve) as path:
        with pytest.raises(AnswerTimeoutError, match="has not answered for 0 seconds: see its log"):
            send_request(path, STATUS, timeout=0.05)
        has_ended.set()


def test_a_daemon_that_accepts_no_connection_in_time_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with pytest.raises(AnswerTimeoutError, match="accepts no connections: see its log"):
            PendingRequest(path, STATUS, connect_timeout=0.05)


def test_an_answer_that_stops_short_is_an_error(tmp_path: Path) -> None:
    with (
        listening(tmp_path / "sock", answering(b'{"version": 1, ')) as path,
        pytest.raises(NoAnswerError, match=r"is incomplete \(connection closed\): check that it"),
    ):
        send_request(path, STATUS)


def test_an_endless_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1 << 20)
    with (
        listening(tmp_path / "sock", answering(b"x" * (2 << 20))) as path,
        pytest.raises(NoAnswerError, match=r"is incomplete \(it is longer than 1 MiB\)"),
    ):
        send_request(path, STATUS)


def test_an_error_of_the_daemon_names_its_socket_and_keeps_its_lines(tmp_path: Path) -> None:
    answer = b'{"version": 1, "error": "a.conf:1: bad\\na.conf:2: \\u001b[2J"}\n'
    with (
        listening(tmp_path / "sock", answering(answer)) as path,
        pytest.raises(ProtocolError) as caught,
    ):
        send_request(path, STATUS)
    shown = os.fspath(tmp_path / "sock")
    assert str(caught.value).splitlines() == [
        "a.conf:1: bad",
        rf"a.conf:2: \x1b[2J (pylsyncd at {shown})",
    ]


def test_a_refusal_that_comes_before_the_request_is_read_is_shown(tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b'{"version": 1, "error": "try again later."}\n')

    with (
        listening(tmp_path / "sock", serve) as path,
        PendingRequest(path, STATUS) as pending,
        pytest.raises(ProtocolError, match="try again later"),
    ):
        pending.wait_for_answer()
