"""The arguments of the command line: what there is, and how each is read."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pylsyncd import __version__
from pylsyncd.model.errors import UsageError
from pylsyncd.rsync.commands import SSH, TIMEOUT
from pylsyncd.settings import config
from pylsyncd.settings.settings import MAX_CHANGES, POLL_INTERVAL, SCAN_INTERVAL, WINDOW
from pylsyncd.system import logs

_EPILOG = """\
A source is watched with all directories below it. /./ in it marks the part of its path that is not
repeated at the destinations. A destination is a directory, host:path, host::module/path or
rsync://host/module/path; a name with neither / nor : is a host.

signals:
  HUP   full sync of every destination      USR1  sync now, without waiting for the window to end
  USR2  do, once, what is held because too much would be deleted or the source looks wrong
  TERM, INT   sync what has changed, then stop

exit status: 0 stopped as asked, --once has succeeded, or --check has found no difference;
1 failed, or different; 2 wrong usage
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and only that, so that it is read."""
        say(f"{self.prog}: {message}\nTry {self.prog} --help.")
        sys.exit(2)


def say(text: str) -> None:
    """Tell the person at the terminal."""
    # A name from the command line may hold what is not UTF-8, or what a terminal would obey.
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)  # noqa: T201


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = _Parser(
        prog="pylsyncd",
        usage="%(prog)s [options] SOURCE DESTINATION [DESTINATION ...]",
        description="Keep remote copies of a directory tree equal to it, with inotify and rsync.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("source", metavar="SOURCE", help="the directory to watch")
    add("destinations", metavar="DESTINATION", nargs="+", help="where its copies are kept")
    running = made.add_argument_group("running")
    _add_doing(running)
    _add_upkeep(running)
    _add_choosing(made.add_argument_group("what is synced"))
    _add_transferring(made.add_argument_group("rsync"))
    _add_logging(made.add_argument_group("log"))
    add("--version", action="version", version=f"pylsyncd {__version__}")
    return made


def _add_doing(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-i", "--initial-sync", action="store_true", help="sync everything once watching has begun")
    add(
        "--once",
        action="store_true",
        help="sync everything, then exit; the status tells whether all destinations succeeded",
    )
    add(
        "--check",
        action="store_true",
        help="compare all destinations with the source, print what differs, change nothing; "
        "the status tells whether they are equal",
    )
    add("--checksum", action="store_true", help="with --check: compare the contents, too")
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
        default=WINDOW,
        help="seconds that changes are aggregated from the first on (default: %(default)g)",
    )
    add(
        "--max-changes",
        metavar="N",
        type=_converter(config.max_changes),
        default=MAX_CHANGES,
        help="end the window early at so many changed paths (default: %(default)d)",
    )


def _add_upkeep(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--full-sync-interval",
        metavar="SECONDS",
        type=_converter(config.full_sync_interval),
        default=0.0,
        help="sync everything every so often, to undo what others do at the destinations "
        "(default: never)",
    )
    add(
        "--poll-interval",
        metavar="SECONDS",
        type=_converter(config.poll_interval),
        default=POLL_INTERVAL,
        help="how often what cannot be watched is looked through (default: %(default)g)",
    )
    add(
        "--scan-interval",
        metavar="SECONDS",
        type=_converter(config.scan_interval),
        default=SCAN_INTERVAL,
        help="how often the source is scanned for changes that send no event, 0 for never "
        "(default: %(default)g)",
    )
    add(
        "--state-dir",
        metavar="DIRECTORY",
        help="where it is kept what each destination has, for the next start "
        "(default: /var/lib/pylsyncd, or pylsyncd in the user's state directory)",
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
        "--max-delete",
        metavar="N",
        type=_converter(config.max_delete),
        help="hold a run that would delete more than N, until the signal USR2",
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
        "--timeout",
        metavar="SECONDS",
        type=_converter(config.timeout),
        default=TIMEOUT,
        help="give up a peer that says nothing for so long (default: %(default)g)",
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


def values_attached(arguments: Sequence[str]) -> list[str]:
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
