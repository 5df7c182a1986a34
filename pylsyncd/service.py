"""The process: its signals, its reload, its end, and what tells others how it stands."""

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace

from pylsyncd.calls import Ask, ReplicationContext
from pylsyncd.config.settings import ProcessSettings, Settings, SyncSettings
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.observers import StatusReporters, summary
from pylsyncd.operations import Operations
from pylsyncd.replication import Replication
from pylsyncd.report.hooks import HookRunners
from pylsyncd.rsync.ssh_sharing import SshSharing
from pylsyncd.supervisor import Supervisor
from pylsyncd.system import logs
from pylsyncd.system.inbox import Inbox
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.systemd import SystemdNotifier
from pylsyncd.system.threads import ActivityTimer, ThreadMonitor
from pylsyncd.terminal.progress import NoProgress
from pylsyncd.watcher import inotify
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.turns import RunSlots

log = logging.getLogger(__name__)

# Seconds between two beats of the main thread, and for a reload that somebody waits for.
_ROUND = 2.0
_RELOAD = 120.0

# What those fields of the settings are called in a configuration that have another name there.
_KEYS = {"background": "daemon", "directory": "chdir", "log": "where the log goes"}

_STOP = frozenset([signal.SIGTERM, signal.SIGINT])
_PASSED_ON = frozenset([signal.SIGUSR1, signal.SIGUSR2])


class Service:
    """All that the settings ask for. Made and run by the main thread, which takes the signals.

    ``reload()`` reads the settings anew; None where there is nothing to read. Raises UsageError if
    a state directory cannot be used, or another pylsyncd is in the way.
    """

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings] | None = None,
        display: NoProgress | None = None,
    ) -> None:
        daemon = settings.process
        self._settings = settings
        self._reload = reload
        self._display = display or NoProgress()
        self._inbox: Inbox[Ask | str] = Inbox()
        self._pulse = ActivityTimer()
        self._notifier = SystemdNotifier(os.environ)
        self._heartbeat = ThreadMonitor(
            self._inbox.put,
            interval=min(_ROUND, self._notifier.watchdog_interval or _ROUND),
            on_all_active=self._notifier.watchdog,
        )
        self._is_ready = False
        self._ready: Callable[[], None] = lambda: None
        self._hooks = HookRunners(settings.syncs, self._inbox.put, self._heartbeat.add_thread)
        self._turns = RunSlots(daemon.max_runs)
        self._sharing = SshSharing()
        self._sharing.avoided_paths = list(_places(settings.syncs))
        self._replications = Supervisor(settings.syncs, self._replication)
        self._operations = Operations(self._replications, self._reload_soon)
        self._observers = StatusReporters(daemon, self._operations, self._inbox.put)
        self._watch_limit = inotify.read_limit("max_user_watches")

    def run(self, control: str | None = None, ready: Callable[[], None] = lambda: None) -> int:
        """Keep all destinations equal to their sources until told to stop; return the exit status.

        ``control`` is where the socket of pylsyncctl is to be, None for none; ``ready()`` is called
        once all is watched. Raises WatchError if a source cannot be watched at the start, and
        UsageError if there can be no socket.
        """
        self._ready = ready
        self._inbox.catch_signals(
            [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT]
        )
        try:
            for part in self._observers.start(control):
                self._heartbeat.add_thread(part)
            self._heartbeat.add_main_thread(self._pulse)
            self._heartbeat.start()
            self._replications.start()
            self._serve()
            self._stop()
        finally:
            self._display.stop()
            self._sharing.close()
            self._notifier.close()
            self._inbox.ignore_signals()
        errors = [each.error for each in self._replications if each.error is not None]
        for error in errors[1:]:
            log.error("%s", error)
        if errors:
            raise errors[0]
        # None is left where what a reload has brought could not begin.
        return max((each.status for each in self._replications), default=1)

    def _replication(self, sync: SyncSettings) -> Replication:
        display, daemon = self._display, self._settings.process
        means = SharedResources(
            self._turns,
            self._sharing,
            on_notice=self._hooks.report,
            on_progress=display.update_transfer,
            on_progress_end=display.finish_transfer,
        )
        surroundings = ReplicationContext(
            self._heartbeat, self._inbox.put, means, self._arming, display.finish_watch_setup,
            once=daemon.once,
            should_count_events=daemon.metrics_file is not None or daemon.metrics_port is not None,
        )  # fmt: skip
        return Replication(sync, surroundings)

    def _arming(self, name: str, directories: int) -> None:
        self._display.update_watch_setup(name, directories, self._watch_limit)

    # The main loop

    def _serve(self) -> None:
        while True:
            with self._pulse.waiting():
                call = self._inbox.get(_ROUND)
            self._look_for_readiness()
            if call in _STOP:
                log.log(NOTICE, "stopping (%s)", signal.Signals(call).name)
                return
            if call in _PASSED_ON:
                self._replications.forward_signal(signal.Signals(call))
            elif call is signal.SIGHUP:
                self._answer_hangup()
            elif isinstance(call, Ask):
                call.answer()
            elif call is not None and self._is_over():
                return

    def _look_for_readiness(self) -> None:
        """Tell those who wait for it once all is watched, and from then on how it stands."""
        if not self._is_ready and all(each.is_ready for each in self._replications):
            self._is_ready = True
            self._ready()
            self._notifier.ready()
        if self._is_ready and self._notifier.is_enabled:
            self._notifier.status(summary(self._operations.status()))

    def _is_over(self) -> bool:
        """Tell whether all is done, or what was to go on has failed."""
        self._replications.start_successors()
        if self._is_ready:
            # What a reload has brought does not end the others.
            self._replications.remove_failed_starts()
        ended = [each for each in self._replications if each.has_ended]
        if len(ended) == len(list(self._replications)):
            return True
        # What is done once is done as far as it can be.
        return not self._settings.process.once and any(each.status for each in ended)

    def _stop(self) -> None:
        self._notifier.stopping()
        self._observers.stop()
        self._heartbeat.stop()
        self._replications.stop(self._look_for_haste)
        self._hooks.stop()
        log.log(NOTICE, "stopped")

    def _look_for_haste(self) -> None:
        """Have all end at once when told to stop for the second time."""
        while (call := self._inbox.get(0.0)) is not None:
            if call in _STOP:
                self._replications.forward_signal(signal.Signals(call))
            elif isinstance(call, Ask):
                call.refuse()

    # Reload

    def _answer_hangup(self) -> None:
        if self._reload is None:
            self._replications.forward_signal(signal.SIGHUP)
            return
        try:
            self._take_over()
        except UsageError as error:
            for line in str(error).splitlines():
                log.error("%s", line)  # noqa: TRY400  # it is not about the program

    def _take_over(self) -> None:
        """Read the settings anew, and do what has changed in them. Raises UsageError for faults."""
        if self._reload is None:
            raise UsageError("There is no configuration file to read (-c FILE).")
        self._notifier.reloading()
        try:
            settings = self._read_again(self._reload)
            self._hooks.configure(settings.syncs)
            self._sharing.avoided_paths = list(_places(settings.syncs))
            faults = self._replications.apply(settings.syncs)
            self._settings = replace(settings, process=self._apply_daemon(settings.process))
        finally:
            self._notifier.ready()
        log.log(NOTICE, "The configuration was read again.")
        if faults:
            raise UsageError("\n".join(faults))

    def _read_again(self, reload: Callable[[], Settings]) -> Settings:
        try:
            return reload()
        except UsageError as error:
            raise UsageError(
                f"The configuration has faults, so all stays as it was:\n{error}"
            ) from error

    def _apply_daemon(self, daemon: ProcessSettings) -> ProcessSettings:
        """Do what has changed for the process, as far as that can be done while it runs.

        Return what holds from now on.
        """
        before = self._settings.process
        if daemon.log.level != before.log.level:
            logs.set_level(daemon.log.level)
        self._turns.set_limit(daemon.max_runs)
        log_before = replace(before.log, level=daemon.log.level)
        same = replace(before, max_runs=daemon.max_runs, log=log_before)
        if daemon != same:
            changed = [
                _KEYS.get(each.name, each.name)
                for each in fields(daemon)
                if getattr(daemon, each.name) != getattr(same, each.name)
            ]
            log.warning("Only a restart makes these take effect: %s.", ", ".join(changed))
        return same

    def _reload_soon(self) -> None:
        """Have the main thread take over the settings; raises UsageError for faults."""
        faults: list[PylsyncdError] = []

        def do() -> None:
            try:
                self._take_over()
            except PylsyncdError as error:
                faults.append(error)

        asked = Ask(do)
        self._inbox.put(asked)
        if not asked.answered.wait(_RELOAD):
            raise UsageError("The daemon is busy: it reads its configuration when it is not.")
        if not asked.was_done:
            raise UsageError("The daemon ends: it does not read its configuration any more.")
        if faults:
            raise faults[0]


def _places(syncs: Iterable[SyncSettings]) -> Iterator[bytes]:
    """Yield the directories that are synced, as far as they are on this machine."""
    for sync in syncs:
        yield sync.source.path
        for delivery in sync.destinations:
            if delivery.destination.transport is Transport.LOCAL:
                yield delivery.destination.target
