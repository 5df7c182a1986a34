"""What an option is; the tables of options say which ones there are.

A value is a text here; what it means, and whether it can be used, is decided by those who read it.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto


class OptionScope(Enum):
    """The innermost section of the file that an option may stand in.

    What stands in an outer one holds for all that it does not say otherwise for; but source and
    destinations belong to one sync.
    """

    COMMAND_LINE = auto()
    """None: it is said on the command line only."""
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
    """One a line under its key; a flag that may be repeated."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    key: str
    """In the file, where dashes may stand for the underscores; unique."""
    scope: OptionScope
    kind: OptionKind
    help: str
    """Sentences that serve the command line's help, the example and the manual page."""
    group: str = ""
    """The heading that it stands below."""
    flags: tuple[str, ...] = ()
    """On the command line, the long one last. None: a positional argument, or only in the file."""
    metavar: str = ""
    """What stands for its value; empty for a switch."""
    default: str = ""
    """As it would be written in the file; empty where nothing is said by default."""
    choices: tuple[str, ...] = ()
    """The values there are, where they can be counted."""
    flag_value: str = "yes"
    """What the flag of a switch says."""
    flag_help: str = ""
    """What the flag of a switch does, where it says no."""
    sets_key: str = ""
    """The key that a flag of the command line says something about, if not its own."""
    allows_leading_dash: bool = False
    """Whether a value may begin with a dash."""

    @property
    def is_list(self) -> bool:
        """Whether several may be said."""
        return self.kind is OptionKind.LIST

    @property
    def long_flag(self) -> str:
        """The long flag; the key for what has none."""
        return self.flags[-1] if self.flags else self.key


LOG_LEVELS = ("error", "warning", "notice", "info", "debug")
"""How much may be logged, from little to much."""


def in_group(title: str, *options: Option) -> tuple[Option, ...]:
    """Return options as those below a heading."""
    return tuple(replace(option, group=title) for option in options)


def switch_option(  # noqa: PLR0913  # a row of a table
    key: str,
    scope: OptionScope,
    sentences: str,
    *,
    short: str = "",
    default: str = "",
    says: str = "yes",
    stands_for: str = "",
    flag_help: str = "",
) -> Option:
    """Return an option of which a flag without a value says something, mostly yes."""
    flags = _flags(f"no_{key}" if says == "no" and not stands_for else key, short)
    return Option(
        key,
        scope,
        OptionKind.SWITCH,
        sentences,
        flags=flags,
        default=default,
        flag_value=says,
        sets_key=stands_for,
        flag_help=flag_help,
    )


def value_option(  # noqa: PLR0913  # a row of a table
    key: str,
    scope: OptionScope,
    metavar: str,
    sentences: str,
    *,
    short: str = "",
    default: str = "",
    choices: tuple[str, ...] = (),
    is_positional: bool = False,
) -> Option:
    """Return an option with one value."""
    flags = () if is_positional else _flags(key, short)
    return Option(
        key,
        scope,
        OptionKind.VALUE,
        sentences,
        flags=flags,
        metavar=metavar,
        default=default,
        choices=choices,
    )


def list_option(  # noqa: PLR0913  # a row of a table
    key: str,
    scope: OptionScope,
    metavar: str,
    sentences: str,
    *,
    short: str = "",
    takes_dash: bool = False,
    is_positional: bool = False,
) -> Option:
    """Return an option with any number of values."""
    flags = () if is_positional else _flags(key, short)
    return Option(
        key,
        scope,
        OptionKind.LIST,
        sentences,
        flags=flags,
        metavar=metavar,
        allows_leading_dash=takes_dash,
    )


def format_number(seconds: float) -> str:
    """Return a number as it is written."""
    return f"{seconds:.15g}"


def _flags(key: str, short: str) -> tuple[str, ...]:
    long = "--" + key.replace("_", "-")
    return (short, long) if short else (long,)
