"""The upper half of the daemon in this process: replications with local destinations."""

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pylsyncd.config.command_line_parser import parse_command_line
from pylsyncd.config.loader import StartEnvironment, load_configuration
from pylsyncd.config.settings import Settings, SyncSettings
from pylsyncd.replication import Replication, ReplicationContext
from pylsyncd.supervisor import Supervisor
from pylsyncd.system.threads import ThreadMonitor
from pylsyncd.worker.resources import SharedResources
from support.waiting import wait_until


class ServiceDirectory:
    """A configuration of syncs with local copies; each sync has its own source."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.changed: list[str] = []
        """The names of the replications whose state has changed."""

    def source(self, sync: str) -> Path:
        path = self.top / f"source-{sync}"
        path.mkdir(exist_ok=True)
        return path

    def copy(self, name: str) -> Path:
        return self.top / "copies" / name

    def settings(
        self,
        syncs: Mapping[str, tuple[str, ...]],
        *lines: str,
        window: float = 0.1,
        once: bool = False,
        initial_sync: bool = True,
    ) -> Settings:
        """Return the settings of syncs, each with the names of its copies."""
        text = [
            "[pylsyncd]",
            f"state_dir = {self.top}/state",
            f"window = {window}",
            f"initial_sync = {'yes' if initial_sync else 'no'}",
        ]
        text += lines
        for name, copies in syncs.items():
            text += ["", f"[sync {name}]", f"source = {self.source(name)}/./", "destinations ="]
            text += [f"    {self.copy(copy)}/" for copy in copies]
        file = self.top / "pylsyncd.conf"
        file.write_text("\n".join(text) + "\n")
        options = ["--once"] if once else []
        command_line = parse_command_line([*options, "-c", str(file)])
        return load_configuration(command_line, StartEnvironment.current()).settings

    def make(
        self,
        sync: SyncSettings,
        predecessor: Replication | None = None,
        *,
        once: bool = False,
        waits_for_source: bool = False,
        find_conflict: Callable[[SyncSettings], str] = lambda _: "",
    ) -> Replication:
        context = ReplicationContext(
            ThreadMonitor(self.changed.append), SharedResources(), self.changed.append, once=once,
            waits_for_source=waits_for_source, find_conflict=find_conflict,
        )  # fmt: skip
        return Replication(sync, context, predecessor)

    @contextlib.contextmanager
    def replication(self, *copies: str, once: bool = False) -> Iterator[Replication]:
        """Run the replication of one sync, ``web``."""
        replication = self.make(self.settings({"web": copies}).syncs[0], once=once)
        replication.start()
        try:
            yield replication
        finally:
            stop(replication)

    @contextlib.contextmanager
    def supervisor(
        self,
        syncs: Mapping[str, tuple[str, ...]],
        *lines: str,
        window: float = 0.1,
        initial_sync: bool = True,
        waits_for_source: bool = False,
    ) -> Iterator[Supervisor]:
        """Run the replications of syncs, once they are ready."""
        settings = self.settings(syncs, *lines, window=window, initial_sync=initial_sync)
        make = functools.partial(self.make, waits_for_source=waits_for_source)
        supervisor = Supervisor(settings.syncs, make)
        supervisor.start()
        try:
            wait_until(lambda: all(each.state.is_ready for each in supervisor))
            yield supervisor
        finally:
            supervisor.stop(lambda: None)
            for replication in supervisor:
                replication.join(45)

    def write(self, sync: str, name: str) -> None:
        (self.source(sync) / name).write_text(name)

    def wait_copied(self, copy: str, name: str) -> None:
        wait_until(lambda: os.path.exists(self.copy(copy) / name))


def stop(replication: Replication) -> None:
    """Have a replication stop, and wait for its end."""
    if replication.is_alive():
        replication.handle_signal(signal.SIGTERM)
    replication.join(45)
    assert replication.state.has_ended
