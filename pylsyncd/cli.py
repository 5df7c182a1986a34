"""The command line: arguments, logging, and exceptions to exit status."""

import argparse
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pylsyncd import __version__, config, logs, rsync
from pylsyncd.commands import SSH, Rsync
from pylsyncd.config import Settings
from pylsyncd.errors import PylsyncdError, UsageError
from pylsyncd.notation import Transport
from pylsyncd.passthrough import check_option
from pylsyncd.service import Service

_EPILOG = """\
A source is watched with all directories below it. /./ in it marks the part of its path that is not
repeated at the destinations. A destination is a directory, host:path, host::module/path or
rsync://host/module/path; a name with neither / nor : is a host.

signals:
  HUP   full sync of every destination      USR1  sync now, without waiting for the window to end
  TERM, INT   sync what has changed, then stop

exit status: 0 stopped as asked, or --once has succeeded; 1 failed; 2 wrong usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``pylsyncd``; return its exit status."""
    parser = _parser()
    options = parser.parse_args(_values_attached(sys.argv[1:] if arguments is None else arguments))
    try:
        settings = _settings(options)
        logs.set_up(options.level, syslog=options.syslog, facility=options.syslog_facility)
        return Service(settings).run()
    except UsageError as error:
        parser.error(str(error))
    except PylsyncdError as error:
        _say(f"{parser.prog}: {error}")
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and only that, so that it is read."""
        _say(f"{self.prog}: {message}\nTry {self.prog} --help.")
        sys.exit(2)


def _say(text: str) -> None:
    # A name from the command line may hold what is not UTF-8, or what a terminal would obey.
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pylsyncd",
        usage="%(prog)s [options] SOURCE DESTINATION [DESTINATION ...]",
        description="Keep remote copies of a directory tree equal to it, with inotify and rsync.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="the directory to watch")
    add("destinations", metavar="DESTINATION", nargs="+", help="where its copies are kept")
    _add_running(parser.add_argument_group("running"))
    _add_choosing(parser.add_argument_group("what is synced"))
    _add_transferring(parser.add_argument_group("rsync"))
    _add_logging(parser.add_argument_group("log"))
    add("--version", action="version", version=f"pylsyncd {__version__}")
    return parser


def _add_running(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-i", "--initial-sync", action="store_true", help="sync everything once watching has begun")
    add(
        "--once",
        action="store_true",
        help="sync everything, then exit; the status tells whether all destinations succeeded",
    )
    add(
        "-n",
        "--dry-run",
        action="store_true",
        help="say what would be run and done, change nothing",
    )
    add(
        "-w",
        "--window",
        metavar="SECONDS",
        type=_converter(config.window),
        default=config.WINDOW,
        help="seconds that changes are aggregated from the first on (default: %(default)g)",
    )
    add(
        "--max-changes",
        metavar="N",
        type=_converter(config.max_changes),
        default=config.MAX_CHANGES,
        help="end the window early at so many changed paths (default: %(default)d)",
    )


def _add_choosing(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-x",
        "--exclude",
        metavar="PATTERN",
        dest="rules",
        action="append",
        default=[],
        type=_converter(config.exclude),
        help="leave out what matches, by rsync's rules",
    )
    add(
        "--exclude-from",
        metavar="FILE",
        dest="rules",
        action="append",
        type=_converter(config.exclude_from),
        help="read such patterns from a file",
    )
    add(
        "--no-delete",
        dest="delete",
        action="store_false",
        help="keep at the destinations what is deleted in the source",
    )
    add(
        "--modify",
        action="store_true",
        help="sync files that are written and not closed, too, once in each window",
    )


def _add_transferring(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--rsync", metavar="PROGRAM", default="rsync", help="the rsync to run")
    add(
        "-e",
        "--rsh",
        metavar="COMMAND",
        default=os.environ.get("RSYNC_RSH") or SSH,
        help="the remote shell, as rsync takes it",
    )
    add(
        "--rsync-option",
        metavar="OPTION",
        dest="rsync_options",
        action="append",
        default=[],
        help="one more option for rsync, as --bwlimit=1m",
    )


def _add_logging(group: argparse._ArgumentGroup) -> None:
    levels = group.add_mutually_exclusive_group()
    levels.set_defaults(level=logs.NOTICE)
    add = levels.add_argument
    add(
        "-d",
        "--debug",
        dest="level",
        action="store_const",
        const=logging.DEBUG,
        help="log every step: events, changes, commands and their lists",
    )
    add(
        "-v",
        "--verbose",
        dest="level",
        action="store_const",
        const=logging.INFO,
        help="log a line for every run of rsync",
    )
    add(
        "-q",
        "--quiet",
        dest="level",
        action="store_const",
        const=logging.WARNING,
        help="log failures only",
    )
    add = group.add_argument
    add("-s", "--syslog", action="store_true", help="log to syslog, too")
    add(
        "--syslog-facility",
        metavar="NAME",
        choices=logs.FACILITIES,
        default="daemon",
        help="log to syslog as this facility (default: %(default)s)",
    )


def _converter(convert: Callable[[str], object]) -> Callable[[str], object]:
    """Have argparse show the sentence of an error as it is."""

    def converted(text: str) -> object:
        try:
            return convert(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted


def _check_remote_shell(text: str) -> None:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"The remote shell {text!r} has a fault: {error}.") from None
    if not words:
        raise UsageError("The remote shell is empty: leave -e out for ssh.")
    if shutil.which(words[0]) is None:
        raise UsageError(f"The remote shell's program {words[0]} is not installed.")


def _values_attached(arguments: Sequence[str]) -> list[str]:
    """Attach the values of options that may begin with a dash, which argparse does not allow."""
    attached: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            attached += [argument, *rest]
        elif argument in _TAKE_DASHES:
            value = next(rest, None)
            attached += [argument] if value is None else [f"{_TAKE_DASHES[argument]}={value}"]
        else:
            attached.append(argument)
    return attached


_TAKE_DASHES = {
    "--rsync-option": "--rsync-option",
    "--exclude": "--exclude",
    "-x": "--exclude",
}


def _settings(options: argparse.Namespace) -> Settings:
    for option in options.rsync_options:
        check_option(option, deletes=options.delete)
    source = config.source(options.source)
    destinations = config.destinations(options.destinations, source)
    if any(destination.transport is Transport.SHELL for destination in destinations):
        _check_remote_shell(options.rsh)
    return Settings(
        source=source,
        destinations=destinations,
        rsync=Rsync(
            program=options.rsync,
            version=rsync.version(options.rsync),
            rsh=options.rsh,
            options=tuple(options.rsync_options),
            rules=config.rules(options.rules),
            delete=options.delete,
            dry_run=options.dry_run,
            tells_items=options.level <= logging.DEBUG or options.dry_run,
        ),
        window=options.window,
        max_changes=options.max_changes,
        initial_sync=options.initial_sync,
        once=options.once,
        modify=options.modify,
    )
