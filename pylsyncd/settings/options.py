"""Every option there is: for the command line, the configuration file, and what documents them."""

from pylsyncd.settings.option import Kind, Option, Scope
from pylsyncd.settings.processoptions import DAEMON, LOG, RUNNING, STATUS
from pylsyncd.settings.syncoptions import CHOOSING, HOOKS, RETRYING, TIMING, TRANSFER

__all__ = ["BY_KEY", "GROUPS", "IN_FILE", "OPTIONS", "RULES", "Kind", "Option", "Scope"]

OPTIONS: tuple[Option, ...] = (
    *RUNNING,
    *CHOOSING,
    *TIMING,
    *TRANSFER,
    *RETRYING,
    *HOOKS,
    *DAEMON,
    *LOG,
    *STATUS,
)
"""All options, group by group; ``--help`` and ``--version`` are beside them."""

GROUPS = tuple(dict.fromkeys(option.group for option in OPTIONS))
"""The headings in the order in which they are read best."""

BY_KEY = {option.key: option for option in OPTIONS}

IN_FILE = tuple(option for option in OPTIONS if option.scope is not Scope.COMMAND_LINE)
"""Those that may stand in a configuration file."""

RULES = frozenset(["exclude", "exclude_from", "include", "filter"])
"""Those that make up one list of rules together, in the order in which they are said."""
