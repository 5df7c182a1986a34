"""The life of the process around the service: pid file, log, user, background, and the end.

The order is that of daemon(7): what can fail does so while somebody looks, as root where root is
needed, and a parent that waits tells whether the daemon got as far as its work.
"""

import gc
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

from pylsyncd.config.settings import (
    DEFAULT_DIRECTORY,
    DEFAULT_UMASK,
    ProcessSettings,
    SyncSettings,
)
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.system import descriptors, directories, logs, private_files, unix_sockets, users
from pylsyncd.system.pid_file import PidFile
from pylsyncd.system.users import ProcessUser

log = logging.getLogger(__name__)

READY_TIMEOUT = 30.0
"""Seconds that the parent waits for its daemon to be ready: as long as a boot may stand still."""

# Seconds between two looks whether somebody interrupts the parent.
_BEAT = 0.1

_STOPPED = {signal.SIGTSTP: None, signal.SIGTTIN: None, signal.SIGTTOU: None}


def prepare(
    daemon: ProcessSettings, syncs: Iterable[SyncSettings], terminal: logging.Handler | None = None
) -> "DaemonProcess":
    """Open the pid file and the log, make the directories, and become the user.

    ``terminal`` is the handler for what is logged without a log file. Raises UsageError. No thread
    may be made before :meth:`DaemonProcess.detach` when the daemon goes to the background.
    """
    descriptors.open_standard_streams()
    if daemon.background:
        descriptors.close_inherited()
        # What the parent has blocked would never arrive.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if daemon.background or daemon.umask != DEFAULT_UMASK:
        os.umask(daemon.umask)
    becomes = users.find_user(daemon.user, daemon.group)
    prepared = DaemonProcess(daemon, becomes)
    try:
        _set_up_log(daemon, becomes, terminal)
        prepared.control_path = _control(daemon, becomes)
        if becomes:
            _provide(prepared.control_path, syncs, becomes)
            _become(becomes)
        if daemon.background or daemon.directory != DEFAULT_DIRECTORY:
            _change_directory(daemon.directory)
        prepared.control_path = _usable(prepared.control_path, is_asked_for=bool(daemon.control))
    except BaseException:
        prepared.close()
        raise
    return prepared


class DaemonProcess:
    """A process that is ready to become a daemon.

    As a context it tells a parent that waits how it ended, if it never was ready, and closes.
    """

    def __init__(self, daemon: ProcessSettings, becomes: ProcessUser | None) -> None:
        self._daemon = daemon
        owners = (becomes.uid,) if becomes else ()
        self._pidfile = PidFile(daemon.pidfile, owners) if daemon.pidfile else None
        self._parent = -1
        self.control_path: str | None = None
        """The control socket, or with a slash at its end the directory for it; None for none."""

    def __enter__(self) -> "DaemonProcess":  # noqa: PYI034  # typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Before the parent tells: whoever then starts it again must not find it running.
        self._give_back()
        status = 2 if isinstance(error, UsageError) else 1
        if isinstance(error, PylsyncdError):
            self.report_failure(status, str(error))
        self.report_failure(status, f"It has ended before it was ready: {self._where_to_look()}.")

    def detach(self) -> None:
        """Go to the background, if that is wanted, and write the pid file.

        In the background this returns in another process, to which all descriptors go over that
        are open; the first one waits until that one is ready or fails, and ends with its status.
        """
        if self._daemon.background:
            self._fork()
        if self._pidfile:
            self._pidfile.write()

    def report_ready(self) -> None:
        """Let the parent go: it has nothing more to tell."""
        self._tell(ready=True)
        self._forget_parent()

    def report_failure(self, status: int, sentence: str) -> None:
        """Have a parent that still waits say this, and end with this status."""
        self._tell(status=status, sentence=sentence)
        self._forget_parent()

    def close(self) -> None:
        """Give back the pid file."""
        self._give_back()
        self._forget_parent()

    def _give_back(self) -> None:
        if self._pidfile:
            self._pidfile.close()

    def _fork(self) -> None:
        _refuse_threads()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        # The parent looks for it when it knows whom to end.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        if os.fork():
            os.close(writer)
            _wait_and_exit(reader, self._where_to_look())
        os.close(reader)
        self._parent = writer
        logs.remove_terminal_handler()
        DaemonContext(
            detach_process=True,
            files_preserve=descriptors.nonstandard_descriptors(),
            working_directory=self._daemon.directory,
            umask=self._daemon.umask,
            signal_map=_STOPPED,
        ).open()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        self._tell(pid=os.getpid())

    def _where_to_look(self) -> str:
        if self._daemon.log.file:
            return f"see the log {paths.printable(os.fsencode(self._daemon.log.file))}"
        return "see the log"

    def _tell(self, **what: object) -> None:
        if self._parent >= 0:
            # A parent that was ended waits no more.
            with suppress(BrokenPipeError):
                os.write(self._parent, json.dumps(what).encode() + b"\n")

    def _forget_parent(self) -> None:
        parent, self._parent = self._parent, -1
        if parent >= 0:
            os.close(parent)


# Before the fork


def _set_up_log(
    daemon: ProcessSettings, becomes: ProcessUser | None, terminal: logging.Handler | None
) -> None:
    logs.configure(
        daemon.log.level,
        file=daemon.log.file,
        syslog=daemon.log.syslog,
        facility=daemon.log.facility,
        terminal=terminal,
        owner=(becomes.uid, becomes.gid) if becomes else None,
    )


def _control(daemon: ProcessSettings, becomes: ProcessUser | None) -> str | None:
    if daemon.control is None or daemon.control:
        return daemon.control
    name = (becomes.name or str(becomes.uid)) if becomes and becomes.uid else ""
    return directories.runtime_directory(os.environ, os.geteuid(), name) + "/"


def _usable(control: str | None, *, is_asked_for: bool) -> str | None:
    """Return where the control socket is to be; one that nobody has asked for may be missing."""
    try:
        if control:
            unix_sockets.check_available(control)
    except UsageError as error:
        if is_asked_for:
            raise
        log.warning("pylsyncctl cannot be used: %s", error)
        return None
    return control


def _provide(control: str | None, syncs: Iterable[SyncSettings], becomes: ProcessUser) -> None:
    """Make, as root, the directories that the user could not make."""
    for path in {sync.state_dir for sync in syncs if sync.state_dir is not None}:
        private_files.create_directory_for_user(path, becomes.uid, becomes.gid)
    if control:
        unix_sockets.create_directory_for_user(control, becomes.uid, becomes.gid)


def _become(becomes: ProcessUser) -> None:
    name = becomes.name or becomes.uid
    try:
        users.drop_privileges(becomes)
    except OSError as error:
        raise UsageError(f"pylsyncd cannot become the user {name}: {error.strerror}.") from None
    for part in (os.__file__, __file__):
        # Python reads parts of itself when it first needs them, which may be in weeks.
        if not os.access(part, os.R_OK):
            raise UsageError(
                f"The user {name} cannot read {part}, which pylsyncd is run from: install it "
                "where that user can."
            )


def _change_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        raise UsageError(
            f"The directory {paths.printable(os.fsencode(path))} cannot be worked in: "
            f"{error.strerror}. Name another one with --chdir."
        ) from None


def _refuse_threads() -> None:
    """Raise RuntimeError where a thread was made before the fork, even if it was not started.

    Python has all of them for ended in the child (``threading._after_fork``): then nobody waits for
    one that is started there.
    """
    for each in gc.get_objects():
        if issubclass(type(each), threading.Thread) and each is not threading.main_thread():
            raise RuntimeError(f"{each} was made before the fork")


# The parent


def _wait_and_exit(reader: int, where_to_look: str) -> NoReturn:
    """Wait for the daemon to be ready, and end as it tells; nothing else of the parent is run."""
    status = 1
    try:
        status, sentence = _wait(reader, where_to_look)
        if sentence:
            text = f"pylsyncd: {sentence}\n"
            os.write(2, text.encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def _wait(reader: int, where_to_look: str) -> tuple[int, str]:
    """Return the exit status, and what there is to say."""
    deadline = time.monotonic() + READY_TIMEOUT
    received, pid = b"", 0
    while True:
        if pid and _is_interrupted():
            # It has the pipe open, so the pid is still its own.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            return 128 + signal.SIGINT, ""
        left = deadline - time.monotonic()
        if left <= 0:
            return 0, f"It is still starting (pid {pid}): {where_to_look}."
        if not select.select((reader,), (), (), min(left, _BEAT))[0]:
            continue
        if not (part := os.read(reader, 65536)):
            return 1, f"It has died before it was ready: {where_to_look}."
        *lines, received = (received + part).split(b"\n")
        for told in map(json.loads, lines):
            pid = told.get("pid", pid)
            if "pid" not in told:
                return told.get("status", 0), told.get("sentence", "")


def _is_interrupted() -> bool:
    """Tell whether SIGINT, which is blocked, has come; it may be one to be ignored."""
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return signal.SIGINT in signal.sigpending() and not is_ignored
