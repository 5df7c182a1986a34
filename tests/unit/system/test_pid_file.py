"""A pid file is locked by the running daemon; any other content of it is harmless."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import processes
from support.daemon import environment

from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.system.pid_file import PidFile

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pylsyncd.pid"


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        PidFile(str(path)).close()
    return str(caught.value)


def test_it_contains_the_pid_and_is_removed_at_the_end(path: Path) -> None:
    pidfile = PidFile(str(path))
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    pidfile.close()
    pidfile.close()
    assert not path.exists()


def test_a_pid_file_that_was_never_written_is_removed_too(path: Path) -> None:
    PidFile(str(path)).close()
    assert not path.exists()


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(path: Path) -> None:
    pidfile = PidFile(str(path))
    assert "is already running (its pid is not written yet)" in refused(path)
    pidfile.write()
    assert f"is already running (pid {os.getpid()})" in refused(path)
    pidfile.close()


def test_a_process_holds_the_lock_until_it_ends(path: Path) -> None:
    program = (
        "import sys; from pylsyncd.system.pid_file import PidFile\n"
        "PidFile(sys.argv[1]).write(); print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with processes.running_process(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        assert f"(pid {other.pid})" in refused(path)
        other.kill()
    assert path.read_text() == f"{other.pid}\n"
    PidFile(str(path)).close()


@pytest.mark.parametrize("content", ["", "\n", "1\n", " 4194304 \n"])
def test_an_unlocked_pid_file_is_taken_over_whatever_pid_is_in_it(content: str, path: Path) -> None:
    path.write_text(content)
    pidfile = PidFile(str(path))
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.close()


def test_a_file_that_is_not_a_pid_file_is_not_overwritten(path: Path) -> None:
    path.write_text("root:x:0:0:root:/root:/bin/bash\n")
    assert "something else than a pid" in refused(path)
    assert path.read_text().startswith("root")


def test_a_file_that_has_replaced_the_pid_file_is_kept(path: Path) -> None:
    pidfile = PidFile(str(path))
    pidfile.write()
    path.rename(path.with_suffix(".old"))
    path.write_text("7\n")
    pidfile.close()
    assert path.read_text() == "7\n"


def test_a_process_that_has_not_written_its_pid_does_not_remove_it(path: Path) -> None:
    pidfile = PidFile(str(path))
    pidfile.write()
    child = os.fork()
    if not child:
        pidfile.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    pidfile.close()


@only_root
def test_it_is_emptied_where_it_cannot_be_removed(path: Path) -> None:
    pidfile = PidFile(str(path))
    pidfile.write()
    path.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        pidfile.close()
    finally:
        os.seteuid(0)
    assert path.read_text() == ""
    PidFile(str(path)).close()


def test_a_missing_directory_is_reported(path: Path) -> None:
    assert "No such file or directory" in refused(path.parent / "none/pid")


def test_a_pid_that_cannot_be_written_is_reported() -> None:
    pidfile = PidFile("/dev/null")  # which can be opened and locked, but not truncated
    try:
        with pytest.raises(PylsyncdError, match=re.escape("/dev/null cannot be written")):
            pidfile.write()
    finally:
        # The test must not remove the device.
        pidfile._written_pid = -1  # noqa: SLF001
        pidfile.close()


def test_a_symlink_to_the_pid_file_stays_when_the_file_is_removed(path: Path) -> None:
    real = path.parent / "real"
    real.mkdir()
    path.symlink_to(real / "pid")
    pidfile = PidFile(str(path))
    pidfile.write()
    assert (real / "pid").read_text() == f"{os.getpid()}\n"
    pidfile.close()
    assert not (real / "pid").exists()
    assert path.is_symlink()


@only_root
def test_another_user_s_pid_file_in_a_shared_directory_is_refused(path: Path) -> None:
    path.parent.chmod(0o1777)
    path.touch()
    os.chown(path, 65534, 65534)
    assert "belongs to another user" in refused(path)
    PidFile(str(path), owners=[65534]).close()
