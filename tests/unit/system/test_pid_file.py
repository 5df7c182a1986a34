"""Who has the pid file locked runs; everything else about it can be wrong, and is then told."""

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


def test_it_holds_the_pid_and_is_removed_at_the_end(path: Path) -> None:
    pidfile = PidFile(str(path))
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    pidfile.close()
    pidfile.close()
    assert not path.exists()


def test_one_that_was_never_written_is_removed_too(path: Path) -> None:
    PidFile(str(path)).close()
    assert not path.exists()


def test_the_second_one_is_refused_and_told_who_has_it(path: Path) -> None:
    pidfile = PidFile(str(path))
    assert "runs already (its pid is not written yet)" in refused(path)
    pidfile.write()
    assert f"runs already (pid {os.getpid()})" in refused(path)
    pidfile.close()


def test_another_process_has_it_until_it_ends(path: Path) -> None:
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
def test_one_that_nobody_has_locked_is_taken_over_whatever_pid_is_in_it(
    content: str, path: Path
) -> None:
    path.write_text(content)
    pidfile = PidFile(str(path))
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.close()


def test_a_file_that_is_something_else_is_not_overwritten(path: Path) -> None:
    path.write_text("root:x:0:0:root:/root:/bin/bash\n")
    assert "something else than a pid" in refused(path)
    assert path.read_text().startswith("root")


def test_a_file_that_somebody_has_put_in_its_place_is_left_alone(path: Path) -> None:
    pidfile = PidFile(str(path))
    pidfile.write()
    path.rename(path.with_suffix(".old"))
    path.write_text("7\n")
    pidfile.close()
    assert path.read_text() == "7\n"


def test_a_process_that_has_not_written_itself_down_does_not_remove_it(path: Path) -> None:
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
def test_it_is_emptied_where_it_cannot_be_removed_any_more(path: Path) -> None:
    pidfile = PidFile(str(path))
    pidfile.write()
    path.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        pidfile.close()
    finally:
        os.seteuid(0)
    assert path.read_text() == ""
    # Which is stale for the next one.
    PidFile(str(path)).close()


def test_a_directory_that_is_missing_is_told(path: Path) -> None:
    assert "No such file or directory" in refused(path.parent / "none/pid")


def test_a_pid_that_cannot_be_written_is_told() -> None:
    pidfile = PidFile("/dev/null")  # of no length, and without a place to write at
    try:
        with pytest.raises(PylsyncdError, match=re.escape("/dev/null cannot be written")):
            pidfile.write()
    finally:
        # Which it must not remove.
        pidfile._writer = -1  # noqa: SLF001
        pidfile.close()


# -- what others may have put there ---------------------------------------------------------------


def test_a_symlink_in_a_directory_that_only_we_can_write_to_is_followed(path: Path) -> None:
    real = path.parent / "real"
    real.mkdir()
    (path.parent / "link").symlink_to("real")
    path.symlink_to(path.parent / "link" / "pid")
    pidfile = PidFile(str(path))
    pidfile.write()
    assert (real / "pid").read_text() == f"{os.getpid()}\n"
    pidfile.close()
    assert not (real / "pid").exists()
    assert path.is_symlink()


@pytest.mark.parametrize("name", ["link", "link/pid"])
def test_a_symlink_in_a_directory_that_others_can_write_to_is_not(name: str, path: Path) -> None:
    shared = path.parent / "shared"
    shared.mkdir()
    (path.parent / "real").mkdir()
    (shared / "link").symlink_to(path.parent / "real")
    shared.chmod(0o777)
    assert "symbolic link" in refused(shared / name)
    assert list((path.parent / "real").iterdir()) == []


@only_root
def test_in_a_sticky_directory_our_symlinks_are_followed_and_a_stranger_s_are_not(
    path: Path,
) -> None:
    shared, real = path.parent / "shared", path.parent / "real"
    shared.mkdir()
    real.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(real)
    PidFile(str(shared / "link/pid")).close()
    os.chown(shared / "link", 65534, 65534, follow_symlinks=False)
    assert "symbolic link" in refused(shared / "link/pid")


def test_symlinks_that_lead_in_a_circle_are_told(path: Path) -> None:
    path.symlink_to(path)
    assert "Too many levels of symbolic links" in refused(path)


@only_root
def test_a_stranger_s_file_in_a_shared_directory_is_refused(path: Path) -> None:
    path.parent.chmod(0o1777)
    path.touch()
    os.chown(path, 65534, 65534)
    assert "belongs to another user" in refused(path)
    PidFile(str(path), owners=[65534]).close()


def test_a_second_name_in_a_shared_directory_is_refused(path: Path) -> None:
    path.touch()
    os.link(path, path.with_suffix(".link"))
    PidFile(str(path)).close()
    path.with_suffix(".link").rename(path)
    os.link(path, path.with_suffix(".link"))
    path.parent.chmod(0o1777)
    assert "several names" in refused(path)


def test_what_is_no_file_is_refused(path: Path) -> None:
    os.mkfifo(path)
    assert "not a regular file" in refused(path)
    path.unlink()
    path.mkdir()
    assert "Is a directory" in refused(path)
