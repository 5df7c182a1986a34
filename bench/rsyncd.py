"""An rsync daemon on the loopback interface with one module."""

import contextlib
import os
import signal
import socket
import subprocess
from types import TracebackType

from measure import MeasurementFailed, wait_until

LOOPBACK = "127.0.0.1"
MODULE = "bench"
START_SECONDS = 10.0
STOP_SECONDS = 5.0


class RsyncDaemon:
    """``rsync --daemon`` with its defaults, run by the user of the bench."""

    def __init__(self, scratch: str, directory: str) -> None:
        with socket.socket() as listener:
            listener.bind((LOOPBACK, 0))
            self.port = int(listener.getsockname()[1])
        self._configuration = f"{scratch}/rsyncd.conf"
        self.url = f"rsync://{LOOPBACK}:{self.port}/{MODULE}"
        self.name = LOOPBACK
        settings = [
            f"port = {self.port}",
            f"address = {LOOPBACK}",
            f"log file = {scratch}/rsyncd.log",
            "use chroot = no",
            f"[{MODULE}]",
            f"path = {directory}",
            "read only = no",
        ]
        if os.geteuid() == 0:
            # Without these a daemon that root runs becomes nobody.
            settings += ["uid = 0", "gid = 0"]
        with open(self._configuration, "w", encoding="utf-8") as file:
            print(*settings, sep="\n", file=file)

    def __enter__(self) -> "RsyncDaemon":  # noqa: PYI034 - Self is younger than Python 3.10
        """Start the daemon, and wait until it accepts connections."""
        command = ["rsync", "--daemon", "--no-detach", f"--config={self._configuration}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        if not wait_until(self._answers, START_SECONDS):
            self._stop()
            raise MeasurementFailed("the rsync daemon does not answer")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((LOOPBACK, self.port), 1) as connection,
        ):
            return connection.recv(8) == b"@RSYNCD:"
        return False
