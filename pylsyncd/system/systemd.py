"""Tells the service manager how the daemon is: the protocol of sd_notify(3), over a socket."""

import logging
import os
import socket
import time
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

_MICROSECONDS = 1_000_000
# Seconds that a service manager which does not listen may hold up the daemon.
_PATIENCE = 1.0
# Characters of a status: systemctl shows one line.
_LONGEST_STATUS = 500


class SystemdNotifier:
    """Tells the service manager, if there is one that wants to know; never raises.

    Takes what it was told from the environment, so that no rsync and no hook speaks for it. To be
    made before a fork: who it was then is what the service manager knows.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._pid = os.getpid()
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self._socket: socket.socket | None = None
        self._has_failed = False
        if self._address:
            self._open()
        self.watchdog_interval: float | None = None
        """Seconds between two calls of :meth:`watchdog`; None when nobody waits for any.

        Half of what the service manager allows, as sd_watchdog_enabled(3) recommends.
        """
        is_ours = pid in {"", str(self._pid)}
        if self._socket and is_ours and microseconds.isascii() and microseconds.isdigit():
            self.watchdog_interval = int(microseconds) / _MICROSECONDS / 2 or None

    @property
    def is_enabled(self) -> bool:
        """Whether there is somebody to tell."""
        return self._socket is not None

    def ready(self) -> None:
        """Tell that the start, or the reading of the configuration, is complete."""
        pid = os.getpid()
        self._send("READY=1", *([f"MAINPID={pid}"] if pid != self._pid else []))

    def status(self, text: str) -> None:
        """Tell in words how it is, in one line."""
        self._send(f"STATUS={' '.join(text.split())[:_LONGEST_STATUS]}")

    def watchdog(self) -> None:
        """Tell that no vital part stands still."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Tell that the configuration is read anew; :meth:`ready` has to follow."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Tell nothing any more."""
        made, self._socket = self._socket, None
        if made is not None:
            made.close()

    def _open(self) -> None:
        # Kept open: a lack of descriptors must not look like a daemon that is stuck.
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(_PATIENCE)
        except OSError as error:
            self._tell(error)

    def _send(self, *lines: str) -> None:
        made = self._socket
        if made is None:
            return
        message = "\n".join(lines).encode("utf-8", "backslashreplace")
        try:
            made.sendto(message, socket.MSG_NOSIGNAL, self._address)
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        """Say once what is wrong: it would be wrong every few seconds."""
        if not self._has_failed:
            self._has_failed = True
            log.warning(
                "The service manager cannot be told how pylsyncd is: %s.", error.strerror or error
            )


def _address(text: str) -> str:
    """Return the address of a socket, abstract or in the file system; empty for any other."""
    if text.startswith("/"):
        return text
    return "\0" + text[1:] if text.startswith("@") and len(text) > 1 else ""
