"""The process around the service: pid file, log, user, background.

The order follows daemon(7). What can fail, fails while a terminal is attached, and as root where
root is needed. The parent waits until the daemon is ready, and exits with the daemon's status.
"""

import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from daemon import DaemonContext

from pylsyncd.config.settings import DEFAULT_DIRECTORY, DEFAULT_UMASK, ProcessSettings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.state.user_change import UserState
from pylsyncd.system import descriptors, directories, garbage, logs, unix_sockets, users
from pylsyncd.system.pid_file import PidFile
from pylsyncd.system.users import ProcessUser

log = logging.getLogger(__name__)

READY_TIMEOUT = 30.0
"""Seconds that the parent waits for the daemon to be ready, so that a boot does not hang."""

# Seconds between two checks for Ctrl-C in the parent.
_INTERRUPT_POLL_INTERVAL = 0.1

_IGNORED_SIGNALS = {signal.SIGTSTP: None, signal.SIGTTIN: None, signal.SIGTTOU: None}


def prepare(
    settings: ProcessSettings,
    syncs: Iterable[SyncSettings],
    terminal: logging.Handler | None = None,
) -> "DaemonProcess":
    """Open the pid file and the log, create the directories, and change to the user.

    ``terminal`` is the log handler used without a log file. Raises UsageError. When the daemon goes
    to the background, no thread may be created before :meth:`DaemonProcess.detach`.
    """
    descriptors.open_standard_streams()
    user = users.find_user(settings.user, settings.group)
    _drop_inherited(settings, user)
    pid_file = None
    if settings.pidfile:
        pid_file = PidFile(settings.pidfile, (user.uid,) if user else ())
    try:
        _configure_log(settings, user, terminal)
        control_path = _control_path(settings, user)
        top = directories.SYSTEM_RUNTIME_DIRECTORY
        if control_path and control_path.startswith(f"{top}/") and os.geteuid() == 0:
            unix_sockets.create_system_directory(top)
        if user:
            _create_directories(control_path, syncs, user)
            _change_user(user)
        if settings.background or settings.directory != DEFAULT_DIRECTORY:
            _change_directory(settings.directory)
        control_path = _checked_control_path(control_path, is_required=bool(settings.control))
    except BaseException:
        if pid_file:
            pid_file.close()
        raise
    return DaemonProcess(settings, pid_file, control_path)


def check(settings: ProcessSettings, syncs: Iterable[SyncSettings]) -> None:
    """Raise UsageError if :func:`prepare` would refuse the user's directories; change nothing."""
    if user := users.find_user(settings.user, settings.group):
        for state in _user_states(syncs, user):
            state.check()


class DaemonProcess:
    """A process that has what a daemon needs, and can go to the background.

    As a context manager it closes the pid file, and reports to a parent that still waits.
    """

    def __init__(
        self, settings: ProcessSettings, pid_file: PidFile | None, control_path: str | None
    ) -> None:
        self._settings = settings
        self._pid_file = pid_file
        self._parent = -1
        self.control_path = control_path
        """The control socket, or its directory with a trailing slash; None for no socket."""

    def __enter__(self) -> "DaemonProcess":  # noqa: PYI034  # typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Before the parent exits: the next start must not find the pid file locked.
        if self._pid_file:
            self._pid_file.close()
        if isinstance(error, PylsyncdError):
            message = str(error)
        else:
            message = f"The daemon stopped before it was ready: {self._log_hint()}."
        self._report(status=2 if isinstance(error, UsageError) else 1, message=message)

    def detach(self) -> None:
        """Go to the background if the settings ask for it, and write the pid file.

        In the background this returns in another process, which keeps all open descriptors. The
        first process waits until that process is ready or fails, and exits with its status.
        """
        if self._settings.background:
            self._fork()
        if self._pid_file:
            self._pid_file.write()

    def report_ready(self) -> None:
        """Let a waiting parent exit with status 0."""
        self._report(status=0, message="")

    def _fork(self) -> None:
        _refuse_threads()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        # The parent handles Ctrl-C once it knows the daemon's pid.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        if os.fork():
            os.close(writer)
            _wait_and_exit(reader, self._log_hint())
        os.close(reader)
        self._parent = writer
        logs.remove_terminal_handler()
        DaemonContext(
            detach_process=True,
            files_preserve=descriptors.nonstandard_descriptors(),
            working_directory=self._settings.directory,
            umask=self._settings.umask,
            signal_map=_IGNORED_SIGNALS,
        ).open()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        self._send(pid=os.getpid())

    def _log_hint(self) -> str:
        if self._settings.log.file:
            return f"see the log {paths.printable(os.fsencode(self._settings.log.file))}"
        return "see the log"

    def _report(self, *, status: int, message: str) -> None:
        """Have a waiting parent print a message and exit; nothing once it has exited."""
        self._send(status=status, message=message)
        parent, self._parent = self._parent, -1
        if parent >= 0:
            os.close(parent)

    def _send(self, **report: object) -> None:
        if self._parent >= 0:
            # The parent may have been killed.
            with suppress(BrokenPipeError):
                os.write(self._parent, json.dumps(report).encode() + b"\n")


# Before the fork


def _drop_inherited(settings: ProcessSettings, user: ProcessUser | None) -> None:
    """Drop the descriptors, the blocked signals and the umask of the caller."""
    if settings.background or user:
        # In the foreground, too: another user must not get what root has open.
        descriptors.close_inherited()
    if settings.background:
        # A signal that the caller has blocked would never arrive.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if settings.background or settings.umask != DEFAULT_UMASK:
        os.umask(settings.umask)


def _configure_log(
    settings: ProcessSettings, user: ProcessUser | None, terminal: logging.Handler | None
) -> None:
    logs.configure(
        settings.log.level,
        file=settings.log.file,
        syslog=settings.log.syslog,
        facility=settings.log.facility,
        terminal=terminal,
        owner=(user.uid, user.gid) if user else None,
    )


def _control_path(settings: ProcessSettings, user: ProcessUser | None) -> str | None:
    """Return the configured control socket, or the default directory with a trailing slash."""
    if settings.control is None or settings.control:
        return settings.control
    name = (user.name or str(user.uid)) if user and user.uid else ""
    return directories.runtime_directory(os.environ, os.geteuid(), name) + "/"


def _checked_control_path(path: str | None, *, is_required: bool) -> str | None:
    """Return the path, or None with a warning if it is unusable and not required."""
    try:
        if path:
            unix_sockets.check_available(path)
    except UsageError as error:
        if is_required:
            raise
        log.warning("No control socket, pylsyncctl cannot reach this daemon: %s", error)
        return None
    return path


def _create_directories(
    control_path: str | None, syncs: Iterable[SyncSettings], user: ProcessUser
) -> None:
    """Create, as root, the directories that the user has no permission to create."""
    syncs = list(syncs)
    for state in _user_states(syncs, user):
        state.give(syncs)
    if control_path:
        unix_sockets.create_directory_for_user(control_path, user.uid, user.gid)


def _user_states(syncs: Iterable[SyncSettings], user: ProcessUser) -> list[UserState]:
    default = os.path.realpath(directories.state_directory(os.environ, os.geteuid()))
    used = {sync.state_dir for sync in syncs if sync.state_dir is not None}
    return [UserState(path, user, os.fsencode(default)) for path in used]


def _change_user(user: ProcessUser) -> None:
    name = user.name or user.uid
    try:
        users.drop_privileges(user)
    except OSError as error:
        raise UsageError(f"Cannot change to the user {name}: {error.strerror}.") from None
    for module in (os.__file__, __file__):
        # Python imports some modules only when they are first used, which may be weeks later.
        if not os.access(module, os.R_OK):
            raise UsageError(
                f"The user {name} cannot read {module}, which pylsyncd runs from: install pylsyncd "
                "where that user can read it."
            )


def _change_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        raise UsageError(
            f"Cannot change to the directory {paths.printable(os.fsencode(path))}: "
            f"{error.strerror}. Choose another one with --chdir."
        ) from None


def _refuse_threads() -> None:
    """Raise RuntimeError if a thread was created before the fork, even if it was not started.

    Python marks every such thread as ended in the child (``threading._after_fork``), so that
    joining one that is started there returns at once.
    """
    for each in garbage.tracked_objects():
        if issubclass(type(each), threading.Thread) and each is not threading.main_thread():
            raise RuntimeError(f"{each} was created before the fork")


# The parent


def _wait_and_exit(reader: int, log_hint: str) -> NoReturn:
    """Wait for the daemon to be ready, and exit with its status, without running anything else."""
    status = 1
    try:
        status, message = _wait_for_report(reader, log_hint)
        if message:
            os.write(2, f"pylsyncd: {message}\n".encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def _wait_for_report(reader: int, log_hint: str) -> tuple[int, str]:
    """Return the exit status and the message for standard error."""
    deadline = time.monotonic() + READY_TIMEOUT
    received, pid = b"", 0
    while True:
        if pid and _is_interrupted():
            # The pid is still the daemon's own, since the daemon holds the pipe open.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            return 128 + signal.SIGINT, ""
        left = deadline - time.monotonic()
        if left <= 0:
            return 0, f"The daemon is still starting (pid {pid}): {log_hint}."
        if not select.select((reader,), (), (), min(left, _INTERRUPT_POLL_INTERVAL))[0]:
            continue
        if not (chunk := os.read(reader, 65536)):
            return 1, f"The daemon died before it was ready: {log_hint}."
        *lines, received = (received + chunk).split(b"\n")
        for report in map(json.loads, lines):
            if "pid" not in report:
                return report["status"], report["message"]
            pid = report["pid"]


def _is_interrupted() -> bool:
    """Return True if SIGINT, which is blocked here, is pending and not ignored."""
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return signal.SIGINT in signal.sigpending() and not is_ignored
