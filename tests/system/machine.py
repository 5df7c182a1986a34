"""A Debian 12 with systemd as its first process, in a container.

Its tree is made once by debootstrap, with the packages that the installation of the .deb needs in
the cache of apt, and copied for each machine. A booted machine has its own network, so that its
servers and those of the host do not meet.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from support.waiting import wait_until

PROGRAMS = ("debootstrap", "systemd-nspawn", "nsenter")

# What a server with Debian has before, and what it gets with the .deb or later.
_PRESENT = (
    "systemd-sysv", "dbus", "ca-certificates", "iproute2", "procps", "man-db", "less", "logrotate",
    "bash-completion", "openssh-server",
)  # fmt: skip
_FETCHED = (
    "rsync", "python3", "python3-daemon", "python3-pyinotify", "python3-prometheus-client",
)  # fmt: skip
# Changed whenever the tree has to be made again.
_TREE_VERSION = "1"

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_TIMEOUT = 120.0
_EXIT_REBOOT = 133


class SystemTestError(Exception):
    """What a machine needs cannot be had, with the output of what has failed."""


def make_base_tree(cache: Path, mirror: str) -> Path:
    """Return the tree of a Debian 12, made unless it is in the cache."""
    tree = cache / f"bookworm-{_TREE_VERSION}"
    if not tree.exists():
        unfinished = cache / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        included = "--include=" + ",".join(_PRESENT)
        _need("debootstrap", "--variant=minbase", included, "bookworm", unfinished, mirror)
        fetch = "apt-get -qq update && apt-get -qqy install --download-only " + " ".join(_FETCHED)
        _need(*in_tree(unfinished), "sh", "-c", fetch)
        unfinished.rename(tree)
    return tree


def copy_tree(base: Path, target: Path) -> None:
    """Copy a tree, with what only root can copy."""
    _need("cp", "-a", "--reflink=auto", base, target)


def in_tree(tree: Path, *options: str) -> tuple[str | Path, ...]:
    """Return the command that runs another one in a tree that is not booted, with our network."""
    hosts = ("--bind-ro=/etc/hosts", "--resolv-conf=replace-host")
    return ("systemd-nspawn", *_OPTIONS, "--pipe", *hosts, *options, "-D", tree)


# Without a systemd here, machines are not registered and have no cgroups. A container does not have
# the system calls of fanotify by default.
_OPTIONS = (
    "-q",
    "--register=no",
    "--system-call-filter=fanotify_init fanotify_mark open_by_handle_at",
    *([] if Path("/run/systemd/system").exists() else ["--keep-unit"]),
)


class Machine:
    """A tree, booted until it is closed."""

    def __init__(self, tree: Path, console: Path) -> None:
        self.tree = tree
        self._console = console
        self._process = self._boot()
        self.wait_for_boot()

    def _boot(self) -> "subprocess.Popen[bytes]":
        with self._console.open("ab") as output:
            return subprocess.Popen(
                (  # noqa: S607 - found as on a command line
                    "systemd-nspawn", *_OPTIONS, "--boot", "--private-network",
                    "--console=pipe", "-D", self.tree,
                ),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def close(self) -> None:
        """Switch it off."""
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
            return
        self._process.kill()
        self._process.wait()

    def wait_for_boot(self) -> None:
        """Return when it is up."""
        wait_until(self._is_up, _BOOT_TIMEOUT, "the machine is not up", interval=0.2)

    def reboot(self) -> None:
        """Reboot it; return when it is up again."""
        before = self._boot_leader()
        self.run("systemctl reboot")
        wait_until(
            lambda: self._process.poll() is not None or self._boot_leader() not in {0, before},
            _BOOT_TIMEOUT, interval=0.2,
        )  # fmt: skip
        # Without a systemd here, it ends with this status, to be started again.
        if self._process.poll() == _EXIT_REBOOT:
            self._process = self._boot()
        self.wait_for_boot()

    def run(self, script: str, timeout: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Run a script as a login of root does; return how it has ended."""
        environment = (
            f"PATH={_SEARCH_PATH}", "HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
        )  # fmt: skip
        return subprocess.run(
            (  # noqa: S607 - found as on a command line
                "nsenter", "-t", str(self._boot_leader()), "-m", "-u", "-i", "-n", "-p", "-C",
                "-r", "-w", "env", "-i", *environment, "bash", "-c", script,
            ),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def __call__(self, script: str, timeout: float = 120.0) -> str:
        """Run a script that has to succeed; return its output."""
        ended = self.run(f"set -e; {script}", timeout)
        assert ended.returncode == 0, f"{script}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def wait(self, script: str, seconds: float = 45.0) -> None:
        """Wait until a script succeeds."""
        wait_until(
            lambda: self.run(script).returncode == 0, seconds, lambda: self._shown(script), 0.2
        )

    def _shown(self, script: str) -> str:
        ended = self.run(script)
        log = self.run("journalctl --no-pager -n 30 -o cat; pylsyncctl status").stdout
        return f"{script}\n{ended.stdout}{ended.stderr}\n{log}"

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise SystemTestError(f"the container has ended: {self._process.returncode}")
        if not self._boot_leader():
            return False
        return self.run("systemctl is-system-running").stdout.strip() in {"running", "degraded"}

    def _boot_leader(self) -> int:
        """Return the pid of its first process; 0 while there is none."""
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return 0
        return next((int(each) for each in children if _is_init(each)), 0)


@contextlib.contextmanager
def booted(base: Path, directory: Path, files: Iterable[Path]) -> Iterator[Machine]:
    """Boot a copy of a tree with some files in /root, and remove it afterwards."""
    tree = directory / "tree"
    copy_tree(base, tree)
    for path in files:
        shutil.copy(path, tree / "root")
    machine = Machine(tree, directory / "console")
    try:
        yield machine
    finally:
        machine.close()
        shutil.rmtree(tree)


def _is_init(pid: str) -> bool:
    try:
        return "systemd" in Path(f"/proc/{pid}/comm").read_text() and os.readlink(
            f"/proc/{pid}/ns/pid"
        ) != os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


def _need(*command: str | Path) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        shown = " ".join(map(str, command))
        raise SystemTestError(f"{shown}\n{ended.stdout[-4000:]}{ended.stderr[-4000:]}")
