"""Processes as /proc shows them: which has started which, and the resources of each."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """A process that existed a moment ago.

    ``name`` is that of the kernel, which has at most 15 characters. A zombie has ended and was not
    waited for.
    """

    pid: int
    parent: int
    name: str
    is_zombie: bool


class ResourceUsage(NamedTuple):
    """Bytes of memory, threads, open descriptors, and children including zombies."""

    memory: int
    threads: int
    descriptors: int
    children: int


@contextlib.contextmanager
def running_process(
    command: Sequence[str | os.PathLike[str]], **options: Any
) -> "Iterator[subprocess.Popen[Any]]":
    """Run a command, and wait for its end; kill it if the test fails, since it may never end.

    The options are those of :class:`subprocess.Popen`.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def list_processes() -> Iterator[Process]:
    """Yield all visible processes of this machine."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            before, _, after = Path(f"/proc/{number}/stat").read_text().rpartition(")")
            state, parent = after.split()[:2]
            name = before.partition("(")[2]
            yield Process(int(number), int(parent), name, is_zombie=state == "Z")


def descendants(pid: int) -> list[Process]:
    """Return the children of a process, their children, and so on, without zombies."""
    assert pid > 0, "every process of the machine descends from 0"
    living = [process for process in list_processes() if not process.is_zombie]
    found: list[Process] = []
    parents = {pid}
    while parents:
        generation = [process for process in living if process.parent in parents]
        found += generation
        parents = {process.pid for process in generation}
    return found


def kill_processes_with_environment(variable: str) -> None:
    """Kill all processes with this ``NAME=value`` in their environment."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if variable.encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
                os.kill(int(number), signal.SIGKILL)


def resource_usage(pid: int) -> ResourceUsage:
    """Return the resources of a process. Raises OSError when it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = sum(process.parent == pid for process in list_processes())
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    # proc_pid_stat(5) numbers the first field here 3: num_threads is 20, rss is 24.
    return ResourceUsage(int(fields[21]) * PAGE_SIZE, int(fields[17]), descriptors, children)
