"""The notifications of sd_notify(3) to the service manager, sent to its socket."""

import logging
import os
import re
import socket
import time
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

_MICROSECONDS = 1_000_000
# Seconds that an unresponsive service manager may delay the daemon at each notification.
_SEND_TIMEOUT = 1.0
# systemctl shows one line.
_MAX_STATUS_LENGTH = 500


class SystemdNotifier:
    """A sender of notifications to the service manager, if there is one; it never raises.

    It removes the variables of sd_notify(3) from the environment, so that no rsync and no hook
    can notify in its place. It is created before the fork, with the pid that systemd knows.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._main_pid = os.getpid()
        self._address = _socket_address(environ.pop("NOTIFY_SOCKET", ""))
        microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self._socket: socket.socket | None = None
        self._has_failed = False
        if self._address:
            self._open_socket()
        self.watchdog_interval: float | None = None
        """Seconds between two calls of :meth:`watchdog`; None if the service has no watchdog.

        Half of WatchdogSec, as sd_watchdog_enabled(3) recommends.
        """
        is_for_us = pid in {"", str(self._main_pid)}
        if self._socket and is_for_us and re.fullmatch("[0-9]{1,20}", microseconds):
            self.watchdog_interval = int(microseconds) / _MICROSECONDS / 2 or None

    @property
    def is_enabled(self) -> bool:
        """Whether there is a service manager to notify."""
        return self._socket is not None

    def ready(self) -> None:
        """Notify that the start, or the reload, is complete."""
        pid = os.getpid()
        self._send("READY=1", *([f"MAINPID={pid}"] if pid != self._main_pid else []))

    def status(self, text: str) -> None:
        """Set the status line that systemctl shows."""
        self._send(f"STATUS={' '.join(text.split())[:_MAX_STATUS_LENGTH]}")

    def watchdog(self) -> None:
        """Notify that no thread is stuck."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Notify that a reload has begun; :meth:`ready` must follow."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Notify that the shutdown has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket; later notifications are ignored."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def _open_socket(self) -> None:
        # It stays open: a daemon out of descriptors must not be taken for a stuck one.
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(_SEND_TIMEOUT)
        except OSError as error:
            self._log_first_failure(error)

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        message = "\n".join(lines).encode("utf-8", "backslashreplace")
        try:
            self._socket.sendto(message, socket.MSG_NOSIGNAL, self._address)
        except OSError as error:
            self._log_first_failure(error)

    def _log_first_failure(self, error: OSError) -> None:
        """Log a failure once, since it would repeat every few seconds."""
        if not self._has_failed:
            self._has_failed = True
            log.warning("Cannot notify the service manager: %s.", error.strerror or error)


def _socket_address(text: str) -> str:
    """Return the address of a socket in the file system or the abstract namespace, or nothing."""
    if text.startswith("/"):
        return text
    return "\0" + text[1:] if text.startswith("@") and len(text) > 1 else ""
