"""The setup of a chaos round: a source, destinations with their servers, and the daemon."""

import os
import re
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from chaos.configuration import RoundConfiguration
from churn.churn import EAGER_DAEMON
from churn.eager_daemon import PAUSE_VARIABLE, RENAME
from support.ctl import Pylsyncctl
from support.daemon import PROGRAM, START_LINE, Pylsyncd
from support.destinations import Destination, local, on_rsync_daemon, over_ssh
from support.faults import FaultyRsync
from support.limits import watch_limit_prefix
from support.mounts import Mounts, can_mount
from support.pausing import PausePoint
from support.servers import RsyncDaemon, Server, SshServer
from support.trees import equal_within
from support.watch_method import watch_method

# Seconds: the rsync timeout, and the poll interval of unwatched directories.
RSYNC_TIMEOUT, POLL_INTERVAL = 4, 1
# Seconds. Only scans find a link that is created, changed and removed within a window.
SCAN_INTERVAL = 3
RETRY_REQUEST_INTERVAL = 2.0  # seconds
CONFIRM_TIMEOUT = 90.0
START_TIMEOUT = 60.0
SMALL_DISK_SIZE = "192m"
FEW_WATCHES = 40
FEW = "few watches"
KINDS = ("local", "ssh", "rsyncd", "four", FEW)
MAX_SHOWN_LOGS = 2
# The steps that move copies: on a local destination, over ssh and on an rsync daemon.
REMOTE_RENAME, LINK = "mv", "link"
STEPS = (RENAME, REMOTE_RENAME, LINK)
Program = Sequence[str | os.PathLike[str]]


class DaemonDied(Exception):  # noqa: N818 - the text is the report
    """The daemon exited without being asked to."""


class NeverConfirmed(Exception):  # noqa: N818 - likewise
    """The daemon still has pending changes, although all faults are healed."""


class Carrier(NamedTuple):
    """A destination to which a step moves copies."""

    destination: Destination
    disk: Path | None
    """Its mount, where mounting is permitted."""
    server: Server | None

    @property
    def name(self) -> str:
        """Its directory."""
        return os.fsdecode(self.destination.path)


class RoundSetup:
    """The files, servers and daemons of one round; leaving the context stops and unmounts them."""

    def __init__(self, directory: Path, kind: str, program: Program = PROGRAM) -> None:
        self._program = program
        self._is_forgetful = program not in {PROGRAM, EAGER_DAEMON}
        self.directory = directory
        self.kind = kind
        self.source, self.outside = directory / "source", directory / "outside"
        self.tree = self.source / "tree"
        """The part of the source that only the writers use."""
        self.tree.mkdir(parents=True)
        self.outside.mkdir()
        self.faulty_rsync = FaultyRsync(directory)
        self._ctl = Pylsyncctl(directory / "run")
        self.timeline: list[str] = []
        self._begin = time.monotonic()
        self._stack = ExitStack()
        self._daemons: list[Pylsyncd] = []
        self.servers: list[Server] = []
        self.pause_point = PausePoint(self._folder("pause"))
        """Where the steps that move copies may be stopped."""
        self.carriers: dict[str, Carrier] = {}
        """The first destination of each step."""
        self._rsync = self.pause_point.wrap(
            "rsync", LINK, "*-dest=*", program=str(self.faulty_rsync.program)
        )

    def __enter__(self) -> "RoundSetup":  # noqa: PYI034 - typing.Self is younger than Python 3.10
        try:
            self.mounts = self._stack.enter_context(Mounts())
            self.destinations = self._prepare()
            self.configuration = RoundConfiguration(
                self.directory / "chaos.conf", self.source, self._options()
            )
            self._prefix = watch_limit_prefix(FEW_WATCHES) if self.kind == FEW else ()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            daemon.kill()
        self._stack.close()

    def add_to_timeline(self, text: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(f"{time.monotonic() - self._begin:7.2f} {text}")

    # The daemon

    @property
    def daemon(self) -> Pylsyncd:
        """The daemon that runs, or ran last."""
        return self._daemons[-1]

    def start(self, *, initial_sync: bool = False) -> None:
        """Start a daemon with the state of the last one."""
        self.configuration.initial_sync = initial_sync
        self._write_configuration()
        daemon = Pylsyncd(
            *("-v", "-c", self.configuration.path),
            names=[destination.name for destination in self.destinations],
            state=self.directory / "state",
            extra_environment={
                "RUNTIME_DIRECTORY": str(self._ctl.directory),
                PAUSE_VARIABLE: str(self.pause_point.program),
            },
            prefix=self._prefix,
            program=self._program,
        )
        daemon.__enter__()
        self._daemons.append(daemon)

    def reload(self) -> None:
        """Write the configuration, and have the daemon reload it."""
        # A destination that is added during the start would get no initial sync.
        self.wait_ready()
        self._write_configuration()
        self.send_sighup()

    def send_sighup(self) -> None:
        """Have the daemon reload its configuration file."""
        self.check_daemon_runs()
        self.wait_ready()
        self.daemon.reload()

    def restart(self) -> None:
        """Start the next daemon as after a power failure: without -i if there are states.

        The earlier daemons may have been killed before they saved their pending changes.
        """
        states = list((self.directory / "state").glob("*.state"))
        self.start(initial_sync=len(states) < len(self.destinations))

    def check_daemon_runs(self) -> None:
        """Raise DaemonDied if the daemon has exited."""
        if not self.daemon.is_running:
            raise DaemonDied("the daemon has exited")

    def wait_ready(self) -> None:
        """Wait until the daemon is watching; an earlier signal would end it."""
        self.daemon.wait_for(START_LINE, START_TIMEOUT)

    def crash(self) -> None:
        """Kill the daemon without any cleanup."""
        self.check_daemon_runs()
        self.daemon.crash()

    def stop(self, seconds: float = 60.0, *, twice: bool = False) -> None:
        """Stop the daemon; after a second SIGTERM it does not wait for running rsyncs."""
        self.check_daemon_runs()
        self.wait_ready()
        if twice:
            os.kill(self.daemon.pid, signal.SIGTERM)
            self.daemon.wait_for(r"\bstopping\b", START_TIMEOUT)
        self.daemon.stop(seconds)

    def _options(self) -> dict[str, object]:
        rsh = [word for each in self.destinations for word in each.options[1:]]
        return {
            **({"rsh": rsh[0]} if rsh else {}),
            "rsync": self._rsync,
            "watch": watch_method.name,
            "timeout": RSYNC_TIMEOUT,
            "poll_interval": POLL_INTERVAL,
            "scan_interval": 0 if self._is_forgetful else SCAN_INTERVAL,
        }

    def _write_configuration(self) -> None:
        self.configuration.write([each.argument for each in self.destinations])

    # Comparison

    def find_differences(self, seconds: float) -> dict[str, list[str]]:
        """Wait until the destinations equal the source; return the remaining differences.

        Retries are requested meanwhile, because a retry pause may last minutes.
        """
        deadline = time.monotonic() + seconds
        different: dict[str, list[str]] = {}
        for destination in self.destinations:
            while found := self._found(destination):
                self.check_daemon_runs()
                if time.monotonic() > deadline:
                    different[destination.argument] = found
                    break
                self.request_retries()
        return different

    def request_retries(self) -> None:
        """Have the daemon retry its pending changes and release held destinations."""
        self.wait_ready()
        self.daemon.flush()
        self.daemon.release()

    def wait_until_confirmed(self) -> None:
        """Wait until the daemon has no pending changes; raise NeverConfirmed after a timeout."""
        deadline = time.monotonic() + CONFIRM_TIMEOUT
        while True:
            self.request_retries()
            answer = self._ctl.run("wait", "--timeout", str(RETRY_REQUEST_INTERVAL))
            self.check_daemon_runs()
            if answer.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise NeverConfirmed(f"pylsyncctl wait: {answer.stderr or answer.stdout}")

    def is_confirmed(self) -> bool:
        """Return True if the daemon has no pending changes."""
        return self._ctl.run("wait", "--timeout", "0.1").returncode == 0

    def _found(self, destination: Destination) -> list[str]:
        return equal_within(
            os.fsencode(self.source),
            destination.path,
            RETRY_REQUEST_INTERVAL,
            ignore=destination.ignore,
        )

    def log_tails(self) -> list[str]:
        """Return the ends of the last daemons' logs."""
        return [daemon.log_tail for daemon in self._daemons[-MAX_SHOWN_LOGS:]]

    def moved_files(self) -> int:
        """Return how many files were moved at the destinations, by the logs of all daemons."""
        found = [re.findall(r" moved ([0-9,]+) files? ", daemon.log) for daemon in self._daemons]
        return sum(int(count.replace(",", "")) for count in chain.from_iterable(found))

    # The destinations

    def _prepare(self) -> Sequence[Destination]:
        first = self._disk("first")
        found = [self._add_carrier(RENAME, local(first / "copy"), first)]
        if self.kind in {"local", "four"}:
            found.append(local(self._folder("second") / "plain"))
        if self.kind in {"ssh", "four"}:
            programs = self.pause_point.wrap("mv", REMOTE_RENAME, '*" -fT "*').parent
            ssh = SshServer(self._folder("sshd"), programs)
            self.servers.append(self._stack.enter_context(ssh))
            third = self._disk("third")
            found.append(self._add_carrier(REMOTE_RENAME, over_ssh(ssh, third / "by-ssh"), third))
        if self.kind in {"rsyncd", "four"}:
            modules = {"module": self._disk("fourth")}
            daemon = self._stack.enter_context(RsyncDaemon(self._folder("rsyncd"), modules))
            self.servers.append(daemon)
            destination = on_rsync_daemon(daemon, "module", "in-module")
            found.append(self._add_carrier(LINK, destination, modules["module"]))
        return found

    def _add_carrier(self, step: str, destination: Destination, disk: Path) -> Destination:
        server = self.servers[-1] if step != RENAME else None
        mount = disk if can_mount() else None
        self.carriers[step] = Carrier(destination, mount, server)
        return destination

    def _disk(self, name: str) -> Path:
        """Return a new directory, a small mount where that is permitted."""
        path = self._folder(name)
        if can_mount():
            self.mounts.mount_tmpfs(path, SMALL_DISK_SIZE)
        return path

    def _folder(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir()
        return path
