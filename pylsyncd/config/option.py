"""What an option is: a row of the tables in `sync_options` and `process_options`. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

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


@dataclass(frozen=True, slots=True)
class Option(Generic[Value]):
    """One option of the command line, the configuration file, or both."""

    key: str
    """Unique; in the file, dashes may replace the underscores."""
    scope: OptionScope
    convert: Callable[[str], Value]
    """Converts one value. Raises UsageError with a sentence that does not name the option.

    A path is kept as it was written: only `OptionReader` knows the directory that it is relative
    to, and only `machine_checks` look at the disk.
    """
    help: str
    """Sentences for ``--help``, the example configuration and the manual page."""
    metavar: str = ""
    """The placeholder of its value; empty for a switch, which is yes or no."""
    short_flag: str = ""
    default: str = ""
    """As it would be written in the file; empty if the option is not set by default."""
    choices: tuple[str, ...] = ()
    """All possible values, if there are only a few."""
    is_list: bool = False
    """Whether it takes several values: one per line in the file, one per flag."""
    is_positional: bool = False
    """Whether it stands on the command line without a flag."""
    allows_leading_dash: bool = False
    """Whether a value may begin with a dash."""
    flag_value: str = "yes"
    """The value that the flag of a switch sets."""
    flag_help: str = ""
    """What the flag of a switch does, if that differs from ``help``."""
    sets_key: str = ""
    """The key of the option that the flag sets, if not its own."""

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return not self.metavar

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags on the command line, the long one last; none for a positional argument."""
        if self.is_positional:
            return ()
        turns_off = self.flag_value == "no" and not self.sets_key
        long_flag = f"--{'no_' * turns_off}{self.key}".replace("_", "-")
        return (self.short_flag, long_flag) if self.short_flag else (long_flag,)

    @property
    def long_flag(self) -> str:
        """The long flag, or the key of a positional argument."""
        return self.flags[-1] if self.flags else self.key


def format_number(seconds: float) -> str:
    """Return a number as it is written in the file."""
    return f"{seconds:.15g}"
