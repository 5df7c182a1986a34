"""The options of the process, and those that exist on the command line only."""

from pylsyncd.config.converters import (
    LOG_LEVELS,
    check_log_level,
    parse_port,
    parse_positive_count,
    parse_umask,
)
from pylsyncd.config.option import OptionScope, switch_option, value_option
from pylsyncd.config.settings import DEFAULT_DIRECTORY, DEFAULT_UMASK

CONFIG = value_option(
    "config",
    OptionScope.COMMAND_LINE,
    "FILE",
    str,
    "Read this configuration file, which lists the sources and destinations. Options of the "
    "process on the command line override those in the file.",
    short="-c",
)
CHECK_CONFIG = switch_option(
    "check_config",
    OptionScope.COMMAND_LINE,
    "Check the configuration and print what it means, or every error in it; then exit. With -v, "
    "print the rsync commands as well.",
)
EXPLAIN = value_option(
    "explain",
    OptionScope.COMMAND_LINE,
    "PATH",
    str,
    "Print the rule that decides whether this path in a source is synced; then exit.",
)
CHECK = switch_option(
    "check",
    OptionScope.COMMAND_LINE,
    "Compare all destinations with their source and print the differences, without changing "
    "anything. The exit status is 0 if there are none and 1 if there are some.",
)
CHECKSUM = switch_option(
    "checksum", OptionScope.COMMAND_LINE, "With --check, compare the contents of files as well."
)
ONCE = switch_option(
    "once",
    OptionScope.COMMAND_LINE,
    "Sync everything, then exit. The exit status is 0 if all destinations succeeded and 1 "
    "otherwise.",
)
DRY_RUN = switch_option(
    "dry_run",
    OptionScope.COMMAND_LINE,
    "Show what would be run and what it would do, without changing anything.",
    short="-n",
)
RUN_OPTIONS = (CONFIG, CHECK_CONFIG, EXPLAIN, CHECK, CHECKSUM, ONCE, DRY_RUN)

DAEMON = switch_option(
    "daemon",
    OptionScope.PROCESS,
    "Run in the background. The configuration is checked, and its errors are printed, before the "
    "process detaches from the terminal.",
    default="no",
)
FOREGROUND = switch_option(
    "foreground",
    OptionScope.COMMAND_LINE,
    "Stay in the foreground, even if the configuration file says daemon = yes.",
    flag_value="no",
    sets_key="daemon",
)
PIDFILE = value_option(
    "pidfile",
    OptionScope.PROCESS,
    "FILE",
    str,
    "Write the process ID to this file. The file is locked while pylsyncd runs and removed when it "
    "exits.",
)
USER = value_option("user", OptionScope.PROCESS, "NAME", str, "Switch to this user after startup.")
GROUP = value_option(
    "group",
    OptionScope.PROCESS,
    "NAME",
    str,
    "Switch to this group after startup. The default is the primary group of the user.",
)
CHDIR = value_option(
    "chdir",
    OptionScope.PROCESS,
    "DIRECTORY",
    str,
    "The working directory of the process in the background.",
    default=DEFAULT_DIRECTORY,
)
UMASK = value_option(
    "umask",
    OptionScope.PROCESS,
    "MODE",
    parse_umask,
    "The umask of the process in the background, in octal.",
    default=f"{DEFAULT_UMASK:03o}",
)
STATE_DIR = value_option(
    "state_dir",
    OptionScope.PROCESS,
    "DIRECTORY",
    str,
    "Keep the state of each destination in this directory from one run to the next. The default is "
    "/var/lib/pylsyncd for root, and pylsyncd in $XDG_STATE_HOME or ~/.local/state for other "
    "users. No other user may have write permission there.",
)
MAX_RUNS = value_option(
    "max_runs",
    OptionScope.PROCESS,
    "N",
    parse_positive_count,
    "Run at most this many rsync processes at a time; the destinations take turns. There is no "
    "limit by default.",
)
DAEMON_OPTIONS = (
    DAEMON,
    FOREGROUND,
    PIDFILE,
    USER,
    GROUP,
    CHDIR,
    UMASK,
    STATE_DIR,
    MAX_RUNS,
)

LOG_LEVEL = value_option(
    "log_level",
    OptionScope.PROCESS,
    "LEVEL",
    check_log_level,
    "How much to log: error, warning (failures), notice (start, completed syncs, failures, stop), "
    "info (one line per rsync run) or debug (every step).",
    default="notice",
    choices=LOG_LEVELS,
)
DEBUG = switch_option(
    "debug",
    OptionScope.COMMAND_LINE,
    "Log every step: events, changes, rsync commands and their file lists.",
    short="-d",
    flag_value="debug",
    sets_key="log_level",
)
VERBOSE = switch_option(
    "verbose",
    OptionScope.COMMAND_LINE,
    "Log one line per rsync run.",
    short="-v",
    flag_value="info",
    sets_key="log_level",
)
QUIET = switch_option(
    "quiet",
    OptionScope.COMMAND_LINE,
    "Log failures only.",
    short="-q",
    flag_value="warning",
    sets_key="log_level",
)
LOGFILE = value_option(
    "logfile",
    OptionScope.PROCESS,
    "FILE",
    str,
    "Log to this file instead of standard error. The file is reopened after it has been renamed.",
)
SYSLOG = switch_option(
    "syslog", OptionScope.PROCESS, "Log to syslog as well.", short="-s", default="no"
)
SYSLOG_FACILITY = value_option(
    "syslog_facility",
    OptionScope.PROCESS,
    "NAME",
    str,
    "The facility of messages sent to syslog.",
    default="daemon",
)
LOG_OPTIONS = (LOG_LEVEL, DEBUG, VERBOSE, QUIET, LOGFILE, SYSLOG, SYSLOG_FACILITY)

CONTROL = value_option(
    "control",
    OptionScope.PROCESS,
    "SOCKET",
    str,
    "The socket on which pylsyncctl reaches the daemon; no for none. The default is a socket in "
    "the runtime directory.",
)
STATUS_FILE = value_option(
    "status_file",
    OptionScope.PROCESS,
    "FILE",
    str,
    "Write the status of all destinations to this file, as JSON.",
)
METRICS_FILE = value_option(
    "metrics_file",
    OptionScope.PROCESS,
    "FILE",
    str,
    "Write metrics to this file in the text format of Prometheus. The textfile collector of the "
    "node exporter reads files whose names end in .prom.",
)
METRICS_PORT = value_option(
    "metrics_port",
    OptionScope.PROCESS,
    "PORT",
    parse_port,
    "Serve the same metrics over HTTP on this port of the loopback interface.",
)
CONTROL_OPTIONS = (CONTROL, STATUS_FILE, METRICS_FILE, METRICS_PORT)
