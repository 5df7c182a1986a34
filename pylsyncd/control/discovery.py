"""Finds the daemons that a user may command, and asks all of them at a time."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pylsyncd.control import status_file
from pylsyncd.control.client import ANSWER_TIMEOUT, NoAnswerError, PendingRequest
from pylsyncd.control.protocol import ControlRequest, NoDaemonError
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, StateError
from pylsyncd.model.status import DestinationStatus, Status
from pylsyncd.model.status_json import decode_status, encode_status
from pylsyncd.system import directories, unix_sockets

Answer = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """One that has told how it stands."""

    path: str
    """Of its socket, or of its status file."""
    status: Status
    raw_status: object
    """The same as JSON has it, with what only later versions know."""
    age: float = 0.0
    """Seconds since it was told."""

    @property
    def destinations(self) -> list[DestinationStatus]:
        """Those of all its syncs."""
        return [each for sync in self.status.syncs for each in sync.destinations]

    @property
    def known_names(self) -> set[str]:
        """Those that it knows: of syncs, and of destinations with or without their syncs'."""
        found = {each.name for each in self.destinations}
        for sync in self.status.syncs:
            own = f"{sync.name}/" if sync.name else ""
            found |= {each.name.removeprefix(own) for each in sync.destinations}
        return found | {sync.name for sync in self.status.syncs if sync.name}


def find_sockets(given: str | None) -> list[str]:
    """Return the sockets to ask; raises AbsentError when there are none."""
    if given is not None:
        return [given]
    searched = directories.socket_directories(os.environ, os.geteuid())
    found, shut = unix_sockets.find_sockets(searched)
    if found:
        return found
    raise _absent(searched, shut)


def send_requests(
    requests: Mapping[str, ControlRequest], patience: float = ANSWER_TIMEOUT
) -> tuple[dict[str, Answer], list[PylsyncdError]]:
    """Return the answers by socket, and why there are no others.

    Sockets of daemons that have died count only where there is nothing else.
    """
    answers: dict[str, Answer] = {}
    failures: list[PylsyncdError] = []
    with ExitStack() as stack:
        under_way = []
        for path, request in requests.items():
            with _collected(failures):
                under_way.append(stack.enter_context(PendingRequest(path, request, patience)))
        for asking in under_way:
            with _collected(failures):
                answers[asking.path] = asking.wait_for_answer()
    telling = [error for error in failures if not isinstance(error, NoDaemonError)]
    return answers, telling if telling or answers else failures


@contextmanager
def _collected(failures: list[PylsyncdError]) -> Iterator[None]:
    try:
        yield
    except PylsyncdError as error:
        failures.append(error)


def fetch_statuses(sockets: Sequence[str]) -> tuple[list[DaemonStatus], list[PylsyncdError]]:
    """Return how the daemons stand, and why others do not tell."""
    answers, failures = send_requests({path: ControlRequest("status") for path in sockets})
    daemons = []
    for path, answer in answers.items():
        told = answer.get("status")
        try:
            daemons.append(DaemonStatus(path, decode_status(told), told))
        except StateError as error:
            shown = paths.printable(os.fsencode(path))
            failures.append(
                NoAnswerError(f"What the pylsyncd at {shown} says is no status: {error}.")
            )
    return daemons, failures


def load_status_file(path: str) -> DaemonStatus:
    """Return how a daemon stood when it wrote its file; raises AbsentError or StateError."""
    status = status_file.read_status_file(path)
    return DaemonStatus(path, status, encode_status(status), max(0.0, time.time() - status.time))


def _absent(directories: Sequence[str], shut: Sequence[str]) -> NoDaemonError:
    looked = ", ".join(paths.printable(os.fsencode(directory)) for directory in directories)
    hidden = ", ".join(paths.printable(os.fsencode(directory)) for directory in shut)
    hint = f" {hidden} is not for the user id {os.geteuid()} to look into." if shut else ""
    who = "its user or as root" if os.geteuid() else "its user"
    return NoDaemonError(
        f"No pylsyncd was found: there is no socket in {looked}.{hint} Start one, run this as "
        f"{who}, or name its socket with --socket."
    )
