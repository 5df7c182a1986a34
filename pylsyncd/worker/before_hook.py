"""Runs the hook that comes before the runs of rsync to one destination."""

import signal
from collections.abc import Callable

from pylsyncd.model.changes import Changeset
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notices import Notice, NoticeKind
from pylsyncd.report.hook_events import HookEvent
from pylsyncd.report.hook_process import HookCommand, HookProcess
from pylsyncd.rsync.outcomes import Outcome, Verdict
from pylsyncd.system.threads import ActivityTimer

FindCommand = Callable[[str], HookCommand | None]
"""Returns the present command for the destination of a name; any thread may call it."""


class BeforeHook:
    """The hook of one destination. Used by one thread; any thread may send its command a signal."""

    def __init__(
        self, destination: Destination, activity: ActivityTimer, find_command: FindCommand
    ) -> None:
        self._destination = destination
        self._process = HookProcess(destination.name, activity)
        self._find_command = find_command

    @property
    def is_configured(self) -> bool:
        """Whether there is a command to run."""
        return self._find_command(self._destination.name) is not None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the running command and all its children."""
        self._process.send_signal(number)

    def run(self, source: bytes, changeset: Changeset) -> Outcome:
        """Run the command, if there is one, before a run that carries a changeset."""
        command, to = self._find_command(self._destination.name), self._destination
        if command is None:
            return Outcome(Verdict.DONE)
        notice = Notice(NoticeKind.BEFORE, to.name, to.notation, source, changeset=changeset)
        failure = self._process.run(command, HookEvent(notice))
        if not failure:
            return Outcome(Verdict.DONE)
        return Outcome(Verdict.RETRY_LATER, f"the hook before the run failed: {failure}")
