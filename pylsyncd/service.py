"""The process: signals, reload and shutdown, and the threads that publish the status."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import fields, replace

from pylsyncd.config.conflicts import find_source_conflict
from pylsyncd.config.settings import ProcessSettings, Settings, SyncSettings
from pylsyncd.control.server import ControlServer
from pylsyncd.control.status_file import StatusFileWriter
from pylsyncd.control.table import summary
from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import format_count
from pylsyncd.model.status import Condition, Status
from pylsyncd.operations import Operations
from pylsyncd.replication import STOP_SIGNALS, Replication, ReplicationContext
from pylsyncd.report.hooks import HookRunners
from pylsyncd.report.http_response import Pages
from pylsyncd.report.metrics import MetricsExporter
from pylsyncd.rsync.ssh_sharing import SshSharing
from pylsyncd.supervisor import ApplyError, Supervisor
from pylsyncd.system import descriptors, logs
from pylsyncd.system.atomic_file import AtomicFile
from pylsyncd.system.inbox import Call, Inbox
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.systemd import SystemdNotifier
from pylsyncd.system.threads import (
    ActivityTimer,
    SupervisedThread,
    ThreadLimitError,
    ThreadMonitor,
)
from pylsyncd.terminal.progress import NoProgress
from pylsyncd.terminal.source_size import CountedSource
from pylsyncd.watcher import inotify
from pylsyncd.watcher.inotify_pool import InotifyPool
from pylsyncd.worker.resources import RunSlots, SharedResources

log = logging.getLogger(__name__)

# Seconds between two rounds of the main thread, and that pylsyncctl waits for a reload.
_ROUND_INTERVAL = 2.0
_RELOAD_TIMEOUT = 120.0

# The configuration keys of the settings that have another name there.
_KEYS = {"background": "daemon", "directory": "chdir", "log": "log destination"}

# Open files: of the process, of each sync and destination, and of each rsync that may run.
_FILES_OF_PROCESS = 100
_FILES_OF_SYNC = 6
_FILES_OF_DESTINATION = 2
_FILES_OF_RUN = 16

_FORWARDED_SIGNALS = frozenset([signal.SIGUSR1, signal.SIGUSR2])


class StatusReporters:
    """The threads that publish the status: metrics, the status file and the control socket.

    The constructor opens what can be opened before a fork. Raises UsageError.
    """

    def __init__(
        self, settings: ProcessSettings, operations: Operations, on_failed: Callable[[str], None]
    ) -> None:
        self._operations = operations
        self._on_failed = on_failed
        self._threads: list[MetricsExporter | StatusFileWriter | ControlServer] = []
        status, file, port = operations.known_status, settings.metrics_file, settings.metrics_port
        if file is not None or port is not None:
            pages = {} if port is None else _make_pages(status)
            self._threads.append(
                MetricsExporter(status, on_failed, file=file, port=port, pages=pages)
            )
        if settings.status_file is not None:
            path, mode = os.fsencode(settings.status_file), settings.status_file_mode
            operations.status_file = AtomicFile(path, "status file", mode)
            self._threads.append(StatusFileWriter(operations.status_file, status, on_failed))

    def start(self, control_path: str | None) -> Sequence[SupervisedThread]:
        """Start the threads, after a fork; without a path there is no control socket.

        Raises UsageError if the control socket cannot be created.
        """
        if control_path is not None:
            self._threads.append(ControlServer(control_path, self._operations, self._on_failed))
        for thread in self._threads:
            thread.start()
        return self._threads

    def stop(self) -> None:
        """Stop the threads."""
        for thread in self._threads:
            thread.stop()

    def report_stopped(self) -> None:
        """Tell the readers of the status file that the daemon has stopped."""
        for thread in self._threads:
            if isinstance(thread, StatusFileWriter):
                thread.report_stopped()


class Service:
    """The running daemon. Created and run by the main thread, which receives the signals.

    ``reload()`` reads the settings again from the file at ``config_path``; None if there is none.
    Raises UsageError if a state directory is unusable, or another pylsyncd serves a destination.
    """

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings] | None = None,
        display: NoProgress | None = None,
        config_path: str = "",
    ) -> None:
        process = settings.process
        self._settings = settings
        self._read_settings = reload
        self._display = display or NoProgress()
        # A name, of a replication or thread, means that its state has changed.
        self._inbox: Inbox[Call[None] | str] = Inbox()
        self._activity = ActivityTimer()
        self._systemd = SystemdNotifier(os.environ)
        self._thread_monitor = ThreadMonitor(
            self._inbox.put,
            interval=min(_ROUND_INTERVAL, self._systemd.watchdog_interval or _ROUND_INTERVAL),
            on_all_active=self._systemd.watchdog,
        )
        self._is_ready = False
        _permit_open_files(settings)
        self._hooks = HookRunners(settings.syncs, self._thread_monitor.add_thread)
        self._run_slots = RunSlots(process.max_runs)
        self._inotify_pool = InotifyPool(self._thread_monitor.add_thread)
        self._ssh_sharing = SshSharing()
        self._ssh_sharing.avoid(_local_directories(settings.syncs))
        self._supervisor = Supervisor(settings.syncs, self._make_replication)
        self._operations = Operations(
            self._supervisor, self._request_reload, lambda: self._thread_monitor.stuck_names
        )
        self._operations.configuration = paths.printable(os.fsencode(config_path))
        self._reporters = StatusReporters(process, self._operations, self._inbox.put)
        self._watch_limit = inotify.read_limit("max_user_watches")

    def run(
        self, control_path: str | None = None, on_ready: Callable[[], None] = lambda: None
    ) -> int:
        """Keep all destinations up to date until told to stop; return the exit status.

        Without a path there is no control socket. ``on_ready()`` is called once all sources are
        watched. Raises WatchError if a source cannot be watched at the start, and UsageError if the
        control socket cannot be created, or ThreadLimitError.
        """
        self._inbox.catch_signals([signal.SIGHUP, *_FORWARDED_SIGNALS, *STOP_SIGNALS])
        try:
            for thread in self._reporters.start(control_path):
                self._thread_monitor.add_thread(thread)
            self._thread_monitor.add_main_thread(self._activity)
            self._thread_monitor.start()
            self._start_syncs()
            self._serve(on_ready)
            self._stop()
        finally:
            self._display.stop()
            self._ssh_sharing.close()
            self._systemd.close()
            self._inbox.close()
        errors = [each.error for each in self._supervisor if each.error is not None]
        for error in errors[1:]:
            log.error("%s", error)
        if errors:
            raise errors[0]
        # No replication is left if all came with a reload and failed to start.
        return max((each.exit_status for each in self._supervisor), default=1)

    def _make_replication(self, sync: SyncSettings, predecessor: Replication | None) -> Replication:
        display, process = self._display, self._settings.process
        source = CountedSource(sync.source.path, sync.rules)
        resources = SharedResources(
            self._run_slots,
            self._ssh_sharing,
            on_notice=self._hooks.report,
            find_before_hook=self._hooks.find_before,
            on_progress=lambda name, progress: display.update_transfer(name, progress, source),
            on_progress_end=display.finish_transfer,
        )
        context = ReplicationContext(
            self._thread_monitor,
            resources,
            self._inbox.put,
            lambda title, count: display.update_watch_setup(title, count, self._watch_limit),
            display.finish_watch_setup,
            should_count_events=process.metrics_file is not None
            or process.metrics_port is not None,
            once=process.once,
            waits_for_source=self._read_settings is not None,
            find_conflict=self._find_conflict,
            inotify_pool=self._inotify_pool,
        )
        return Replication(sync, context, predecessor)

    def _find_conflict(self, sync: SyncSettings) -> str:
        """Return why a sync must not read the directory that its source leads to now."""
        syncs = [each.sync for each in self._supervisor]
        sources = [os.path.realpath(each.source.path) for each in syncs]
        return find_source_conflict(sync, syncs, sources)

    def _start_syncs(self) -> None:
        """Start all syncs, or none. Raises ThreadLimitError."""
        try:
            self._supervisor.start()
        except ThreadLimitError:
            self._stop()
            raise

    # The main loop

    def _serve(self, on_ready: Callable[[], None]) -> None:
        while True:
            with self._activity.waiting():
                message = self._inbox.get(_ROUND_INTERVAL)
            self._report_state(on_ready)
            if message in STOP_SIGNALS:
                log.log(NOTICE, "stopping (%s)", signal.Signals(message).name)
                return
            if message in _FORWARDED_SIGNALS:
                self._supervisor.forward_signal(signal.Signals(message))
            elif message is signal.SIGHUP:
                self._handle_hangup()
            elif isinstance(message, Call):
                message.run()
            elif message is not None and self._is_finished():
                return

    def _report_state(self, on_ready: Callable[[], None]) -> None:
        """Report once that the daemon is ready, and from then on its status, to systemd."""
        if not self._is_ready and all(each.state.is_ready for each in self._supervisor):
            self._is_ready = True
            on_ready()
            self._systemd.ready()
        if self._is_ready and self._systemd.is_enabled:
            self._systemd.status(status_line(self._operations.known_status()))

    def _is_finished(self) -> bool:
        """Return True if all replications have ended, or one has failed."""
        self._supervisor.start_successors()
        if self._is_ready:
            # A sync that came with a reload and cannot start does not end the others.
            self._supervisor.remove_failed_starts()
        replications = list(self._supervisor)
        ended = [each for each in replications if each.state.has_ended]
        if len(ended) == len(replications):
            return True
        # With --once, each sync is done as far as possible.
        return not self._settings.process.once and any(each.exit_status for each in ended)

    def _stop(self) -> None:
        self._systemd.stopping()
        self._reporters.stop()
        self._thread_monitor.stop()
        self._supervisor.stop(self._handle_messages_while_stopping)
        self._hooks.stop()
        self._reporters.report_stopped()
        log.log(NOTICE, "stopped")

    def _handle_messages_while_stopping(self) -> None:
        """Forward a second stop signal, which ends everything at once, and cancel calls."""
        while (message := self._inbox.get(0.0)) is not None:
            if message in STOP_SIGNALS:
                self._supervisor.forward_signal(signal.Signals(message))
            elif isinstance(message, Call):
                message.cancel()

    # Reload

    def _handle_hangup(self) -> None:
        if self._read_settings is None:
            self._supervisor.forward_signal(signal.SIGHUP)
            return
        # The errors are in the log.
        with suppress(UsageError):
            self._reload()

    def _reload(self) -> None:
        """Read the settings again, and apply what has changed. Raises UsageError."""
        if self._read_settings is None:
            raise UsageError(
                "This pylsyncd was started without a configuration file, so there is nothing to "
                "reload: start it with -c FILE."
            )
        try:
            errors = self._apply(self._read_settings)
        except UsageError as error:
            errors = [ApplyError(str(error))]
        self._operations.record_reload(errors)
        if errors:
            message = "\n".join(each.message for each in errors)
            for line in message.splitlines():
                log.error("%s", line)
            raise UsageError(message)

    def _apply(self, read_settings: Callable[[], Settings]) -> list[ApplyError]:
        """Read the settings again, apply them, and return what was not applied.

        Raises UsageError if the file has errors.
        """
        self._systemd.reloading()
        try:
            try:
                settings = read_settings()
            except UsageError as error:
                raise UsageError(
                    f"The configuration has errors and was not applied:\n{error}"
                ) from error
            _permit_open_files(settings)
            self._hooks.configure(settings.syncs)
            self._ssh_sharing.avoid(_local_directories(settings.syncs))
            errors = self._supervisor.apply(settings.syncs)
            self._settings = replace(settings, process=self._apply_process(settings.process))
        finally:
            self._systemd.ready()
        log.log(NOTICE, "Configuration reloaded.")
        return errors

    def _apply_process(self, process: ProcessSettings) -> ProcessSettings:
        """Apply the settings of the process that can change at run time; return those in effect."""
        before = self._settings.process
        if process.log.level != before.log.level:
            logs.set_level(process.log.level)
        self._run_slots.set_limit(process.max_runs)
        log_settings = replace(before.log, level=process.log.level)
        effective = replace(before, max_runs=process.max_runs, log=log_settings)
        changed = [
            _KEYS.get(each.name, each.name)
            for each in fields(process)
            if getattr(process, each.name) != getattr(effective, each.name)
        ]
        if changed:
            log.warning("These changes take effect after a restart: %s.", ", ".join(changed))
        return effective

    def _request_reload(self) -> None:
        """Have the main thread reload the configuration; for other threads. Raises UsageError."""
        call = Call(self._reload)
        self._inbox.put(call)
        try:
            call.future.result(_RELOAD_TIMEOUT)
        except FutureTimeoutError:
            raise UsageError("The reload is queued: the daemon is busy.") from None
        except CancelledError:
            raise UsageError("The daemon is stopping: nothing was reloaded.") from None


def status_line(status: Status) -> str:
    """Return the status in a line for systemctl."""
    destinations = [each for sync in status.syncs for each in sync.destinations]
    in_sync = Condition.IN_SYNC.value
    lagging = [each.name for each in destinations if each.state_word != in_sync]
    return f"{summary(status)} ({', '.join(lagging)})" if lagging else summary(status)


def _make_pages(read: Callable[[], Status]) -> Pages:
    # As with http.server, imported only if it is needed.
    from pylsyncd.control import web_pages  # noqa: PLC0415

    return web_pages.make_pages(read, socket.gethostname())


def _permit_open_files(settings: Settings) -> None:
    """Raise the limit of open files to what the syncs may need; log if that is not possible."""
    syncs = settings.syncs
    destinations = [each for sync in syncs for each in sync.destinations]
    runs = sum(max(1, each.rsync.parallel) for each in destinations)
    needed = _FILES_OF_PROCESS + _FILES_OF_SYNC * len(syncs)
    needed += _FILES_OF_DESTINATION * len(destinations)
    needed += _FILES_OF_RUN * min(runs, settings.process.max_runs or runs)
    if (limit := descriptors.raise_limit(needed)) < needed:
        log.warning(
            "%s to %s may need %d open files, and the limit of pylsyncd is %d. Raise the limit: "
            "LimitNOFILE=%d in the systemd unit, or ulimit -Hn %d before pylsyncd starts.",
            format_count(len(syncs), "sync"), format_count(len(destinations), "destination"),
            needed, limit, needed, needed,
        )  # fmt: skip


def _local_directories(syncs: Iterable[SyncSettings]) -> Iterator[bytes]:
    """Yield the sources, and the destinations on this machine."""
    for sync in syncs:
        yield sync.source.path
        for each in sync.destinations:
            if each.destination.transport is Transport.LOCAL:
                yield each.destination.target
