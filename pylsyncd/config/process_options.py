"""The options of the process, and those that only the command line has."""

from pylsyncd.config.option import LOG_LEVELS, OptionScope, in_group, switch_option, value_option
from pylsyncd.config.settings import DEFAULT_DIRECTORY, DEFAULT_UMASK

RUN_OPTIONS = in_group(
    "what to do",
    value_option(
        "config",
        OptionScope.COMMAND_LINE,
        "FILE",
        "Read this configuration file, which names the sources and destinations. Options of the "
        "process on the command line go before those in the file.",
        short="-c",
    ),
    switch_option(
        "check_config",
        OptionScope.COMMAND_LINE,
        "Say what would be kept equal to what, and how, or all that is wrong with the "
        "configuration; then exit. With -v the rsync commands, too.",
    ),
    value_option(
        "explain",
        OptionScope.COMMAND_LINE,
        "PATH",
        "Name the rule that decides whether this path in a source is synced; then exit.",
    ),
    switch_option(
        "check",
        OptionScope.COMMAND_LINE,
        "Compare all destinations with their source, print what differs, change nothing; the "
        "status tells whether they are equal.",
    ),
    switch_option("checksum", OptionScope.COMMAND_LINE, "With --check: compare the contents, too."),
    switch_option(
        "once",
        OptionScope.COMMAND_LINE,
        "Sync everything, then exit; the status tells whether all destinations succeeded.",
    ),
    switch_option(
        "dry_run",
        OptionScope.COMMAND_LINE,
        "Say what would be run and done, change nothing.",
        short="-n",
    ),
)

DAEMON_OPTIONS = in_group(
    "the daemon",
    switch_option(
        "daemon",
        OptionScope.PROCESS,
        "Go to the background once everything that can be checked has been checked.",
        default="no",
    ),
    switch_option(
        "foreground",
        OptionScope.COMMAND_LINE,
        "Stay in the foreground, whatever the configuration file says.",
        says="no",
        stands_for="daemon",
    ),
    value_option(
        "pidfile",
        OptionScope.PROCESS,
        "FILE",
        "Keep the process id in this file, locked, and remove it at the end.",
    ),
    value_option("user", OptionScope.PROCESS, "NAME", "Become this user after the start."),
    value_option(
        "group",
        OptionScope.PROCESS,
        "NAME",
        "Become this group after the start; without it, the user's own.",
    ),
    value_option(
        "chdir",
        OptionScope.PROCESS,
        "DIRECTORY",
        "Work in this directory when in the background.",
        default=DEFAULT_DIRECTORY,
    ),
    value_option(
        "umask",
        OptionScope.PROCESS,
        "MODE",
        "The permissions, in octal, that files made in the background do not get.",
        default=f"{DEFAULT_UMASK:03o}",
    ),
    value_option(
        "state_dir",
        OptionScope.PROCESS,
        "DIRECTORY",
        "Where it is kept what each destination has, for the next start. Without it, "
        "/var/lib/pylsyncd for root, else pylsyncd in $XDG_STATE_HOME or ~/.local/state. Only "
        "this user may be able to write there.",
    ),
    value_option(
        "max_runs",
        OptionScope.PROCESS,
        "N",
        "Run no more than so many rsyncs at a time, over all destinations, which take turns.",
    ),
)

LOG_OPTIONS = in_group(
    "log",
    value_option(
        "log_level",
        OptionScope.PROCESS,
        "LEVEL",
        "How much is logged: error, warning (failures), notice (start, completed syncs, "
        "failures, stop), info (a line for every run of rsync) or debug (every step).",
        default="notice",
        choices=LOG_LEVELS,
    ),
    switch_option(
        "debug",
        OptionScope.COMMAND_LINE,
        "Log every step: events, changes, commands and their lists.",
        short="-d",
        says="debug",
        stands_for="log_level",
    ),
    switch_option(
        "verbose",
        OptionScope.COMMAND_LINE,
        "Log a line for every run of rsync.",
        short="-v",
        says="info",
        stands_for="log_level",
    ),
    switch_option(
        "quiet",
        OptionScope.COMMAND_LINE,
        "Log failures only.",
        short="-q",
        says="warning",
        stands_for="log_level",
    ),
    value_option(
        "logfile",
        OptionScope.PROCESS,
        "FILE",
        "Log to this file instead of standard error. It is opened again when it has been renamed.",
    ),
    switch_option("syslog", OptionScope.PROCESS, "Log to syslog, too.", short="-s", default="no"),
    value_option(
        "syslog_facility",
        OptionScope.PROCESS,
        "NAME",
        "Log to syslog as this facility.",
        default="daemon",
    ),
)

CONTROL_OPTIONS = in_group(
    "control and metrics",
    value_option(
        "control",
        OptionScope.PROCESS,
        "SOCKET",
        "The socket that pylsyncctl talks to, or no for none. Without it, one in the runtime "
        "directory.",
    ),
    value_option(
        "status_file",
        OptionScope.PROCESS,
        "FILE",
        "Keep the status of all destinations in this file, as JSON.",
    ),
    value_option(
        "metrics_file",
        OptionScope.PROCESS,
        "FILE",
        "Keep metrics in this file, in the text format of Prometheus; its name ends in .prom "
        "for the node exporter.",
    ),
    value_option(
        "metrics_port",
        OptionScope.PROCESS,
        "PORT",
        "Serve the same over HTTP at this port of the loopback.",
    ),
)
