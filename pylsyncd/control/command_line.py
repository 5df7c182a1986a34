"""The command line of pylsyncctl, and its exit statuses."""

import argparse
import math
from typing import NoReturn

from pylsyncd import __version__
from pylsyncd.config.option import LOG_LEVELS
from pylsyncd.control.protocol import MAX_WAIT_SECONDS
from pylsyncd.model.errors import UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 4
"""No daemon runs."""

_MAX_LAG = 600.0
_INTERVAL = 2.0

_EPILOG = f"""\
Without --socket, all daemons are asked whose sockets are found: in $RUNTIME_DIRECTORY, or else in
/run/pylsyncd, $XDG_RUNTIME_DIR/pylsyncd and the user's state directory, and one level below.
What is said of destinations goes to the daemons that have destinations of these names; where none
is named, it goes to all.

exit status: 0 done; {EXIT_FAILED} failed, or not confirmed in time; {EXIT_USAGE} wrong usage;
{EXIT_NO_DAEMON} no daemon runs

exit status of status --check:
  0 OK        1 WARNING   a destination fails, is paused, or further behind than --warn-lag
  3 UNKNOWN   2 CRITICAL  one is held, or further behind than --max-lag, or no daemon runs
"""


class CommandLineError(UsageError):
    """The command line is not understood."""


class _CtlArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Leave it to the command to say so: a plugin does that in its own way."""
        raise CommandLineError(f"{message}.")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = _CtlArgumentParser(
        prog="pylsyncctl",
        description="Ask running pylsyncd daemons how they stand, and tell them what to do.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("-S", "--socket", metavar="PATH", help=_SOCKET)
    made.add_argument("--version", action="version", version=f"pylsyncctl {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_status(commands)
    for name, about in _COMMANDS.items():
        command = _add(commands, name, about)
        command.add_argument(
            "names",
            metavar="DEST",
            nargs="+" if name == "release" else "*",
            help="the name of a destination, as status shows it",
        )
    _add_wait(commands)
    command = _add(commands, "log-level", "log from this level on, until the daemon ends")
    command.add_argument("level", metavar="LEVEL", choices=LOG_LEVELS, help=", ".join(LOG_LEVELS))
    _add(commands, "reload", "read the configuration file anew")
    return made


_SOCKET = "the socket of the daemon to ask"

_COMMANDS = {
    "flush": "send now what has changed, without waiting for the window to end",
    "sync": "sync everything",
    "pause": "run nothing until resumed; changes are still collected",
    "resume": "end a pause",
    "release": "do, once, what is held because somebody has to look first",
}

_Commands = argparse._SubParsersAction  # noqa: SLF001  # argparse has no other name for it


def _add(
    commands: "_Commands[_CtlArgumentParser]", name: str, about: str
) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=about, description=f"{about}.", allow_abbrev=False)
    # Before the command or after it.
    made.add_argument("-S", "--socket", metavar="PATH", default=argparse.SUPPRESS, help=_SOCKET)
    made.set_defaults(command=name, names=[], level="")
    return made


def _add_status(commands: "_Commands[_CtlArgumentParser]") -> None:
    made = _add(commands, "status", "show how all destinations stand")
    add = made.add_argument
    add("--json", action="store_true", help="print a line of JSON for each daemon")
    add(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=_INTERVAL,
        help="show it again and again, until interrupted (default: every %(const)g seconds)",
    )
    add("--file", metavar="PATH", help="read what pylsyncd --status-file has written")
    add("--check", action="store_true", help="be a plugin for Nagios: one line, and its statuses")
    add(
        "--max-lag",
        metavar="SECONDS",
        type=_seconds,
        default=_MAX_LAG,
        help="with --check: further behind is critical (default: %(default)g)",
    )
    add("--warn-lag", metavar="SECONDS", type=_seconds, help="with --check: further is a warning")


def _add_wait(commands: "_Commands[_CtlArgumentParser]") -> None:
    about = "send what has changed until now, and return when all of it is confirmed"
    made = _add(commands, "wait", about)
    made.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=MAX_WAIT_SECONDS,
        help="wait no longer (default: %(default)g)",
    )
    made.add_argument("names", metavar="DEST", nargs="*", help="the name of a destination")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if 0.0 <= seconds < math.inf:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
