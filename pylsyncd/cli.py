"""The command: from arguments to settings, and from exceptions to the exit status."""

import argparse
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from pylsyncd.destination.audit import audit
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.rsync import runner
from pylsyncd.rsync.commands import Rsync
from pylsyncd.rsync.passthrough import anchored, check_option, check_together
from pylsyncd.rules.excludes import Rules
from pylsyncd.service import Service
from pylsyncd.settings import arguments, config
from pylsyncd.settings.settings import Settings
from pylsyncd.system import logs

log = logging.getLogger(__name__)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command ``pylsyncd``; return its exit status."""
    parser = arguments.parser()
    words = arguments.values_attached(sys.argv[1:] if words is None else words)
    options = parser.parse_args(words)
    try:
        settings = _settings(options)
        logs.set_up(options.level, syslog=options.syslog, facility=options.syslog_facility)
        if options.check:
            return _check(settings, checksum=options.checksum)
        return Service(settings).run()
    except UsageError as error:
        parser.error(str(error))
    except PylsyncdError as error:
        arguments.say(f"{parser.prog}: {error}")
        return 1
    except Exception:
        # To wherever the log goes: a daemon has no terminal.
        log.exception("pylsyncd failed. This is a bug in it: please report it.")
        return 1


def _check(settings: Settings, *, checksum: bool) -> int:
    """Print what differs, a line for each path; return the exit status."""
    is_equal = True
    try:
        for finding in audit(settings, checksum=checksum):
            is_equal = False
            print(finding, flush=True)  # noqa: T201
    except BrokenPipeError:
        # Whoever reads has seen enough; Python must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if is_equal else 1


def _check_remote_shell(text: str) -> None:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"The remote shell {text!r} has a fault: {error}.") from None
    if not words:
        raise UsageError("The remote shell is empty: leave -e out for ssh.")
    if shutil.which(words[0]) is None:
        raise UsageError(f"The remote shell's program {words[0]} is not installed.")


def _settings(options: argparse.Namespace) -> Settings:
    for option in options.rsync_options:
        check_option(option, deletes=options.delete)
    check_together(options.rsync_options)
    if options.checksum and not options.check:
        raise UsageError("--checksum is for --check. For each run: --rsync-option=--checksum.")
    source = config.source(options.source)
    destinations = config.destinations(options.destinations, source)
    rules = config.rules(options.rules)
    changes_nothing = options.dry_run or options.check
    if any(destination.transport is Transport.SHELL for destination in destinations):
        _check_remote_shell(options.rsh)
    return Settings(
        source=source,
        destinations=destinations,
        rsync=_rsync(options, rules),
        window=options.window,
        max_changes=options.max_changes,
        initial_sync=options.initial_sync,
        once=options.once,
        modify=options.modify,
        state_dir=(
            None
            if changes_nothing
            else config.state_dir(options.state_dir, source, destinations, rules)
        ),
        poll_interval=options.poll_interval,
        scan_interval=options.scan_interval,
        full_sync_interval=options.full_sync_interval,
    )


def _rsync(options: argparse.Namespace, rules: Rules) -> Rsync:
    return Rsync(
        program=_absolute(options.rsync),
        version=runner.version(options.rsync),
        rsh=options.rsh,
        options=tuple(anchored(option, os.getcwd()) for option in options.rsync_options),
        rules=rules,
        delete=options.delete,
        dry_run=options.dry_run,
        tells_items=options.level <= logging.DEBUG or options.dry_run,
        timeout=options.timeout,
        max_delete=options.max_delete,
    )


def _absolute(program: str) -> str:
    """Return a program so that it is found from any directory: rsync runs in the source."""
    return os.path.abspath(program) if "/" in program else program
