"""The options of a source and of its destinations."""

from pylsyncd.config.option import (
    OptionScope,
    format_number,
    in_group,
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

SELECTION_OPTIONS = in_group(
    "what is synced",
    value_option(
        "source",
        OptionScope.SYNC,
        "SOURCE",
        "The directory to watch, with all below it. /./ in it marks the part of its path that "
        "is not repeated at the destinations.",
        is_positional=True,
    ),
    list_option(
        "destinations",
        OptionScope.SYNC,
        "DESTINATION",
        "Where its copies are kept: a directory, host:path, host::module/path or "
        "rsync://host/module/path; a name with neither / nor : is a host.",
        is_positional=True,
    ),
    list_option(
        "exclude",
        OptionScope.SYNC,
        "PATTERN",
        "Leave out what matches this pattern of rsync: it is neither watched, nor sent, nor "
        "deleted.",
        short="-x",
        takes_dash=True,
    ),
    list_option(
        "exclude_from", OptionScope.SYNC, "FILE", "Read such patterns from a file, one a line."
    ),
    list_option(
        "include",
        OptionScope.SYNC,
        "PATTERN",
        "Sync what matches this pattern, whatever a later rule excludes: the first rule that "
        "matches decides.",
        takes_dash=True,
    ),
    list_option(
        "filter",
        OptionScope.SYNC,
        "RULE",
        "A rule in rsync's notation, such as '- *.tmp' or '+ /keep/'.",
        takes_dash=True,
    ),
    switch_option(
        "delete",
        OptionScope.SYNC,
        "Delete at the destinations what is deleted in the source; otherwise it is kept there.",
        default="yes",
        says="no",
        flag_help="Keep at the destinations what is deleted in the source.",
    ),
    value_option(
        "max_delete",
        OptionScope.SYNC,
        "N",
        "Hold a run that would delete more than so many paths until somebody has looked (the "
        "signal USR2, or pylsyncctl release). Costs a dry run before each run.",
    ),
    switch_option(
        "modify",
        OptionScope.SYNC,
        "Sync files that are written and not closed, too, once in each window.",
        default="no",
    ),
)

TIMING_OPTIONS = in_group(
    "when it is synced",
    switch_option(
        "initial_sync",
        OptionScope.SYNC,
        "Sync everything once watching has begun. Without it, what has changed since the last "
        "run is synced.",
        short="-i",
        default="no",
    ),
    value_option(
        "window",
        OptionScope.DESTINATION,
        "SECONDS",
        "Seconds that changes are collected, from the first one on.",
        short="-w",
        default=format_number(DEFAULT_WINDOW),
    ),
    value_option(
        "max_changes",
        OptionScope.SYNC,
        "N",
        "End a window early at so many changed paths.",
        default=str(DEFAULT_MAX_CHANGES),
    ),
    value_option(
        "full_sync_interval",
        OptionScope.SYNC,
        "SECONDS",
        "Sync everything every so often, a tenth sooner or later, to undo what others do at the "
        "destinations; 0 for never.",
        default="0",
    ),
    value_option(
        "poll_interval",
        OptionScope.SYNC,
        "SECONDS",
        "How often what cannot be watched is looked through.",
        default=format_number(DEFAULT_POLL_INTERVAL),
    ),
    value_option(
        "scan_interval",
        OptionScope.SYNC,
        "SECONDS",
        "How often the source is scanned for changes that send no event; 0 for never. It costs "
        "an lstat of each file, and sends nothing that is equal.",
        default=format_number(DEFAULT_SCAN_INTERVAL),
    ),
)

RSYNC_OPTIONS = in_group(
    "rsync",
    value_option("rsync", OptionScope.SYNC, "PROGRAM", "The rsync to run.", default="rsync"),
    value_option(
        "rsh",
        OptionScope.DESTINATION,
        "COMMAND",
        "The remote shell for host:path, as rsync takes it. RSYNC_RSH in the environment goes "
        "before the default.",
        short="-e",
        default=DEFAULT_REMOTE_SHELL,
    ),
    switch_option(
        "share_ssh",
        OptionScope.DESTINATION,
        "Let all runs for a destination share one ssh connection, which is kept open between them.",
        default="yes",
        says="no",
        flag_help="Have each run open an ssh connection of its own.",
    ),
    value_option(
        "timeout",
        OptionScope.DESTINATION,
        "SECONDS",
        "Give up a peer that says nothing for so long.",
        default=format_number(DEFAULT_TIMEOUT),
    ),
    value_option(
        "bandwidth_limit",
        OptionScope.DESTINATION,
        "RATE",
        "Send no more than so much in a second, as rsync's --bwlimit takes it: 500 or 500k for "
        "500 KiB, 1.5m for 1.5 MiB.",
    ),
    value_option(
        "password_file",
        OptionScope.DESTINATION,
        "FILE",
        "The file with the password for rsync daemons. Others must not be able to read it.",
    ),
    value_option(
        "batch_size_limit",
        OptionScope.DESTINATION,
        "SIZE",
        "Send a file that is larger than this by a run of its own, so that small ones do not "
        "wait for it: bytes, or with K, M or G.",
    ),
    value_option(
        "nice",
        OptionScope.DESTINATION,
        "N",
        "How nice rsync is to other processes, from 0 to 19, as nice(1) has it.",
        default="0",
    ),
    value_option(
        "ionice",
        OptionScope.DESTINATION,
        "CLASS",
        "How rsync uses disks beside others: idle, or best-effort:N with N from 0 to 7, as "
        "ionice(1) has it.",
    ),
    list_option(
        "rsync_option",
        OptionScope.DESTINATION,
        "OPTION",
        "One more option for rsync, such as --compress or --numeric-ids. Those that would break "
        "the way rsync is used here are refused, with the reason.",
        takes_dash=True,
    ),
)

RETRY_OPTIONS = in_group(
    "after failures",
    value_option(
        "retry_first",
        OptionScope.DESTINATION,
        "SECONDS",
        "Wait so long after a failure before the next attempt, and twice as long after each "
        "further one.",
        default=format_number(RetryPolicy().first_pause),
    ),
    value_option(
        "retry_longest",
        OptionScope.DESTINATION,
        "SECONDS",
        "Never wait longer than this between two attempts.",
        default=format_number(RetryPolicy().max_pause),
    ),
    value_option(
        "retry_held",
        OptionScope.DESTINATION,
        "SECONDS",
        "Wait so long before a destination that only a person can mend is tried once more.",
        default=format_number(RetryPolicy().held_pause),
    ),
)

HOOK_OPTIONS = in_group(
    "hooks",
    value_option(
        "hook_batch",
        OptionScope.SYNC,
        "COMMAND",
        "Run this command, without a shell, after each batch that a destination has got.",
    ),
    value_option(
        "hook_error",
        OptionScope.SYNC,
        "COMMAND",
        "Run this command when a destination fails that did not fail before.",
    ),
    value_option(
        "hook_recovery",
        OptionScope.SYNC,
        "COMMAND",
        "Run this command when a destination that has failed is reached again.",
    ),
    value_option(
        "hook_held",
        OptionScope.SYNC,
        "COMMAND",
        "Run this command when a destination is held until a person has looked; without it, the "
        "one for errors.",
    ),
    value_option(
        "hook_timeout",
        OptionScope.SYNC,
        "SECONDS",
        "End a hook that takes longer.",
        default=format_number(DEFAULT_HOOK_TIMEOUT),
    ),
)
