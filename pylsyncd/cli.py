"""The command: from arguments to settings, and from exceptions to the exit status."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from pylsyncd import daemonize
from pylsyncd.config import command_line_parser, loader, process_options, process_settings
from pylsyncd.config.command_line_parser import CommandLine
from pylsyncd.config.describe import describe_settings, suspicious_values
from pylsyncd.config.loader import Configuration
from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.config.settings import Settings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.errors import PylsyncdError, UsageError
from pylsyncd.rules.explain import explain
from pylsyncd.rules.mistakes import find_never_matching_rules
from pylsyncd.service import Service
from pylsyncd.system import descriptors, logs
from pylsyncd.terminal import log_handler
from pylsyncd.terminal.progress import NoProgress, ProgressDisplay
from pylsyncd.worker.verify import verify

log = logging.getLogger(__name__)

# As a shell has it.
_INTERRUPTED = 130

_FLAG = re.compile(r"(?<!rsync option )--[a-z]")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command ``pylsyncd``; return its exit status."""
    request = None
    # First of all, so that there is something to say it to.
    descriptors.open_standard_streams()
    try:
        request = command_line_parser.parse_command_line(sys.argv[1:] if words is None else words)
        return _do(request)
    except UsageError as error:
        return _refused(error, request)
    except PylsyncdError as error:
        command_line_parser.print_error(f"pylsyncd: {error}")
        return 1
    except KeyboardInterrupt:
        # Before there was anything to stop.
        return _INTERRUPTED
    except Exception:
        # To wherever the log goes: a daemon has no terminal.
        log.exception("pylsyncd failed. This is a bug in it: please report it.")
        return 1


def _refused(error: UsageError, request: CommandLine | None) -> int:
    is_of_file = request is not None and request.config_path is not None
    faults = error.messages if isinstance(error, ConfigurationError) else (str(error),)
    for fault in faults:
        command_line_parser.print_error(f"pylsyncd: {fault}")
    if not is_of_file:
        command_line_parser.print_error("Try pylsyncd --help.")
    elif isinstance(error, ConfigurationError) and any(map(_FLAG.search, faults)):
        command_line_parser.print_error(
            "(In the file, --some-option is some_option = VALUE; --no-option is option = no.)"
        )
    return 2


def _do(request: CommandLine) -> int:
    surroundings = loader.StartEnvironment.current()
    configuration = loader.load_configuration(request, surroundings)
    settings = configuration.settings
    if request.has_option(process_options.CHECK_CONFIG):
        return _print(_described(configuration, commands=request.is_verbose))
    if (path := request.option_value(process_options.EXPLAIN)) is not None:
        return _print(_explained(settings.syncs, path))
    if request.has_option(process_options.CHECK):
        logs.configure(settings.process.log.level)
        findings = _differences(
            settings.syncs, checksum=request.has_option(process_options.CHECKSUM)
        )
        # Whatever ends the printing ends the comparing, and at once.
        with contextlib.closing(findings):
            return _print(findings, nothing=0, something=1)

    def reload() -> Settings:
        return loader.load_configuration(request, surroundings).settings

    return _run(settings, reload if request.config_path else None)


def _run(settings: Settings, reload: Callable[[], Settings] | None) -> int:
    daemon = settings.process
    handler = log_handler.make_log_handler(sys.stderr, os.environ)
    with daemonize.prepare(daemon, settings.syncs, handler) as prepared:
        for warning in _warnings(settings.syncs):
            log.warning("%s", warning)
        display = (
            ProgressDisplay(handler)
            if process_settings.should_show_progress(daemon)
            else NoProgress()
        )
        # Whatever fails from here on is told in the terminal, too.
        prepared.detach()
        service = Service(settings, reload, display)
        return service.run(prepared.control_path, prepared.report_ready)


def _print(lines: Iterable[str], *, nothing: int = 0, something: int = 0) -> int:
    """Print lines as they come; return the exit status for none, or for some."""
    # What the terminal's character set lacks must not end the command.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    status = nothing
    try:
        for line in lines:
            status = something
            print(line, flush=True)  # noqa: T201
    except BrokenPipeError:
        descriptors.discard_output()
    return status


def _differences(syncs: Iterable[SyncSettings], *, checksum: bool) -> Generator[str, None, None]:
    for sync in syncs:
        yield from verify(sync, checksum=checksum)


def _described(configuration: Configuration, *, commands: bool) -> Iterator[str]:
    yield from describe_settings(configuration.settings, configuration.raw, commands=commands)
    for warning in _warnings(configuration.settings.syncs):
        yield f"warning: {warning}"


def _warnings(syncs: Iterable[SyncSettings]) -> Iterator[str]:
    """Yield a sentence for each rule that can match nothing, and what else is hardly meant."""
    for sync in syncs:
        for sentence in suspicious_values(sync):
            yield f"{_title(sync)}{sentence}"
        for sentence in find_never_matching_rules(sync.rules, sync.source.path, os.path.lexists):
            yield f"{_title(sync)}{sentence}"


def _explained(syncs: Sequence[SyncSettings], text: str) -> list[str]:
    """Return which rule decides about a path: absolute, or relative to a source or to here.

    Of a relative one that several syncs might have, it is told for those that have it. Raises
    UsageError if the path is in no source.
    """
    written = os.fsencode(text)
    within, here = (
        [(sync, path) for sync in syncs for path in _relative(sync.source.path, each)]
        for each in (written, os.path.join(os.getcwdb(), written))
    )
    if not within:
        sources = ", ".join(paths.printable(sync.source.path) for sync in syncs)
        raise UsageError(f"{paths.printable(written)} is in no source: {sources}.")
    there = [found for found in within if _is_there(*found)]
    there = there or [found for found in here if _is_there(*found)]
    unseen = "" if there else " (It is not there now.)"
    return [
        f"{_title(sync)}{_explanation(sync, path, written)}{unseen}"
        for sync, path in there or within
    ]


def _is_there(sync: SyncSettings, path: bytes) -> bool:
    return os.path.lexists(os.path.join(sync.source.path, path))


def _explanation(sync: SyncSettings, path: bytes, written: bytes) -> str:
    on_disk = os.path.join(sync.source.path, path)
    is_directory = os.path.isdir(on_disk) and not os.path.islink(on_disk)
    if not os.path.lexists(on_disk):
        is_directory = written.endswith(b"/")
    return explain(sync.rules, path, is_directory=is_directory)


def _relative(source: bytes, written: bytes) -> Iterator[bytes]:
    """Yield a path relative to a source, if it is in that."""
    tops = {source, os.path.realpath(source)}
    # The path's own name may be a symbolic link, which is what is synced.
    parent, name = os.path.split(os.path.normpath(os.path.join(source, written)))
    for path in (os.path.join(parent, name), os.path.join(os.path.realpath(parent), name)):
        for top in tops:
            if (below := paths.relative_to(path, top.rstrip(b"/"))) is not None:
                yield below
                return


def _title(sync: SyncSettings) -> str:
    return f"[{sync.name}] " if sync.name else ""
