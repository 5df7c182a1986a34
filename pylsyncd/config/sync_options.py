"""The options of a source and of its destinations."""

from pylsyncd.config.converters import (
    check_io_class,
    check_rate,
    parse_count,
    parse_interval,
    parse_niceness,
    parse_positive_count,
    parse_seconds,
    parse_size,
    split_command,
)
from pylsyncd.config.option import (
    OptionScope,
    format_number,
    list_option,
    switch_option,
    value_option,
)
from pylsyncd.config.settings import (
    DEFAULT_HOOK_TIMEOUT,
    DEFAULT_MAX_CHANGES,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_SCAN_INTERVAL,
    DEFAULT_WINDOW,
)
from pylsyncd.rsync.command import DEFAULT_REMOTE_SHELL, DEFAULT_TIMEOUT
from pylsyncd.rsync.retry_policy import RetryPolicy

SOURCE = value_option(
    "source",
    OptionScope.SYNC,
    "SOURCE",
    str,
    "The directory to watch, with everything below it. A /./ in the path marks the end of the part "
    "that is not repeated at the destinations.",
    is_positional=True,
)
DESTINATIONS = list_option(
    "destinations",
    OptionScope.SYNC,
    "DESTINATION",
    "Where the copies are kept: a directory, host:path, host::module/path or "
    "rsync://host/module/path. A name with neither / nor : is a host.",
    is_positional=True,
)
EXCLUDE = list_option(
    "exclude",
    OptionScope.SYNC,
    "PATTERN",
    "Exclude paths that match this rsync pattern. They are neither watched, nor sent, nor deleted.",
    short="-x",
    allows_leading_dash=True,
)
EXCLUDE_FROM = list_option(
    "exclude_from", OptionScope.SYNC, "FILE", "Read exclude patterns from this file, one per line."
)
INCLUDE = list_option(
    "include",
    OptionScope.SYNC,
    "PATTERN",
    "Sync paths that match this rsync pattern, even if a later rule excludes them: the first rule "
    "that matches decides.",
    allows_leading_dash=True,
)
FILTER = list_option(
    "filter",
    OptionScope.SYNC,
    "RULE",
    "Add a filter rule in rsync's notation, such as '- *.tmp' or '+ /keep/'.",
    allows_leading_dash=True,
)
DELETE = switch_option(
    "delete",
    OptionScope.SYNC,
    "Delete at the destinations what was deleted in the source. With no, it is kept there.",
    default="yes",
    flag_value="no",
    flag_help="Keep at the destinations what was deleted in the source.",
)
MAX_DELETE = value_option(
    "max_delete",
    OptionScope.SYNC,
    "N",
    parse_count,
    "Hold a run that would delete more than this many paths until it is released with pylsyncctl "
    "release or the signal USR2. This costs a dry run before each run.",
)
MODIFY = switch_option(
    "modify",
    OptionScope.SYNC,
    "Also sync files that are written to but not closed, once per window.",
    default="no",
)
SELECTION_OPTIONS = (
    SOURCE,
    DESTINATIONS,
    EXCLUDE,
    EXCLUDE_FROM,
    INCLUDE,
    FILTER,
    DELETE,
    MAX_DELETE,
    MODIFY,
)

INITIAL_SYNC = switch_option(
    "initial_sync",
    OptionScope.SYNC,
    "Sync everything once the source is watched. By default, only what has changed since the last "
    "run is synced.",
    short="-i",
    default="no",
)
WINDOW = value_option(
    "window",
    OptionScope.DESTINATION,
    "SECONDS",
    parse_seconds,
    "Collect changes for this many seconds, counted from the first change, before sending them.",
    short="-w",
    default=format_number(DEFAULT_WINDOW),
)
MAX_CHANGES = value_option(
    "max_changes",
    OptionScope.SYNC,
    "N",
    parse_positive_count,
    "End a window early when this many paths have changed.",
    default=str(DEFAULT_MAX_CHANGES),
)
FULL_SYNC_INTERVAL = value_option(
    "full_sync_interval",
    OptionScope.SYNC,
    "SECONDS",
    parse_interval,
    "Sync everything at this interval, give or take a tenth, to undo changes that others made at "
    "the destinations. 0 disables it.",
    default="0",
)
POLL_INTERVAL = value_option(
    "poll_interval",
    OptionScope.SYNC,
    "SECONDS",
    parse_seconds,
    "Scan directories that cannot be watched at this interval.",
    default=format_number(DEFAULT_POLL_INTERVAL),
)
SCAN_INTERVAL = value_option(
    "scan_interval",
    OptionScope.SYNC,
    "SECONDS",
    parse_interval,
    "Scan the source at this interval for changes that cause no event. A scan costs one lstat per "
    "file, and sends only what has changed. 0 disables it.",
    default=format_number(DEFAULT_SCAN_INTERVAL),
)
TIMING_OPTIONS = (
    INITIAL_SYNC,
    WINDOW,
    MAX_CHANGES,
    FULL_SYNC_INTERVAL,
    POLL_INTERVAL,
    SCAN_INTERVAL,
)

RSYNC = value_option(
    "rsync", OptionScope.SYNC, "PROGRAM", str, "The rsync program to run.", default="rsync"
)
RSH = value_option(
    "rsh",
    OptionScope.DESTINATION,
    "COMMAND",
    str,
    "The remote shell for destinations of the form host:path, as in rsync's --rsh. The environment "
    "variable RSYNC_RSH overrides the default.",
    short="-e",
    default=DEFAULT_REMOTE_SHELL,
)
SHARE_SSH = switch_option(
    "share_ssh",
    OptionScope.DESTINATION,
    "Share one ssh connection between all runs for a destination, and keep it open between them.",
    default="yes",
    flag_value="no",
    flag_help="Open a new ssh connection for each run.",
)
TIMEOUT = value_option(
    "timeout",
    OptionScope.DESTINATION,
    "SECONDS",
    parse_seconds,
    "Abort a run when the other side has sent nothing for this many seconds.",
    default=format_number(DEFAULT_TIMEOUT),
)
BANDWIDTH_LIMIT = value_option(
    "bandwidth_limit",
    OptionScope.DESTINATION,
    "RATE",
    check_rate,
    "Limit the transfer rate, as rsync's --bwlimit does: 500 or 500k for 500 KiB per second, 1.5m "
    "for 1.5 MiB per second.",
)
PASSWORD_FILE = value_option(
    "password_file",
    OptionScope.DESTINATION,
    "FILE",
    str,
    "Read the password for rsync daemons from this file. It must not be accessible to others.",
)
BATCH_SIZE_LIMIT = value_option(
    "batch_size_limit",
    OptionScope.DESTINATION,
    "SIZE",
    parse_size,
    "Send each file that is larger than this in a run of its own, so that small files do not wait "
    "for it. In bytes, or with the suffix K, M or G.",
)
NICE = value_option(
    "nice",
    OptionScope.DESTINATION,
    "N",
    parse_niceness,
    "Run rsync with this niceness, from 0 to 19; see nice(1).",
    default="0",
)
IONICE = value_option(
    "ionice",
    OptionScope.DESTINATION,
    "CLASS",
    check_io_class,
    "Run rsync in this I/O scheduling class: idle, or best-effort:N with N from 0 to 7; see "
    "ionice(1).",
)
RSYNC_OPTION = list_option(
    "rsync_option",
    OptionScope.DESTINATION,
    "OPTION",
    "Pass this option to rsync, such as --compress or --numeric-ids. Options that would interfere "
    "with the way pylsyncd runs rsync are refused, with the reason.",
    allows_leading_dash=True,
)
RSYNC_OPTIONS = (
    RSYNC,
    RSH,
    SHARE_SSH,
    TIMEOUT,
    BANDWIDTH_LIMIT,
    PASSWORD_FILE,
    BATCH_SIZE_LIMIT,
    NICE,
    IONICE,
    RSYNC_OPTION,
)

RETRY_FIRST = value_option(
    "retry_first",
    OptionScope.DESTINATION,
    "SECONDS",
    parse_seconds,
    "Wait this long after a failure before the next attempt, and twice as long after each further "
    "failure.",
    default=format_number(RetryPolicy().first_pause),
)
RETRY_LONGEST = value_option(
    "retry_longest",
    OptionScope.DESTINATION,
    "SECONDS",
    parse_seconds,
    "Never wait longer than this between two attempts.",
    default=format_number(RetryPolicy().max_pause),
)
RETRY_HELD = value_option(
    "retry_held",
    OptionScope.DESTINATION,
    "SECONDS",
    parse_seconds,
    "Wait this long between attempts when only an administrator can correct the failure.",
    default=format_number(RetryPolicy().held_pause),
)
RETRY_OPTIONS = (RETRY_FIRST, RETRY_LONGEST, RETRY_HELD)

HOOK_BATCH = value_option(
    "hook_batch",
    OptionScope.SYNC,
    "COMMAND",
    split_command,
    "Run this command, without a shell, after each batch that a destination has received.",
)
HOOK_ERROR = value_option(
    "hook_error",
    OptionScope.SYNC,
    "COMMAND",
    split_command,
    "Run this command when a destination begins to fail.",
)
HOOK_RECOVERY = value_option(
    "hook_recovery",
    OptionScope.SYNC,
    "COMMAND",
    split_command,
    "Run this command when a destination that failed works again.",
)
HOOK_HELD = value_option(
    "hook_held",
    OptionScope.SYNC,
    "COMMAND",
    split_command,
    "Run this command when a destination is held until an administrator acts. The default is the "
    "command of hook_error.",
)
HOOK_TIMEOUT = value_option(
    "hook_timeout",
    OptionScope.SYNC,
    "SECONDS",
    parse_seconds,
    "Stop a hook that runs longer than this.",
    default=format_number(DEFAULT_HOOK_TIMEOUT),
)
HOOK_OPTIONS = (HOOK_BATCH, HOOK_ERROR, HOOK_RECOVERY, HOOK_HELD, HOOK_TIMEOUT)
