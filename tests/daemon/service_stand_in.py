"""A small daemon that takes the steps of the real one: prepared, detached, ready, stopped by TERM.

Its argument is JSON: ``daemon``, the settings of the process; ``log``, those of the log; ``state``,
a state directory; ``as``, the user id and group id that it has from the start; and how it ends
before it is ready, if it does: ``ends``.
"""

import itertools
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from types import FrameType

from pylsyncd import daemonize
from pylsyncd.config.settings import LogSettings, ProcessSettings
from pylsyncd.model.errors import PylsyncdError, UsageError, WatchError

PAUSE = 0.002  # seconds between two lines of the log


class Sync:
    """A sync without destinations, as far as daemonize uses it."""

    destinations = ()

    def __init__(self, state: str) -> None:
        self.state_dir = os.fsencode(state)


def work(ends: str | None, opened: int) -> None:
    """Fail before the daemon is ready, if asked to; check what was kept over the fork."""
    if ends == "usage":
        raise UsageError("The state directory is in use.\nSo it is.")
    if ends == "watch":
        raise WatchError("The source cannot be watched.")
    if ends == "bug":
        raise ZeroDivisionError
    if ends == "death":
        os.kill(os.getpid(), signal.SIGKILL)
    # Files opened before the fork are still open.
    os.write(opened, b"x")
    logging.getLogger().info("standard: %s", [os.readlink(f"/proc/self/fd/{n}") for n in range(3)])


def main() -> int:
    """Run the daemon from its start to its end."""
    asked = json.loads(sys.argv[1])
    log = LogSettings(level=logging.INFO, **asked.get("log", {}))
    stopped: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        stopped.append(number)

    if "as" in asked:
        # Not in the starting process: the user may not be able to run this Python.
        user, group = asked["as"]
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    daemonize.READY_TIMEOUT = asked.get("patience", daemonize.READY_TIMEOUT)
    try:
        daemon = ProcessSettings(log=log, **asked.get("daemon", {}))
        syncs = [Sync(asked["state"])] if "state" in asked else []
        with daemonize.prepare(daemon, syncs) as prepared, tempfile.TemporaryFile() as opened:
            thread = threading.Thread() if asked.get("ends") == "thread" else None
            prepared.detach()
            del thread
            signal.signal(signal.SIGTERM, stop)
            work(asked.get("ends"), opened.fileno())
            if asked.get("ends") == "nothing":
                return 3
            if asked.get("ends") != "delay":
                prepared.report_ready()
            for number in itertools.count():
                if stopped:
                    break
                logging.getLogger().info("line %d", number)
                time.sleep(PAUSE)
    except PylsyncdError as error:
        sys.stderr.write(f"standin: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
