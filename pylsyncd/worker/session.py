"""The rsync runs to one destination, one at a time: run slot, ssh connection, log, statistics."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from pylsyncd.model.changes import Changeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync.command import PROGRESS_OPTION, RsyncOptions
from pylsyncd.rsync.connecting import (
    MAX_CONNECT_SECONDS,
    connection_failure,
    daemon_command,
    ssh_command,
)
from pylsyncd.rsync.items import ItemCollector
from pylsyncd.rsync.outcomes import Outcome, Verdict, interpret
from pylsyncd.rsync.output import MessageCallback, RsyncProgress, continued_progress
from pylsyncd.rsync.output_capture import CapturedOutput
from pylsyncd.rsync.remote_shell import remote_shell_command
from pylsyncd.rsync.run_log import RunLog
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.rsync.ssh_sharing import can_share
from pylsyncd.system.threads import ActivityTimer
from pylsyncd.watcher.source_guard import SourceGuard, SourceHeldError
from pylsyncd.worker.before_hook import BeforeHook
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.statistics import Statistics

Interpretation = Callable[[int, Iterable[str], str], Outcome]
"""Returns what an exit status and rsync's messages mean; see `interpret`."""

STOPPED = Outcome(Verdict.RETRY_LATER, "the run was stopped")

# A dry run that ends like this has failed; other dry runs only ask something.
_FAILED = frozenset([Verdict.RETRY_LATER, Verdict.HELD])


@dataclass(frozen=True, slots=True)
class SessionRun:
    """One rsync run: what rsync did and what its exit means."""

    outcome: Outcome
    result: RunResult
    is_counted: bool = False
    """Whether the run is reported: it was no dry run, or it failed."""
    item_lines: Sequence[str] = ()
    """The first lines that say what rsync did to a path, if the command asks for them."""
    item_count: int = 0
    """The number of all such lines."""


class CarriedParts(NamedTuple):
    """What the runs that carried the parts of a tree have done together."""

    result: RunResult
    progress: RsyncProgress


_PREPARED = SessionRun(Outcome(Verdict.DONE), RunResult())
_NOT_PREPARED = SessionRun(STOPPED, RunResult())

# After these the destination has answered.
_REACHED = frozenset([Verdict.DONE, Verdict.RETRY_NOW, Verdict.PARTIAL])

# The exit statuses of an rsync that has set the time of each copy: at most, files have vanished.
_ALL_TIMES_SET = frozenset([0, 24])


class RsyncSession:
    """Runs rsync for one destination. Used by one thread; any thread may stop the run."""

    def __init__(
        self,
        destination: Destination,
        options: RsyncOptions,
        environment: Mapping[str, str] | None = None,
        resources: SharedResources | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        """Create a session; ``environment`` is added to that of each rsync."""
        self.destination = destination
        self.options = options
        self.statistics = statistics or Statistics()
        # What the worker before has carried, or another process.
        self.statistics.record_carried(time.time_ns())
        self.run_log = RunLog(destination.name, dry_run=options.dry_run)
        self.activity = ActivityTimer()
        """The timer of the thread that uses the session."""
        self.is_aborted = False
        self.successful_runs = 0
        """How many runs have reached the destination and done all that they should."""
        self._is_cancelled = False
        self._was_reached = False
        self._environment = environment or {}
        self._resources = resources or SharedResources()
        self._runner = Runner(self._environment)
        self.before_hook = BeforeHook(destination, self.activity, self._resources.find_before_hook)
        self.is_preparing = False
        """Whether an attempt has begun, but none of its runs; any thread may ask."""
        self._connection = self._resources.ssh_sharing.new_connection()
        self._parts: list[RsyncSession] = []

    def for_large_files(self) -> "RsyncSession":
        """Return a session to the same destination for a second thread, with the same statistics.

        It has an ssh connection of its own: on a shared one, the two runs would slow each other.
        """
        return RsyncSession(
            self.destination, self.options, self._environment, self._resources, self.statistics
        )

    def open_part(self, on_progress: Callable[[RsyncProgress], None]) -> "RsyncSession":
        """Return a session for runs that carry parts of a sync, beside other runs.

        It ends with this one, has an ssh connection of its own, and counts nothing.
        """
        resources = replace(
            self._resources,
            on_progress=lambda _, progress: on_progress(progress),
            on_progress_end=lambda _: None,
        )
        part = RsyncSession(self.destination, self.options, self._environment, resources)
        self._parts.append(part)
        # Unless `abort` finds it among the parts.
        part.is_aborted |= self.is_aborted
        return part

    def cancel_parts(self, number: signal.Signals) -> None:
        """Send a signal to the runs of `open_part`, and start no other one in these sessions."""
        for part in self._parts:
            part.cancel(number)

    def close_parts(self) -> None:
        """Close the sessions of `open_part`, whose runs must have ended."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.close()

    def abort(self, number: signal.Signals) -> None:
        """Send a signal to the running rsync and start no other one; any thread may call this."""
        self.is_aborted = True
        for part in tuple(self._parts):
            part.abort(number)
        self._send_signal(number)

    def cancel(self, number: signal.Signals) -> None:
        """Send a signal to the running rsync and start none until `allow_runs`; any thread may."""
        self._is_cancelled = True
        self._send_signal(number)

    def _send_signal(self, number: signal.Signals) -> None:
        self._runner.send_signal(number)
        self.before_hook.send_signal(number)

    def allow_runs(self) -> None:
        """Undo `cancel`."""
        self._is_cancelled = False

    def with_shared_ssh(self, options: RsyncOptions) -> RsyncOptions:
        """Return the options with the remote shell that uses the shared ssh connection."""
        if self.destination.transport is not Transport.SHELL:
            return options
        return self._connection.apply_to(options)

    def close(self) -> None:
        """Close the ssh connection."""
        self._connection.close()

    def prepare(self, guard: SourceGuard, changeset: Changeset) -> SessionRun:
        """Do what precedes the runs of an attempt, unless the source is held.

        That is to run the hook, and to connect to the destination if the last run has not reached
        it. Meanwhile nothing of this process is in the source.
        """
        has_hook = self.before_hook.is_configured and not self.options.dry_run
        if not (has_hook or self._should_connect):
            return _PREPARED
        try:
            with guard.open_checked():
                pass
        except SourceHeldError:
            # The attempt reports that.
            return _PREPARED
        if self._should_stop():
            return _NOT_PREPARED
        self.is_preparing = True
        try:
            run = SessionRun(self.before_hook.run(guard.source, changeset), RunResult())
            if run.outcome.verdict is Verdict.DONE and self._should_connect:
                run = self._connect()
        finally:
            self.is_preparing = False
        return _NOT_PREPARED if self._should_stop() else run

    @property
    def _should_connect(self) -> bool:
        return not (self._was_reached or self.destination.transport is Transport.LOCAL)

    def _connect(self) -> SessionRun:
        """Connect to the destination; a shared connection stays open for the runs that follow."""
        command = self._connect_command()
        if command is None:
            return _PREPARED
        self.run_log.log_connecting(command)
        directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        started_at = time.monotonic()
        try:
            with self.activity.waiting():
                ended = self._runner.capture(
                    command, b"", directory=directory, max_bytes=0, timeout=MAX_CONNECT_SECONDS,
                    detaches=True,
                )  # fmt: skip
        except OSError:
            # A run tells what is missing.
            return _PREPARED
        finally:
            os.close(directory)
        outcome = connection_failure(self.destination.transport, ended)
        if outcome is None:
            return _PREPARED
        self._connection.record_exit(ended.exit_status)
        result = RunResult(ended.exit_status, seconds=time.monotonic() - started_at)
        if not self._should_stop():
            self.statistics.count_run(outcome, result)
        self.run_log.log_exit(result.exit_status, outcome.reason)
        return SessionRun(outcome, result, is_counted=True)

    def _connect_command(self) -> list[bytes] | None:
        """Return the command to connect with; None if rsync alone knows how to connect."""
        if self.destination.transport is Transport.DAEMON:
            return daemon_command(self.options, self.destination)
        options = self.with_shared_ssh(self.options)
        if not can_share(self.options.rsh):
            return None
        return ssh_command(options.rsh, self.destination, is_shared=options is not self.options)

    def run(  # noqa: PLR0913  # the optional ones are passed by name
        self,
        root: int,
        command: Sequence[bytes],
        standard_input: bytes,
        *,
        is_dry_run: bool = False,
        is_optional: bool = False,
        on_message: MessageCallback | None = None,
        interpretation: Interpretation = interpret,
        before: CarriedParts | None = None,
    ) -> SessionRun:
        """Run a command in the open directory ``root`` and return what it did.

        A failure of an optional run is not counted. ``on_message`` is called with each message that
        rsync prints. ``interpretation`` returns what the exit means. ``before`` is what other runs
        have done of the same sync: it is added.
        """
        on_progress: Callable[[RsyncProgress], None] = self.report_progress
        if before is not None:
            on_progress = partial(self._continue_progress, before.progress)
        slots = self._resources.run_slots
        with self.activity.waiting(), slots.acquire(self._should_stop) as is_granted:
            if not is_granted:
                return SessionRun(STOPPED, RunResult())
            self.run_log.log_command(command, is_dry_run=is_dry_run)
            items = ItemCollector(self.run_log.log_item)
            listed_ns = 0
            try:
                with self._progress_shown(command, on_progress):
                    result = self._runner.run(
                        command, standard_input, None if is_dry_run else items.add,
                        directory=root, stall_timeout=self.options.stall_timeout,
                        on_progress=on_progress, on_message=on_message,
                    )  # fmt: skip
                if result.exit_status in _ALL_TIMES_SET:
                    listed_ns = result.listed_ns
            finally:
                if not is_dry_run:
                    self.statistics.record_carried(time.time_ns(), listed_ns)
        if before is not None:
            result.add(before.result)
        self._connection.record_exit(result.exit_status)
        outcome = interpretation(result.exit_status, result.messages, result.stall_reason)
        self.successful_runs += outcome.verdict is Verdict.DONE
        self._was_reached = outcome.verdict in _REACHED or outcome.missing_capability is not None
        has_failed = outcome.verdict in _FAILED and outcome.missing_capability is None
        is_counted = not is_dry_run
        if has_failed:
            is_counted = not is_optional
        if is_counted:
            self.statistics.count_run(outcome, result)
        self.run_log.log_exit(result.exit_status, outcome.reason)
        return SessionRun(outcome, result, is_counted, items.lines, items.count)

    def run_remotely(
        self, root: int, remote: bytes, standard_input: bytes, *, max_bytes: int, timeout: float
    ) -> CapturedOutput | None:
        """Run a text in the login shell of the destination, and return what it prints.

        The remote shell is started in the open directory ``root``. For the bounds see
        `Runner.capture`. Returns None if nothing can be run.
        """
        rsh = self.with_shared_ssh(self.options).rsh
        try:
            command = remote_shell_command(rsh, self.destination, remote)
        except ValueError:
            return None
        slots = self._resources.run_slots
        with self.activity.waiting(), slots.acquire(self._should_stop) as is_granted:
            if not is_granted:
                return None
            try:
                captured = self._runner.capture(
                    command, standard_input, directory=root, max_bytes=max_bytes, timeout=timeout
                )
            except OSError:
                return None
        self._connection.record_exit(captured.exit_status)
        return captured

    @property
    def is_stopping(self) -> bool:
        """True while no run may start."""
        return self._should_stop()

    def _should_stop(self) -> bool:
        return self.is_aborted or self._is_cancelled

    @contextlib.contextmanager
    def _progress_shown(
        self, command: Sequence[bytes], on_progress: Callable[[RsyncProgress], None]
    ) -> Iterator[None]:
        if PROGRESS_OPTION in command:
            on_progress(RsyncProgress())
        try:
            yield
        finally:
            self.end_progress()

    def report_progress(self, progress: RsyncProgress) -> None:
        """Report the progress of a run, or of several together."""
        self._resources.on_progress(self.destination.name, progress)

    def end_progress(self) -> None:
        """Report that no run is under way."""
        self._resources.on_progress_end(self.destination.name)

    def _continue_progress(self, before: RsyncProgress, progress: RsyncProgress) -> None:
        self.report_progress(continued_progress(before, progress))
