"""The options of the process, and those that exist on the command line only."""

from pylsyncd.config.converters import (
    LOG_LEVELS,
    check_log_level,
    parse_file_mode,
    parse_port,
    parse_positive_count,
    parse_switch,
    parse_umask,
)
from pylsyncd.config.option import Option, OptionScope
from pylsyncd.config.settings import DEFAULT_DIRECTORY, DEFAULT_STATUS_FILE_MODE, DEFAULT_UMASK

# A row says how an option is written and converted, then what it does.
# fmt: off

CONFIG = Option(
    "config", OptionScope.COMMAND_LINE, str, metavar="FILE", short_flag="-c",
    help="Read this configuration file, which lists the sources and destinations. Options of the "
         "process on the command line override those in the file.",
)
CHECK_CONFIG = Option(
    "check_config", OptionScope.COMMAND_LINE, parse_switch,
    help="Check the configuration and print what it means, or every error in it; then exit. With "
         "-v, print the rsync commands as well.",
)
EXPLAIN = Option(
    "explain", OptionScope.COMMAND_LINE, str, metavar="PATH",
    help="Print the rule that decides whether this path in a source is synced; then exit.",
)
CHECK = Option(
    "check", OptionScope.COMMAND_LINE, parse_switch,
    help="Compare all destinations with their source and print the differences, without changing "
         "anything. Contents of the same size and time are taken for equal. The exit status is 0 "
         "if there are no differences and 1 if there are some.",
)
CHECKSUM = Option(
    "checksum", OptionScope.COMMAND_LINE, parse_switch,
    help="With --check, compare the contents of all files as well, whatever their size and time.",
)
ONCE = Option(
    "once", OptionScope.COMMAND_LINE, parse_switch,
    help="Sync everything, then exit. The exit status is 0 if all destinations succeeded and 1 "
         "otherwise.",
)
DRY_RUN = Option(
    "dry_run", OptionScope.COMMAND_LINE, parse_switch, short_flag="-n",
    help="Show what would be run and what it would do, without changing anything.",
)
RUN_OPTIONS = (CONFIG, CHECK_CONFIG, EXPLAIN, CHECK, CHECKSUM, ONCE, DRY_RUN)

DAEMON = Option(
    "daemon", OptionScope.PROCESS, parse_switch, default="no",
    help="Run in the background. The configuration is checked, and its errors are printed, before "
         "the process detaches from the terminal.",
)
FOREGROUND = Option(
    "foreground", OptionScope.COMMAND_LINE, parse_switch, flag_value="no", sets_key="daemon",
    help="Stay in the foreground, even if the configuration file says daemon = yes.",
)
PIDFILE = Option(
    "pidfile", OptionScope.PROCESS, str, metavar="FILE",
    help="Write the process ID to this file. The file is locked while pylsyncd runs and removed "
         "when it exits.",
)
USER = Option(
    "user", OptionScope.PROCESS, str, metavar="NAME",
    help="Switch to this user after startup.",
)
GROUP = Option(
    "group", OptionScope.PROCESS, str, metavar="NAME",
    help="Switch to this group after startup. The default is the primary group of the user.",
)
CHDIR = Option(
    "chdir", OptionScope.PROCESS, str, metavar="DIRECTORY", default=DEFAULT_DIRECTORY,
    help="The working directory of the process in the background.",
)
UMASK = Option(
    "umask", OptionScope.PROCESS, parse_umask, metavar="MODE", default=f"{DEFAULT_UMASK:03o}",
    help="The umask of the process in the background, in octal.",
)
STATE_DIR = Option(
    "state_dir", OptionScope.PROCESS, str, metavar="DIRECTORY",
    help="Keep the state of each destination in this directory from one run to the next. The "
         "default is /var/lib/pylsyncd for root, a directory below it for the user that root "
         "switches to, and pylsyncd in $XDG_STATE_HOME or ~/.local/state for other users. No "
         "other user may have write permission there.",
)
MAX_RUNS = Option(
    "max_runs", OptionScope.PROCESS, parse_positive_count, metavar="N",
    help="Run at most this many rsync processes at a time; the destinations take turns. There is "
         "no limit by default.",
)
DAEMON_OPTIONS = (DAEMON, FOREGROUND, PIDFILE, USER, GROUP, CHDIR, UMASK, STATE_DIR, MAX_RUNS)

LOG_LEVEL = Option(
    "log_level", OptionScope.PROCESS, check_log_level, metavar="LEVEL", default="notice",
    choices=LOG_LEVELS,
    help="How much to log: error, warning (failures), notice (start, completed syncs, failures, "
         "stop), info (one line per rsync run) or debug (every step).",
)
DEBUG = Option(
    "debug", OptionScope.COMMAND_LINE, parse_switch, short_flag="-d", flag_value="debug",
    sets_key="log_level",
    help="Log every step: events, changes, rsync commands and their file lists.",
)
VERBOSE = Option(
    "verbose", OptionScope.COMMAND_LINE, parse_switch, short_flag="-v", flag_value="info",
    sets_key="log_level",
    help="Log one line per rsync run.",
)
QUIET = Option(
    "quiet", OptionScope.COMMAND_LINE, parse_switch, short_flag="-q", flag_value="warning",
    sets_key="log_level",
    help="Log failures only.",
)
LOGFILE = Option(
    "logfile", OptionScope.PROCESS, str, metavar="FILE",
    help="Log to this file instead of standard error. The file is reopened after it has been "
         "renamed.",
)
SYSLOG = Option(
    "syslog", OptionScope.PROCESS, parse_switch, short_flag="-s", default="no",
    help="Log to syslog as well.",
)
SYSLOG_FACILITY = Option(
    "syslog_facility", OptionScope.PROCESS, str, metavar="NAME", default="daemon",
    help="The facility of messages sent to syslog.",
)
LOG_OPTIONS = (LOG_LEVEL, DEBUG, VERBOSE, QUIET, LOGFILE, SYSLOG, SYSLOG_FACILITY)

CONTROL = Option(
    "control", OptionScope.PROCESS, str, metavar="SOCKET",
    help="The socket on which pylsyncctl reaches the daemon; no for none. The default is a socket "
         "in the runtime directory.",
)
STATUS_FILE = Option(
    "status_file", OptionScope.PROCESS, str, metavar="FILE",
    help="Write the status of all destinations to this file, as JSON.",
)
STATUS_FILE_MODE = Option(
    "status_file_mode", OptionScope.PROCESS, parse_file_mode, metavar="MODE",
    default=f"{DEFAULT_STATUS_FILE_MODE:03o}",
    help="The permissions of the status file, in octal. The file contains the paths of sources and "
         "destinations.",
)
METRICS_FILE = Option(
    "metrics_file", OptionScope.PROCESS, str, metavar="FILE",
    help="Write metrics to this file in the text format of Prometheus. The textfile collector of "
         "the node exporter reads files whose names end in .prom.",
)
METRICS_PORT = Option(
    "metrics_port", OptionScope.PROCESS, parse_port, metavar="PORT",
    help="Serve the same metrics over HTTP on this port of the loopback interface, at /metrics. A "
         "browser shows the status at /, and /healthz is for programs that poll the health.",
)
CONTROL_OPTIONS = (CONTROL, STATUS_FILE, STATUS_FILE_MODE, METRICS_FILE, METRICS_PORT)
