"""Processes as /proc shows them: who started whom, and what each of them holds."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """One that was there a moment ago.

    ``name`` is what the kernel calls it: 15 characters at the most. A zombie has ended, and waits
    for its parent to ask how.
    """

    pid: int
    parent: int
    name: str
    is_zombie: bool


class ResourceUsage(NamedTuple):
    """What a process holds: bytes of memory, threads, open descriptors, children with zombies."""

    memory: int
    threads: int
    descriptors: int
    children: int


@contextlib.contextmanager
def running_process(
    command: Sequence[str | os.PathLike[str]], **options: Any
) -> "Iterator[subprocess.Popen[Any]]":
    """Run a command, and wait for its end; where the test fails, kill it, or that could take ever.

    The options are those of :class:`subprocess.Popen`.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def list_processes() -> Iterator[Process]:
    """Yield all processes of this machine that we may see."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            before, _, after = Path(f"/proc/{number}/stat").read_text().rpartition(")")
            state, parent = after.split()[:2]
            name = before.partition("(")[2]
            yield Process(int(number), int(parent), name, is_zombie=state == "Z")


def descendants(pid: int) -> list[Process]:
    """Return what a process has started, and what that has started, and so on; no zombies."""
    assert pid > 0, "that would be every process of the machine"
    everything = [process for process in list_processes() if not process.is_zombie]
    found: list[Process] = []
    parents = {pid}
    while parents:
        generation = [process for process in everything if process.parent in parents]
        found += generation
        parents = {process.pid for process in generation}
    return found


def kill_processes_with_environment(mark: str) -> None:
    """End all that has this ``NAME=value`` in its environment."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
                os.kill(int(number), signal.SIGKILL)


def resource_usage(pid: int) -> ResourceUsage:
    """Return what a process holds now. Raises OSError when it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = sum(process.parent == pid for process in list_processes())
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    # Counted from the state on, which proc(5) numbers 3: num_threads is 20, rss 24.
    return ResourceUsage(int(fields[21]) * PAGE_SIZE, int(fields[17]), descriptors, children)
