"""Exports metrics: as a file for the node exporter, and over HTTP on the loopback."""

import os
import select
import time
from collections.abc import Callable
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from pylsyncd.config.machine_checks import METRICS_NEED_LIBRARY
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import Status
from pylsyncd.report.http_response import Pages
from pylsyncd.system.atomic_file import AtomicFile
from pylsyncd.system.threads import SupervisedThread

if TYPE_CHECKING:
    from pylsyncd.report.metrics_server import MetricsServer

WRITE_INTERVAL = 15.0
"""Seconds between two writes of the file: Prometheus scrapes as often by default."""

# Milliseconds between two connections, so that a flood of them costs little.
_ACCEPT_INTERVAL_MS = 10

# The collector of the node exporter runs as another user.
_FILE_MODE = 0o644


class MetricsExporter(SupervisedThread):
    """The thread that exports the status that ``read()`` returns.

    Listens on the port from its creation on, so before the fork, and serves ``pages`` there as
    well. Raises UsageError.
    """

    def __init__(  # noqa: PLR0913  # what is exported, and where
        self,
        read: Callable[[], Status],
        on_failed: Callable[[str], None],
        *,
        file: str | None = None,
        port: int | None = None,
        pages: Pages = MappingProxyType({}),
        interval: float = WRITE_INTERVAL,
    ) -> None:
        super().__init__("metrics", on_failed)
        families = _import_families()
        self._format: Callable[[Callable[[], Status]], bytes] = families.format_metrics
        self._read = read
        self._path = b"" if file is None else os.fsencode(file)
        self._file = None
        self._interval = interval
        self._is_stopping = False
        if self._path:
            _check_path(self._path)
            self._file = AtomicFile(self._path, "metrics file", _FILE_MODE)
        self._server: MetricsServer | None = None
        if port is not None:
            # http.server takes a tenth of the daemon's memory: imported only if it is needed.
            from pylsyncd.report import metrics_server  # noqa: PLC0415

            self._server = metrics_server.MetricsServer(
                port, "--metrics-port", families.make_handler(read), pages
            )
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @property
    def port(self) -> int | None:
        """The port that it listens on; None without HTTP."""
        return None if self._server is None else self._server.port

    def work(self) -> None:
        """Write the file and serve connections until stopped."""
        poll, stop_poll = select.poll(), select.poll()
        poll.register(self._wakeup, select.POLLIN)
        stop_poll.register(self._wakeup, select.POLLIN)
        if self._server is not None:
            poll.register(self._server, select.POLLIN)
        if self._file is not None:
            self._file.remove_temporary_files()
        due_at = time.monotonic()
        while not self._is_stopping:
            self.activity.mark_active()
            if self._file is not None and time.monotonic() >= due_at:
                self._file.write(self._format(self._read))
                due_at = time.monotonic() + self._interval
            timeout = None if self._file is None else max(0.0, due_at - time.monotonic()) * 1000.0
            with self.activity.waiting():
                ready = poll.poll(timeout)
            if self._server is not None and ready and not self._is_stopping:
                self._server.handle_request()
                stop_poll.poll(_ACCEPT_INTERVAL_MS)

    def stop(self) -> None:
        """Stop the thread, and remove the file: a reader would take it for current."""
        self._is_stopping = True
        os.eventfd_write(self._wakeup, 1)
        if self.is_alive():
            self.join()
        os.close(self._wakeup)
        if self._server is not None:
            self._server.close()
        if self._file is not None:
            self._file.remove()


def _import_families() -> ModuleType:
    """Return the module that needs the optional client library; raises UsageError without it."""
    try:
        from pylsyncd.report import metric_families  # noqa: PLC0415  # optional
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "prometheus_client":
            raise
        raise UsageError(METRICS_NEED_LIBRARY) from error
    return metric_families


def _check_path(path: bytes) -> None:
    """Raise UsageError if a file cannot be written there by any user."""
    directory = os.path.dirname(path) or b"."
    if not os.path.isdir(directory):
        raise UsageError(
            f"The directory of the metrics file {paths.printable(path)} is missing: create it, "
            "or name another file with --metrics-file."
        )
    if os.path.isdir(path):
        raise UsageError(
            f"The metrics file {paths.printable(path)} is a directory: name a file in it with "
            "--metrics-file."
        )
