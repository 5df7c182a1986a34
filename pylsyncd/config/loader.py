"""The settings of the daemon. All validation ends here: what is made is known to be usable."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pylsyncd.config import config_file, machine_checks, process_settings
from pylsyncd.config.command_line_parser import CommandLine
from pylsyncd.config.conflicts import find_conflicts
from pylsyncd.config.raw_options import RawConfiguration, Section, destination_label
from pylsyncd.config.said import ErrorCollector, OptionReader
from pylsyncd.config.settings import ProcessSettings, Settings, SyncSettings
from pylsyncd.config.sync_settings import PartialSync, SyncReader
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.rsync.command import MIN_RSYNC_VERSION, RsyncOptions
from pylsyncd.system import directories


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, and what was said to make them."""

    raw: RawConfiguration
    settings: Settings


@dataclass(frozen=True, slots=True)
class StartEnvironment:
    """Where the process was started; it may be elsewhere, and another user, when it reads again."""

    environ: Mapping[str, str]
    uid: int

    @classmethod
    def current(cls) -> "StartEnvironment":
        """Return those of this moment."""
        return cls(dict(os.environ), os.geteuid())


def load_configuration(request: CommandLine, surroundings: StartEnvironment) -> Configuration:
    """Return what a command line asks for, with its configuration file if it names one.

    Raises ConfigurationError with all that is wrong.
    """
    faults = ErrorCollector()
    layout = _layout(request, faults)
    settings = _settings(layout, request, surroundings, faults)
    faults.raise_if_any()
    return Configuration(layout, settings)


def _layout(request: CommandLine, faults: ErrorCollector) -> RawConfiguration:
    if request.config_path is not None:
        return config_file.read_config_file(
            request.config_path, faults, shown=request.config_as_written, overriding=request.options
        )
    return RawConfiguration(defaults=request.options, syncs=(Section("", request.positionals),))


def _settings(
    layout: RawConfiguration,
    request: CommandLine,
    surroundings: StartEnvironment,
    faults: ErrorCollector,
) -> Settings:
    of = OptionReader(layout.process_layers, faults)
    daemon = process_settings.read_process_settings(of, once=request.has_option("once"))
    is_dry = request.has_option("dry_run")
    all_runs = RsyncOptions(
        program="",
        version=MIN_RSYNC_VERSION,
        dry_run=is_dry,
        show_progress=process_settings.should_show_progress(daemon),
        itemize=is_dry or daemon.log.level <= logging.DEBUG,
    )
    reader = SyncReader(layout, faults, surroundings.environ, all_runs=all_runs)
    drafts = [reader.read(part) for part in layout.syncs]
    for part in (*layout.destinations, Section("", layout.defaults)):
        reader.check_unused(OptionReader([part.options], faults))
    _check_sections(layout, drafts, faults)
    syncs = [draft.sync for draft in drafts if draft.sync is not None]
    _check_syncs(drafts, faults)
    _check_files(of, daemon, syncs)
    if request.should_keep_state:
        path = _state_dir(of, syncs, surroundings)
        syncs = [replace(sync, state_dir=path) for sync in syncs]
    return Settings(daemon, tuple(syncs))


def _check_sections(
    layout: RawConfiguration, drafts: Sequence[PartialSync], faults: ErrorCollector
) -> None:
    """Refuse sections of destinations that there are not."""
    if any(draft.destination_names is None for draft in drafts):
        # It may be of those that could not be read.
        return
    known = [
        (draft.section.name, name) for draft in drafts for name in draft.destination_names or ()
    ]
    labels = [destination_label(sync, name) for sync, name in known]
    for part in layout.unknown_destinations(known):
        plain = config_file.suggest(part.name, [name for _, name in known])
        there_are = f" There are {', '.join(labels)}." if labels else ""
        meant = plain or config_file.suggest(part.name, labels) or there_are
        faults.add(f"There is no such destination.{meant}", part.origin, part.line)


def _check_syncs(drafts: Sequence[PartialSync], faults: ErrorCollector) -> None:
    """Refuse syncs that undo what another one does."""
    whole = [(draft.section, draft.sync) for draft in drafts if draft.sync is not None]
    syncs = [sync for _, sync in whole]
    real_sources = [os.path.realpath(sync.source.path) for sync in syncs]
    for position, sentence in find_conflicts(syncs, real_sources):
        part = whole[position][0]
        faults.add(sentence, part.origin, part.line)


# What is written while the daemon runs.
_WRITTEN = ("logfile", "status_file", "metrics_file", "pidfile", "control")


def _check_files(of: OptionReader, daemon: ProcessSettings, syncs: Sequence[SyncSettings]) -> None:
    """Refuse files of the daemon's own where each sync would make the next one necessary."""
    chosen = (
        daemon.log.file,
        daemon.status_file,
        daemon.metrics_file,
        daemon.pidfile,
        daemon.control,
    )
    for key, path in zip(_WRITTEN, chosen, strict=True):
        if path:
            real = os.path.realpath(os.fsencode(path))
            for reason in _reasons_against(real, syncs):
                of.add_error(
                    of.raw_options(key)[-1],
                    f"{paths.printable(real)} {reason}: choose another place.",
                )


def _state_dir(
    of: OptionReader, syncs: Sequence[SyncSettings], surroundings: StartEnvironment
) -> bytes | None:
    """Return the state directory; the default one where none was said.

    It must not be watched, nor deleted as something that the source does not have.
    """
    given = of.path_or_none("state_dir", machine_checks.absolute_path)
    said = of.raw_options("state_dir")[-1:]
    origin, line = (said[0].origin, said[0].line) if said else ("", 0)
    try:
        # systemd may give a symlink as the default, and nobody else can.
        path = given or os.path.realpath(
            directories.state_directory(surroundings.environ, surroundings.uid)
        )
    except UsageError as error:
        of.errors.add(str(error), origin, line)
        return None
    real = os.path.realpath(os.fsencode(path))
    for reason in _reasons_against(real, syncs):
        of.errors.add(
            f"The state directory {paths.printable(real)} {reason}: name another one "
            "(--state-dir), "
            "or exclude it.",
            origin,
            line,
        )
    return os.fsencode(path)


def _reasons_against(path: bytes, syncs: Sequence[SyncSettings]) -> Iterator[str]:
    """Yield why something that the daemon writes must not be at a real path."""
    for sync in syncs:
        below = paths.relative_to(path, os.path.realpath(sync.source.path).rstrip(b"/"))
        if below is not None and not (below and sync.rules.excludes(below, is_directory=True)):
            yield "lies in the source, which would be changed by each sync"
        for delivery in sync.destinations:
            destination = delivery.destination
            is_local = destination.transport is Transport.LOCAL
            if is_local and paths.covers(destination.location, path):
                yield f"lies in the destination {destination.notation}, which would delete it"
