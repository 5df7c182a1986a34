"""Those who are told how the daemon stands: metrics, the status file and pylsyncctl."""

from collections.abc import Callable, Sequence

from pylsyncd.config.settings import ProcessSettings
from pylsyncd.control.server import ControlServer
from pylsyncd.control.status_file import StatusFileWriter
from pylsyncd.model.status import Condition, Status
from pylsyncd.operations import Operations
from pylsyncd.report.metrics import MetricsExporter
from pylsyncd.system.threads import SupervisedThread


class StatusReporters:
    """Those who ask for the status, each in a thread of its own.

    Making it opens what may be refused before a fork. Raises UsageError.
    """

    def __init__(
        self, daemon: ProcessSettings, operations: Operations, failed: Callable[[str], None]
    ) -> None:
        self._operations = operations
        self._failed = failed
        self._parts: list[MetricsExporter | StatusFileWriter | ControlServer] = []
        if daemon.metrics_file is not None or daemon.metrics_port is not None:
            self._parts.append(
                MetricsExporter(
                    operations.status, failed, file=daemon.metrics_file, port=daemon.metrics_port
                )
            )
        if daemon.status_file is not None:
            self._parts.append(StatusFileWriter(daemon.status_file, operations.status, failed))

    def start(self, control: str | None) -> Sequence[SupervisedThread]:
        """Start them, after a fork; ``control`` is where the socket is to be, None for none.

        Raises UsageError if that is not possible there.
        """
        if control is not None:
            self._parts.append(ControlServer(control, self._operations, self._failed))
        for part in self._parts:
            part.start()
        return self._parts

    def stop(self) -> None:
        """End them."""
        for part in self._parts:
            part.stop()


def summary(status: Status) -> str:
    """Return in a line how everything stands."""
    destinations = [each for sync in status.syncs for each in sync.destinations]
    lagging = [each for each in destinations if each.condition is not Condition.IN_SYNC]
    text = f"{len(destinations) - len(lagging)} of {len(destinations)} destinations in sync"
    named = ", ".join(f"{each.name} {each.condition.value}" for each in lagging)
    return f"{text}; {named}" if named else text
