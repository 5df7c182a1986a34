"""What an option is: a row of the tables in `sync_options` and `process_options`. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from pylsyncd.config.converters import parse_switch

Value = TypeVar("Value")


class OptionScope(Enum):
    """The innermost section of the configuration file in which an option may be set.

    In an outer section it sets the default for all inner ones, except for source and destinations,
    which belong to one sync.
    """

    COMMAND_LINE = auto()
    """None: the option exists on the command line only."""
    PROCESS = auto()
    """``[pylsyncd]``"""
    SYNC = auto()
    """``[sync NAME]``"""
    DESTINATION = auto()
    """``[destination NAME]``"""


class OptionKind(Enum):
    """How an option is written."""

    SWITCH = auto()
    """``key = yes`` or ``no``; a flag without a value."""
    VALUE = auto()
    """``key = value``; a flag with a value."""
    LIST = auto()
    """One value per line below the key; a flag that may be repeated."""


@dataclass(frozen=True, slots=True)
class Option(Generic[Value]):
    """One option of the command line, the configuration file, or both."""

    key: str
    """Unique; in the file, dashes may replace the underscores."""
    scope: OptionScope
    kind: OptionKind
    help: str
    """Sentences for ``--help``, the example configuration and the manual page."""
    convert: Callable[[str], Value]
    """Converts one value. Raises UsageError with a sentence that does not name the option.

    A path is kept as it was written: only `OptionReader` knows the directory that it is relative
    to, and only `machine_checks` look at the disk.
    """
    flags: tuple[str, ...] = ()
    """On the command line, the long one last. Empty for a positional argument."""
    metavar: str = ""
    """The placeholder of its value; empty for a switch."""
    default: str = ""
    """As it would be written in the file; empty if the option is not set by default."""
    choices: tuple[str, ...] = ()
    """All possible values, if there are only a few."""
    flag_value: str = "yes"
    """The value that the flag of a switch sets."""
    flag_help: str = ""
    """What the flag of a switch does, if that differs from ``help``."""
    sets_key: str = ""
    """The key of the option that the flag sets, if not its own."""
    allows_leading_dash: bool = False
    """Whether a value may begin with a dash."""

    @property
    def is_list(self) -> bool:
        """Whether the option takes several values."""
        return self.kind is OptionKind.LIST

    @property
    def long_flag(self) -> str:
        """The long flag, or the key of an option without flags."""
        return self.flags[-1] if self.flags else self.key


def switch_option(  # noqa: PLR0913  # a row of a table
    key: str,
    scope: OptionScope,
    help_text: str,
    *,
    short: str = "",
    default: str = "",
    flag_value: str = "yes",
    sets_key: str = "",
    flag_help: str = "",
) -> Option[bool]:
    """Return an option whose flag takes no value; with the flag value "no" it is ``--no-KEY``."""
    name = f"no_{key}" if flag_value == "no" and not sets_key else key
    return Option(
        key,
        scope,
        OptionKind.SWITCH,
        help_text,
        parse_switch,
        flags=_flags(name, short),
        default=default,
        flag_value=flag_value,
        sets_key=sets_key,
        flag_help=flag_help,
    )


def value_option(  # noqa: PLR0913  # a row of a table
    key: str,
    scope: OptionScope,
    metavar: str,
    convert: Callable[[str], Value],
    help_text: str,
    *,
    short: str = "",
    default: str = "",
    choices: tuple[str, ...] = (),
    is_positional: bool = False,
) -> Option[Value]:
    """Return an option that takes one value."""
    return Option(
        key,
        scope,
        OptionKind.VALUE,
        help_text,
        convert,
        flags=() if is_positional else _flags(key, short),
        metavar=metavar,
        default=default,
        choices=choices,
    )


def list_option(  # noqa: PLR0913  # a row of a table
    key: str,
    scope: OptionScope,
    metavar: str,
    help_text: str,
    *,
    short: str = "",
    allows_leading_dash: bool = False,
    is_positional: bool = False,
) -> Option[str]:
    """Return an option that takes any number of values."""
    return Option(
        key,
        scope,
        OptionKind.LIST,
        help_text,
        str,
        flags=() if is_positional else _flags(key, short),
        metavar=metavar,
        allows_leading_dash=allows_leading_dash,
    )


def format_number(seconds: float) -> str:
    """Return a number as it is written in the file."""
    return f"{seconds:.15g}"


def _flags(key: str, short: str) -> tuple[str, ...]:
    long = "--" + key.replace("_", "-")
    return (short, long) if short else (long,)
