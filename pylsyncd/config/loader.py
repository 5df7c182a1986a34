"""Loads the settings from a command line and its configuration file, and validates them."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pylsyncd.config import config_file, machine_checks, process_options, process_settings
from pylsyncd.config.command_line_parser import CommandLine
from pylsyncd.config.conflicts import find_conflicts
from pylsyncd.config.raw_options import (
    ErrorCollector,
    OptionReader,
    RawConfiguration,
    Section,
    destination_label,
)
from pylsyncd.config.settings import ProcessSettings, Settings, SyncSettings
from pylsyncd.config.sync_settings import PartialSync, SyncReader
from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.errors import UsageError
from pylsyncd.rsync.command import MIN_RSYNC_VERSION, RsyncOptions
from pylsyncd.system import directories, users


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings and the raw options that they were made from."""

    raw: RawConfiguration
    settings: Settings
    tolerated: tuple[str, ...] = ()
    """The errors in spite of which a start goes on."""


@dataclass(frozen=True, slots=True)
class StartEnvironment:
    """The environment and user of the process at its start, which a reload uses, too."""

    environ: Mapping[str, str]
    uid: int

    @classmethod
    def current(cls) -> "StartEnvironment":
        """Return the environment and user of the process now."""
        return cls(dict(os.environ), os.geteuid())


def load_configuration(
    command_line: CommandLine, start_environment: StartEnvironment
) -> Configuration:
    """Return the configuration that a command line and its configuration file, if any, describe.

    Raises ConfigurationError with all errors in them.
    """
    errors = ErrorCollector()
    raw = _read_raw_options(command_line, errors)
    settings = _build_settings(raw, command_line, start_environment, errors)
    errors.raise_if_any()
    return Configuration(raw, settings, errors.messages)


def _read_raw_options(command_line: CommandLine, errors: ErrorCollector) -> RawConfiguration:
    if command_line.config_path is not None:
        return config_file.read_config_file(
            command_line.config_path,
            errors,
            shown=command_line.config_as_written,
            overrides=command_line.options,
        )
    sync = Section("", command_line.positionals)
    return RawConfiguration(defaults=command_line.options, syncs=(sync,))


def _build_settings(
    raw: RawConfiguration,
    command_line: CommandLine,
    start_environment: StartEnvironment,
    errors: ErrorCollector,
) -> Settings:
    reader = OptionReader(raw.process_layers, errors)
    once = command_line.has_option(process_options.ONCE)
    process = process_settings.read_process_settings(reader, once=once)
    is_dry_run = command_line.has_option(process_options.DRY_RUN)
    rsync = RsyncOptions(
        program="",
        version=MIN_RSYNC_VERSION,
        dry_run=is_dry_run,
        show_progress=process_settings.should_show_progress(process),
        itemize=is_dry_run or process.log.level <= logging.DEBUG,
    )
    uid = process_settings.daemon_uid(process)
    sync_reader = SyncReader(raw, errors, start_environment.environ, rsync=rsync, uid=uid)
    partial_syncs = [sync_reader.read(section) for section in raw.syncs]
    waits = command_line.waits_for_sources
    for message, origin in sync_reader.missing_sources:
        consequence = " Its sync starts when it is there." if waits else ""
        errors.add(f"{message}{consequence}", origin, is_fatal=not waits)
    for section in (*raw.destinations, Section("", raw.defaults)):
        sync_reader.check_unused(OptionReader([section.options], errors))
    _check_destination_sections(raw, partial_syncs, errors)
    _check_conflicts(partial_syncs, errors)
    syncs = [partial.sync for partial in partial_syncs if partial.sync is not None]
    _check_output_files(reader, process, syncs)
    if command_line.should_keep_state:
        path = _find_state_directory(reader, process.user, syncs, start_environment)
        syncs = [replace(sync, state_dir=path) for sync in syncs]
    if command_line.has_option(process_options.CHECK_CONFIG):
        # It needs more memory than a daemon should keep.
        from pylsyncd.config.start_checks import StartChecks  # noqa: PLC0415

        StartChecks(raw, errors).check(process, syncs)
    return Settings(process, tuple(syncs))


def _check_destination_sections(
    raw: RawConfiguration, partial_syncs: Sequence[PartialSync], errors: ErrorCollector
) -> None:
    """Refuse destination sections that match no destination."""
    if any(partial.destination_names is None for partial in partial_syncs):
        # The section may be about a destination that could not be read.
        return
    known = [
        (partial.section.name, name)
        for partial in partial_syncs
        for name in partial.destination_names or ()
    ]
    labels = [destination_label(sync, name) for sync, name in known]
    aliases = [
        (partial.section.name, alias)
        for partial in partial_syncs
        for alias in partial.destination_aliases
    ]
    for section in raw.unknown_destinations([*known, *aliases]):
        suggestion = config_file.suggest(section.name, [name for _, name in known])
        existing = f" The destinations are {', '.join(labels)}." if labels else ""
        hint = suggestion or config_file.suggest(section.name, labels) or existing
        errors.add(f"Unknown destination.{hint}", section.origin)


def _check_conflicts(partial_syncs: Sequence[PartialSync], errors: ErrorCollector) -> None:
    """Refuse syncs that undo the work of another one."""
    complete = [
        (partial.section, partial.sync) for partial in partial_syncs if partial.sync is not None
    ]
    syncs = [sync for _, sync in complete]
    real_sources = [os.path.realpath(sync.source.path) for sync in syncs]
    for position, message in find_conflicts(syncs, real_sources):
        errors.add(message, complete[position][0].origin)


def _check_output_files(
    reader: OptionReader, process: ProcessSettings, syncs: Sequence[SyncSettings]
) -> None:
    """Refuse files of the daemon in places where each write would cause another sync."""
    files = (
        (process_options.LOGFILE, process.log.file),
        (process_options.STATUS_FILE, process.status_file),
        (process_options.METRICS_FILE, process.metrics_file),
        (process_options.PIDFILE, process.pidfile),
        (process_options.CONTROL, process.control),
    )
    for option, path in files:
        if path:
            real_path = os.path.realpath(os.fsencode(path))
            for reason in _reasons_against(real_path, syncs):
                reader.add_error(
                    option, f"{paths.printable(real_path)} {reason}: choose another path."
                )


def _find_state_directory(
    reader: OptionReader,
    user: str | None,
    syncs: Sequence[SyncSettings],
    start_environment: StartEnvironment,
) -> bytes | None:
    """Return the configured or default state directory; None if it cannot be used.

    It must be neither watched nor deleted as something that is missing in the source.
    """
    configured = reader.checked(process_options.STATE_DIR, machine_checks.absolute_path)
    try:
        path = configured or _default_state_directory(user, start_environment)
    except UsageError as error:
        reader.add_error(process_options.STATE_DIR, str(error))
        return None
    real_path = os.path.realpath(os.fsencode(path))
    for reason in _reasons_against(real_path, syncs):
        reader.add_error(
            process_options.STATE_DIR,
            f"The state directory {paths.printable(real_path)} {reason}: choose another one "
            "(--state-dir), or exclude it.",
        )
    return os.fsencode(path)


def _default_state_directory(user: str | None, start_environment: StartEnvironment) -> str:
    # systemd, but nothing else, may provide a symbolic link as the default.
    top = os.path.realpath(
        directories.state_directory(start_environment.environ, start_environment.uid)
    )
    if user is None or start_environment.uid != 0:
        return top
    try:
        return directories.state_directory_below(top, *users.resolve(user))
    except UsageError:
        return top  # The user is an error of its own.


def _reasons_against(path: bytes, syncs: Sequence[SyncSettings]) -> Iterator[str]:
    """Yield the reasons why the daemon must not write at a real path."""
    for sync in syncs:
        below = paths.relative_to(path, os.path.realpath(sync.source.path).rstrip(b"/"))
        if below is not None and not (below and sync.rules.excludes(below, is_directory=True)):
            yield "is in the source, so that each write would cause another sync"
        for settings in sync.destinations:
            destination = settings.destination
            is_local = destination.transport is Transport.LOCAL
            if is_local and paths.covers(destination.location, path):
                yield f"is in the destination {destination.notation}, where a sync would delete it"
