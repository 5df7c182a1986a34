"""The command line of pylsyncctl, and its exit statuses."""

import argparse
from typing import NoReturn

from pylsyncd import __version__
from pylsyncd.config.converters import LOG_LEVELS, parse_wait
from pylsyncd.control.nagios import DEFAULT_MAX_LAG
from pylsyncd.control.protocol import MAX_WAIT_SECONDS
from pylsyncd.model.errors import UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_SET_ASIDE = 3
EXIT_NO_DAEMON = 4

_DEFAULT_WATCH_INTERVAL = 2.0

_EPILOG = f"""\
Without --socket, pylsyncctl asks all daemons whose sockets it finds: in $RUNTIME_DIRECTORY, or else
in /run/pylsyncd, $XDG_RUNTIME_DIR/pylsyncd and the user's state directory, and one level below.
A command with DEST goes to the daemons that have destinations of these names, without DEST to all.

exit status: 0 done; {EXIT_FAILED} failed, or not confirmed in time; {EXIT_USAGE} wrong usage;
{EXIT_SET_ASIDE} confirmed except for some paths, or unverified (wait);
{EXIT_NO_DAEMON} no daemon runs

exit status of status --check:
  0 OK        1 WARNING   a destination fails, is paused or unverified, or behind by --warn-lag
  3 UNKNOWN   2 CRITICAL  one is held, or further behind than --max-lag, or no daemon runs
"""

_SOCKET_HELP = "the control socket of the daemon"
_CONFIG_HELP = "the configuration file of the daemon, instead of its socket"
_NAMES_HELP = "the name of a destination, as status shows it, or of a sync"

_COMMANDS = {
    "flush": "send collected changes now, before the window ends",
    "sync": "start a full sync",
    "pause": "start no rsync until resumed; changes are still collected",
    "resume": "end a pause",
    "release": "carry out, once, what is held: check the reason with status first",
}

_CommandParsers = argparse._SubParsersAction  # noqa: SLF001  # argparse has no public name for it


class CommandLineError(UsageError):
    """The command line is invalid."""


class _CtlArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting: a monitoring plugin reports errors in its own format."""
        raise CommandLineError(f"{message}.")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _CtlArgumentParser(
        prog="pylsyncctl",
        description="Show the status of running pylsyncd daemons, and control them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-S", "--socket", metavar="PATH", help=_SOCKET_HELP)
    parser.add_argument("-c", "--config", metavar="FILE", help=_CONFIG_HELP)
    parser.add_argument("--version", action="version", version=f"pylsyncctl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_status(commands)
    for name, description in _COMMANDS.items():
        command = _add_command(commands, name, description)
        command.add_argument(
            "names",
            metavar="DEST",
            nargs="+" if name == "release" else "*",
            help=_NAMES_HELP,
        )
    _add_wait(commands)
    description = "show the log level, or set it until the daemon ends"
    command = _add_command(commands, "log-level", description)
    command.add_argument(
        "level", metavar="LEVEL", nargs="?", choices=LOG_LEVELS, help=", ".join(LOG_LEVELS)
    )
    command.set_defaults(level=None)
    _add_command(commands, "reload", "reload the configuration file")
    return parser


def _add_command(
    commands: "_CommandParsers[_CtlArgumentParser]", name: str, description: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=description, description=f"{description}.", allow_abbrev=False
    )
    # The options may stand before the command or after it.
    for flag, option, metavar, about in (
        ("-S", "--socket", "PATH", _SOCKET_HELP),
        ("-c", "--config", "FILE", _CONFIG_HELP),
    ):
        parser.add_argument(flag, option, metavar=metavar, default=argparse.SUPPRESS, help=about)
    parser.set_defaults(command=name, names=[], level="")
    return parser


def _add_status(commands: "_CommandParsers[_CtlArgumentParser]") -> None:
    parser = _add_command(commands, "status", "show the status of all destinations")
    add = parser.add_argument
    add("names", metavar="DEST", nargs="*", help=f"{_NAMES_HELP}; all by default")
    add("--json", action="store_true", help="print a line of JSON for each daemon")
    add("--names", action="store_true", dest="list_names", help="print only the names, one a line")
    add(
        "--watch",
        metavar="TIME",
        nargs="?",
        type=_time,
        const=_DEFAULT_WATCH_INTERVAL,
        help="show it repeatedly until interrupted (default: every %(const)g seconds)",
    )
    add("--file", metavar="PATH", help="read a file written by pylsyncd --status-file")
    add("--check", action="store_true", help="be a Nagios plugin: one line, and its exit statuses")
    add(
        "--max-lag",
        metavar="TIME",
        type=_time,
        default=DEFAULT_MAX_LAG,
        help="with --check: further behind is critical (default: %(default)g seconds)",
    )
    add(
        "--warn-lag",
        metavar="TIME",
        type=_time,
        help="with --check: further behind is a warning",
    )


def _add_wait(commands: "_CommandParsers[_CtlArgumentParser]") -> None:
    description = "send all changes up to now, and wait until they are confirmed"
    parser = _add_command(commands, "wait", description)
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=_time,
        default=MAX_WAIT_SECONDS,
        help="wait no longer (default: %(default)g seconds)",
    )
    parser.add_argument("names", metavar="DEST", nargs="*", help=_NAMES_HELP)


def _time(text: str) -> float:
    try:
        return parse_wait(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from None
