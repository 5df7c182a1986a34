"""The options of the process, and those that only the command line has."""

from pylsyncd.settings.option import LEVELS, Scope, in_group, switch, value
from pylsyncd.settings.settings import DIRECTORY, UMASK

RUNNING = in_group(
    "what to do",
    value(
        "config",
        Scope.COMMAND_LINE,
        "FILE",
        "Read this configuration file, which names the sources and destinations. Options of the "
        "process on the command line go before those in the file.",
        short="-c",
    ),
    switch(
        "check_config",
        Scope.COMMAND_LINE,
        "Say what would be kept equal to what, and how, or all that is wrong with the "
        "configuration; then exit. With -v the rsync commands, too.",
    ),
    value(
        "explain",
        Scope.COMMAND_LINE,
        "PATH",
        "Name the rule that decides whether this path in a source is synced; then exit.",
    ),
    switch(
        "check",
        Scope.COMMAND_LINE,
        "Compare all destinations with their source, print what differs, change nothing; the "
        "status tells whether they are equal.",
    ),
    switch("checksum", Scope.COMMAND_LINE, "With --check: compare the contents, too."),
    switch(
        "once",
        Scope.COMMAND_LINE,
        "Sync everything, then exit; the status tells whether all destinations succeeded.",
    ),
    switch(
        "dry_run", Scope.COMMAND_LINE, "Say what would be run and done, change nothing.", short="-n"
    ),
)

DAEMON = in_group(
    "the daemon",
    switch(
        "daemon",
        Scope.PROCESS,
        "Go to the background once everything that can be checked has been checked.",
        default="no",
    ),
    switch(
        "foreground",
        Scope.COMMAND_LINE,
        "Stay in the foreground, whatever the configuration file says.",
        says="no",
        stands_for="daemon",
    ),
    value(
        "pidfile",
        Scope.PROCESS,
        "FILE",
        "Keep the process id in this file, locked, and remove it at the end.",
    ),
    value("user", Scope.PROCESS, "NAME", "Become this user after the start."),
    value(
        "group",
        Scope.PROCESS,
        "NAME",
        "Become this group after the start; without it, the user's own.",
    ),
    value(
        "chdir",
        Scope.PROCESS,
        "DIRECTORY",
        "Work in this directory when in the background.",
        default=DIRECTORY,
    ),
    value(
        "umask",
        Scope.PROCESS,
        "MODE",
        "The permissions, in octal, that files made in the background do not get.",
        default=f"{UMASK:03o}",
    ),
    value(
        "state_dir",
        Scope.PROCESS,
        "DIRECTORY",
        "Where it is kept what each destination has, for the next start. Without it, "
        "/var/lib/pylsyncd for root, else pylsyncd in $XDG_STATE_HOME or ~/.local/state. Only "
        "this user may be able to write there.",
    ),
    value(
        "max_runs",
        Scope.PROCESS,
        "N",
        "Run no more than so many rsyncs at a time, over all destinations, which take turns.",
    ),
)

LOG = in_group(
    "log",
    value(
        "log_level",
        Scope.PROCESS,
        "LEVEL",
        "How much is logged: error, warning (failures), notice (start, completed syncs, "
        "failures, stop), info (a line for every run of rsync) or debug (every step).",
        default="notice",
        choices=LEVELS,
    ),
    switch(
        "debug",
        Scope.COMMAND_LINE,
        "Log every step: events, changes, commands and their lists.",
        short="-d",
        says="debug",
        stands_for="log_level",
    ),
    switch(
        "verbose",
        Scope.COMMAND_LINE,
        "Log a line for every run of rsync.",
        short="-v",
        says="info",
        stands_for="log_level",
    ),
    switch(
        "quiet",
        Scope.COMMAND_LINE,
        "Log failures only.",
        short="-q",
        says="warning",
        stands_for="log_level",
    ),
    value(
        "logfile",
        Scope.PROCESS,
        "FILE",
        "Log to this file instead of standard error. It is opened again when it has been renamed.",
    ),
    switch("syslog", Scope.PROCESS, "Log to syslog, too.", short="-s", default="no"),
    value(
        "syslog_facility",
        Scope.PROCESS,
        "NAME",
        "Log to syslog as this facility.",
        default="daemon",
    ),
)

STATUS = in_group(
    "control and metrics",
    value(
        "control",
        Scope.PROCESS,
        "SOCKET",
        "The socket that pylsyncctl talks to, or no for none. Without it, one in the runtime "
        "directory.",
    ),
    value(
        "status_file",
        Scope.PROCESS,
        "FILE",
        "Keep the status of all destinations in this file, as JSON.",
    ),
    value(
        "metrics_file",
        Scope.PROCESS,
        "FILE",
        "Keep metrics in this file, in the text format of Prometheus; its name ends in .prom "
        "for the node exporter.",
    ),
    value(
        "metrics_port",
        Scope.PROCESS,
        "PORT",
        "Serve the same over HTTP at this port of the loopback.",
    ),
)
