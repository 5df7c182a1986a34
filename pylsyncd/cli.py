"""The command ``pylsyncd``: arguments to settings, exceptions to the exit status."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from pylsyncd.system.garbage import uncollected_imports
from pylsyncd.system.import_interrupts import silent_interrupts

with silent_interrupts(), uncollected_imports():
    from pylsyncd import daemonize
    from pylsyncd.config import process_options, process_settings
    from pylsyncd.config.command_line_parser import CommandLine, parse_command_line, print_error
    from pylsyncd.config.describe import describe_settings, suspicious_values
    from pylsyncd.config.literal_values import find_literal_values
    from pylsyncd.config.loader import Configuration, StartEnvironment, load_configuration
    from pylsyncd.config.raw_options import ConfigurationError
    from pylsyncd.config.settings import Settings, SyncSettings
    from pylsyncd.config.write_access import find_weaknesses
    from pylsyncd.model import paths
    from pylsyncd.model.errors import PylsyncdError, UsageError
    from pylsyncd.rules.explain import explain
    from pylsyncd.rules.mistakes import find_never_matching_rules
    from pylsyncd.service import Service
    from pylsyncd.system import descriptors, logs
    from pylsyncd.system.threads import ThreadLimitError
    from pylsyncd.terminal.log_handler import make_log_handler
    from pylsyncd.terminal.progress import NoProgress, ProgressDisplay
    from pylsyncd.worker.compare import compare_destinations

log = logging.getLogger(__name__)

# 128 + SIGINT, as a shell reports it.
_EXIT_INTERRUPTED = 130

_FLAG = re.compile(r"(?<!rsync option )--[a-z]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``pylsyncd``; return its exit status."""
    command_line = None
    # First, because error messages need a standard error.
    descriptors.open_standard_streams()
    try:
        command_line = parse_command_line(sys.argv[1:] if arguments is None else arguments)
        return _run_command(command_line)
    except UsageError as error:
        _print_usage_error(error, command_line)
        return 2
    except (PylsyncdError, ThreadLimitError) as error:
        print_error(f"pylsyncd: {error}")
        return 1
    except KeyboardInterrupt:
        # The service, which handles the signal itself, was not running yet.
        return _EXIT_INTERRUPTED
    except Exception:
        # To the log, because a daemon has no terminal.
        log.exception("pylsyncd failed. This is a bug in pylsyncd: please report it.")
        return 1
    finally:
        descriptors.discard_unwritable_output()


def _print_usage_error(error: UsageError, command_line: CommandLine | None) -> None:
    has_file = command_line is not None and command_line.config_path is not None
    messages = error.messages if isinstance(error, ConfigurationError) else (str(error),)
    for message in messages:
        print_error(f"pylsyncd: {message}")
    if not has_file:
        print_error("Try pylsyncd --help.")
    elif isinstance(error, ConfigurationError) and any(map(_FLAG.search, messages)):
        print_error(
            "(In the file, write --some-option as some_option = VALUE, --no-option as option = no.)"
        )


def _run_command(command_line: CommandLine) -> int:
    environment = StartEnvironment.current()
    configuration = load_configuration(command_line, environment)
    settings = configuration.settings
    if command_line.has_option(process_options.CHECK_CONFIG):
        daemonize.check(settings.process, settings.syncs)
        return _print(_describe(configuration, show_commands=command_line.is_verbose))
    if (path := command_line.option_value(process_options.EXPLAIN)) is not None:
        return _print(_explain_path(settings.syncs, path))
    if command_line.has_option(process_options.CHECK):
        logs.configure(settings.process.log.level)
        differences = _verify(
            settings.syncs, checksum=command_line.has_option(process_options.CHECKSUM)
        )
        # Closing the generator stops the comparison at once, however the printing ends.
        with contextlib.closing(differences):
            return _print(differences, status_if_any=1)

    def reload() -> Settings:
        return load_configuration(command_line, environment).settings

    if command_line.config_path is None:
        return _run_service(configuration, None)
    return _run_service(configuration, reload, command_line.config_path)


def _run_service(
    configuration: Configuration, reload: Callable[[], Settings] | None, config_path: str = ""
) -> int:
    settings = configuration.settings
    handler = make_log_handler(sys.stderr, os.environ)
    with daemonize.prepare(settings.process, settings.syncs, handler) as process:
        for warning in _warnings(configuration):
            log.warning("%s", warning)
        is_shown = process_settings.should_show_progress(settings.process)
        display = ProgressDisplay(handler) if is_shown else NoProgress()
        # Before the service: it creates threads, and the parent reports its errors.
        process.detach()
        service = Service(settings, reload, display, config_path)
        return service.run(process.control_path, process.report_ready)


def _print(lines: Iterable[str], *, status_if_any: int = 0) -> int:
    """Print lines as they come; return the exit status, 0 if there are none."""
    # A character that the terminal's encoding lacks must not end the command.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    status = 0
    # Its reader may have closed the pipe.
    with contextlib.suppress(BrokenPipeError):
        for line in lines:
            status = status_if_any
            print(line, flush=True)  # noqa: T201
    return status


def _verify(syncs: Iterable[SyncSettings], *, checksum: bool) -> Generator[str, None, None]:
    for sync in syncs:
        yield from compare_destinations(sync, checksum=checksum)


def _describe(configuration: Configuration, *, show_commands: bool) -> Iterator[str]:
    yield from describe_settings(configuration.settings, configuration.raw, commands=show_commands)
    for warning in (*configuration.tolerated, *_warnings(configuration)):
        yield f"warning: {warning}"


def _warnings(configuration: Configuration) -> Iterator[str]:
    """Yield a sentence for each suspicious value, useless rule, or weakness against users."""
    settings = configuration.settings
    yield from find_literal_values(configuration.raw)
    for sync in settings.syncs:
        for sentence in suspicious_values(sync):
            yield f"{_prefix(sync)}{sentence}"
        for sentence in find_never_matching_rules(sync.rules, sync.source.path, os.path.lexists):
            yield f"{_prefix(sync)}{sentence}"
    yield from process_settings.find_foreign_log(settings.process)
    yield from find_weaknesses(
        configuration.raw, settings, process_settings.daemon_uid(settings.process)
    )


def _explain_path(syncs: Sequence[SyncSettings], text: str) -> list[str]:
    """Return which rule decides about a path.

    The path is absolute, or relative to a source or to the current directory. If it could be in
    several syncs, those in which it exists are shown. Raises UsageError if it is in no source.
    """
    path = os.fsencode(text)
    in_sources, in_current_directory = (
        [(sync, found) for sync in syncs for found in _paths_in_source(sync.source.path, each)]
        for each in (path, os.path.join(os.getcwdb(), path))
    )
    if not in_sources:
        sources = ", ".join(paths.printable(sync.source.path) for sync in syncs)
        raise UsageError(f"{paths.printable(path)} is in no source: {sources}.")
    existing = [each for each in in_sources if _exists(*each)]
    existing = existing or [each for each in in_current_directory if _exists(*each)]
    remark = "" if existing else " (The path does not exist.)"
    return [
        f"{_prefix(sync)}{_explanation(sync, found, is_directory=path.endswith(b'/'))}{remark}"
        for sync, found in existing or in_sources
    ]


def _exists(sync: SyncSettings, path: bytes) -> bool:
    return os.path.lexists(os.path.join(sync.source.path, path))


def _explanation(sync: SyncSettings, path: bytes, *, is_directory: bool) -> str:
    """Return which rule decides; ``is_directory`` is for a path that does not exist."""
    on_disk = os.path.join(sync.source.path, path)
    if os.path.lexists(on_disk):
        is_directory = os.path.isdir(on_disk) and not os.path.islink(on_disk)
    return explain(sync.rules, path, is_directory=is_directory)


def _paths_in_source(source: bytes, path: bytes) -> Iterator[bytes]:
    """Yield the path relative to a source, if it is inside."""
    roots = {source, os.path.realpath(source)}
    # The last component is not resolved: a symbolic link is synced as such.
    parent, name = os.path.split(os.path.normpath(os.path.join(source, path)))
    for each in (os.path.join(parent, name), os.path.join(os.path.realpath(parent), name)):
        for root in roots:
            if (below := paths.relative_to(each, root.rstrip(b"/"))) is not None:
                yield below
                return


def _prefix(sync: SyncSettings) -> str:
    return f"[{sync.name}] " if sync.name else ""
