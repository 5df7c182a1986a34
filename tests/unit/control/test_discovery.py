"""The sockets of all daemons are found, and all daemons are asked at a time."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import IN_SYNC_STATUS, RecordingCommands, destination, status

from pylsyncd.control import client
from pylsyncd.control.client import AnswerTimeoutError
from pylsyncd.control.discovery import (
    DaemonStatus,
    fetch_statuses,
    find_sockets,
    load_status_file,
    send_requests,
)
from pylsyncd.control.protocol import (
    ControlRequest,
    NoDaemonError,
    NotPermittedError,
    ProtocolError,
)
from pylsyncd.control.server import ControlServer
from pylsyncd.model.status import Status
from pylsyncd.model.status_json import encode_status, format_status

NOBODY = 65534


class Daemons:
    """Control servers in a directory, without the daemons behind them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    def start(self, name: str, answer: Status = IN_SYNC_STATUS) -> str:
        """Serve a status at a socket of this name; return its path."""
        server = ControlServer(f"{self.directory}/{name}", RecordingCommands(answer), print)
        server.start()
        self._stack.callback(server.stop)
        return server.path


@pytest.fixture
def daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemons]:
    directory = tmp_path / "run"
    directory.mkdir(0o700)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(directory))
    with ExitStack() as stack:
        yield Daemons(directory, stack)


def test_sockets_are_found_in_the_runtime_directory_and_one_level_below(daemons: Daemons) -> None:
    paths = [daemons.start(name) for name in ("one.sock", "web/2.sock")]
    assert sorted(find_sockets(None)) == paths


def test_a_given_socket_is_the_only_one(daemons: Daemons) -> None:
    daemons.start("one.sock")
    assert find_sockets("/other.sock") == ["/other.sock"]


def test_no_socket_is_an_error_that_names_the_searched_directories(daemons: Daemons) -> None:
    with pytest.raises(NoDaemonError) as caught:
        find_sockets(None)
    assert f"No pylsyncd was found: there is no socket in {daemons.directory}." in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_a_user_who_may_not_read_a_directory_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(prefix="pylsyncd-sockets-") as directory:
        monkeypatch.setenv("RUNTIME_DIRECTORY", directory)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(
                NotPermittedError, match=rf"may not see .*{directory} .*with sudo, or .*--file"
            ):
                find_sockets(None)
        finally:
            os.seteuid(0)


def test_several_daemons_that_accept_no_connection_take_no_longer_than_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def connect(_: str, timeout: float) -> socket.socket:
        limits.append(timeout)
        time.sleep(timeout)
        raise TimeoutError

    monkeypatch.setattr(client, "connect", connect)
    requests = {f"{tmp_path}/{number}": ControlRequest("status") for number in range(3)}
    answers, errors = send_requests(requests, 0.5)
    assert answers == {}
    assert [type(error) for error in errors] == [AnswerTimeoutError] * 3
    assert limits[0] <= 0.5
    assert limits[1:] == [0.1, 0.1]


def test_the_answers_of_all_daemons_are_returned_by_socket(daemons: Daemons) -> None:
    paths = [daemons.start(f"{name}.sock", status(destination(name))) for name in ("a", "b")]
    found, errors = fetch_statuses(paths)
    assert [each.path for each in found] == paths
    assert [each.destinations[0].name for each in found] == ["a", "b"]
    assert found[0].raw_status == encode_status(found[0].status)
    assert errors == []


def test_sockets_of_dead_daemons_are_ignored_if_another_one_answers(daemons: Daemons) -> None:
    path, dead = daemons.start("one.sock"), f"{daemons.directory}/dead.sock"
    answers, errors = send_requests({dead: ControlRequest("flush"), path: ControlRequest("flush")})
    assert (list(answers), errors) == ([path], [])
    answers, errors = send_requests({dead: ControlRequest("flush")})
    assert answers == {}
    assert [type(error) for error in errors] == [NoDaemonError]


def test_the_error_of_one_daemon_does_not_hide_the_answers_of_others(daemons: Daemons) -> None:
    paths = [daemons.start(f"{name}.sock", status(destination(name))) for name in ("a", "b")]
    answers, errors = send_requests(dict.fromkeys(paths, ControlRequest("flush", ("a",))))
    assert list(answers) == paths[:1]
    assert [type(error) for error in errors] == [ProtocolError]


def test_a_daemon_knows_destinations_with_and_without_their_sync_and_syncs() -> None:
    each = status(destination("web/srv2"), destination("srv3"), name="web")
    daemon = DaemonStatus("/run/x.sock", each, None)
    names = {"web", "web/srv2", "srv2", "srv3", "web/srv2:/backup", "srv3:/backup"}
    assert daemon.known_names == names
    unnamed = DaemonStatus("/run/x.sock", status(destination("srv2"), name=""), None)
    assert unnamed.known_names == {"srv2", "srv2:/backup"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a"], ["a", "mail/a"]),
        (["web"], ["a", "b"]),
        (["b", "mail/a"], ["b", "mail/a"]),
        (["b:/backup"], ["b"]),
        (["x"], None),
        (["b", "x"], ["b"]),
    ],
)
def test_a_status_is_limited_to_the_destinations_of_some_names(
    names: list[str], expected: list[str] | None
) -> None:
    web = status(destination("a"), destination("b"), name="web")
    mail = status(destination("mail/a"), name="mail")
    both = replace(web, syncs=(*web.syncs, *mail.syncs))
    found = DaemonStatus("/run/x.sock", both, encode_status(both)).select(names)
    assert (found and [each.name for each in found.destinations]) == expected
    if found:
        assert found.raw_status == encode_status(found.status)
        assert found.status.pid == both.pid


def test_a_status_file_has_an_age_by_this_clock(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for offset, expected in ((-100.0, 100.0), (100.0, -100.0)):
        path.write_text(format_status(status(destination("srv2"), at=time.time() + offset)))
        found = load_status_file(os.fspath(path))
        assert expected <= found.age < expected + 100.0
