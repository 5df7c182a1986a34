"""Runs the command of a hook: its environment, its output in the log, and how it failed.

HOOKS in pylsyncd.conf(5) documents the environment and the standard input (see hook_events).
"""

import logging
import os
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pylsyncd.model import paths
from pylsyncd.report.hook_events import HookEvent, encode_paths, encode_text
from pylsyncd.report.hook_output import HookOutput
from pylsyncd.system.processes import ExitResult, TimeLimitedCommand
from pylsyncd.system.threads import ActivityTimer

log = logging.getLogger(__name__)

# systemd's variables are for the daemon alone.
_REMOVED_VARIABLES = frozenset([b"NOTIFY_SOCKET", b"WATCHDOG_PID", b"WATCHDOG_USEC"])


@dataclass(frozen=True, slots=True)
class HookCommand:
    """The command of a hook, and its settings."""

    words: Sequence[str]
    sync: str
    """The name of the sync, which the command receives."""
    time_limit: float


class HookProcess:
    """The hook commands of one destination, one at a time. Another thread may stop them."""

    def __init__(self, destination: str, activity: ActivityTimer) -> None:
        """Create one; ``activity`` is the timer of the thread that runs the commands."""
        self._destination = destination
        self._activity = activity
        self._process = TimeLimitedCommand()

    def request_stop(self, timeout: float) -> None:
        """Stop the running command, by SIGKILL after ``timeout`` seconds, and run no other."""
        self._process.request_stop(timeout)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the running command and all its children."""
        self._process.send_signal(number)

    def run(self, hook: HookCommand, event: HookEvent) -> str | None:
        """Run a command for an event; return how it failed, empty if it did not.

        Returns None if it was stopped by `request_stop`.
        """
        kind, command = event.notice.kind.value, [encode_text(word) for word in hook.words]
        content = encode_paths(event.changeset())
        output = HookOutput(f"[{self._destination}] hook {kind}")
        environment = {
            **{name: text for name, text in os.environb.items() if name not in _REMOVED_VARIABLES},
            **event.variables(hook.sync, content.count(b"\0")),
        }
        log.debug("[%s] hook %s: running %s", self._destination, kind, _shown(command))
        started_at = time.monotonic()
        try:
            with self._activity.waiting():
                result = self._process.run(
                    command, content, environment, output.add, hook.time_limit
                )
        except OSError as error:
            return f"cannot run {_shown(command[:1])}: {error.strerror}"
        output.log_remaining()
        if result is None:
            return None
        log.debug(
            "[%s] hook %s: exit %d, %.2f s",
            self._destination, kind, result.returncode, time.monotonic() - started_at,
        )  # fmt: skip
        return _failure(_shown(command[:1]), result, hook.time_limit)


def _failure(program: str, result: ExitResult, time_limit: float) -> str:
    """Return how a command failed; empty if it did not."""
    if result.has_timed_out:
        return f"{program} exceeded hook_timeout ({time_limit:g} s) and was terminated"
    if result.returncode < 0:
        return f"{program} was ended by {_signal_name(-result.returncode)}"
    return f"{program} ended with exit status {result.returncode}" if result.returncode else ""


def _shown(command: Sequence[bytes]) -> str:
    return shlex.join(paths.printable(word) for word in command)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
