"""A working directory for one thread."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pylsyncd.system.working_directory import go_to, own_working_directory

HERE = Path.cwd()

# Of linux/sched.h and linux/capability.h.
CLONE_FS = 0x200
CAPABILITY_VERSION_3 = 0x20080522


def in_a_thread(function: Callable[[], None]) -> None:
    """Run it in a thread of its own, which is in the directory of the process."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(function).result()


def skip_unless_gone(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY)
    is_there = go_to(opened)
    os.close(opened)
    if not is_there:
        pytest.skip("the threads of a process share their directory here")
    assert Path.cwd() == directory


def test_a_thread_goes_elsewhere_alone_and_comes_back(tmp_path: Path) -> None:
    def go() -> None:
        with own_working_directory():
            skip_unless_gone(tmp_path)
            assert Path("/proc/self/cwd").readlink() == HERE
        assert Path.cwd() == HERE

    in_a_thread(go)


def test_a_thread_that_was_started_by_one_with_its_own_directory_stays_where_it_is(
    tmp_path: Path,
) -> None:
    def go() -> None:
        with own_working_directory():
            skip_unless_gone(tmp_path)
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(Path.cwd).result() == HERE
            with own_working_directory():
                skip_unless_gone(tmp_path)
                assert threads.submit(Path.cwd).result() == HERE

    in_a_thread(go)


def test_a_thread_comes_back_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with own_working_directory():
            skip_unless_gone(tmp_path)
            raise ZeroDivisionError

    def go() -> None:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert Path.cwd() == HERE
        assert not go_to(-1)

    in_a_thread(go)


def test_a_thread_goes_nowhere_without_a_directory_of_its_own(tmp_path: Path) -> None:
    opened = os.open(tmp_path, os.O_RDONLY)
    assert not go_to(opened)
    os.close(opened)
    assert Path.cwd() == HERE


def test_a_thread_that_may_not_come_back_goes_to_the_root_directory(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()

    def go() -> None:
        if ctypes.CDLL(None).unshare(CLONE_FS):
            pytest.skip("the threads of a process share their directory here")
        os.chdir(here)
        with own_working_directory():
            skip_unless_gone(elsewhere)
            here.chmod(0)
            drop_capabilities()
        assert Path.cwd() == Path("/")
        assert not go_to(-1)

    in_a_thread(go)
    here.chmod(0o700)


def drop_capabilities() -> None:
    """Have this thread, which may be root, bound by the modes of files; capset(2)."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0


def test_within_another_one_nothing_changes(tmp_path: Path) -> None:
    def go() -> None:
        with own_working_directory():
            with own_working_directory():
                skip_unless_gone(tmp_path)
            assert Path.cwd() == tmp_path
        assert Path.cwd() == HERE

    in_a_thread(go)
