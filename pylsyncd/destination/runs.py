"""The rsyncs that are run to one destination, one at a time: in their turn, over its connection."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from pylsyncd.destination.means import Means
from pylsyncd.destination.tally import Tally
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.model.status import RunStatus
from pylsyncd.rsync.commands import PROGRESS, Rsync
from pylsyncd.rsync.outcomes import Outcome, Verdict, interpret
from pylsyncd.rsync.progress import Transferred
from pylsyncd.rsync.runlog import RunLog
from pylsyncd.rsync.runner import Run, Runner
from pylsyncd.system.part import Pulse

ENDED = Outcome(Verdict.LATER, "the run was ended")

# A trial that ends so is a failure; others only ask something.
_FAILED = frozenset([Verdict.LATER, Verdict.HELD])


class Runs:
    """Runs them and counts them. Used by one thread; another one may end what runs."""

    def __init__(
        self,
        destination: Destination,
        rsync: Rsync,
        marks: Mapping[str, str] | None = None,
        means: Means | None = None,
        tally: Tally | None = None,
    ) -> None:
        """Make them; ``marks`` are added to the environment of each rsync."""
        self.destination = destination
        self.rsync = rsync
        self.marks = marks or {}
        self.means = means or Means()
        self.tally = tally or Tally()
        self.runner = Runner(self.marks)
        self.log = RunLog(destination.name, dry_run=rsync.dry_run)
        self.ran: RunStatus | None = None
        """How the last one that was no trial, or failed, went; None if there was none since this
        was set to None."""
        self.pulse = Pulse()
        """Whoever uses this gives it its own: rsync may take any time."""
        self.is_ended: Callable[[], bool] = lambda: False
        """Whether none is to be started any more; whoever uses this gives it its own."""
        self._share = self.means.sharing.share()

    def another_lane(self) -> "Runs":
        """Return others to the same destination, for a thread that runs them at the same time.

        They have a connection of their own: on the same one, packets would be in the way.
        """
        return Runs(self.destination, self.rsync, self.marks, self.means, self.tally)

    def connected(self, rsync: Rsync) -> Rsync:
        """Have a remote shell use the connection that there is."""
        if self.destination.transport is not Transport.SHELL:
            return rsync
        return self._share.applied(rsync)

    def close(self) -> None:
        """Close the connection."""
        self._share.close()

    def run(
        self, root: int, command: Sequence[bytes], content: bytes, *, is_trial: bool = False
    ) -> tuple[Outcome, Run]:
        """Run a command in the open directory ``root``, with ``content`` as its input."""
        show = None if is_trial else self.log.item
        with self.pulse.waiting(), self.means.turns.taken(self.is_ended) as is_granted:
            if not is_granted:
                return ENDED, Run()
            self.log.begins(command, is_trial=is_trial)
            with self._shown(command):
                run = self.runner.run(
                    command, content, show,
                    directory=root, silence=self.rsync.patience, progress=self._progress,
                )  # fmt: skip
        self._share.ended(run.code)
        outcome = interpret(run.code, run.messages, run.stalled)
        if not is_trial or outcome.verdict in _FAILED:
            self.ran = self.tally.ran(outcome, run)
        self.log.ended(run.code, outcome.reason)
        return outcome, run

    @contextlib.contextmanager
    def _shown(self, command: Sequence[bytes]) -> Iterator[None]:
        """Have it shown, while a run lasts that tells how far it is."""
        if PROGRESS in command:
            self._progress(Transferred())
        try:
            yield
        finally:
            self.means.sent(self.destination.name)

    def _progress(self, transferred: Transferred) -> None:
        self.means.sending(self.destination.name, transferred)
