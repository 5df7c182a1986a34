"""The options of a source and of its destinations."""

from pylsyncd.config.converters import (
    check_io_class,
    check_rate,
    parse_count,
    parse_deletion,
    parse_interval,
    parse_modify_window,
    parse_niceness,
    parse_parallel,
    parse_positive_count,
    parse_seconds,
    parse_share,
    parse_size,
    parse_switch,
    parse_watch_method,
    split_command,
)
from pylsyncd.config.option import Option, OptionScope, format_number
from pylsyncd.config.settings import (
    DEFAULT_HOOK_TIMEOUT,
    DEFAULT_MAX_CHANGES,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_SCAN_BUDGET,
    DEFAULT_WINDOW,
    WatchMethod,
)
from pylsyncd.rsync.command import DEFAULT_REMOTE_SHELL, DEFAULT_TIMEOUT
from pylsyncd.rsync.retry_policy import RetryPolicy

# A row says how an option is written and converted, then what it does.
# fmt: off

SOURCE = Option(
    "source", OptionScope.SYNC, str, metavar="SOURCE", is_positional=True,
    help="The directory to watch, with everything below it. A /./ in the path marks the end of "
         "the part that is not repeated at the destinations.",
)
DESTINATIONS = Option(
    "destinations", OptionScope.SYNC, str, metavar="DESTINATION", is_list=True, is_positional=True,
    help="Where the copies are kept: a directory, host:path, host::module/path or "
         "rsync://host/module/path. A name with neither / nor : is a host.",
)
EXCLUDE = Option(
    "exclude", OptionScope.SYNC, str, metavar="PATTERN", is_list=True, short_flag="-x",
    allows_leading_dash=True,
    help="Exclude paths that match this rsync pattern. They are neither watched, nor sent, nor "
         "deleted.",
)
EXCLUDE_FROM = Option(
    "exclude_from", OptionScope.SYNC, str, metavar="FILE", is_list=True,
    help="Read exclude patterns from this file, one per line.",
)
INCLUDE = Option(
    "include", OptionScope.SYNC, str, metavar="PATTERN", is_list=True, allows_leading_dash=True,
    help="Sync paths that match this rsync pattern, even if a later rule excludes them: the first "
         "rule that matches decides.",
)
FILTER = Option(
    "filter", OptionScope.SYNC, str, metavar="RULE", is_list=True, allows_leading_dash=True,
    help="Add a filter rule in rsync's notation, such as '- *.tmp' or '+ /keep/'.",
)
DELETE = Option(
    "delete", OptionScope.SYNC, parse_deletion, metavar="WHEN", default="yes",
    choices=("yes", "no", "startup", "running"),
    help="Delete at the destinations what was deleted in the source. With no, it is kept there. "
         "With startup, each start syncs everything and deletes what the source lacks, and nothing "
         "is deleted later. With running, only what is deleted while pylsyncd watches the source "
         "is deleted, and nothing at a start.",
)
NO_DELETE = Option(
    "no_delete", OptionScope.COMMAND_LINE, parse_switch, flag_value="no", sets_key="delete",
    help="Keep at the destinations what was deleted in the source.",
)
MAX_DELETE = Option(
    "max_delete", OptionScope.SYNC, parse_count, metavar="N",
    help="Hold a run that would delete more than this many paths until it is released with "
         "pylsyncctl release or the signal USR2. This costs a dry run before each run.",
)
LAST = Option(
    "last", OptionScope.DESTINATION, str, metavar="PATTERN", is_list=True,
    allows_leading_dash=True,
    help="Send paths that match this rsync pattern last, after everything else of a window, and "
         "delete only after them: for files that name others, such as an index or a link to the "
         "current release.",
)
MODIFY = Option(
    "modify", OptionScope.SYNC, parse_switch, default="no",
    help="Sync files that are written to but not closed with each window: the same as an open file "
         "interval of 0, unless one is set.",
)
SELECTION_OPTIONS = (
    SOURCE, DESTINATIONS, EXCLUDE, EXCLUDE_FROM, INCLUDE, FILTER, DELETE, NO_DELETE, MAX_DELETE,
    LAST, MODIFY,
)

INITIAL_SYNC = Option(
    "initial_sync", OptionScope.SYNC, parse_switch, short_flag="-i", default="no",
    help="Sync everything once the source is watched. By default, only what has changed since the "
         "last run is synced.",
)
WINDOW = Option(
    "window", OptionScope.DESTINATION, parse_seconds, metavar="TIME", short_flag="-w",
    default=format_number(DEFAULT_WINDOW),
    help="Collect changes for this long, counted from the first change, before sending them.",
)
MAX_CHANGES = Option(
    "max_changes", OptionScope.SYNC, parse_positive_count, metavar="N",
    default=str(DEFAULT_MAX_CHANGES),
    help="End a window early when this many paths have changed.",
)
FULL_SYNC_INTERVAL = Option(
    "full_sync_interval", OptionScope.SYNC, parse_interval, metavar="TIME", default="0",
    help="Sync everything at this interval, give or take a tenth, to undo changes that others "
         "made at the destinations. 0 disables it.",
)
OPEN_FILE_INTERVAL = Option(
    "open_file_interval", OptionScope.SYNC, parse_interval, metavar="TIME",
    help="While a file is written to and not closed, sync it at this interval, or once it was not "
         "written to for a window. 0 syncs it with each window. The default is ten windows.",
)
REPAIR_INTERVAL = Option(
    "repair_interval", OptionScope.DESTINATION, parse_interval, metavar="TIME", default="0",
    help="Compare every directory with its copy once in this time, in small parts spread over it, "
         "to undo changes that others made at the destination. 0 disables it.",
)
WATCH = Option(
    "watch", OptionScope.SYNC, parse_watch_method, metavar="METHOD",
    default=WatchMethod.INOTIFY.value,
    help="What reports changes: inotify, with a watch on each directory; fanotify, with one mark "
         "on the whole file system, for which pylsyncd must run as root; or auto: fanotify if the "
         "source needs more than half of the permitted watches.",
)
POLL_INTERVAL = Option(
    "poll_interval", OptionScope.SYNC, parse_seconds, metavar="TIME",
    default=format_number(DEFAULT_POLL_INTERVAL),
    help="Scan directories that cannot be watched at this interval.",
)
SCAN_BUDGET = Option(
    "scan_budget", OptionScope.SYNC, parse_share, metavar="PERCENT",
    default=format_number(100.0 * DEFAULT_SCAN_BUDGET),
    help="Scan the source all the time, in short slices, for changes that cause no event, and "
         "take at most this percentage of one processor for it. Only what has changed is sent. "
         "0 disables it.",
)
SCAN_INTERVAL = Option(
    "scan_interval", OptionScope.SYNC, parse_interval, metavar="TIME",
    help="Scan the whole source at once, at this interval, instead of in slices. 0 disables "
         "both. If scan_budget is set, too, both are done.",
)
TIMING_OPTIONS = (
    INITIAL_SYNC, WINDOW, MAX_CHANGES, OPEN_FILE_INTERVAL, FULL_SYNC_INTERVAL, REPAIR_INTERVAL,
    WATCH, POLL_INTERVAL, SCAN_BUDGET, SCAN_INTERVAL,
)

RSYNC = Option(
    "rsync", OptionScope.SYNC, str, metavar="PROGRAM", default="rsync",
    help="The rsync program to run.",
)
RSH = Option(
    "rsh", OptionScope.DESTINATION, str, metavar="COMMAND", short_flag="-e",
    default=DEFAULT_REMOTE_SHELL,
    help="The remote shell for destinations of the form host:path, as in rsync's --rsh. The "
         "environment variable RSYNC_RSH overrides the default.",
)
SHARE_SSH = Option(
    "share_ssh", OptionScope.DESTINATION, parse_switch, default="yes", flag_value="no",
    help="Share one ssh connection between all runs for a destination, and keep it open between "
         "them.",
    flag_help="Open a new ssh connection for each run.",
)
DETECT_RENAMES = Option(
    "detect_renames", OptionScope.DESTINATION, parse_switch, default="yes", flag_value="no",
    help="Move files and directories at the destination when they were moved in the source, so "
         "that their contents are not sent again.",
    flag_help="Send again what was moved in the source.",
)
TIMEOUT = Option(
    "timeout", OptionScope.DESTINATION, parse_seconds, metavar="TIME",
    default=format_number(DEFAULT_TIMEOUT),
    help="Abort a run when the other side has sent nothing for this long.",
)
BANDWIDTH_LIMIT = Option(
    "bandwidth_limit", OptionScope.DESTINATION, check_rate, metavar="RATE",
    help="Limit the transfer rate, as rsync's --bwlimit does: 500 or 500k for 500 KiB per second, "
         "1.5m for 1.5 MiB per second.",
)
PARALLEL = Option(
    "parallel", OptionScope.DESTINATION, parse_parallel, metavar="N", default="1",
    help="Divide each full sync by directories, and let up to this many runs of rsync carry the "
         "parts at the same time; up to 16. A run over everything follows, which deletes. It helps "
         "where one connection or one processor is too slow.",
)
PASSWORD_FILE = Option(
    "password_file", OptionScope.DESTINATION, str, metavar="FILE",
    help="Read the password for rsync daemons from this file. It must not be accessible to "
         "others.",
)
BATCH_SIZE_LIMIT = Option(
    "batch_size_limit", OptionScope.DESTINATION, parse_size, metavar="SIZE",
    help="Send each file that is larger than this in a run of its own, so that small files do not "
         "wait for it. In bytes, or with a suffix as in rsync's --max-size: K, M, G, T and P count "
         "in steps of 1024, KB, MB and so on in steps of 1000.",
)
MODIFY_WINDOW = Option(
    "modify_window", OptionScope.DESTINATION, parse_modify_window, metavar="TIME",
    allows_leading_dash=True,
    help="Take times that differ by up to this many whole seconds for equal, as rsync's "
         "--modify-window does: 0 for a file system with times of one second, 1 for FAT, -1 to "
         "compare nanoseconds. By default, pylsyncd finds out by the copies that it makes.",
)
NICE = Option(
    "nice", OptionScope.DESTINATION, parse_niceness, metavar="N", default="0",
    help="Run rsync with this niceness, from 0 to 19; see nice(1).",
)
IONICE = Option(
    "ionice", OptionScope.DESTINATION, check_io_class, metavar="CLASS",
    help="Run rsync in this I/O scheduling class: idle, or best-effort:N with N from 0 to 7; see "
         "ionice(1).",
)
RSYNC_OPTION = Option(
    "rsync_option", OptionScope.DESTINATION, str, metavar="OPTION", is_list=True,
    allows_leading_dash=True,
    help="Pass this option to rsync, such as --compress or --numeric-ids. Options that would "
         "interfere with the way pylsyncd runs rsync are refused, with the reason.",
)
RSYNC_OPTIONS = (
    RSYNC, RSH, SHARE_SSH, DETECT_RENAMES, TIMEOUT, BANDWIDTH_LIMIT, PARALLEL, PASSWORD_FILE,
    BATCH_SIZE_LIMIT, MODIFY_WINDOW, NICE, IONICE, RSYNC_OPTION,
)

RETRY_FIRST = Option(
    "retry_first", OptionScope.DESTINATION, parse_seconds, metavar="TIME",
    default=format_number(RetryPolicy().first_pause),
    help="Wait this long after a failure before the next attempt, and twice as long after each "
         "further failure.",
)
RETRY_LONGEST = Option(
    "retry_longest", OptionScope.DESTINATION, parse_seconds, metavar="TIME",
    default=format_number(RetryPolicy().max_pause),
    help="Never wait longer than this between two attempts.",
)
RETRY_HELD = Option(
    "retry_held", OptionScope.DESTINATION, parse_seconds, metavar="TIME",
    default=format_number(RetryPolicy().held_pause),
    help="Wait this long between attempts when only an administrator can correct the failure.",
)
RETRY_OPTIONS = (RETRY_FIRST, RETRY_LONGEST, RETRY_HELD)

HOOK_BEFORE = Option(
    "hook_before", OptionScope.SYNC, split_command, metavar="COMMAND",
    help="Run this command, without a shell, before each run of rsync to a destination, and wait "
         "for it. If it fails, the run is put off like one that has failed.",
)
HOOK_BATCH = Option(
    "hook_batch", OptionScope.SYNC, split_command, metavar="COMMAND",
    help="Run this command, without a shell, after each batch that a destination has received.",
)
HOOK_ERROR = Option(
    "hook_error", OptionScope.SYNC, split_command, metavar="COMMAND",
    help="Run this command when a destination begins to fail.",
)
HOOK_RECOVERY = Option(
    "hook_recovery", OptionScope.SYNC, split_command, metavar="COMMAND",
    help="Run this command when a destination that failed works again.",
)
HOOK_HELD = Option(
    "hook_held", OptionScope.SYNC, split_command, metavar="COMMAND",
    help="Run this command when a destination is held until an administrator acts. The default is "
         "the command of hook_error.",
)
HOOK_REPAIR = Option(
    "hook_repair", OptionScope.SYNC, split_command, metavar="COMMAND",
    help="Run this command when repair_interval has undone changes that others made at a "
         "destination.",
)
HOOK_TIMEOUT = Option(
    "hook_timeout", OptionScope.SYNC, parse_seconds, metavar="TIME",
    default=format_number(DEFAULT_HOOK_TIMEOUT),
    help="Stop a hook that runs longer than this.",
)
HOOK_OPTIONS = (
    HOOK_BEFORE, HOOK_BATCH, HOOK_ERROR, HOOK_RECOVERY, HOOK_HELD, HOOK_REPAIR, HOOK_TIMEOUT,
)
