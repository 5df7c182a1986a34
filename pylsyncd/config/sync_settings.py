"""Builds the settings of a sync from raw options."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pylsyncd.config import config_file, machine_checks
from pylsyncd.config import sync_options as options
from pylsyncd.config.literal_values import check_path
from pylsyncd.config.options import RULE_OPTIONS
from pylsyncd.config.raw_options import (
    ErrorCollector,
    OptionReader,
    Origin,
    RawConfiguration,
    RawOption,
    Section,
    destination_label,
)
from pylsyncd.config.settings import DestinationSettings, HookSettings, SyncSettings
from pylsyncd.model import destination_notation, endpoints
from pylsyncd.model.destination_notation import ParsedDestination, Transport
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.errors import UsageError
from pylsyncd.rsync import version
from pylsyncd.rsync.command import MIN_RSYNC_VERSION, DeletionTime, RsyncOptions
from pylsyncd.rsync.option_check import check_combination, check_option, with_absolute_path
from pylsyncd.rsync.quoting import Version
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rules import excludes, filters
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.filters import RuleStep
from pylsyncd.rules.patterns import FilterRule


@dataclass(frozen=True, slots=True)
class PartialSync:
    """A sync as far as it could be read."""

    section: Section
    sync: SyncSettings | None
    """None if the source or the destinations are missing or wrong."""
    destination_names: tuple[str, ...] | None
    """Without the name of the sync; None if the destinations could not be read."""
    destination_aliases: tuple[str, ...] = ()
    """Longer names that stand for one of them each."""


class SyncReader:
    """Builds the settings of syncs and collects the errors in them."""

    def __init__(
        self,
        raw: RawConfiguration,
        errors: ErrorCollector,
        environ: Mapping[str, str],
        *,
        rsync: RsyncOptions,
        uid: int,
    ) -> None:
        """Take the rsync options that all runs of the process share, and its user id."""
        self._raw = raw
        self._errors = errors
        self._environ = environ
        self._base_rsync = rsync
        self._uid = uid
        self.missing_sources: list[tuple[str, Origin]] = []
        """For each source that cannot be used now, the reason and its place in the file."""
        self._versions: dict[str, Version] = {}

    def read(self, section: Section) -> PartialSync:
        """Return the sync of a section."""
        reader = OptionReader(self._raw.sync_layers(section), self._errors)
        rsync = self._read_rsync(reader)
        rsync = replace(rsync, version=self._find_version(reader, rsync.program))
        # Options that every destination overrides may contain errors, too.
        self._read_destination(reader, rsync, _NO_DESTINATION)
        source = self._read_source(reader)
        if not any("".join(raw.texts) for raw in reader.raw_options(options.SOURCE)):
            # On a command line, a variable may have been empty.
            empty = "The source is empty: use . for the current directory."
            message = (
                "The sync has no source: add source = DIRECTORY." if section.origin.line else empty
            )
            self._errors.add(message, section.origin)
        parsed = self._read_destinations(section, reader, source)
        destinations = tuple(
            self._read_destination(
                OptionReader(
                    self._raw.destination_layers(section, destination.name, *destination.aliases),
                    self._errors,
                ),
                rsync,
                replace(destination, name=destination_label(section.name, destination.name)),
            )
            for destination in parsed or ()
        )
        sync = self._read_sync(section, reader, source, destinations, rsync.rules)
        names = None if parsed is None else tuple(each.name for each in parsed)
        aliases = tuple(alias for each in parsed or () for alias in each.aliases)
        is_complete = source is not None and bool(destinations)
        return PartialSync(section, sync if is_complete else None, names, aliases)

    def _read_source(self, reader: OptionReader) -> Source | None:
        source = reader.checked(options.SOURCE, machine_checks.parse_source)
        if source is not None:
            try:
                machine_checks.check_source(source)
            except UsageError as error:
                origin = reader.raw_options(options.SOURCE)[-1].origin
                self.missing_sources.append((str(error), origin))
        return source

    def check_unused(self, reader: OptionReader) -> None:
        """Collect the errors in options that possibly no sync uses."""
        rsync = self._read_rsync(reader)
        if reader.raw_options(options.RSYNC):
            self._find_version(reader, rsync.program)
        self._read_destination(reader, rsync, _NO_DESTINATION)
        self._read_sync(Section("", ()), reader, None, (), Rules())

    def _read_sync(
        self,
        section: Section,
        reader: OptionReader,
        source: Source | None,
        destinations: tuple[DestinationSettings, ...],
        rules: Rules,
    ) -> SyncSettings:
        deletion = reader.value(options.DELETE)
        is_initial = deletion is DeletionTime.STARTUP or reader.value(options.INITIAL_SYNC)
        return SyncSettings(
            source=source or _NO_SOURCE,
            destinations=destinations,
            rules=rules,
            name=section.name,
            delete=deletion is not False,
            delete_only=_deletion_time(deletion),
            window=min((each.window for each in destinations), default=0.0),
            max_changes=reader.value(options.MAX_CHANGES),
            initial_sync=is_initial,
            open_file_interval=_read_open_file_interval(reader),
            watch=reader.value(options.WATCH),
            poll_interval=reader.value(options.POLL_INTERVAL),
            scan_budget=_read_scan_budget(reader),
            scan_interval=reader.optional(options.SCAN_INTERVAL) or 0.0,
            full_sync_interval=reader.value(options.FULL_SYNC_INTERVAL),
            hooks=_read_hooks(reader),
        )

    def _read_destinations(
        self, section: Section, reader: OptionReader, source: Source | None
    ) -> tuple[Destination, ...] | None:
        raw_options = reader.raw_options(options.DESTINATIONS)
        written = [(raw, text) for raw in raw_options for text in raw.texts]
        if not written:
            message = "The sync has no destinations: add destinations = DESTINATION."
            self._errors.add(message, section.origin)
            return None
        parsed = reader.values(options.DESTINATIONS, convert=_parse_destination)
        if source is None or len(parsed) < len(written):
            return None
        names, texts = zip(*(_split_name(raw, text) for raw, text in written), strict=True)
        try:
            return endpoints.parse_destinations(
                [os.fsencode(text) for text in texts],
                source,
                cwd=os.fsencode(raw_options[0].directory),
                is_directory=os.path.isdir,
                resolve=os.path.realpath,
                names=names,
            )
        except UsageError as error:
            self._errors.add(str(error), raw_options[0].origin)
            return None

    def _read_rsync(self, reader: OptionReader) -> RsyncOptions:
        """Return the rsync options that all destinations of a sync share."""
        deletion = reader.value(options.DELETE)
        return replace(
            self._base_rsync,
            program=reader.checked(options.RSYNC, machine_checks.resolve_program)
            or options.RSYNC.default,
            rules=excludes.build_rules(reader.values(*RULE_OPTIONS, convert=_parse_rule)),
            delete=deletion is not False,
            delete_only=_deletion_time(deletion),
            max_delete=reader.optional(options.MAX_DELETE),
        )

    def _find_version(self, reader: OptionReader, program: str) -> Version:
        if program not in self._versions:
            try:
                self._versions[program] = version.rsync_version(program)
            except UsageError as error:
                self._versions[program] = MIN_RSYNC_VERSION
                reader.add_error(options.RSYNC, str(error))
        return self._versions[program]

    def _read_destination(
        self, reader: OptionReader, rsync: RsyncOptions, destination: Destination
    ) -> DestinationSettings:
        default_shell = self._environ.get("RSYNC_RSH") or options.RSH.default
        return DestinationSettings(
            destination,
            replace(
                rsync,
                rsh=_read_remote_shell(reader, destination, default_shell),
                share_ssh=reader.value(options.SHARE_SSH),
                detects_renames=reader.value(options.DETECT_RENAMES),
                parallel=reader.value(options.PARALLEL),
                nice=reader.value(options.NICE),
                ionice=reader.optional(options.IONICE) or "",
                bandwidth_limit=reader.optional(options.BANDWIDTH_LIMIT) or "",
                password_file=reader.checked(
                    options.PASSWORD_FILE,
                    partial(machine_checks.check_password_file, uid=self._uid),
                )
                or "",
                modify_window=reader.optional(options.MODIFY_WINDOW),
                extra_options=_read_rsync_options(
                    reader, is_delete_enabled=rsync.delete and rsync.delete_only is None
                ),
                timeout=reader.value(options.TIMEOUT),
                last=excludes.build_rules(reader.values(options.LAST, convert=_parse_last)),
            ),
            window=reader.value(options.WINDOW),
            retry_policy=RetryPolicy(
                first_pause=reader.value(options.RETRY_FIRST),
                max_pause=reader.value(options.RETRY_LONGEST),
                held_pause=reader.value(options.RETRY_HELD),
            ),
            repair_interval=reader.value(options.REPAIR_INTERVAL),
            batch_size_limit=reader.optional(options.BATCH_SIZE_LIMIT),
        )


_NO_SOURCE = Source(b"/", b"", is_full_path=False)
_NO_DESTINATION = Destination("", "", Transport.LOCAL, None, b"/")


def _parse_destination(raw: RawOption, text: str) -> ParsedDestination:
    destination = _split_name(raw, text)[1]
    check_path(destination)
    return destination_notation.parse_destination(
        os.fsencode(destination), os.fsencode(raw.directory), os.path.isdir
    )


def _split_name(raw: RawOption, text: str) -> tuple[str, str]:
    """Return the name that the file gives to a destination, empty for none, and the destination."""
    return config_file.split_name(text) if raw.origin.line else ("", text)


def _parse_rule(raw: RawOption, text: str) -> Iterable[RuleStep]:
    origin = raw.origin.text if raw.origin.line else ""
    if raw.option is options.EXCLUDE_FROM:
        return machine_checks.read_exclude_file(raw.directory, text)
    parse = {
        options.EXCLUDE.key: filters.parse_exclude,
        options.INCLUDE.key: filters.parse_include,
        options.FILTER.key: filters.parse_filter,
    }[raw.option.key]
    return parse(os.fsencode(text), origin)


def _parse_last(raw: RawOption, text: str) -> Iterable[RuleStep]:
    steps = filters.parse_exclude(os.fsencode(text), raw.origin.text if raw.origin.line else "")
    if not all(isinstance(step, FilterRule) and not step.is_include for step in steps):
        raise UsageError(f"Expected a pattern, not the rule {text!r}.")
    return steps


def _read_rsync_options(reader: OptionReader, *, is_delete_enabled: bool) -> tuple[str, ...]:
    def check(raw: RawOption, text: str) -> str:
        check_option(text, is_delete_enabled=is_delete_enabled)
        return with_absolute_path(text, raw.directory)

    checked = tuple(reader.values(options.RSYNC_OPTION, convert=check))
    try:
        check_combination(checked)
    except UsageError as error:
        reader.errors.add(str(error), reader.raw_options(options.RSYNC_OPTION)[0].origin)
    return checked


def _read_remote_shell(reader: OptionReader, destination: Destination, default: str) -> str:
    """Return the remote shell; its program must exist if the destination needs it."""
    configured = reader.optional(options.RSH)
    text = configured or default
    if destination.transport is Transport.SHELL:
        try:
            machine_checks.check_remote_shell(text)
        except UsageError as error:
            is_from_environment = not configured and default != options.RSH.default
            unset = Origin("RSYNC_RSH") if is_from_environment else None
            reader.add_error(options.RSH, str(error), unset)
    return text


def _deletion_time(deletion: object) -> DeletionTime | None:
    return deletion if isinstance(deletion, DeletionTime) else None


def _read_scan_budget(reader: OptionReader) -> float:
    """Return the budget; an interval for scans takes the place of the default."""
    budget = reader.optional(options.SCAN_BUDGET)
    if budget is not None:
        return budget
    has_interval = reader.optional(options.SCAN_INTERVAL) is not None
    return 0.0 if has_interval else reader.value(options.SCAN_BUDGET)


def _read_open_file_interval(reader: OptionReader) -> float | None:
    """Return the interval; without one, ``modify`` is the interval 0."""
    interval = reader.optional(options.OPEN_FILE_INTERVAL)
    is_modify = reader.value(options.MODIFY)
    return 0.0 if interval is None and is_modify else interval


def _read_hooks(reader: OptionReader) -> HookSettings:
    return HookSettings(
        before=reader.checked(options.HOOK_BEFORE, machine_checks.check_command) or (),
        batch=reader.checked(options.HOOK_BATCH, machine_checks.check_command) or (),
        error=reader.checked(options.HOOK_ERROR, machine_checks.check_command) or (),
        recovery=reader.checked(options.HOOK_RECOVERY, machine_checks.check_command) or (),
        held=reader.checked(options.HOOK_HELD, machine_checks.check_command) or (),
        repair=reader.checked(options.HOOK_REPAIR, machine_checks.check_command) or (),
        timeout=reader.value(options.HOOK_TIMEOUT),
    )
