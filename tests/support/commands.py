"""The commands of a daemon without the daemon: for tests of the control socket."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pylsyncd.model.errors import UsageError
from pylsyncd.model.status import (
    Condition,
    DestinationStatus,
    RunStatus,
    SetAside,
    Status,
    SyncStatus,
    WaitResult,
)

NOW = 1_700_000_000.0


def destination(name: str, condition: Condition = Condition.IN_SYNC, **more: object) -> object:
    """Return the status of a destination; it is in sync by default."""
    return replace(DestinationStatus(name, f"{name}:/backup", condition), **more)  # type: ignore[arg-type]


def status(*destinations: object, name: str = "web", at: float = NOW, **more: object) -> Status:
    """Return the status of a daemon with one sync."""
    sync = SyncStatus(
        name, "/srv/www", is_watching=True, directories=12, window=60.0,
        destinations=tuple(destinations),  # type: ignore[arg-type]
    )  # fmt: skip
    sync = replace(sync, **more)  # type: ignore[arg-type]
    return Status("0.1", 4242, at, at - 7500.0, 65536, (sync,))


RUN = RunStatus(NOW - 12.0, 0.35, "done", 0, files=3, deleted=1, bytes_sent=1_200_000)
IN_SYNC_STATUS = status(destination("srv2", last_run=RUN))

_FAILURE = RunStatus(NOW - 300, 2.0, "later", 10)

MIXED_STATUS = status(
    destination("srv2", last_run=RUN),
    destination("srv3", Condition.WAITING, behind=2.5, waiting=12),
    destination(
        "srv4", Condition.RETRYING, behind=7500.0, waiting=1234, last_run=_FAILURE,
        next_attempt=40.0,
        error="no rsync daemon listens on the port: check that it is running there",
    ),
    destination("srv5", Condition.HELD, behind=90000.0, owes_everything=True, error="too much."),
    destination("srv6", Condition.PAUSED, last_run=replace(RUN, code=-9, outcome="later")),
)  # fmt: skip


class RecordingCommands:
    """Records the commands that it receives, and answers with a given status."""

    def __init__(self, answer: Status = IN_SYNC_STATUS, late: Sequence[str] = ()) -> None:
        self.answer = answer
        self.calls: list[tuple[object, ...]] = []
        self.late = list(late)
        self.set_aside: dict[str, SetAside] = {}
        self.unverified: dict[str, str] = {}
        self.extra_names: set[str] = set()
        self.wait_may_end = threading.Event()
        self.wait_may_end.set()

    def _record(self, command: str, names: Sequence[str]) -> None:
        known = {each.name for sync in self.answer.syncs for each in sync.destinations}
        for name in names:
            if name not in known | self.extra_names:
                raise UsageError(f"There is no destination {name}.")
        self.calls.append((command, *names))

    def status(self) -> Status:
        return self.answer

    def flush(self, names: Sequence[str]) -> None:
        self._record("flush", names)

    def sync(self, names: Sequence[str]) -> None:
        self._record("sync", names)

    def pause(self, names: Sequence[str]) -> None:
        self._record("pause", names)

    def resume(self, names: Sequence[str]) -> None:
        self._record("resume", names)

    def release(self, names: Sequence[str]) -> None:
        self._record("release", names)

    def wait(
        self, names: Sequence[str], timeout: float, is_cancelled: Callable[[], bool]
    ) -> WaitResult:
        self._record("wait", names)
        self.calls.append(("timeout", timeout))
        deadline = time.monotonic() + timeout
        while not (self.wait_may_end.wait(0.02) or time.monotonic() >= deadline):
            if is_cancelled():
                self.calls.append(("cancelled",))
                break
        return WaitResult(tuple(self.late), self.set_aside, self.unverified)

    def level(self) -> str:
        return "notice"

    def set_level(self, level: str) -> None:
        self.calls.append(("level", level))

    def reload(self) -> None:
        if self.late:
            raise UsageError(
                "pylsyncd.conf:3: there is no option windw: did you mean window?\n"
                "pylsyncd.conf:4: there is no option dely"
            )
        self.calls.append(("reload",))
