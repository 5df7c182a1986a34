"""Control sockets are found, are accessible to their owner alone, and leave nothing behind."""

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
from pylsyncd.system import unix_sockets
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
def as_nobody() -> Iterator[None]:
    """Run as the user nobody for the duration of the context."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def sockets(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir(0o700)
    return directory


def leave_stale_socket(path: Path) -> Path:
    """Leave a socket as a killed process does, at a path that may be longer than an address."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    return path


def is_answered(path: Path | str) -> bool:
    try:
        unix_sockets.connect(str(path), 5.0).close()
    except ConnectionRefusedError:
        return False
    return True


# The path


def test_in_a_directory_the_socket_is_named_by_the_pid(tmp_path: Path) -> None:
    with listening(f"{tmp_path}/new/") as listener:
        assert listener.path == f"{tmp_path}/new/{os.getpid()}.sock"
        assert is_answered(listener.path)
        assert os.listdir(tmp_path / "new") == [f"{os.getpid()}.sock"]
    assert os.listdir(tmp_path / "new") == []


def test_a_socket_and_its_directory_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with listening(f"{tmp_path}/new/") as listener:
            assert stat.S_IMODE(os.stat(listener.path).st_mode) == 0o600
            assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700
    finally:
        os.umask(before)


@pytest.mark.parametrize("length", [107, 108, 200, 240])
def test_a_path_may_be_longer_than_an_address(sockets: Path, length: int) -> None:
    directory = sockets / ("d" * max(1, length - len(f"{sockets}//web.sock")))
    directory.mkdir(0o700)
    with listening(directory / "web.sock") as listener:
        assert is_answered(listener.path)
        assert unix_sockets.find_sockets([str(sockets)]) == ([listener.path], [])
    assert os.listdir(directory) == []


def test_a_name_that_exceeds_an_address_is_refused(sockets: Path) -> None:
    message = r"cannot be created: its name n+\.new is too long.*shorten"
    with pytest.raises(UsageError, match=message):
        ControlSocket(str(sockets / ("n" * 110)))
    with pytest.raises(UsageError, match="too long: shorten it"):
        ControlSocket(str(sockets / ("n" * 254)))
    assert os.listdir(sockets) == []


def test_a_directory_that_others_can_write_in_is_refused(sockets: Path) -> None:
    sockets.chmod(0o777)
    for path in (f"{sockets}/", str(sockets / "web.sock")):
        with pytest.raises(UsageError, match=r"control socket.*impersonate the daemon.*--control"):
            ControlSocket(path)
        with pytest.raises(UsageError, match="impersonate the daemon"):
            unix_sockets.check_available(path)


def test_a_directory_that_is_a_symbolic_link_is_refused(sockets: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sockets)
    with pytest.raises(UsageError, match="is a symbolic link"):
        ControlSocket(f"{tmp_path}/link/")


# Other sockets and files at the path


def test_a_socket_that_another_daemon_listens_at_is_refused(sockets: Path) -> None:
    with listening(sockets / "web.sock") as listener:
        for attempt in (unix_sockets.check_available, ControlSocket):
            with pytest.raises(UsageError, match=r"already listens at .*/web\.sock: stop it"):
                attempt(listener.path)
        assert is_answered(listener.path)


def test_the_socket_of_a_killed_daemon_is_replaced(sockets: Path) -> None:
    path = sockets / "web.sock"
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
    assert os.listdir(sockets) == []


def test_the_temporary_socket_of_a_daemon_killed_at_its_start_is_removed(sockets: Path) -> None:
    leave_stale_socket(sockets / "web.sock.new")
    with listening(sockets / "web.sock"):
        assert os.listdir(sockets) == ["web.sock"]


def test_only_stale_sockets_named_by_a_pid_are_removed(sockets: Path) -> None:
    leave_stale_socket(sockets / "99999999.sock")
    kept = {"7.sock", "8.sock", "web.sock", "99999998.sock.bak", "state"}
    (sockets / "7.sock").touch()
    (sockets / "state").touch()
    leave_stale_socket(sockets / "web.sock")
    leave_stale_socket(sockets / "99999998.sock.bak")
    with listening(sockets / "8.sock"), listening(f"{sockets}/") as own:
        assert set(os.listdir(sockets)) == {*kept, os.path.basename(own.path)}
    assert set(os.listdir(sockets)) == kept - {"8.sock"}


def test_a_file_that_is_not_a_socket_is_not_replaced(sockets: Path) -> None:
    (sockets / "web.sock").write_text("precious")
    for attempt in (unix_sockets.check_available, ControlSocket):
        with pytest.raises(UsageError, match="a file that is not a socket"):
            attempt(str(sockets / "web.sock"))
    assert (sockets / "web.sock").read_text() == "precious"


def test_a_socket_that_has_replaced_ours_is_not_removed(sockets: Path) -> None:
    with listening(sockets / "web.sock"):
        (sockets / "web.sock").unlink()
        leave_stale_socket(sockets / "web.sock")
    assert (sockets / "web.sock").exists()


def test_a_listener_with_a_full_backlog_is_not_stale(sockets: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(sockets / "web.sock"))
        busy.listen(0)
        stack.enter_context(unix_sockets.connect(str(sockets / "web.sock"), 5.0))
        with pytest.raises(UsageError, match="already"):
            ControlSocket(str(sockets / "web.sock"))


# Finding sockets


def test_sockets_are_found_one_level_below_and_symlinks_are_not_followed(sockets: Path) -> None:
    (sockets / "web").mkdir()
    (sockets / "web/deep").mkdir()
    (sockets / "link").symlink_to(sockets / "web/deep")
    paths = [leave_stale_socket(sockets / name) for name in ("a.sock", "web/b.sock")]
    leave_stale_socket(sockets / "web/deep/c.sock")
    leave_stale_socket(sockets / "no")
    (sockets / "d.sock").touch()
    (sockets / "e.sock").symlink_to(sockets / "a.sock")
    found, unreadable = unix_sockets.find_sockets([str(sockets), str(sockets / "missing")])
    assert (found, unreadable) == ([str(path) for path in paths], [])


def test_sockets_of_a_user_are_found_in_the_directory_of_a_unit(sockets: Path) -> None:
    names = ("a.service/1.sock", "b.service/www/2.sock")
    paths = []
    for name in names:
        (sockets / name).parent.mkdir(parents=True)
        paths.append(str(leave_stale_socket(sockets / name)))
    assert unix_sockets.find_sockets([str(sockets)]) == (paths, [])


@pytest.mark.parametrize("before", [None, 0o700, 0o711, 0o1755])
def test_others_can_list_the_directory_of_all_daemons_whatever_the_umask(
    before: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "pylsyncd"
    if before is not None:
        path.mkdir()
        path.chmod(before)
    umask = os.umask(0o77)
    try:
        unix_sockets.create_system_directory(str(path))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == (before or 0) | 0o755


def test_what_is_no_directory_of_all_daemons_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("other")
    (tmp_path / "file").touch(0o600)
    for name in ("link", "file", "file/below", "none/below"):
        unix_sockets.create_system_directory(str(tmp_path / name))
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_creates_the_directory_of_the_user_that_it_switches_to() -> None:
    with tempfile.TemporaryDirectory(prefix="pylsyncd-sockets-") as top:
        os.chmod(top, 0o700)
        path = f"{top}/nobody/"
        unix_sockets.create_directory_for_user(path, NOBODY, NOBODY)
        status = os.stat(path)
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o700)
        unix_sockets.create_directory_for_user(path, NOBODY, NOBODY)
        with as_nobody(), listening(path) as listener:
            assert unix_sockets.find_sockets([top, path]) == ([listener.path], [top])
            assert is_answered(listener.path)
        assert os.listdir(path) == []
