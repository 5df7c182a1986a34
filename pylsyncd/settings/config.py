"""The settings of the daemon. All validation ends here: what is made is known to be usable."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.rsync.commands import OLDEST_RSYNC, Rsync
from pylsyncd.settings import checks, conffile, process
from pylsyncd.settings.arguments import Request
from pylsyncd.settings.conflicts import conflicts
from pylsyncd.settings.layout import Layout, Part, label
from pylsyncd.settings.said import Faults, Values
from pylsyncd.settings.settings import Daemon, Settings, Sync
from pylsyncd.settings.syncs import Draft, Reader
from pylsyncd.system import places


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, and what was said to make them."""

    layout: Layout
    settings: Settings


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the process was started; it may be elsewhere, and another user, when it reads again."""

    environ: Mapping[str, str]
    uid: int

    @classmethod
    def now(cls) -> "Surroundings":
        """Return those of this moment."""
        return cls(dict(os.environ), os.geteuid())


def read(request: Request, surroundings: Surroundings) -> Configuration:
    """Return what a command line asks for, with its configuration file if it names one.

    Raises ConfigurationError with all that is wrong.
    """
    faults = Faults()
    layout = _layout(request, faults)
    settings = _settings(layout, request, surroundings, faults)
    faults.check()
    return Configuration(layout, settings)


def _layout(request: Request, faults: Faults) -> Layout:
    if request.config is not None:
        return conffile.read(
            request.config, faults, shown=request.written_config, overriding=request.said
        )
    return Layout(defaults=request.said, syncs=(Part("", request.places),))


def _settings(
    layout: Layout, request: Request, surroundings: Surroundings, faults: Faults
) -> Settings:
    of = Values(layout.process, faults)
    daemon = process.daemon(of, once=request.asks("once"))
    is_dry = request.asks("dry_run")
    all_runs = Rsync(
        program="",
        version=OLDEST_RSYNC,
        dry_run=is_dry,
        tells_progress=process.shows_progress(daemon),
        tells_items=is_dry or daemon.log.level <= logging.DEBUG,
    )
    reader = Reader(layout, faults, surroundings.environ, all_runs=all_runs)
    drafts = [reader.read(part) for part in layout.syncs]
    for part in (*layout.destinations, Part("", layout.defaults)):
        reader.check(Values([part.layer], faults))
    _check_sections(layout, drafts, faults)
    syncs = [draft.sync for draft in drafts if draft.sync is not None]
    _check_syncs(drafts, faults)
    _check_files(of, daemon, syncs)
    if request.keeps_state:
        path = _state_dir(of, syncs, surroundings)
        syncs = [replace(sync, state_dir=path) for sync in syncs]
    return Settings(daemon, tuple(syncs))


def _check_sections(layout: Layout, drafts: Sequence[Draft], faults: Faults) -> None:
    """Refuse sections of destinations that there are not."""
    if any(draft.names is None for draft in drafts):
        # It may be of those that could not be read.
        return
    known = [(draft.part.name, name) for draft in drafts for name in draft.names or ()]
    labels = [label(sync, name) for sync, name in known]
    for part in layout.unknown(known):
        plain = conffile.likely(part.name, [name for _, name in known])
        there_are = f" There are {', '.join(labels)}." if labels else ""
        meant = plain or conffile.likely(part.name, labels) or there_are
        faults.add(f"There is no such destination.{meant}", part.origin, part.line)


def _check_syncs(drafts: Sequence[Draft], faults: Faults) -> None:
    """Refuse syncs that undo what another one does."""
    whole = [(draft.part, draft.sync) for draft in drafts if draft.sync is not None]
    syncs = [sync for _, sync in whole]
    real_sources = [os.path.realpath(sync.source.path) for sync in syncs]
    for position, sentence in conflicts(syncs, real_sources):
        part = whole[position][0]
        faults.add(sentence, part.origin, part.line)


# What is written while the daemon runs.
_WRITTEN = ("logfile", "status_file", "metrics_file", "pidfile", "control")


def _check_files(of: Values, daemon: Daemon, syncs: Sequence[Sync]) -> None:
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
                of.refuse(of.said(key)[-1], f"{paths.show(real)} {reason}: choose another place.")


def _state_dir(of: Values, syncs: Sequence[Sync], surroundings: Surroundings) -> bytes | None:
    """Return the state directory; the default one where none was said.

    It must not be watched, nor deleted as something that the source does not have.
    """
    given = of.placed("state_dir", checks.absolute)
    said = of.said("state_dir")[-1:]
    origin, line = (said[0].origin, said[0].line) if said else ("", 0)
    try:
        # systemd may give a symlink as the default, and nobody else can.
        path = given or os.path.realpath(
            places.state_directory(surroundings.environ, surroundings.uid)
        )
    except UsageError as error:
        of.faults.add(str(error), origin, line)
        return None
    real = os.path.realpath(os.fsencode(path))
    for reason in _reasons_against(real, syncs):
        of.faults.add(
            f"The state directory {paths.show(real)} {reason}: name another one (--state-dir), "
            "or exclude it.",
            origin,
            line,
        )
    return os.fsencode(path)


def _reasons_against(path: bytes, syncs: Sequence[Sync]) -> Iterator[str]:
    """Yield why something that the daemon writes must not be at a real path."""
    for sync in syncs:
        below = paths.relative(path, os.path.realpath(sync.source.path).rstrip(b"/"))
        if below is not None and not (below and sync.rules.excludes(below, is_directory=True)):
            yield "lies in the source, which would be changed by each sync"
        for delivery in sync.deliveries:
            destination = delivery.destination
            is_local = destination.transport is Transport.LOCAL
            if is_local and paths.covers(destination.spot, path):
                yield f"lies in the destination {destination.written}, which would delete it"
