"""Finds the daemons that a user may control, and sends requests to all of them at a time."""

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pylsyncd.config.ini_parser import normalize_key, parse_ini
from pylsyncd.control.client import (
    ANSWER_TIMEOUT,
    HOW_TO_BE_PERMITTED,
    NoAnswerError,
    PendingRequest,
)
from pylsyncd.control.protocol import ControlRequest, NoDaemonError, NotPermittedError
from pylsyncd.control.status_file import read_status_file
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, StateError, UsageError
from pylsyncd.model.status import DestinationStatus, Status, selecting_names
from pylsyncd.model.status_json import decode_status, encode_status
from pylsyncd.system import directories, unix_sockets

Answer = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The status of one daemon, and where it came from."""

    path: str
    """The daemon's socket, or its status file."""
    status: Status
    raw_status: object
    """The status as JSON objects, with fields that only later versions know."""
    age: float = 0.0
    """Seconds since the status was made; negative if the clock was set back meanwhile."""

    @property
    def destinations(self) -> list[DestinationStatus]:
        """The destinations of all syncs."""
        return [each for sync in self.status.syncs for each in sync.destinations]

    @property
    def known_names(self) -> set[str]:
        """The names that a command may use."""
        return {
            name
            for sync in self.status.syncs
            for each in sync.destinations
            for name in selecting_names(sync.name, each.name, each.target)
        }

    def uses_configuration(self, path: str) -> bool:
        """Return True if the daemon was started with this configuration file."""
        configured = self.status.configuration
        if not configured or configured == paths.printable(os.fsencode(os.path.abspath(path))):
            return bool(configured)
        try:
            return os.path.samefile(configured, path)
        except OSError:
            return False

    def select(self, names: Collection[str]) -> "DaemonStatus | None":
        """Return the same with the destinations that names stand for; None if there are none."""
        selected = {
            position: [
                index
                for index, each in enumerate(sync.destinations)
                if not selecting_names(sync.name, each.name, each.target).isdisjoint(names)
            ]
            for position, sync in enumerate(self.status.syncs)
        }
        selected = {position: indices for position, indices in selected.items() if indices}
        if not selected:
            return None
        syncs = tuple(
            replace(sync, destinations=tuple(sync.destinations[index] for index in indices))
            for sync, indices in ((self.status.syncs[at], found) for at, found in selected.items())
        )
        raw: Any = self.raw_status
        raw_syncs = [
            {**sync, "destinations": [sync["destinations"][index] for index in indices]}
            for sync, indices in ((raw["syncs"][at], found) for at, found in selected.items())
        ]
        return replace(
            self, status=replace(self.status, syncs=syncs), raw_status={**raw, "syncs": raw_syncs}
        )


def find_sockets(socket: str | None, config: str | None = None) -> list[str]:
    """Return ``socket`` if given, else the one that a configuration file names, else all found.

    Raises NoDaemonError if there is none, NotPermittedError if the user may not see all.
    """
    if socket is not None:
        return [socket]
    if config is not None and (configured := _configured_socket(config)):
        return [configured]
    searched = directories.socket_directories(os.environ, os.geteuid())
    found, unreadable = unix_sockets.find_sockets(searched)
    if found:
        return found
    raise _no_socket_error(searched, unreadable)


def send_requests(
    requests: Mapping[str, ControlRequest], timeout: float = ANSWER_TIMEOUT
) -> tuple[dict[str, Answer], list[PylsyncdError]]:
    """Return the answers by socket, and the errors of the daemons that did not answer.

    Sockets left by dead daemons are errors only if there is nothing else.
    """
    answers: dict[str, Answer] = {}
    errors: list[PylsyncdError] = []
    deadline = time.monotonic() + min(timeout, ANSWER_TIMEOUT)
    with ExitStack() as stack:
        pending = []
        for path, request in requests.items():
            with _collect(errors):
                # Several daemons that accept no connection take no longer than one.
                left = max(0.1, deadline - time.monotonic())
                made = PendingRequest(path, request, timeout, left)
                pending.append(stack.enter_context(made))
        for each in pending:
            with _collect(errors):
                answers[each.path] = each.wait_for_answer()
    of_running = [error for error in errors if not isinstance(error, NoDaemonError)]
    return answers, of_running if of_running or answers else errors


@contextmanager
def _collect(errors: list[PylsyncdError]) -> Iterator[None]:
    try:
        yield
    except PylsyncdError as error:
        errors.append(error)


def fetch_statuses(
    sockets: Sequence[str], timeout: float = ANSWER_TIMEOUT
) -> tuple[list[DaemonStatus], list[PylsyncdError]]:
    """Return the statuses of the daemons, and the errors of those that did not answer."""
    answers, errors = send_requests({path: ControlRequest("status") for path in sockets}, timeout)
    daemons = []
    for path, answer in answers.items():
        raw_status = answer.get("status")
        try:
            daemons.append(DaemonStatus(path, decode_status(raw_status), raw_status))
        except StateError as error:
            shown = paths.printable(os.fsencode(path))
            errors.append(
                NoAnswerError(f"The pylsyncd at {shown} sent an invalid status: {error}.")
            )
    return daemons, errors


def load_status_file(path: str) -> DaemonStatus:
    """Return the status in a daemon's status file.

    Raises NoDaemonError, NotPermittedError or StateError.
    """
    status = read_status_file(path)
    return DaemonStatus(path, status, encode_status(status), time.time() - status.time)


def _configured_socket(config: str) -> str:
    """Return the absolute path of the socket that a configuration file names; empty for none."""
    shown = paths.printable(os.fsencode(config))
    try:
        text = Path(config).read_bytes()
    except PermissionError:
        raise NotPermittedError(
            f"User id {os.geteuid()} may not read {shown}: {HOW_TO_BE_PERMITTED}."
        ) from None
    except OSError as error:
        raise UsageError(
            f"Cannot read the configuration file {shown}: {error.strerror}."
        ) from error
    values = [
        entry.lines[0][1]
        for section in parse_ini(os.fsdecode(text))[0]
        if section.title.strip() == "pylsyncd"
        for entry in section.entries
        if normalize_key(entry.key) == "control" and entry.lines
    ]
    if values and values[-1] == "no":
        raise NoDaemonError(
            f"A pylsyncd of {shown} has no control socket: remove control = no from the file, and "
            "restart it."
        )
    return os.path.join(os.path.dirname(os.path.abspath(config)), values[-1]) if values else ""


def _no_socket_error(searched: Sequence[str], unreadable: Sequence[str]) -> PylsyncdError:
    places = ", ".join(paths.printable(os.fsencode(each)) for each in searched)
    denied = ", ".join(paths.printable(os.fsencode(each)) for each in unreadable)
    if denied:
        return NotPermittedError(
            f"User id {os.geteuid()} may not see whether a pylsyncd runs, because {denied} cannot "
            f"be read: {HOW_TO_BE_PERMITTED}."
        )
    user = "its user or as root" if os.geteuid() else "its user"
    return NoDaemonError(
        f"No pylsyncd was found: there is no socket in {places}. Start pylsyncd, run this as "
        f"{user}, or name its socket with --socket."
    )
