"""What concerns the process: from what was said to a `ProcessSettings`."""

import logging
import os

from pylsyncd.config import converters, machine_checks
from pylsyncd.config.options import OPTIONS_BY_KEY
from pylsyncd.config.said import OptionReader
from pylsyncd.config.settings import LogSettings, ProcessSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.system import logs, users
from pylsyncd.system.unix_sockets import MAX_ADDRESS_LENGTH

LOGGING_LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logs.NOTICE,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


def read_process_settings(of: OptionReader, *, once: bool) -> ProcessSettings:
    """Return the settings of the process."""
    made = ProcessSettings(
        log=_log(of),
        once=once,
        background=of.value("daemon", converters.parse_switch),
        pidfile=of.path_or_none("pidfile", machine_checks.check_output_file),
        user=of.value_or_none("user", str),
        group=of.value_or_none("group", str),
        directory=of.path_or_none("chdir", machine_checks.check_directory)
        or OPTIONS_BY_KEY["chdir"].default,
        umask=of.value("umask", converters.parse_umask),
        control=_control(of),
        status_file=of.path_or_none("status_file", machine_checks.check_output_file),
        metrics_file=of.path_or_none("metrics_file", machine_checks.check_output_file),
        metrics_port=of.value_or_none("metrics_port", converters.parse_port),
        max_runs=of.value_or_none("max_runs", converters.parse_positive_count),
    )
    _check_together(of, made)
    return made


def _check_together(of: OptionReader, made: ProcessSettings) -> None:
    _check_identity(of, made)
    if made.background and not (made.log.file or made.log.syslog):
        of.add_error(
            of.raw_options("daemon")[-1],
            "Nobody would see the log of a daemon in the background: name a logfile, or log to "
            "syslog.",
        )


def _check_identity(of: OptionReader, made: ProcessSettings) -> None:
    """Refuse a user or a group that there is not, or that nobody but root can become."""
    group = made.group
    try:
        users.find_user(None, group)
    except UsageError as error:
        of.add_error(of.raw_options("group")[-1], str(error))
        group = None
    try:
        users.find_user(made.user, group)
    except UsageError as error:
        of.add_error(of.raw_options("user")[-1], str(error))


def _log(of: OptionReader) -> LogSettings:
    return LogSettings(
        level=LOGGING_LEVELS[of.value("log_level", converters.check_log_level)],
        syslog=of.value("syslog", converters.parse_switch),
        facility=of.value(
            "syslog_facility", lambda text: converters.check_choice(logs.FACILITIES, text)
        ),
        file=of.path_or_none("logfile", machine_checks.check_output_file),
    )


def _control(of: OptionReader) -> str | None:
    """Return the path of the control socket, nothing for the default one, None for none."""
    for said in of.raw_options("control")[-1:]:
        if said.texts == ("no",):
            return None
    return of.path_or_none("control", _socket) or ""


def _socket(directory: str, name: str) -> str:
    path = machine_checks.check_output_file(directory, name)
    if len(os.fsencode(path)) > MAX_ADDRESS_LENGTH:
        raise UsageError(
            f"{paths.printable(os.fsencode(path))} is longer than the {MAX_ADDRESS_LENGTH} "
            "bytes that a "
            "socket's path may have: choose a shorter one."
        )
    return path


def should_show_progress(daemon: ProcessSettings) -> bool:
    """Tell whether somebody may look: it runs in the foreground, logs there, and is not quiet."""
    return not (daemon.background or daemon.log.file) and daemon.log.level < logging.WARNING
