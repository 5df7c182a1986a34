"""The command ``pylsyncctl``: asks running daemons how they stand, and tells them what to do."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.model.wording import printable
from pylsyncd.report.client import PATIENCE
from pylsyncd.report.ctlarguments import ABSENT, FAILED, WRONG_USAGE, MisusedError, parser
from pylsyncd.report.gathering import Daemon, ask_all, gather, of_file, sockets
from pylsyncd.report.nagios import Level, Thresholds, line, verdict
from pylsyncd.report.protocol import AbsentError, Request
from pylsyncd.report.table import table
from pylsyncd.report.watching import watch
from pylsyncd.report.words import duration
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
        descriptors.abandon_output()
        return FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _run(words: Sequence[str]) -> int:
    try:
        options = parser().parse_args(words)
        return _RUN.get(options.command, _tell)(options)
    except PylsyncdError as error:
        return _failed(error, is_check="--check" in words)


def _failed(error: PylsyncdError, *, is_check: bool) -> int:
    if is_check:
        level = Level.CRITICAL if isinstance(error, AbsentError) else Level.UNKNOWN
        print(line(level, str(error)))  # noqa: T201
        return level
    _complain(error)
    if isinstance(error, MisusedError):
        print("Try pylsyncctl --help.", file=sys.stderr)  # noqa: T201
    if isinstance(error, UsageError):
        return WRONG_USAGE
    return ABSENT if isinstance(error, AbsentError) else FAILED


def _complain(error: PylsyncdError | str) -> None:
    for each in str(error).splitlines():
        print(f"pylsyncctl: {printable(each)}", file=sys.stderr)  # noqa: T201


def _status(options: argparse.Namespace) -> int:
    if options.check:
        if options.json or options.watch is not None:
            raise MisusedError("--check goes neither with --json nor with --watch.")
        return _check(options)
    if options.watch is not None:
        watch(lambda: _lines_or_failure(options), max(options.watch, 0.1))
        return 0
    daemons, failures = _gathered(options)
    _print(_lines(options, daemons))
    for failure in failures:
        _complain(failure)
    return FAILED if failures else 0


def _gathered(options: argparse.Namespace) -> tuple[list[Daemon], list[PylsyncdError]]:
    """Return who has answered, and why others have not; raises that when there is nobody."""
    if options.file is not None:
        return [of_file(options.file)], []
    daemons, failures = gather(sockets(options.socket))
    if not daemons:
        raise failures[0]
    return daemons, failures


def _lines(options: argparse.Namespace, daemons: Iterable[Daemon]) -> list[str]:
    if options.json:
        return [json.dumps(daemon.told) for daemon in daemons]
    found: list[str] = []
    for daemon in daemons:
        found += [""] if found else []
        found += table(daemon.status, age=daemon.age, is_coloured=_is_coloured())
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
    level, said = verdict([daemon.status for daemon in daemons], limits, age)
    _print([said])
    return level


def _tell(options: argparse.Namespace) -> int:
    failures = _ask(options, Request(options.command, (), level=options.level), PATIENCE)[1]
    for failure in failures:
        _complain(failure)
    return FAILED if failures else 0


def _wait(options: argparse.Namespace) -> int:
    asked = Request("wait", (), timeout=options.timeout)
    answers, failures = _ask(options, asked, options.timeout + PATIENCE)
    for path, answer in answers.items():
        late = answer.get("late")
        if isinstance(late, list) and late:
            seconds = duration(options.timeout)
            failures += _reasons(path, [str(name) for name in late], seconds)
    for failure in failures:
        _complain(failure)
    return FAILED if failures else 0


def _ask(
    options: argparse.Namespace, request: Request, patience: float
) -> tuple[Mapping[str, Mapping[str, object]], list[PylsyncdError]]:
    """Ask all daemons, or those that have destinations of these names.

    Raises AbsentError when nobody is there.
    """
    failures: list[PylsyncdError] = []
    names: dict[str, list[str]] = {path: [] for path in sockets(options.socket)}
    if options.names:
        daemons, failures = gather(list(names))
        if not daemons:
            raise failures[0]
        names = _shares(daemons, options.names)
    asked = {
        path: Request(request.command, share, request.timeout, request.level)
        for path, share in names.items()
    }
    answers, more = ask_all(asked, patience)
    if more and not answers:
        raise more[0]
    return answers, failures + more


def _shares(daemons: Sequence[Daemon], names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each daemon that knows some of the names which; raises when nobody knows one."""
    for name in names:
        if not any(name in daemon.names for daemon in daemons):
            known = ", ".join(each.name for daemon in daemons for each in daemon.destinations)
            raise PylsyncdError(
                f"No pylsyncd that runs has a destination {name}. There are: {known}."
            )
    shares = {daemon.path: [name for name in names if name in daemon.names] for daemon in daemons}
    return {path: share for path, share in shares.items() if share}


def _reasons(path: str, names: Iterable[str], seconds: str) -> list[PylsyncdError]:
    """Return why some names were not confirmed, as far as the daemon can still tell."""
    daemons, _ = gather([path])
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
