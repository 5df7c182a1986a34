"""Sockets are where they are looked for, are their owner's alone, and leave nothing behind."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import processes
from support.daemon import environment

from pylsyncd.model.errors import UsageError
from pylsyncd.system import directories, unix_sockets
from pylsyncd.system.unix_sockets import ControlSocket

NOBODY = 65534

LISTENS = """
import sys
from pylsyncd.system.unix_sockets import ControlSocket
listener = ControlSocket(sys.argv[1])
print(listener.path, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def listening(path: Path | str) -> Iterator[ControlSocket]:
    listener = ControlSocket(str(path))
    try:
        yield listener
    finally:
        listener.close()


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    """Be nobody, as far as the kernel asks, for a while."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir(0o700)
    return directory


def leave(path: Path) -> Path:
    """Leave a socket as a process does that is killed."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


def is_answered(path: Path | str) -> bool:
    try:
        unix_sockets.connect(str(path), 5.0).close()
    except ConnectionRefusedError:
        return False
    return True


# -- where it is ----------------------------------------------------------------------------------


def test_in_a_directory_it_is_called_by_the_process(tmp_path: Path) -> None:
    with listening(f"{tmp_path}/new/") as listener:
        assert listener.path == f"{tmp_path}/new/{os.getpid()}.sock"
        assert is_answered(listener.path)
        assert os.listdir(tmp_path / "new") == [f"{os.getpid()}.sock"]
    assert os.listdir(tmp_path / "new") == []


def test_it_and_its_directory_are_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with listening(f"{tmp_path}/new/") as listener:
            assert stat.S_IMODE(os.stat(listener.path).st_mode) == 0o600
            assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700
    finally:
        os.umask(before)


@pytest.mark.parametrize("length", [107, 108, 200, 240])
def test_a_path_may_be_longer_than_an_address(place: Path, length: int) -> None:
    directory = place / ("d" * max(1, length - len(f"{place}//web.sock")))
    directory.mkdir(0o700)
    with listening(directory / "web.sock") as listener:
        assert is_answered(listener.path)
        assert unix_sockets.find_sockets([str(place)]) == ([listener.path], [])
    assert os.listdir(directory) == []


def test_a_name_that_no_address_can_hold_is_refused_with_a_sentence(place: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be made: its name n+\.new is too long.*shorten"):
        ControlSocket(str(place / ("n" * 110)))
    with pytest.raises(UsageError, match="too long: shorten it"):
        ControlSocket(str(place / ("n" * 254)))
    assert os.listdir(place) == []


def test_a_directory_that_others_can_write_in_is_refused(place: Path) -> None:
    place.chmod(0o777)
    for path in (f"{place}/", str(place / "web.sock")):
        with pytest.raises(UsageError, match=r"control socket.*take the daemon's place.*--control"):
            ControlSocket(path)
        with pytest.raises(UsageError, match="take the daemon's place"):
            unix_sockets.check_available(path)


def test_a_directory_that_is_a_symbolic_link_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(UsageError, match="is a symbolic link"):
        ControlSocket(f"{tmp_path}/link/")


# -- who is there already -------------------------------------------------------------------------


def test_where_somebody_listens_nobody_else_can(place: Path) -> None:
    with listening(place / "web.sock") as listener:
        for attempt in (unix_sockets.check_available, ControlSocket):
            with pytest.raises(UsageError, match=r"listens at .*/web\.sock already: stop it"):
                attempt(listener.path)
        assert is_answered(listener.path)


def test_what_a_killed_daemon_has_left_is_taken_over(place: Path) -> None:
    path = place / "web.sock"
    command = (sys.executable, "-c", LISTENS, path)
    with processes.running_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{path}\n".encode()
        with pytest.raises(UsageError, match="already"):
            ControlSocket(str(path))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.exists()
    unix_sockets.check_available(str(path))
    with listening(path):
        assert is_answered(path)
    assert os.listdir(place) == []


def test_what_was_left_in_the_middle_of_a_start_is_removed(place: Path) -> None:
    leave(place / "web.sock.new")
    with listening(place / "web.sock"):
        assert os.listdir(place) == ["web.sock"]


def test_sockets_of_dead_processes_are_removed_and_nothing_else(place: Path) -> None:
    leave(place / "99999999.sock")
    kept = {"7.sock", "8.sock", "web.sock", "99999998.sock.bak", "state"}
    (place / "7.sock").touch()
    (place / "state").touch()
    leave(place / "web.sock")
    leave(place / "99999998.sock.bak")
    with listening(place / "8.sock"), listening(f"{place}/") as own:
        assert set(os.listdir(place)) == {*kept, os.path.basename(own.path)}
    assert set(os.listdir(place)) == kept - {"8.sock"}


def test_what_is_no_socket_is_not_replaced(place: Path) -> None:
    (place / "web.sock").write_text("precious")
    for attempt in (unix_sockets.check_available, ControlSocket):
        with pytest.raises(UsageError, match="something else is there"):
            attempt(str(place / "web.sock"))
    assert (place / "web.sock").read_text() == "precious"


def test_the_end_removes_no_socket_of_somebody_else(place: Path) -> None:
    with listening(place / "web.sock"):
        (place / "web.sock").unlink()
        leave(place / "web.sock")
    assert (place / "web.sock").exists()


def test_a_full_queue_is_somebody(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(place / "web.sock"))
        busy.listen(0)
        stack.enter_context(unix_sockets.connect(str(place / "web.sock"), 5.0))
        with pytest.raises(UsageError, match="already"):
            ControlSocket(str(place / "web.sock"))


# -- the default places ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "uid", "becomes", "expected"),
    [
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, 0, "", "/run/a"),
        ({"RUNTIME_DIRECTORY": "/run/a"}, 7, "", "/run/a"),
        ({"RUNTIME_DIRECTORY": "/run/a"}, 0, "www", "/run/a/www"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "", "/run/pylsyncd"),
        ({}, 0, "www", "/run/pylsyncd/www"),
        ({"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}, 7, "", "/run/user/7/pylsyncd"),
        ({"XDG_RUNTIME_DIR": "relative", "HOME": "/h"}, 7, "", "/h/.local/state/pylsyncd"),
    ],
)
def test_the_runtime_directory_is_systemds_or_roots_or_the_logins_or_the_states(
    environ: dict[str, str], uid: int, becomes: str, expected: str
) -> None:
    assert directories.runtime_directory(environ, uid, becomes) == expected


def test_without_any_place_the_sentence_names_the_option() -> None:
    with pytest.raises(UsageError, match=r"no place for the control socket.*--control"):
        directories.runtime_directory({}, 7)


def test_a_client_looks_wherever_a_daemon_of_its_user_may_be() -> None:
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/h"}
    assert directories.socket_directories(environ, 7) == [
        "/run/pylsyncd", "/run/user/7/pylsyncd", "/h/.local/state/pylsyncd",
    ]  # fmt: skip
    assert directories.socket_directories({}, 7) == ["/run/pylsyncd"]
    assert directories.socket_directories(environ, 0) == ["/run/pylsyncd"]
    assert directories.socket_directories({"RUNTIME_DIRECTORY": "/a:/b"}, 0) == ["/a", "/b"]


def test_sockets_are_found_one_level_below_and_links_are_not_followed(place: Path) -> None:
    (place / "web").mkdir()
    (place / "web/deep").mkdir()
    (place / "link").symlink_to(place / "web/deep")
    paths = [leave(place / name) for name in ("a.sock", "web/b.sock")]
    leave(place / "web/deep/c.sock")
    leave(place / "no")
    (place / "d.sock").touch()
    (place / "e.sock").symlink_to(place / "a.sock")
    found, shut = unix_sockets.find_sockets([str(place), str(place / "missing")])
    assert (found, shut) == ([str(path) for path in paths], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_makes_the_directory_of_the_user_that_it_becomes() -> None:
    with tempfile.TemporaryDirectory(prefix="pylsyncd-sockets-") as top:
        os.chmod(top, 0o700)
        path = f"{top}/nobody/"
        unix_sockets.create_directory_for_user(path, NOBODY, NOBODY)
        status = os.stat(path)
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o700)
        unix_sockets.create_directory_for_user(path, NOBODY, NOBODY)
        with somebody_else(), listening(path) as listener:
            # Listening, finding, connecting and removing are theirs now.
            assert unix_sockets.find_sockets([top, path]) == ([listener.path], [top])
            assert is_answered(listener.path)
        assert os.listdir(path) == []
