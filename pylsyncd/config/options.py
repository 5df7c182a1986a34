"""All options, from which the command line, the configuration file and their documents are made."""

from typing import Any

from pylsyncd.config import process_options, sync_options
from pylsyncd.config.option import Option, OptionScope

AnyOption = Option[Any]

OPTION_GROUPS: dict[str, tuple[AnyOption, ...]] = {
    "run modes": process_options.RUN_OPTIONS,
    "what to sync": sync_options.SELECTION_OPTIONS,
    "when to sync": sync_options.TIMING_OPTIONS,
    "rsync": sync_options.RSYNC_OPTIONS,
    "retries": sync_options.RETRY_OPTIONS,
    "hooks": sync_options.HOOK_OPTIONS,
    "daemon": process_options.DAEMON_OPTIONS,
    "logging": process_options.LOG_OPTIONS,
    "control and metrics": process_options.CONTROL_OPTIONS,
}
"""The options below their headings, in the order of the manual page."""

OPTIONS = tuple(option for group in OPTION_GROUPS.values() for option in group)
"""All options but ``--help`` and ``--version``, which argparse handles."""

OPTIONS_BY_KEY = {option.key: option for option in OPTIONS}

FILE_OPTIONS = tuple(option for option in OPTIONS if option.scope is not OptionScope.COMMAND_LINE)
"""The options that may be set in a configuration file."""

RULE_OPTIONS = (
    sync_options.EXCLUDE,
    sync_options.EXCLUDE_FROM,
    sync_options.INCLUDE,
    sync_options.FILTER,
)
"""The options that together make one list of rules, in the order in which they are written."""
