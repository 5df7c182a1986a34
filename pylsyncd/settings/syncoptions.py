"""The options of a source and of its destinations."""

from pylsyncd.rsync.commands import SSH, TIMEOUT
from pylsyncd.rsync.retry import Pauses
from pylsyncd.settings.option import Scope, in_group, number, several, switch, value
from pylsyncd.settings.settings import (
    HOOK_TIMEOUT,
    MAX_CHANGES,
    POLL_INTERVAL,
    SCAN_INTERVAL,
    WINDOW,
)

CHOOSING = in_group(
    "what is synced",
    value(
        "source",
        Scope.SYNC,
        "SOURCE",
        "The directory to watch, with all below it. /./ in it marks the part of its path that "
        "is not repeated at the destinations.",
        is_positional=True,
    ),
    several(
        "destinations",
        Scope.SYNC,
        "DESTINATION",
        "Where its copies are kept: a directory, host:path, host::module/path or "
        "rsync://host/module/path; a name with neither / nor : is a host.",
        is_positional=True,
    ),
    several(
        "exclude",
        Scope.SYNC,
        "PATTERN",
        "Leave out what matches this pattern of rsync: it is neither watched, nor sent, nor "
        "deleted.",
        short="-x",
        takes_dash=True,
    ),
    several("exclude_from", Scope.SYNC, "FILE", "Read such patterns from a file, one a line."),
    several(
        "include",
        Scope.SYNC,
        "PATTERN",
        "Sync what matches this pattern, whatever a later rule excludes: the first rule that "
        "matches decides.",
        takes_dash=True,
    ),
    several(
        "filter",
        Scope.SYNC,
        "RULE",
        "A rule in rsync's notation, such as '- *.tmp' or '+ /keep/'.",
        takes_dash=True,
    ),
    switch(
        "delete",
        Scope.SYNC,
        "Delete at the destinations what is deleted in the source; otherwise it is kept there.",
        default="yes",
        says="no",
        flag_help="Keep at the destinations what is deleted in the source.",
    ),
    value(
        "max_delete",
        Scope.SYNC,
        "N",
        "Hold a run that would delete more than so many paths until somebody has looked (the "
        "signal USR2, or pylsyncctl release). Costs a dry run before each run.",
    ),
    switch(
        "modify",
        Scope.SYNC,
        "Sync files that are written and not closed, too, once in each window.",
        default="no",
    ),
)

TIMING = in_group(
    "when it is synced",
    switch(
        "initial_sync",
        Scope.SYNC,
        "Sync everything once watching has begun. Without it, what has changed since the last "
        "run is synced.",
        short="-i",
        default="no",
    ),
    value(
        "window",
        Scope.DESTINATION,
        "SECONDS",
        "Seconds that changes are collected, from the first one on.",
        short="-w",
        default=number(WINDOW),
    ),
    value(
        "max_changes",
        Scope.SYNC,
        "N",
        "End a window early at so many changed paths.",
        default=str(MAX_CHANGES),
    ),
    value(
        "full_sync_interval",
        Scope.SYNC,
        "SECONDS",
        "Sync everything every so often, a tenth sooner or later, to undo what others do at the "
        "destinations; 0 for never.",
        default="0",
    ),
    value(
        "poll_interval",
        Scope.SYNC,
        "SECONDS",
        "How often what cannot be watched is looked through.",
        default=number(POLL_INTERVAL),
    ),
    value(
        "scan_interval",
        Scope.SYNC,
        "SECONDS",
        "How often the source is scanned for changes that send no event; 0 for never. It costs "
        "an lstat of each file, and sends nothing that is equal.",
        default=number(SCAN_INTERVAL),
    ),
)

TRANSFER = in_group(
    "rsync",
    value("rsync", Scope.SYNC, "PROGRAM", "The rsync to run.", default="rsync"),
    value(
        "rsh",
        Scope.DESTINATION,
        "COMMAND",
        "The remote shell for host:path, as rsync takes it. RSYNC_RSH in the environment goes "
        "before the default.",
        short="-e",
        default=SSH,
    ),
    switch(
        "share_ssh",
        Scope.DESTINATION,
        "Let all runs for a destination share one ssh connection, which is kept open between them.",
        default="yes",
        says="no",
        flag_help="Have each run open an ssh connection of its own.",
    ),
    value(
        "timeout",
        Scope.DESTINATION,
        "SECONDS",
        "Give up a peer that says nothing for so long.",
        default=number(TIMEOUT),
    ),
    value(
        "bandwidth_limit",
        Scope.DESTINATION,
        "RATE",
        "Send no more than so much in a second, as rsync's --bwlimit takes it: 500 or 500k for "
        "500 KiB, 1.5m for 1.5 MiB.",
    ),
    value(
        "password_file",
        Scope.DESTINATION,
        "FILE",
        "The file with the password for rsync daemons. Others must not be able to read it.",
    ),
    value(
        "batch_size_limit",
        Scope.DESTINATION,
        "SIZE",
        "Send a file that is larger than this by a run of its own, so that small ones do not "
        "wait for it: bytes, or with K, M or G.",
    ),
    value(
        "nice",
        Scope.DESTINATION,
        "N",
        "How nice rsync is to other processes, from 0 to 19, as nice(1) has it.",
        default="0",
    ),
    value(
        "ionice",
        Scope.DESTINATION,
        "CLASS",
        "How rsync uses disks beside others: idle, or best-effort:N with N from 0 to 7, as "
        "ionice(1) has it.",
    ),
    several(
        "rsync_option",
        Scope.DESTINATION,
        "OPTION",
        "One more option for rsync, such as --compress or --numeric-ids. Those that would break "
        "the way rsync is used here are refused, with the reason.",
        takes_dash=True,
    ),
)

RETRYING = in_group(
    "after failures",
    value(
        "retry_first",
        Scope.DESTINATION,
        "SECONDS",
        "Wait so long after a failure before the next attempt, and twice as long after each "
        "further one.",
        default=number(Pauses().first),
    ),
    value(
        "retry_longest",
        Scope.DESTINATION,
        "SECONDS",
        "Never wait longer than this between two attempts.",
        default=number(Pauses().longest),
    ),
    value(
        "retry_held",
        Scope.DESTINATION,
        "SECONDS",
        "Wait so long before a destination that only a person can mend is tried once more.",
        default=number(Pauses().held),
    ),
)

HOOKS = in_group(
    "hooks",
    value(
        "hook_batch",
        Scope.SYNC,
        "COMMAND",
        "Run this command, without a shell, after each batch that a destination has got.",
    ),
    value(
        "hook_error",
        Scope.SYNC,
        "COMMAND",
        "Run this command when a destination fails that did not fail before.",
    ),
    value(
        "hook_recovery",
        Scope.SYNC,
        "COMMAND",
        "Run this command when a destination that has failed is reached again.",
    ),
    value(
        "hook_held",
        Scope.SYNC,
        "COMMAND",
        "Run this command when a destination is held until a person has looked; without it, the "
        "one for errors.",
    ),
    value(
        "hook_timeout",
        Scope.SYNC,
        "SECONDS",
        "End a hook that takes longer.",
        default=number(HOOK_TIMEOUT),
    ),
)
