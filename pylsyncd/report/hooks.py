"""Runs the commands that an administrator has asked for when something has happened.

A command is run as its words say, without a shell, where the daemon works, with the daemon's own
environment and these variables, of which all are there, empty or 0 where they do not apply:

* PYLSYNCD_EVENT: "batch" when a run has carried what it was to carry, "error" at the first failure
  since all was well and at one for another reason, "held" when only a person can mend it, and
  "recovery" when all is well again. Without a command of its own, "held" runs the one for errors.
* PYLSYNCD_SYNC: the sync's name, empty for a command line; PYLSYNCD_SOURCE: its source.
* PYLSYNCD_DESTINATION: the destination's name, as in the log; PYLSYNCD_TARGET: as it was written.
* PYLSYNCD_REASON: why, as a part of a sentence; PYLSYNCD_MESSAGE: what rsync said, in one line.
* PYLSYNCD_EXIT: rsync's exit status, negative for the signal that has ended it.
* PYLSYNCD_FILES, PYLSYNCD_DELETED, PYLSYNCD_BYTES, PYLSYNCD_SECONDS: what was sent and deleted,
  and how long it took.
* PYLSYNCD_RUNS: how many runs it is told of at once; PYLSYNCD_PATHS: how many paths it is given.

On its standard input are the paths that the run was to carry, sorted, with a NUL after each. They
are relative to the source and begin with "./", so that none is taken for an option. "./a/b" is that
entry alone, which may have been deleted; "./a/." is a directory and the entries directly in it;
"./a/" is a directory, or what was one, with all that is below it; "./" is everything.

What it says goes to the log, and so does that it failed. After the time limit it is asked to end,
and killed five seconds later; what it has left running in its process group is killed when it ends.
"""

import logging
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable

from pylsyncd.config.settings import HookSettings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.formatting import format_count
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.report.hook_events import HookEvent, encode_paths, encode_text
from pylsyncd.report.hook_output import HookOutput
from pylsyncd.system.logs import NOTICE
from pylsyncd.system.processes import ExitResult, TimeLimitedCommand
from pylsyncd.system.threads import SupervisedThread

log = logging.getLogger(__name__)

HOOKS_STOP_TIMEOUT = 5.0
"""Seconds that hooks have when the daemon stops."""

# Seconds that a command has to end which is cut short then.
_LAST_GRACE = 1.0

# These are systemd's words with the daemon alone.
_UNWANTED = frozenset([b"NOTIFY_SOCKET", b"WATCHDOG_PID", b"WATCHDOG_USEC"])


class HookRunner(SupervisedThread):
    """Runs the hooks of one destination, one at a time, in a thread of its own.

    So the worker never waits for them. What happens while one runs is merged with what waits of
    the same kind, so no more than one of each waits.
    """

    def __init__(
        self, name: str, sync: str, hooks: HookSettings, failed: Callable[[str], None]
    ) -> None:
        """Make one for the destination ``name`` of the sync ``sync``."""
        super().__init__(f"{name}: hooks", failed)
        self._destination = name
        self.configure(sync, hooks)
        self._waiting: dict[NoticeKind, HookEvent] = {}
        self._news = threading.Condition()
        self._is_last = False
        self._limited = TimeLimitedCommand()
        # How a hook of each kind failed the last time.
        self._failures: dict[NoticeKind, str] = {}

    # For other threads:

    def configure(self, sync: str, hooks: HookSettings) -> None:
        """Run these from now on."""
        self._sync = sync
        self._seconds = hooks.timeout
        self._commands = {
            NoticeKind.BATCH: hooks.batch,
            NoticeKind.ERROR: hooks.error,
            NoticeKind.HELD: hooks.held or hooks.error,
            NoticeKind.RECOVERY: hooks.recovery,
        }

    def add(self, notice: Notice) -> None:
        """Have the command for what has happened run, if there is one; never waits for it."""
        if not self._commands[notice.kind]:
            return
        with self._news:
            # Of what contradicts what waits, the later one is told later.
            earlier = self._waiting.pop(notice.kind, None)
            self._waiting[notice.kind] = HookEvent(notice) if earlier is None else earlier
            if earlier is not None:
                earlier.merge(notice)
            self._news.notify()

    def request_stop(self) -> None:
        """Let the thread end when what was put until now has been run."""
        with self._news:
            self._is_last = True
            self._news.notify()

    def terminate(self) -> None:
        """End the command that runs, if one does, and run no other one."""
        if self.is_alive():
            self._limited.request_stop(_LAST_GRACE)

    # For its own thread:

    def work(self) -> None:
        """Run what comes until told to finish."""
        while (waiting := self._receive()) is not None:
            if not self._run(waiting):
                self._give_up(waiting)
                return

    def _receive(self) -> HookEvent | None:
        with self.activity.waiting(), self._news:
            self._news.wait_for(lambda: self._waiting or self._is_last)
            if not self._waiting:
                return None
            return self._waiting.pop(next(iter(self._waiting)))

    def _run(self, waiting: HookEvent) -> bool:
        """Run the command for what waits; tell whether it was not cut short."""
        kind = waiting.notice.kind
        command = [encode_text(word) for word in self._commands[kind]]
        if not command:
            # There was one when it happened.
            return True
        content = encode_paths(waiting.changeset())
        transcript = HookOutput(f"[{self._destination}] hook {kind.value}")
        environment = {
            **{name: value for name, value in os.environb.items() if name not in _UNWANTED},
            **waiting.variables(self._sync, content.count(b"\0")),
        }
        log.debug("[%s] hook %s: running %s", self._destination, kind.value, _shown(command))
        started = time.monotonic()
        try:
            with self.activity.waiting():
                ended = self._limited.run(
                    command, content, environment, transcript.add, self._seconds
                )
        except OSError as error:
            self._judge(kind, f"{_shown(command[:1])} cannot be run: {error.strerror}")
            return True
        transcript.log_remaining()
        if ended is None:
            return False
        took = time.monotonic() - started
        log.debug(
            "[%s] hook %s: exit %d, %.2f s", self._destination, kind.value, ended.returncode, took
        )
        self._judge(kind, self._failure(_shown(command[:1]), ended))
        return True

    def _failure(self, program: str, ended: ExitResult) -> str:
        """Return how a command failed, in words; nothing if it did not."""
        if ended.has_timed_out:
            limit = f"the {self._seconds:g} s of hook_timeout"
            return f"{program} took longer than {limit}, and was ended"
        if ended.returncode < 0:
            return f"{program} was ended by {_signal_name(-ended.returncode)}"
        return f"{program} ended with exit status {ended.returncode}" if ended.returncode else ""

    def _judge(self, kind: NoticeKind, failure: str) -> None:
        """Say that a hook failed, loudly once, and that it works again."""
        before = self._failures.pop(kind, "")
        if failure:
            self._failures[kind] = failure
            level = logging.INFO if failure == before else logging.WARNING
            log.log(level, "[%s] hook %s failed: %s.", self._destination, kind.value, failure)
        elif before:
            log.log(NOTICE, "[%s] hook %s works again.", self._destination, kind.value)

    def _give_up(self, cut: HookEvent) -> None:
        with self._news:
            kinds = [cut.notice.kind, *self._waiting]
        log.warning(
            "[%s] stopped before %s had ended: %s.",
            self._destination, format_count(len(kinds), "hook"),
            ", ".join(kind.value for kind in kinds),
        )  # fmt: skip


class HookRunners:
    """The hooks of all destinations: a :class:`HookRunner` for each that has been told of."""

    def __init__(
        self,
        syncs: Iterable[SyncSettings],
        failed: Callable[[str], None],
        started: Callable[[SupervisedThread], None] = lambda _: None,
    ) -> None:
        """Make them; ``started`` is called with each thread, ``failed`` with the name of one."""
        self._failed = failed
        self._started = started
        self._wanted: dict[str, SyncSettings] = {}
        self._callers: dict[str, HookRunner] = {}
        # Those of destinations that are no more, which may still run something.
        self._leaving: list[HookRunner] = []
        self._lock = threading.Lock()
        self.configure(syncs)

    def configure(self, syncs: Iterable[SyncSettings]) -> None:
        """Run the hooks of these syncs from now on."""
        with self._lock:
            self._wanted = {
                delivery.name: sync
                for sync in syncs
                if sync.hooks
                for delivery in sync.destinations
            }
            for name, caller in list(self._callers.items()):
                if name in self._wanted:
                    caller.configure(self._wanted[name].name, self._wanted[name].hooks)
                else:
                    caller.request_stop()
                    self._leaving.append(self._callers.pop(name))
            self._leaving = [caller for caller in self._leaving if caller.is_alive()]

    def report(self, notice: Notice) -> None:
        """Have the hook for a notice run, if there is one; workers call this, and do not wait."""
        with self._lock:
            sync = self._wanted.get(notice.name)
            if sync is None:
                return
            caller = self._callers.get(notice.name) or self._start(notice.name, sync)
        if caller is not None:
            caller.add(notice)

    def stop(self, seconds: float = HOOKS_STOP_TIMEOUT) -> None:
        """Let what waits be run, but cut that short after ``seconds``; returns soon after."""
        with self._lock:
            self._wanted = {}
            callers = [*self._callers.values(), *self._leaving]
        for caller in callers:
            caller.request_stop()
        _join(callers, seconds)
        for caller in callers:
            caller.terminate()
        _join(callers, 2 * _LAST_GRACE)

    def _start(self, name: str, sync: SyncSettings) -> HookRunner | None:
        caller = HookRunner(name, sync.name, sync.hooks, self._failed)
        try:
            caller.start()
        except RuntimeError:
            log.error("[%s] A hook is not run: the limit of threads is reached.", name)  # noqa: TRY400  # it is no bug
            return None
        self._callers[name] = caller
        self._started(caller)
        return caller


def _join(callers: Iterable[HookRunner], seconds: float) -> None:
    """Wait until they have ended, but no longer than so many seconds for all."""
    deadline = time.monotonic() + seconds
    for caller in callers:
        caller.join(max(0.0, deadline - time.monotonic()))


def _shown(command: list[bytes]) -> str:
    return shlex.join(paths.printable(word) for word in command)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
