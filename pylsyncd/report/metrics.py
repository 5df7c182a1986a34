"""Keeps a file with metrics for the node exporter, and serves them over HTTP on the loopback."""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import Status
from pylsyncd.system.atomic_file import AtomicFile
from pylsyncd.system.threads import SupervisedThread

if TYPE_CHECKING:
    from pylsyncd.report.metrics_server import MetricsServer

WRITE_INTERVAL = 15.0
"""Seconds from one writing of the file to the next: as often as Prometheus asks by default."""

# Milliseconds from one connection to the next, so that a storm of them costs little.
_BREATH = 10


class MetricsExporter(SupervisedThread):
    """Tells what ``read()`` returns to Prometheus.

    Making one listens at the port: so that is done before the fork, over which all descriptors go.
    Raises UsageError.
    """

    def __init__(
        self,
        read: Callable[[], Status],
        failed: Callable[[str], None],
        *,
        file: str | None = None,
        port: int | None = None,
        interval: float = WRITE_INTERVAL,
    ) -> None:
        super().__init__("metrics", failed)
        metric_families = _library()
        self._text: Callable[[Callable[[], Status]], bytes] = metric_families.format_metrics
        self._read = read
        self._path = b"" if file is None else os.fsencode(file)
        self._file = None
        self._interval = interval
        self._stopping = False
        if self._path:
            _check(self._path)
            self._file = AtomicFile(self._path, "metrics file")
        self._server: MetricsServer | None = None
        if port is not None:
            # Not for all: it brings what costs a tenth of the daemon's memory.
            from pylsyncd.report import metrics_server  # noqa: PLC0415

            self._server = metrics_server.MetricsServer(
                port, "--metrics-port", metric_families.make_handler(read)
            )
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @property
    def port(self) -> int | None:
        """Where it listens, if it does."""
        return None if self._server is None else self._server.port

    def work(self) -> None:
        """Write and serve until stopped."""
        calls, alarm = select.poll(), select.poll()
        calls.register(self._alarm, select.POLLIN)
        alarm.register(self._alarm, select.POLLIN)
        if self._server is not None:
            calls.register(self._server, select.POLLIN)
        if self._file is not None:
            self._file.remove_temporary_files()
        due = time.monotonic()
        while not self._stopping:
            self.activity.mark_active()
            if self._file is not None and time.monotonic() >= due:
                self._file.write(self._text(self._read))
                due = time.monotonic() + self._interval
            pause = None if self._file is None else max(0.0, due - time.monotonic()) * 1000.0
            with self.activity.waiting():
                called = calls.poll(pause)
            if self._server is not None and called and not self._stopping:
                self._server.handle_request()
                alarm.poll(_BREATH)

    def stop(self) -> None:
        """End; the file goes, since nobody would notice that nothing in it changes any more."""
        self._stopping = True
        os.eventfd_write(self._alarm, 1)
        if self.is_alive():
            self.join()
        os.close(self._alarm)
        if self._server is not None:
            self._server.close()
        if self._file is not None:
            with suppress(OSError):
                os.unlink(self._path)


def _library() -> ModuleType:
    """Return the module that needs the client library: imported only by those who want metrics."""
    try:
        from pylsyncd.report import metric_families  # noqa: PLC0415  # see above
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "prometheus_client":
            raise
        raise UsageError(
            "Metrics need the Prometheus client library, which is not installed. "
            "Install it with pip install 'pylsyncd[metrics]', or ask for no metrics."
        ) from error
    return metric_families


def _check(file: bytes) -> None:
    """Raise UsageError when a file could never be written, whoever the daemon becomes."""
    directory = os.path.dirname(file) or b"."
    if not os.path.isdir(directory):
        raise UsageError(
            f"The directory of the metrics file {paths.printable(file)} is missing: create it, "
            "or name another file with --metrics-file."
        )
    if os.path.isdir(file):
        raise UsageError(
            f"The metrics file {paths.printable(file)} is a directory: name a file in it with "
            "--metrics-file."
        )
