"""The command line: from the table of options to what was said."""

import argparse
import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pylsyncd import __version__
from pylsyncd.config.options import (
    OPTION_GROUPS,
    OPTIONS,
    OPTIONS_BY_KEY,
    Option,
    OptionKind,
    OptionScope,
)
from pylsyncd.config.said import ConfigurationError, Layer, RawOption
from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import printable

_USAGE = """%(prog)s [options] SOURCE DESTINATION [DESTINATION ...]
       %(prog)s [options] -c FILE"""

_EPILOG = """\
A source is watched with all directories below it. /./ in it marks the part of its path that is not
repeated at the destinations. A destination is a directory, host:path, host::module/path or
rsync://host/module/path; a name with neither / nor : is a host. A configuration file names several
sources with their destinations; most of these options are keys there.

signals:
  HUP   read the configuration file again; without one, full sync of every destination
  USR1  sync now, without waiting for the window to end
  USR2  do, once, what is held because too much would be deleted or the source looks wrong
  TERM, INT   sync what has changed, then stop

exit status: 0 stopped as asked, --once has succeeded, or --check has found no difference;
1 failed, or different; 2 wrong usage
"""

# Of these, one at a time.
_INSTEAD = ("check", "check_config", "explain")

_SAID = "said"

# How like a flag must be to be the one that was meant.
_LIKENESS = 0.75


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What a command line asks for."""

    options: Layer
    """About the process and, without a configuration file, about all else."""
    positionals: Layer
    """About the source and the destinations."""
    actions: Layer
    """What can be said on the command line only."""
    config_path: str | None = None
    """The absolute path of the configuration file."""
    config_as_written: str = ""
    """The same as a person wrote it."""

    def has_option(self, key: str) -> bool:
        """Tell whether something was asked for that can be on the command line only."""
        return any(said.option.key == key for said in self.actions)

    def option_value(self, key: str) -> str | None:
        """Return what was said last about such an option; None for nothing."""
        found = [said.texts[0] for said in self.actions if said.option.key == key]
        return found[-1] if found else None

    @property
    def is_verbose(self) -> bool:
        """Whether the command line, not the file, asks for more than the usual."""
        levels = [said.texts[0] for said in self.options if said.option.key == "log_level"]
        return levels[-1:] in (["info"], ["debug"])

    @property
    def should_keep_state(self) -> bool:
        """Whether it is kept what each destination has."""
        return not any(map(self.has_option, ("dry_run", "check", "explain")))


class CommandLineParser(argparse.ArgumentParser):
    """Reports an error without argparse's usage text."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and only that, so that it is read."""
        print_error(f"{self.prog}: {message}{_likely(message.split())}\nTry {self.prog} --help.")
        sys.exit(2)


def _likely(words: Sequence[str]) -> str:
    """Return a question for the flags that may have been meant by words, or nothing."""
    known = [flag for option in OPTIONS for flag in option.flags if flag.startswith("--")]
    unknown = [word.partition("=")[0] for word in words if word.startswith("--")]
    found = [
        flag
        for word in unknown
        if word not in known
        for flag in difflib.get_close_matches(word, known, n=1, cutoff=_LIKENESS)
    ]
    return f". Did you mean {' and '.join(found)}?" if found else ""


class StoreRawOption(argparse.Action):
    """Notes what was said, in its order."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, option: Option) -> None:
        super().__init__(
            option_strings,
            dest,
            nargs=0 if option.kind is OptionKind.SWITCH else None,
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
        """Append the option with its values."""
        text = self._option.flag_value if self._option.kind is OptionKind.SWITCH else values
        meant = OPTIONS_BY_KEY[self._option.sets_key] if self._option.sets_key else self._option
        said = RawOption(meant, (text,), self._option.long_flag, directory=namespace.directory)
        setattr(namespace, _SAID, [*getattr(namespace, _SAID, ()), said])


def print_error(text: str) -> None:
    """Tell the person at the terminal."""
    # What was written may hold what is not UTF-8, or what a terminal would obey.
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)  # noqa: T201


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of a command line that names a source and destinations."""
    made = _options_parser(add_help=True)
    made.add_argument("source", metavar="SOURCE", help=_help(OPTIONS_BY_KEY["source"]))
    made.add_argument(
        "destinations", metavar="DESTINATION", nargs="+", help=_help(OPTIONS_BY_KEY["destinations"])
    )
    made.add_argument("--version", action="version", version=f"pylsyncd {__version__}")
    return made


def _options_parser(*, add_help: bool) -> argparse.ArgumentParser:
    made = CommandLineParser(
        prog="pylsyncd",
        usage=_USAGE,
        description="Keep remote copies of directory trees equal to them, with inotify and rsync.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=add_help,
    )
    for title in OPTION_GROUPS:
        group = made.add_argument_group(title)
        levels = group.add_mutually_exclusive_group()
        for option in OPTIONS:
            if option.group == title and option.flags:
                is_level = "log_level" in {option.key, option.sets_key}
                to = levels if is_level else group
                to.add_argument(
                    *option.flags, action=StoreRawOption, dest=option.key, option=option
                )
    return made


def _help(option: Option) -> str:
    default = f" (default: {option.default})" if option.default and option.metavar else ""
    return ((option.flag_help or option.help) + default).replace("%", "%%")


def parse_command_line(words: Sequence[str]) -> CommandLine:
    """Return what a command line asks for; it ends the program where argparse does.

    Raises UsageError.
    """
    words = _values_attached(words)
    before = argparse.Namespace(directory=_directory())
    options, others = _options_parser(add_help=False).parse_known_args(words, before)
    said: list[RawOption] = getattr(options, _SAID, [])
    asked = tuple(each for each in said if each.option.scope is OptionScope.COMMAND_LINE)
    request = CommandLine(tuple(each for each in said if each not in asked), (), asked)
    _check(request)
    written = request.option_value("config")
    if written is None or {"-h", "--help", "--version"} & set(others):
        places = tuple(_places(_parsed(words, before)))
        return CommandLine(request.options, places, asked)
    if unknown := [word for word in others if word.startswith("-")]:
        raise UsageError(f"There is no option {' '.join(unknown)}{_likely(unknown) or '.'}")
    if others:
        raise UsageError(
            f"The configuration file names what is kept equal to what: leave {' '.join(others)} "
            "out."
        )
    _refuse_what_belongs_in_the_file(request.options)
    path = os.path.abspath(os.path.join(before.directory, written))
    return CommandLine(request.options, (), asked, path, written)


def _parsed(words: Sequence[str], before: argparse.Namespace) -> argparse.Namespace:
    """Parse a command line; options may stand between the destinations, as rsync has it."""
    behind = words[words.index("--") :] if "--" in words else ()
    # Mixed, argparse takes a source that begins with a dash for an option, even behind a "--".
    if any(word.startswith("-") for word in behind[1:]):
        return build_parser().parse_args(words, before)
    return build_parser().parse_intermixed_args(words, before)


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError(f"The current directory cannot be used: {error.strerror}.") from None


def _places(options: argparse.Namespace) -> Iterator[RawOption]:
    directory = options.directory
    yield RawOption(OPTIONS_BY_KEY["source"], (options.source,), directory=directory)
    for text in options.destinations:
        yield RawOption(OPTIONS_BY_KEY["destinations"], (text,), directory=directory)


def _check(request: CommandLine) -> None:
    if request.has_option("checksum") and not request.has_option("check"):
        raise UsageError("--checksum is for --check. For each run: --rsync-option=--checksum.")
    if (
        len(asked := [OPTIONS_BY_KEY[key].long_flag for key in _INSTEAD if request.has_option(key)])
        > 1
    ):
        raise UsageError(f"{' and '.join(asked)} do not go together: leave one of them out.")


def _refuse_what_belongs_in_the_file(said: Layer) -> None:
    faults = [
        f"{each.origin}: With a configuration file, say it there: {each.option.key} = "
        f"{each.texts[0]}"
        for each in said
        if each.option.scope is not OptionScope.PROCESS
    ]
    if faults:
        raise ConfigurationError(dict.fromkeys(faults))


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
    flag: option.long_flag
    for option in OPTIONS
    if option.allows_leading_dash
    for flag in option.flags
}
