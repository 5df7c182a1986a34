"""Limits of the kernel that can be lowered for a single process."""

import contextlib
import ctypes
import functools
import resource
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from support.servers import Unavailable


def watch_limit_prefix(count: int) -> tuple[str, ...]:
    """Return the command prefix that limits a command to so many inotify watches.

    Such a command can only create files of root. Raises Unavailable without user namespaces.
    """
    return _limit_prefix("watches", count)


def instance_limit_prefix(count: int) -> tuple[str, ...]:
    """Return the command prefix that limits a command to so many inotify instances."""
    return _limit_prefix("instances", count)


@functools.cache
def _limit_prefix(what: str, count: int) -> tuple[str, ...]:
    limit = f'echo {count} >/proc/sys/user/max_inotify_{what} && exec "$@"'
    command = ("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")
    try:
        answer = subprocess.run((*command, "true"), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable("unshare is not installed") from None
    if answer.returncode:
        raise Unavailable(f"user namespaces are not permitted: {answer.stderr.strip()}")
    return command


@functools.cache
def user_prefix(*, is_root: bool) -> tuple[str, ...]:
    """Return the command prefix for a user namespace in which all other users are unknown.

    There the command runs as its root, or as a user without privileges who owns the same files.
    Raises Unavailable without user namespaces.
    """
    ids = ("--map-root-user",) if is_root else ("--map-user=1000", "--map-group=1000")
    command = ("unshare", "--user", *ids)
    try:
        answer = subprocess.run((*command, "true"), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable("unshare is not installed") from None
    if answer.returncode:
        raise Unavailable(f"user namespaces are not permitted: {answer.stderr.strip()}")
    return command


@contextlib.contextmanager
def no_more_threads() -> Iterator[None]:
    """Have the system refuse each new thread of this process: none has so much memory."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Have the system refuse each attempt of this process to open something."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def max_queued_events() -> int:
    """Return the length of the kernel's event queues, the same for the whole machine."""
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


@contextlib.contextmanager
def checked_permissions() -> Iterator[None]:
    """Have the system check the permissions of files for this thread, if it runs as root.

    Programs that it starts are those of root again (capabilities(7)).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    # The effective, permitted and inheritable ones, twice 32 bits of each.
    before, during = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    for capabilities in (before, during):
        libc.capget(header, capabilities)
    during[0] &= ~_IGNORE_PERMISSIONS
    assert not libc.capset(header, during)
    try:
        yield
    finally:
        libc.capset(header, before)


_CAPABILITY_VERSION = 0x20080522
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_IGNORE_PERMISSIONS = 1 << 1 | 1 << 2
