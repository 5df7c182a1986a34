"""Every option there is: for the command line, the configuration file, and what documents them."""

from pylsyncd.config.option import Option, OptionKind, OptionScope
from pylsyncd.config.process_options import (
    CONTROL_OPTIONS,
    DAEMON_OPTIONS,
    LOG_OPTIONS,
    RUN_OPTIONS,
)
from pylsyncd.config.sync_options import (
    HOOK_OPTIONS,
    RETRY_OPTIONS,
    RSYNC_OPTIONS,
    SELECTION_OPTIONS,
    TIMING_OPTIONS,
)

__all__ = [
    "FILE_OPTIONS",
    "OPTIONS",
    "OPTIONS_BY_KEY",
    "OPTION_GROUPS",
    "RULE_KEYS",
    "Option",
    "OptionKind",
    "OptionScope",
]

OPTIONS: tuple[Option, ...] = (
    *RUN_OPTIONS,
    *SELECTION_OPTIONS,
    *TIMING_OPTIONS,
    *RSYNC_OPTIONS,
    *RETRY_OPTIONS,
    *HOOK_OPTIONS,
    *DAEMON_OPTIONS,
    *LOG_OPTIONS,
    *CONTROL_OPTIONS,
)
"""All options, group by group; ``--help`` and ``--version`` are beside them."""

OPTION_GROUPS = tuple(dict.fromkeys(option.group for option in OPTIONS))
"""The headings in the order in which they are read best."""

OPTIONS_BY_KEY = {option.key: option for option in OPTIONS}

FILE_OPTIONS = tuple(option for option in OPTIONS if option.scope is not OptionScope.COMMAND_LINE)
"""Those that may stand in a configuration file."""

RULE_KEYS = frozenset(["exclude", "exclude_from", "include", "filter"])
"""Those that make up one list of rules together, in the order in which they are said."""
