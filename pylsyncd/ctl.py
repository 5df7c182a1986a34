"""The command ``pylsyncctl``: asks running daemons how they stand, and tells them what to do."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from pylsyncd.control.client import ANSWER_TIMEOUT
from pylsyncd.control.command_line import (
    EXIT_FAILED,
    EXIT_NO_DAEMON,
    EXIT_USAGE,
    CommandLineError,
    make_parser,
)
from pylsyncd.control.discovery import (
    DaemonStatus,
    fetch_statuses,
    find_sockets,
    load_status_file,
    send_requests,
)
from pylsyncd.control.nagios import ServiceState, Thresholds, evaluate, format_line
from pylsyncd.control.protocol import ControlRequest, NoDaemonError
from pylsyncd.control.table import format_table
from pylsyncd.control.watching import show_repeatedly
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.model.formatting import format_duration, printable
from pylsyncd.system import descriptors

_INTERRUPTED = 130


def main(words: Sequence[str] | None = None) -> int:
    """Run the command ``pylsyncctl``; return its exit status."""
    words = sys.argv[1:] if words is None else words
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's character set lacks must not end the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        descriptors.discard_output()
        return EXIT_FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _run(words: Sequence[str]) -> int:
    try:
        options = make_parser().parse_args(words)
        return _RUN.get(options.command, _tell)(options)
    except PylsyncdError as error:
        return _failed(error, is_check="--check" in words)


def _failed(error: PylsyncdError, *, is_check: bool) -> int:
    if is_check:
        level = ServiceState.CRITICAL if isinstance(error, NoDaemonError) else ServiceState.UNKNOWN
        print(format_line(level, str(error)))  # noqa: T201
        return level
    _complain(error)
    if isinstance(error, CommandLineError):
        print("Try pylsyncctl --help.", file=sys.stderr)  # noqa: T201
    if isinstance(error, UsageError):
        return EXIT_USAGE
    return EXIT_NO_DAEMON if isinstance(error, NoDaemonError) else EXIT_FAILED


def _complain(error: PylsyncdError | str) -> None:
    for each in str(error).splitlines():
        print(f"pylsyncctl: {printable(each)}", file=sys.stderr)  # noqa: T201


def _status(options: argparse.Namespace) -> int:
    if options.check:
        if options.json or options.watch is not None:
            raise CommandLineError("--check goes neither with --json nor with --watch.")
        return _check(options)
    if options.watch is not None:
        show_repeatedly(lambda: _lines_or_failure(options), max(options.watch, 0.1))
        return 0
    daemons, failures = _gathered(options)
    _print(_lines(options, daemons))
    for failure in failures:
        _complain(failure)
    return EXIT_FAILED if failures else 0


def _gathered(options: argparse.Namespace) -> tuple[list[DaemonStatus], list[PylsyncdError]]:
    """Return who has answered, and why others have not; raises that when there is nobody."""
    if options.file is not None:
        return [load_status_file(options.file)], []
    daemons, failures = fetch_statuses(find_sockets(options.socket))
    if not daemons:
        raise failures[0]
    return daemons, failures


def _lines(options: argparse.Namespace, daemons: Iterable[DaemonStatus]) -> list[str]:
    if options.json:
        return [json.dumps(daemon.raw_status) for daemon in daemons]
    found: list[str] = []
    for daemon in daemons:
        found += [""] if found else []
        found += format_table(daemon.status, age=daemon.age, is_coloured=_is_coloured())
    return found


def _lines_or_failure(options: argparse.Namespace) -> list[str]:
    """Return what to show; a daemon that has gone may come back."""
    try:
        daemons, failures = _gathered(options)
    except PylsyncdError as error:
        daemons, failures = [], [error]
    return _lines(options, daemons) + [printable(str(failure)) for failure in failures]


def _check(options: argparse.Namespace) -> int:
    daemons, failures = _gathered(options)
    if failures:
        raise failures[0]
    age = max(daemon.age for daemon in daemons)
    limits = Thresholds(options.max_lag, options.warn_lag)
    level, said = evaluate([daemon.status for daemon in daemons], limits, age)
    _print([said])
    return level


def _tell(options: argparse.Namespace) -> int:
    failures = _ask(
        options, ControlRequest(options.command, (), level=options.level), ANSWER_TIMEOUT
    )[1]
    for failure in failures:
        _complain(failure)
    return EXIT_FAILED if failures else 0


def _wait(options: argparse.Namespace) -> int:
    asked = ControlRequest("wait", (), timeout=options.timeout)
    answers, failures = _ask(options, asked, options.timeout + ANSWER_TIMEOUT)
    for path, answer in answers.items():
        late = answer.get("late")
        if isinstance(late, list) and late:
            seconds = format_duration(options.timeout)
            failures += _reasons(path, [str(name) for name in late], seconds)
    for failure in failures:
        _complain(failure)
    return EXIT_FAILED if failures else 0


def _ask(
    options: argparse.Namespace, request: ControlRequest, patience: float
) -> tuple[Mapping[str, Mapping[str, object]], list[PylsyncdError]]:
    """Ask all daemons, or those that have destinations of these names.

    Raises AbsentError when nobody is there.
    """
    failures: list[PylsyncdError] = []
    names: dict[str, list[str]] = {path: [] for path in find_sockets(options.socket)}
    if options.names:
        daemons, failures = fetch_statuses(list(names))
        if not daemons:
            raise failures[0]
        names = _shares(daemons, options.names)
    asked = {
        path: ControlRequest(request.command, share, request.timeout, request.level)
        for path, share in names.items()
    }
    answers, more = send_requests(asked, patience)
    if more and not answers:
        raise more[0]
    return answers, failures + more


def _shares(daemons: Sequence[DaemonStatus], names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each daemon that knows some of the names which; raises when nobody knows one."""
    for name in names:
        if not any(name in daemon.known_names for daemon in daemons):
            known = ", ".join(each.name for daemon in daemons for each in daemon.destinations)
            raise PylsyncdError(
                f"No pylsyncd that runs has a destination {name}. There are: {known}."
            )
    shares = {
        daemon.path: [name for name in names if name in daemon.known_names] for daemon in daemons
    }
    return {path: share for path, share in shares.items() if share}


def _reasons(path: str, names: Iterable[str], seconds: str) -> list[PylsyncdError]:
    """Return why some names were not confirmed, as far as the daemon can still tell."""
    daemons, _ = fetch_statuses([path])
    found: list[PylsyncdError] = []
    for name in names:
        each = next(
            (each for daemon in daemons for each in daemon.destinations if each.name == name), None
        )
        why = "" if each is None else f": {each.condition.value}"
        why += f", {each.error}" if each is not None and each.error else ""
        found.append(PylsyncdError(f"{name} is not in sync after {seconds}{why}"))
    return found


_RUN: Mapping[str, Callable[[argparse.Namespace], int]] = {"status": _status, "wait": _wait}


def _is_coloured() -> bool:
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_wanted and sys.stdout.isatty()


def _print(lines: Iterable[str]) -> None:
    for each in lines:
        print(each)  # noqa: T201


if __name__ == "__main__":
    raise SystemExit(main())
