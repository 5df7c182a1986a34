"""The command ``pylsyncctl``: shows the status of running daemons, and controls them."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from pylsyncd.system.garbage import uncollected_imports
from pylsyncd.system.import_interrupts import silent_interrupts

with silent_interrupts(), uncollected_imports():
    from pylsyncd.control import command_line, discovery
    from pylsyncd.control.client import ANSWER_TIMEOUT, CHECK_TIMEOUT, AnswerTimeoutError
    from pylsyncd.control.discovery import DaemonStatus, find_sockets
    from pylsyncd.control.nagios import Finding, ServiceState, Thresholds, evaluate, format_line
    from pylsyncd.control.protocol import ControlRequest, NoDaemonError
    from pylsyncd.control.table import (
        describe_set_aside,
        describe_unverified,
        format_table,
        wrap_lines,
    )
    from pylsyncd.model.errors import PylsyncdError, StateError, UsageError
    from pylsyncd.model.formatting import format_duration, printable
    from pylsyncd.model.status_json import decode_set_aside, decode_unverified
    from pylsyncd.system import descriptors

_EXIT_INTERRUPTED = 130
_MIN_WATCH_INTERVAL = 0.1

# ECMA-48, and DEC's private mode 7: without it the terminal cuts off lines that are too long.
_CLEAR_SCREEN = "\x1b[2J"
_CURSOR_HOME = "\x1b[H"
_CLEAR_TO_LINE_END = "\x1b[K"
_CLEAR_TO_SCREEN_END = "\x1b[J"
_WRAP_OFF, _WRAP_ON = "\x1b[?7l", "\x1b[?7h"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``pylsyncctl``; return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # Escape characters that the terminal's character set lacks instead of failing.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        return command_line.EXIT_FAILED
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    finally:
        descriptors.discard_unwritable_output()
    return status


def _run(arguments: Sequence[str]) -> int:
    try:
        options = command_line.make_parser().parse_args(arguments)
        return _COMMANDS.get(options.command, _send_command)(options)
    except PylsyncdError as error:
        return _report_failure(error, is_check="--check" in arguments)


def _report_failure(error: PylsyncdError, *, is_check: bool) -> int:
    if is_check:
        state, text = _finding(error)
        print(format_line(state, text))  # noqa: T201
        return state
    _print_errors([error])
    if isinstance(error, command_line.CommandLineError):
        print("Try pylsyncctl --help.", file=sys.stderr)  # noqa: T201
    if isinstance(error, UsageError):
        return command_line.EXIT_USAGE
    is_no_daemon = isinstance(error, NoDaemonError)
    return command_line.EXIT_NO_DAEMON if is_no_daemon else command_line.EXIT_FAILED


def _finding(error: PylsyncdError) -> Finding:
    """Return what an error means for monitoring: a daemon that hangs is as bad as none."""
    is_down = isinstance(error, NoDaemonError | AnswerTimeoutError)
    return ServiceState.CRITICAL if is_down else ServiceState.UNKNOWN, str(error)


def _status(options: argparse.Namespace) -> int:
    if options.check:
        if options.json or options.list_names or options.watch is not None:
            raise command_line.CommandLineError(
                "--check cannot be combined with --json, --names or --watch."
            )
        return _check(options)
    if options.watch is not None:
        _watch(lambda: _lines_or_errors(options), max(options.watch, _MIN_WATCH_INTERVAL))
        return 0
    # The names are for the shell, which does not wait long for a completion.
    daemons, errors = _fetch_statuses(
        options, CHECK_TIMEOUT if options.list_names else ANSWER_TIMEOUT
    )
    if not daemons:
        raise errors[0]
    _print(_status_lines(options, daemons))
    return _print_errors(errors)


def _fetch_statuses(
    options: argparse.Namespace, timeout: float = ANSWER_TIMEOUT
) -> tuple[list[DaemonStatus], list[PylsyncdError]]:
    """Return the statuses, and the errors of the daemons that have sent none.

    With names, the statuses have only the destinations that these stand for.
    """
    errors: list[PylsyncdError] = []
    if options.file is not None:
        daemons = [discovery.load_status_file(options.file)]
    else:
        daemons, errors = _fetch_daemons(options, timeout)
    if not options.names:
        return daemons, errors
    if daemons:
        errors += _unknown_names(daemons, options.names)
    selected = (daemon.select(options.names) for daemon in daemons)
    return [daemon for daemon in selected if daemon is not None], errors


def _fetch_daemons(
    options: argparse.Namespace, timeout: float
) -> tuple[list[DaemonStatus], list[PylsyncdError]]:
    """Return the status of each daemon, or of those with the given configuration file."""
    sockets = find_sockets(options.socket, options.config)
    daemons, errors = discovery.fetch_statuses(sockets, timeout)
    if options.config is None:
        return daemons, errors
    found = [daemon for daemon in daemons if daemon.uses_configuration(options.config)]
    if not found and not errors:
        shown = printable(options.config)
        raise NoDaemonError(
            f"No running pylsyncd uses the file {shown}: start one with pylsyncd -c {shown}."
        )
    return found, errors


def _status_lines(
    options: argparse.Namespace, daemons: Iterable[DaemonStatus], width: int | None = None
) -> list[str]:
    if options.list_names:
        return _names(daemons)
    if options.json:
        return [json.dumps(daemon.raw_status) for daemon in daemons]
    lines: list[str] = []
    for daemon in daemons:
        lines += [""] if lines else []
        lines += format_table(
            daemon.status, age=daemon.age, is_coloured=_should_colour(), width=width
        )
    return lines


def _names(daemons: Iterable[DaemonStatus]) -> list[str]:
    """Return the names of all syncs and destinations."""
    syncs = [sync for daemon in daemons for sync in daemon.status.syncs]
    names = [
        name for sync in syncs for name in (sync.name, *(each.name for each in sync.destinations))
    ]
    return [printable(name) for name in dict.fromkeys(names) if name]


def _lines_or_errors(options: argparse.Namespace) -> list[str]:
    """Return the lines of the status; a daemon that has gone is an error line, and may return."""
    try:
        daemons, errors = _fetch_statuses(options)
    except PylsyncdError as error:
        daemons, errors = [], [error]
    width = None
    if sys.stdout.isatty():
        width = os.get_terminal_size(sys.stdout.fileno()).columns or None
    shown = wrap_lines((printable(str(error)) for error in errors), width)
    return _status_lines(options, daemons, width) + shown


def _check(options: argparse.Namespace) -> int:
    if options.warn_lag is not None and options.warn_lag > options.max_lag:
        raise command_line.CommandLineError(
            f"No warning would ever come: --warn-lag {options.warn_lag:g} is longer than --max-lag "
            f"{options.max_lag:g}. Choose a shorter --warn-lag, or a longer --max-lag."
        )
    daemons, errors = _fetch_statuses(options, CHECK_TIMEOUT)
    # Only the status in a file has an age, and there is only one file.
    age = sum(daemon.age for daemon in daemons)
    limits = Thresholds(options.max_lag, options.warn_lag)
    statuses = [daemon.status for daemon in daemons]
    state, line = evaluate(statuses, limits, age, map(_finding, errors))
    _print([line])
    return state


def _watch(lines: Callable[[], Sequence[str]], interval: float) -> None:
    """Show what ``lines()`` returns every ``interval`` seconds, until interrupted.

    On a terminal it is redrawn in place, elsewhere printed repeatedly with an empty line between.
    """
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        sys.stdout.write(_CLEAR_SCREEN)
    try:
        while True:
            shown = lines()
            sys.stdout.write(_redraw(shown) if is_terminal else "\n".join((*shown, "", "")))
            sys.stdout.flush()
            time.sleep(interval)
    except KeyboardInterrupt:
        if is_terminal:
            # Continue below the ^C that the terminal has shown.
            sys.stdout.write("\n")


def _redraw(lines: Sequence[str]) -> str:
    height = os.get_terminal_size(sys.stdout.fileno()).lines or len(lines) + 1
    shown = "".join(f"{line}{_CLEAR_TO_LINE_END}\r\n" for line in lines[: height - 1])
    return f"{_CURSOR_HOME}{_WRAP_OFF}{shown}{_WRAP_ON}{_CLEAR_TO_SCREEN_END}"


def _send_command(options: argparse.Namespace) -> int:
    request = ControlRequest(options.command, (), level=options.level or "")
    return _print_errors(_send_to_daemons(options, request, ANSWER_TIMEOUT)[1])


def _log_level(options: argparse.Namespace) -> int:
    if options.level:
        return _send_command(options)
    answers, errors = _send_to_daemons(options, ControlRequest("log-level"), ANSWER_TIMEOUT)
    for path, answer in answers.items():
        of_daemon = f" (pylsyncd at {path})" if len(answers) > 1 else ""
        _print([printable(f"{answer.get('level')}{of_daemon}")])
    return _print_errors(errors)


def _wait(options: argparse.Namespace) -> int:
    request = ControlRequest("wait", (), timeout=options.timeout)
    answers, errors = _send_to_daemons(options, request, options.timeout + ANSWER_TIMEOUT)
    lacking: list[str] = []
    for path, answer in answers.items():
        late = answer.get("late")
        if isinstance(late, list) and late:
            errors += _late_errors(path, [str(name) for name in late], options.timeout)
        lacking += _lacking(path, answer)
    for line in lacking:
        print(f"pylsyncctl: {printable(line)}", file=sys.stderr)  # noqa: T201
    return _print_errors(errors) or (command_line.EXIT_SET_ASIDE if lacking else 0)


def _lacking(path: str, answer: discovery.Answer) -> list[str]:
    """Return what destinations lack by the answer of a daemon; older ones do not tell."""
    try:
        set_aside = decode_set_aside(answer.get("set_aside", {}))
        unverified = decode_unverified(answer.get("unverified", {}))
    except StateError as error:
        shown = printable(path)
        raise PylsyncdError(f"The pylsyncd at {shown} sent an invalid answer: {error}.") from None
    lines = [line for name, each in set_aside.items() for line in describe_set_aside(name, each)]
    return lines + [describe_unverified(name, reason) for name, reason in unverified.items()]


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "status": _status, "wait": _wait, "log-level": _log_level,
}  # fmt: skip


def _send_to_daemons(
    options: argparse.Namespace, request: ControlRequest, timeout: float
) -> tuple[Mapping[str, discovery.Answer], list[PylsyncdError]]:
    """Send a request to all daemons, or to those that have the named destinations.

    Raises an error, NoDaemonError for example, if all of them have failed.
    """
    errors: list[PylsyncdError] = []
    names: dict[str, list[str]]
    if options.names or options.config is not None:
        daemons, errors = _fetch_daemons(options, ANSWER_TIMEOUT)
        if not daemons:
            raise errors[0]
        names = {daemon.path: [] for daemon in daemons}
        if options.names:
            names = _names_by_daemon(daemons, options.names)
    else:
        names = {path: [] for path in find_sockets(options.socket)}
    requests = {
        path: ControlRequest(request.command, own_names, request.timeout, request.level)
        for path, own_names in names.items()
    }
    answers, more_errors = discovery.send_requests(requests, timeout)
    if more_errors and not answers:
        raise more_errors[0]
    return answers, errors + more_errors


def _names_by_daemon(daemons: Sequence[DaemonStatus], names: Sequence[str]) -> dict[str, list[str]]:
    """Return which names each daemon knows, by its socket; raises if a name is unknown to all."""
    if unknown := _unknown_names(daemons, names):
        raise unknown[0]
    found = {
        daemon.path: [name for name in names if name in daemon.known_names] for daemon in daemons
    }
    return {path: own_names for path, own_names in found.items() if own_names}


def _unknown_names(daemons: Sequence[DaemonStatus], names: Iterable[str]) -> list[PylsyncdError]:
    known = ", ".join(each.name for daemon in daemons for each in daemon.destinations)
    return [
        PylsyncdError(f"No running pylsyncd has a destination {name}. Known destinations: {known}.")
        for name in names
        if not any(name in daemon.known_names for daemon in daemons)
    ]


def _late_errors(path: str, names: Iterable[str], timeout: float) -> list[PylsyncdError]:
    """Return an error for each destination that is late, with the reason if it is known."""
    daemons, _ = discovery.fetch_statuses([path])
    destinations = [each for daemon in daemons for each in daemon.destinations]
    errors: list[PylsyncdError] = []
    for name in names:
        each = next((each for each in destinations if each.name == name), None)
        reason = "" if each is None else f": {each.condition.value}"
        reason += f", {each.error}" if each is not None and each.error else ""
        seconds = format_duration(timeout)
        errors.append(PylsyncdError(f"{name} is not in sync after {seconds}{reason}"))
    return errors


def _should_colour() -> bool:
    is_allowed = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_allowed and sys.stdout.isatty()


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201


def _print_errors(errors: Sequence[PylsyncdError]) -> int:
    """Print errors to standard error; return the exit status that they mean."""
    for error in errors:
        for line in str(error).splitlines():
            print(f"pylsyncctl: {printable(line)}", file=sys.stderr)  # noqa: T201
    return command_line.EXIT_FAILED if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
