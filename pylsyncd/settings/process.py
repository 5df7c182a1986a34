"""What concerns the process: from what was said to a `Daemon`."""

import logging
import os

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.settings import checks, values
from pylsyncd.settings.options import BY_KEY
from pylsyncd.settings.said import Values
from pylsyncd.settings.settings import Daemon, Log
from pylsyncd.system import identity, logs
from pylsyncd.system.unixsockets import LONGEST_ADDRESS

LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logs.NOTICE,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


def daemon(of: Values, *, once: bool) -> Daemon:
    """Return the settings of the process."""
    made = Daemon(
        log=_log(of),
        once=once,
        background=of.one("daemon", values.switch),
        pidfile=of.placed("pidfile", checks.file_to_write),
        user=of.maybe("user", str),
        group=of.maybe("group", str),
        directory=of.placed("chdir", checks.directory) or BY_KEY["chdir"].default,
        umask=of.one("umask", values.permissions),
        control=_control(of),
        status_file=of.placed("status_file", checks.file_to_write),
        metrics_file=of.placed("metrics_file", checks.file_to_write),
        metrics_port=of.maybe("metrics_port", values.port),
        max_runs=of.maybe("max_runs", values.count),
    )
    _check_together(of, made)
    return made


def _check_together(of: Values, made: Daemon) -> None:
    _check_identity(of, made)
    if made.background and not (made.log.file or made.log.syslog):
        of.refuse(
            of.said("daemon")[-1],
            "Nobody would see the log of a daemon in the background: name a logfile, or log to "
            "syslog.",
        )


def _check_identity(of: Values, made: Daemon) -> None:
    """Refuse a user or a group that there is not, or that nobody but root can become."""
    group = made.group
    try:
        identity.find(None, group)
    except UsageError as error:
        of.refuse(of.said("group")[-1], str(error))
        group = None
    try:
        identity.find(made.user, group)
    except UsageError as error:
        of.refuse(of.said("user")[-1], str(error))


def _log(of: Values) -> Log:
    return Log(
        level=LEVELS[of.one("log_level", values.level)],
        syslog=of.one("syslog", values.switch),
        facility=of.one("syslog_facility", lambda text: values.one_of(logs.FACILITIES, text)),
        file=of.placed("logfile", checks.file_to_write),
    )


def _control(of: Values) -> str | None:
    """Return the path of the control socket, nothing for the default one, None for none."""
    for said in of.said("control")[-1:]:
        if said.texts == ("no",):
            return None
    return of.placed("control", _socket) or ""


def _socket(directory: str, name: str) -> str:
    path = checks.file_to_write(directory, name)
    if len(os.fsencode(path)) > LONGEST_ADDRESS:
        raise UsageError(
            f"{paths.show(os.fsencode(path))} is longer than the {LONGEST_ADDRESS} bytes that a "
            "socket's path may have: choose a shorter one."
        )
    return path


def shows_progress(daemon: Daemon) -> bool:
    """Tell whether somebody may look: it runs in the foreground, logs there, and is not quiet."""
    return not (daemon.background or daemon.log.file) and daemon.log.level < logging.WARNING
