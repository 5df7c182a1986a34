"""Builds the settings of the process from raw options."""

import logging
import os
from collections.abc import Iterator

from pylsyncd.config import machine_checks
from pylsyncd.config import process_options as options
from pylsyncd.config.raw_options import OptionReader
from pylsyncd.config.settings import LogSettings, ProcessSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.system import logs, users

LOGGING_LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logs.NOTICE,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


def read_process_settings(reader: OptionReader, *, once: bool) -> ProcessSettings:
    """Return the settings of the process."""
    settings = ProcessSettings(
        log=_read_log_settings(reader),
        once=once,
        background=reader.value(options.DAEMON),
        pidfile=reader.checked(options.PIDFILE, machine_checks.check_output_file),
        user=reader.optional(options.USER),
        group=reader.optional(options.GROUP),
        directory=reader.checked(options.CHDIR, machine_checks.check_directory)
        or options.CHDIR.default,
        umask=reader.value(options.UMASK),
        control=_read_control(reader),
        status_file=reader.checked(options.STATUS_FILE, machine_checks.check_output_file),
        status_file_mode=reader.value(options.STATUS_FILE_MODE),
        metrics_file=reader.checked(options.METRICS_FILE, machine_checks.check_output_file),
        metrics_port=reader.optional(options.METRICS_PORT),
        max_runs=reader.optional(options.MAX_RUNS),
    )
    _check_user(reader, settings)
    if settings.background and not (settings.log.file or settings.log.syslog):
        message = "A daemon in the background needs a log: set logfile, or syslog = yes."
        reader.add_error(options.DAEMON, message)
    return settings


def daemon_uid(settings: ProcessSettings) -> int:
    """Return the user id that the daemon will run as."""
    try:
        user = users.find_user(settings.user, settings.group)
    except UsageError:
        user = None
    return user.uid if user else os.geteuid()


def find_foreign_log(settings: ProcessSettings) -> Iterator[str]:
    """Yield a sentence if the log file is another user's: logrotate(8) gives its owner the new one.

    Root's pylsyncd has created it, and opens it for the user that it switches to.
    """
    path, uid = settings.log.file, daemon_uid(settings)
    if path is None or uid == 0:
        return
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return
    if owner != uid:
        shown, name = paths.printable(os.fsencode(path)), settings.user or uid
        yield (
            f"The log file {shown} belongs to the user id {owner}, so that {name} cannot write to "
            f"its successor after a rotation: run chown {name} {shown}."
        )


def _check_user(reader: OptionReader, settings: ProcessSettings) -> None:
    """Refuse a user or group that does not exist, or that the process may not switch to."""
    group = settings.group
    try:
        users.find_user(None, group)
    except UsageError as error:
        reader.add_error(options.GROUP, str(error))
        group = None
    try:
        users.find_user(settings.user, group)
    except UsageError as error:
        reader.add_error(options.USER, str(error))


def _read_log_settings(reader: OptionReader) -> LogSettings:
    return LogSettings(
        level=LOGGING_LEVELS[reader.value(options.LOG_LEVEL)],
        syslog=reader.value(options.SYSLOG),
        facility=reader.checked(options.SYSLOG_FACILITY, machine_checks.check_syslog_facility)
        or options.SYSLOG_FACILITY.default,
        file=reader.checked(options.LOGFILE, machine_checks.check_output_file),
    )


def _read_control(reader: OptionReader) -> str | None:
    """Return the path of the control socket, "" for the default path, None for no socket."""
    for raw in reader.raw_options(options.CONTROL)[-1:]:
        if raw.texts == ("no",):
            return None
    return reader.checked(options.CONTROL, machine_checks.check_socket) or ""


def should_show_progress(process: ProcessSettings) -> bool:
    """Return True if the process logs to a terminal in the foreground and is not quiet."""
    return not (process.background or process.log.file) and process.log.level < logging.WARNING
