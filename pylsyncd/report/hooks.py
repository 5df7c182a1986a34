"""Runs the hooks: commands that an administrator has configured for events of a destination."""

import logging
import threading
from collections.abc import Callable, Iterable

from pylsyncd.config.settings import HookSettings, SyncSettings
from pylsyncd.model.formatting import format_count
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.report.hook_events import HookEvent
from pylsyncd.report.hook_process import HookCommand, HookProcess
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.restarts import RestartSchedule
from pylsyncd.system.threads import Crash, CrashLog, SupervisedThread, join_all

log = logging.getLogger(__name__)

HOOKS_STOP_TIMEOUT = 5.0
"""Seconds for pending hooks to finish when the daemon stops."""

# Seconds from SIGTERM to SIGKILL after that.
_TERMINATE_TIMEOUT = 1.0


class HookRunner(SupervisedThread):
    """The thread that runs the hooks of one destination, one at a time.

    Notices that arrive while a hook runs are merged by kind, so that at most one run of each kind
    is pending. After an unforeseen error it goes on with the next hook, after a pause.
    """

    def __init__(self, name: str, sync: str, hooks: HookSettings) -> None:
        """Create the thread for the destination ``name`` of the sync ``sync``."""
        super().__init__(f"{name}: hooks", lambda _: None)
        self._destination = name
        self.configure(sync, hooks)
        self._pending: dict[NoticeKind, HookEvent] = {}
        self._changed = threading.Condition()
        self._stop_requested = False
        self._process = HookProcess(name, self.activity)
        # The last failure of each kind of hook.
        self._failures: dict[NoticeKind, str] = {}
        self._restarts = RestartSchedule()
        self._crash_log = CrashLog()

    # Called by other threads:

    def configure(self, sync: str, hooks: HookSettings) -> None:
        """Run these hooks from now on."""
        self._sync = sync
        self._time_limit = hooks.timeout
        self._commands = {
            NoticeKind.BATCH: hooks.batch,
            NoticeKind.ERROR: hooks.error,
            NoticeKind.HELD: hooks.held or hooks.error,
            NoticeKind.RECOVERY: hooks.recovery,
            NoticeKind.REPAIR: hooks.repair,
        }

    def add(self, notice: Notice) -> None:
        """Add a notice, without waiting for its hook; ignored if none is configured."""
        if not self._commands[notice.kind]:
            return
        with self._changed:
            # Moved to the end: of an error and a recovery, the later one must run last.
            event = self._pending.pop(notice.kind, None)
            if event is None:
                event = HookEvent(notice)
            else:
                event.merge(notice)
            self._pending[notice.kind] = event
            self._changed.notify()

    def request_stop(self) -> None:
        """Ask the thread to end after the pending hooks."""
        with self._changed:
            self._stop_requested = True
            self._changed.notify()

    def terminate(self) -> None:
        """End the running command, and run no other."""
        if self.is_alive():
            self._process.request_stop(_TERMINATE_TIMEOUT)

    # Called by the thread itself:

    def run(self) -> None:
        """Run :meth:`work`, again if it raises."""
        while True:
            is_last = self._stop_requested
            self.crash = None
            super().run()
            if self.crash is None or is_last:
                return
            with self.activity.waiting(), self._changed:
                self._changed.wait_for(lambda: self._stop_requested, self._restarts.next_pause())

    def report_crash(self, crash: Crash) -> None:
        """Log an unforeseen error."""
        message = (
            f"[{self._destination}] An unexpected error in pylsyncd stopped a hook "
            f"({crash.error}). Please report this. Later hooks run after a pause."
        )
        self._crash_log.report(crash, message, is_news=False)

    def work(self) -> None:
        """Run pending hooks until asked to stop."""
        while (event := self._take_event()) is not None:
            if not self._run_hook(event):
                self._log_unfinished(event)
                return

    def _take_event(self) -> HookEvent | None:
        with self.activity.waiting(), self._changed:
            self._changed.wait_for(lambda: self._pending or self._stop_requested)
            if not self._pending:
                return None
            return self._pending.pop(next(iter(self._pending)))

    def _run_hook(self, event: HookEvent) -> bool:
        """Run the command for an event; return False if it was terminated."""
        kind = event.notice.kind
        command = self._commands[kind]
        if not command:
            # The configuration has changed since the event was added.
            return True
        hook = HookCommand(command, self._sync, self._time_limit)
        failure = self._process.run(hook, event)
        if failure is None:
            return False
        self._record_result(kind, failure)
        return True

    def _record_result(self, kind: NoticeKind, failure: str) -> None:
        """Log a failure, repetitions at a lower level, and the first success after one."""
        previous = self._failures.pop(kind, "")
        if failure:
            self._failures[kind] = failure
            level = logging.INFO if failure == previous else logging.WARNING
            log.log(level, "[%s] hook %s failed: %s.", self._destination, kind.value, failure)
        elif previous:
            log.log(NOTICE, "[%s] hook %s works again.", self._destination, kind.value)

    def _log_unfinished(self, terminated: HookEvent) -> None:
        with self._changed:
            kinds = [terminated.notice.kind, *self._pending]
        log.warning(
            "[%s] stopped before %s finished: %s.",
            self._destination, format_count(len(kinds), "hook"),
            ", ".join(kind.value for kind in kinds),
        )  # fmt: skip


class HookRunners:
    """The hooks of all destinations: a :class:`HookRunner` for each that has had a notice."""

    def __init__(
        self,
        syncs: Iterable[SyncSettings],
        on_started: Callable[[SupervisedThread], None] = lambda _: None,
    ) -> None:
        """``on_started`` is called with each thread."""
        self._on_started = on_started
        # By the name of the destination.
        self._syncs: dict[str, SyncSettings] = {}
        self._runners: dict[str, HookRunner] = {}
        # Runners of removed destinations, which may still run a hook.
        self._stopping: list[HookRunner] = []
        self._lock = threading.Lock()
        self.configure(syncs)

    def configure(self, syncs: Iterable[SyncSettings]) -> None:
        """Run the hooks of these syncs from now on."""
        with self._lock:
            self._syncs = {
                destination.name: sync
                for sync in syncs
                if sync.hooks
                for destination in sync.destinations
            }
            for name, runner in list(self._runners.items()):
                if name in self._syncs:
                    runner.configure(self._syncs[name].name, self._syncs[name].hooks)
                else:
                    runner.request_stop()
                    self._stopping.append(self._runners.pop(name))
            self._stopping = [runner for runner in self._stopping if runner.is_alive()]

    def report(self, notice: Notice) -> None:
        """Have the hook for a notice run, if there is one; does not wait for it."""
        with self._lock:
            sync = self._syncs.get(notice.name)
            if sync is None:
                return
            runner = self._runners.get(notice.name) or self._start_runner(notice.name, sync)
        if runner is not None:
            runner.add(notice)

    def find_before(self, name: str) -> HookCommand | None:
        """Return the command that the runs for a destination wait for, if there is one."""
        with self._lock:
            sync = self._syncs.get(name)
        if sync is None or not sync.hooks.before:
            return None
        return HookCommand(sync.hooks.before, sync.name, sync.hooks.timeout)

    def stop(self, timeout: float = HOOKS_STOP_TIMEOUT) -> None:
        """Run the pending hooks, and terminate those that have not ended after ``timeout``."""
        with self._lock:
            self._syncs = {}
            runners = [*self._runners.values(), *self._stopping]
        for runner in runners:
            runner.request_stop()
        join_all(runners, timeout)
        for runner in runners:
            runner.terminate()
        join_all(runners, 2 * _TERMINATE_TIMEOUT)

    def _start_runner(self, name: str, sync: SyncSettings) -> HookRunner | None:
        runner = HookRunner(name, sync.name, sync.hooks)
        try:
            runner.start()
        except RuntimeError:
            log.error("[%s] Cannot run a hook: the limit of threads is reached.", name)  # noqa: TRY400  # no traceback: it is not a bug
            return None
        self._runners[name] = runner
        self._on_started(runner)
        return runner
