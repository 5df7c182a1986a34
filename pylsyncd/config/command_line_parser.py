"""Parses the command line into raw options."""

import argparse
import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pylsyncd import __version__
from pylsyncd.config import process_options, sync_options
from pylsyncd.config.option import OptionScope
from pylsyncd.config.options import OPTION_GROUPS, OPTIONS, OPTIONS_BY_KEY, AnyOption
from pylsyncd.config.raw_options import ConfigurationError, Layer, Origin, RawOption
from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import printable

_USAGE = """%(prog)s [options] SOURCE DESTINATION [DESTINATION ...]
       %(prog)s [options] -c FILE"""

_EPILOG = """\
The source is watched with all directories below it. A /./ in it marks the end of the part of its
path that is not repeated at the destinations. A destination is a directory, host:path,
host::module/path or rsync://host/module/path; a name with neither / nor : is a host. Use a
configuration file for several sources; most of these options are keys there.

signals:
  HUP   reload the configuration file; without one, start a full sync of every destination
  USR1  sync now instead of at the end of the window
  USR2  release, once, whatever is held because too much would be deleted or the source is unsafe
  TERM, INT   sync pending changes, then stop

exit status: 0 stopped on request, --once succeeded, or --check found no difference;
1 failed, or differences found; 2 wrong usage
"""

_EXCLUSIVE = (process_options.CHECK, process_options.CHECK_CONFIG, process_options.EXPLAIN)

_RAW_OPTIONS = "raw_options"

# The similarity of a misspelt flag to the one that is suggested.
_MIN_SIMILARITY = 0.75


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A parsed command line."""

    options: Layer
    """Options that may also be set in a configuration file."""
    positionals: Layer
    """The source and the destinations; empty with a configuration file."""
    actions: Layer
    """Options that exist on the command line only."""
    config_path: str | None = None
    """The absolute path of the configuration file."""
    config_as_written: str = ""
    """The path of the configuration file as the user wrote it."""

    def has_option(self, option: AnyOption) -> bool:
        """Return True if an option that exists on the command line only was given."""
        return any(raw.option is option for raw in self.actions)

    def option_value(self, option: AnyOption) -> str | None:
        """Return the last value of an option that exists on the command line only."""
        values = [raw.texts[0] for raw in self.actions if raw.option is option]
        return values[-1] if values else None

    @property
    def is_verbose(self) -> bool:
        """Whether the command line itself asks for the log level info or debug."""
        levels = [raw.texts[0] for raw in self.options if raw.option is process_options.LOG_LEVEL]
        return levels[-1:] in (["info"], ["debug"])

    @property
    def waits_for_sources(self) -> bool:
        """Whether a sync whose source is missing waits for it, and does not end the process.

        The source of a command line is checked while its user can correct it. A check of the file
        says what a start would do: who restarts or reloads the daemon asks it first.
        """
        ends = (process_options.CHECK, process_options.EXPLAIN, process_options.ONCE)
        return self.config_path is not None and not any(self.has_option(each) for each in ends)

    @property
    def should_keep_state(self) -> bool:
        """Whether the run changes destinations, whose state is then kept on disk."""
        read_only = (process_options.DRY_RUN, process_options.CHECK, process_options.EXPLAIN)
        return not any(self.has_option(option) for option in read_only)


class CommandLineParser(argparse.ArgumentParser):
    """A parser that reports errors without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with status 2."""
        print_error(f"{self.prog}: {message}{_suggest(message.split())}\nTry {self.prog} --help.")
        sys.exit(2)


def _suggest(words: Sequence[str]) -> str:
    """Return a question that suggests flags for the unknown ones among some words, or nothing."""
    known = [flag for option in OPTIONS for flag in option.flags if flag.startswith("--")]
    # In an error of argparse, a colon follows the flag.
    unknown = [word.partition("=")[0].rstrip(":") for word in words if word.startswith("--")]
    found = [
        flag
        for word in unknown
        if word not in known
        for flag in difflib.get_close_matches(word, known, n=1, cutoff=_MIN_SIMILARITY)
    ]
    return f". Did you mean {' and '.join(found)}?" if found else ""


class StoreRawOption(argparse.Action):
    """Appends an option to the raw options of the namespace, in the order of the command line."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, option: AnyOption) -> None:
        super().__init__(
            option_strings,
            dest,
            nargs=0 if option.is_switch else None,
            metavar=option.metavar or None,
            help=_help(option),
            default=argparse.SUPPRESS,
        )
        self._option = option

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _flag: str | None = None,
    ) -> None:
        """Append the option with its value."""
        option = self._option
        text = option.flag_value if option.is_switch else values
        target = OPTIONS_BY_KEY[option.sets_key] if option.sets_key else option
        raw = RawOption(target, (text,), Origin(option.long_flag), namespace.directory)
        setattr(namespace, _RAW_OPTIONS, [*getattr(namespace, _RAW_OPTIONS, ()), raw])


def print_error(text: str) -> None:
    """Print a text on standard error, with control characters escaped."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)  # noqa: T201


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of a command line with a source and destinations."""
    parser = _options_parser(add_help=True)
    parser.add_argument("source", metavar="SOURCE", help=_help(sync_options.SOURCE))
    parser.add_argument(
        "destinations", metavar="DESTINATION", nargs="+", help=_help(sync_options.DESTINATIONS)
    )
    parser.add_argument("--version", action="version", version=f"pylsyncd {__version__}")
    return parser


def _options_parser(*, add_help: bool) -> argparse.ArgumentParser:
    parser = CommandLineParser(
        prog="pylsyncd",
        usage=_USAGE,
        description="Keep copies of directory trees up to date, with inotify and rsync.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=add_help,
    )
    for title, options in OPTION_GROUPS.items():
        group = parser.add_argument_group(title)
        levels = group.add_mutually_exclusive_group()
        for option in options:
            if option.flags:
                sets_level = "log_level" in {option.key, option.sets_key}
                container = levels if sets_level else group
                container.add_argument(
                    *option.flags, action=StoreRawOption, dest=option.key, option=option
                )
    return parser


def _help(option: AnyOption) -> str:
    default = f" (default: {option.default})" if option.default and option.metavar else ""
    return ((option.flag_help or option.help) + default).replace("%", "%%")


def parse_command_line(words: Sequence[str]) -> CommandLine:
    """Return the parsed command line; exit as argparse does, for ``--help`` and syntax errors.

    Raises UsageError.
    """
    words = _attach_values(words)
    initial = argparse.Namespace(directory=_current_directory())
    namespace, others = _options_parser(add_help=False).parse_known_args(words, initial)
    raw_options: list[RawOption] = getattr(namespace, _RAW_OPTIONS, [])
    actions = tuple(raw for raw in raw_options if raw.option.scope is OptionScope.COMMAND_LINE)
    options = tuple(raw for raw in raw_options if raw not in actions)
    command_line = CommandLine(options, (), actions)
    _check_combination(command_line)
    config = command_line.option_value(process_options.CONFIG)
    if config is None or {"-h", "--help", "--version"} & set(others):
        return CommandLine(options, tuple(_positionals(_parse_all(words, initial))), actions)
    if unknown := [word for word in others if word.startswith("-")]:
        raise UsageError(f"Unknown option: {' '.join(unknown)}{_suggest(unknown) or '.'}")
    if others:
        raise UsageError(
            f"SOURCE and DESTINATION cannot be combined with -c: remove {' '.join(others)}."
        )
    _refuse_file_options(options)
    path = os.path.abspath(os.path.join(initial.directory, config))
    return CommandLine(options, (), actions, path, config)


def _parse_all(words: Sequence[str], initial: argparse.Namespace) -> argparse.Namespace:
    """Parse a command line; as in rsync, options may stand between the destinations."""
    behind = words[words.index("--") :] if "--" in words else ()
    # Intermixed, argparse takes a source that begins with a dash for an option, even after "--".
    if any(word.startswith("-") for word in behind[1:]):
        return build_parser().parse_args(words, initial)
    return build_parser().parse_intermixed_args(words, initial)


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError(f"Cannot use the current directory: {error.strerror}.") from None


def _positionals(namespace: argparse.Namespace) -> Iterator[RawOption]:
    directory = namespace.directory
    yield RawOption(sync_options.SOURCE, (namespace.source,), directory=directory)
    for text in namespace.destinations:
        yield RawOption(sync_options.DESTINATIONS, (text,), directory=directory)


def _check_combination(command_line: CommandLine) -> None:
    is_checksum = command_line.has_option(process_options.CHECKSUM)
    if is_checksum and not command_line.has_option(process_options.CHECK):
        raise UsageError(
            "--checksum requires --check. To compare checksums in every run, use "
            "--rsync-option=--checksum."
        )
    flags = [each.long_flag for each in _EXCLUSIVE if command_line.has_option(each)]
    if len(flags) > 1:
        raise UsageError(f"{' and '.join(flags)} cannot be combined: remove one of them.")


def _refuse_file_options(options: Layer) -> None:
    messages = [
        f"{raw.origin.text} cannot be combined with -c: set {raw.option.key} = {raw.texts[0]} in "
        "the configuration file."
        for raw in options
        if raw.option.scope is not OptionScope.PROCESS
    ]
    if messages:
        raise ConfigurationError(dict.fromkeys(messages))


def _attach_values(arguments: Sequence[str]) -> list[str]:
    """Write values that may begin with a dash as ``--option=value``: argparse needs that."""
    attached: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            attached += [argument, *rest]
        elif argument in _LEADING_DASH_FLAGS:
            value = next(rest, None)
            flag = _LEADING_DASH_FLAGS[argument]
            attached += [argument] if value is None else [f"{flag}={value}"]
        else:
            attached.append(argument)
    return attached


_LEADING_DASH_FLAGS = {
    flag: option.long_flag
    for option in OPTIONS
    if option.allows_leading_dash
    for flag in option.flags
}
