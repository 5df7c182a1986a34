"""The rsyncs that are run to one destination, one at a time: in their turn, over its connection."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.model.status import RunStatus
from pylsyncd.rsync.command import PROGRESS_OPTION, RsyncOptions
from pylsyncd.rsync.outcomes import Outcome, Verdict, interpret
from pylsyncd.rsync.output import RsyncProgress
from pylsyncd.rsync.run_log import RunLog
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.system.threads import ActivityTimer
from pylsyncd.worker.resources import SharedResources
from pylsyncd.worker.statistics import Statistics

STOPPED = Outcome(Verdict.RETRY_LATER, "the run was ended")

# A trial that ends so is a failure; others only ask something.
_FAILED = frozenset([Verdict.RETRY_LATER, Verdict.HELD])


class RsyncSession:
    """Runs them and counts them. Used by one thread; another one may end what runs."""

    def __init__(
        self,
        destination: Destination,
        rsync: RsyncOptions,
        marks: Mapping[str, str] | None = None,
        resources: SharedResources | None = None,
        tally: Statistics | None = None,
    ) -> None:
        """Make them; ``marks`` are added to the environment of each rsync."""
        self.destination = destination
        self.options = rsync
        self.environment = marks or {}
        self.resources = resources or SharedResources()
        self.statistics = tally or Statistics()
        self.runner = Runner(self.environment)
        self.run_log = RunLog(destination.name, dry_run=rsync.dry_run)
        self.last_run: RunStatus | None = None
        """How the last one that was no trial, or failed, went; None if there was none since this
        was set to None."""
        self.activity = ActivityTimer()
        """Whoever uses this gives it its own: rsync may take any time."""
        self.should_stop: Callable[[], bool] = lambda: False
        """Whether none is to be started any more; whoever uses this gives it its own."""
        self._share = self.resources.ssh_sharing.new_connection()

    def for_large_files(self) -> "RsyncSession":
        """Return others to the same destination, for a thread that runs them at the same time.

        They have a connection of their own: on the same one, packets would be in the way.
        """
        return RsyncSession(
            self.destination, self.options, self.environment, self.resources, self.statistics
        )

    def with_shared_ssh(self, rsync: RsyncOptions) -> RsyncOptions:
        """Have a remote shell use the connection that there is."""
        if self.destination.transport is not Transport.SHELL:
            return rsync
        return self._share.apply_to(rsync)

    def close(self) -> None:
        """Close the connection."""
        self._share.close()

    def run(
        self,
        root: int,
        command: Sequence[bytes],
        standard_input: bytes,
        *,
        is_dry_run: bool = False,
    ) -> tuple[Outcome, RunResult]:
        """Run a command in the open directory ``root``, with ``content`` as its input."""
        show = None if is_dry_run else self.run_log.log_item
        with (
            self.activity.waiting(),
            self.resources.run_slots.acquire(self.should_stop) as is_granted,
        ):
            if not is_granted:
                return STOPPED, RunResult()
            self.run_log.log_command(command, is_dry_run=is_dry_run)
            with self._shown(command):
                run = self.runner.run(
                    command, standard_input, show,
                    directory=root, stall_timeout=self.options.stall_timeout,
                    on_progress=self._progress,
                )  # fmt: skip
        self._share.record_exit(run.exit_status)
        outcome = interpret(run.exit_status, run.messages, run.stall_reason)
        has_failed = outcome.verdict in _FAILED and outcome.missing_capability is None
        if not is_dry_run or has_failed:
            self.last_run = self.statistics.count_run(outcome, run)
        self.run_log.log_exit(run.exit_status, outcome.reason)
        return outcome, run

    @contextlib.contextmanager
    def _shown(self, command: Sequence[bytes]) -> Iterator[None]:
        """Have it shown, while a run lasts that tells how far it is."""
        if PROGRESS_OPTION in command:
            self._progress(RsyncProgress())
        try:
            yield
        finally:
            self.resources.on_progress_end(self.destination.name)

    def _progress(self, transferred: RsyncProgress) -> None:
        self.resources.on_progress(self.destination.name, transferred)
