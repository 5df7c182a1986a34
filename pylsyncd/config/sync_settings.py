"""One source with its destinations: from what was said to a `SyncSettings`."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pylsyncd.config import converters, machine_checks
from pylsyncd.config.options import OPTIONS_BY_KEY, RULE_KEYS
from pylsyncd.config.raw_options import RawConfiguration, Section, destination_label
from pylsyncd.config.said import ErrorCollector, OptionReader, RawOption
from pylsyncd.config.settings import DestinationSettings, HookSettings, SyncSettings
from pylsyncd.model import endpoints, notation
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.rsync import version
from pylsyncd.rsync.command import MIN_RSYNC_VERSION, RsyncOptions
from pylsyncd.rsync.option_check import check_combination, check_option, with_absolute_path
from pylsyncd.rsync.quoting import Version
from pylsyncd.rsync.retry_policy import RetryPolicy
from pylsyncd.rules import excludes, filters
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.filters import RuleStep


@dataclass(frozen=True, slots=True)
class PartialSync:
    """A sync as far as it could be read."""

    section: Section
    sync: SyncSettings | None
    """None if something essential is missing."""
    destination_names: tuple[str, ...] | None
    """Of its destinations, without the sync's; None if they could not be read."""


class SyncReader:
    """Reads syncs; what cannot be used is a fault."""

    def __init__(
        self,
        layout: RawConfiguration,
        faults: ErrorCollector,
        environ: Mapping[str, str],
        *,
        all_runs: RsyncOptions,
    ) -> None:
        """Take what was said, where faults go, and what is the same for all runs of rsync."""
        self._layout = layout
        self._faults = faults
        self._environ = environ
        self._all_runs = all_runs
        self._versions: dict[str, Version] = {}

    def read(self, part: Section) -> PartialSync:
        """Return one sync."""
        of = OptionReader(self._layout.sync_layers(part), self._faults)
        rsync = self._rsync(of)
        rsync = replace(rsync, version=self._version(of, rsync.program))
        # What no destination uses may have faults, too.
        self._delivery(of, rsync, _NOWHERE)
        source = of.path_or_none("source", machine_checks.check_source)
        if not any("".join(said.texts) for said in of.raw_options("source")):
            # Without an origin: on the command line, where a variable may have been empty.
            empty = "The source is empty: write . for the current directory."
            says = "It has no source." if part.origin else empty
            self._faults.add(says, part.origin, part.line)
        destinations = self._destinations(part, of, source)
        deliveries = tuple(
            self._delivery(
                OptionReader(self._layout.destination_layers(part, destination.name), self._faults),
                rsync,
                replace(destination, name=destination_label(part.name, destination.name)),
            )
            for destination in destinations or ()
        )
        sync = self._sync(part, of, source, deliveries, rsync.rules)
        names = None if destinations is None else tuple(each.name for each in destinations)
        return PartialSync(part, sync, names)

    def check_unused(self, of: OptionReader) -> None:
        """Look for faults in what no sync may use."""
        rsync = self._rsync(of)
        if of.raw_options("rsync"):
            self._version(of, rsync.program)
        self._delivery(of, rsync, _NOWHERE)
        self._sync(Section("", ()), of, None, (), Rules())

    def _sync(
        self,
        part: Section,
        of: OptionReader,
        source: Source | None,
        deliveries: tuple[DestinationSettings, ...],
        rules: Rules,
    ) -> SyncSettings | None:
        made = SyncSettings(
            source=source or _NO_SOURCE,
            destinations=deliveries,
            rules=rules,
            name=part.name,
            delete=of.value("delete", converters.parse_switch),
            window=min((each.window for each in deliveries), default=0.0),
            max_changes=of.value("max_changes", converters.parse_positive_count),
            initial_sync=of.value("initial_sync", converters.parse_switch),
            modify=of.value("modify", converters.parse_switch),
            poll_interval=of.value("poll_interval", converters.parse_seconds),
            scan_interval=of.value("scan_interval", converters.parse_interval),
            full_sync_interval=of.value("full_sync_interval", converters.parse_interval),
            hooks=_hooks(of),
        )
        return made if source is not None and deliveries else None

    def _destinations(
        self, part: Section, of: OptionReader, source: Source | None
    ) -> tuple[Destination, ...] | None:
        said = of.raw_options("destinations")
        texts = [os.fsencode(text) for each in said for text in each.texts]
        if not texts:
            self._faults.add("It has no destinations.", part.origin, part.line)
            return None
        places = of.values("destinations", convert=_place)
        if source is None or len(places) < len(texts):
            return None
        try:
            return endpoints.parse_destinations(
                texts,
                source,
                cwd=os.fsencode(said[0].directory),
                is_directory=os.path.isdir,
                resolve=os.path.realpath,
            )
        except UsageError as error:
            of.add_error(said[0], str(error))
            return None

    def _rsync(self, of: OptionReader) -> RsyncOptions:
        """Return what is the same for all destinations of a sync."""
        return replace(
            self._all_runs,
            program=of.path_or_none("rsync", machine_checks.resolve_program)
            or OPTIONS_BY_KEY["rsync"].default,
            rules=excludes.build_rules(of.values(*RULE_KEYS, convert=_steps)),
            delete=of.value("delete", converters.parse_switch),
            max_delete=of.value_or_none("max_delete", converters.parse_count),
        )

    def _version(self, of: OptionReader, program: str) -> Version:
        if program not in self._versions:
            try:
                self._versions[program] = version.rsync_version(program)
            except UsageError as error:
                self._versions[program] = MIN_RSYNC_VERSION
                for said in of.raw_options("rsync")[-1:] or [
                    RawOption(OPTIONS_BY_KEY["rsync"], ())
                ]:
                    of.add_error(said, str(error))
        return self._versions[program]

    def _delivery(
        self, of: OptionReader, rsync: RsyncOptions, destination: Destination
    ) -> DestinationSettings:
        default_shell = self._environ.get("RSYNC_RSH") or OPTIONS_BY_KEY["rsh"].default
        return DestinationSettings(
            destination,
            replace(
                rsync,
                rsh=_shell(of, destination, default_shell),
                share_ssh=of.value("share_ssh", converters.parse_switch),
                nice=of.value("nice", converters.parse_niceness),
                ionice=of.value_or_none("ionice", converters.check_io_class) or "",
                bandwidth_limit=of.value_or_none("bandwidth_limit", converters.check_rate) or "",
                password_file=of.path_or_none("password_file", machine_checks.check_password_file)
                or "",
                extra_options=_options(of, deletes=rsync.delete),
                timeout=of.value("timeout", converters.parse_seconds),
            ),
            window=of.value("window", converters.parse_seconds),
            retry_policy=RetryPolicy(
                first_pause=of.value("retry_first", converters.parse_seconds),
                max_pause=of.value("retry_longest", converters.parse_seconds),
                held_pause=of.value("retry_held", converters.parse_seconds),
            ),
            batch_size_limit=of.value_or_none("batch_size_limit", converters.parse_size),
        )


_NO_SOURCE = Source(b"/", b"", is_full_path=False)
_NOWHERE = Destination("", "", Transport.LOCAL, None, b"/")


def _place(said: RawOption, text: str) -> notation.ParsedDestination:
    return notation.parse_destination(os.fsencode(text), os.fsencode(said.directory), os.path.isdir)


def _steps(said: RawOption, text: str) -> Iterable[RuleStep]:
    origin = said.origin if said.line else ""
    rule = os.fsencode(text)
    if said.option.key == "exclude_from":
        return machine_checks.read_exclude_file(said.directory, text)
    if said.option.key == "include":
        return filters.parse_include(rule, origin)
    if said.option.key == "filter":
        return filters.parse_filter(rule, origin)
    return filters.parse_exclude(rule, origin)


def _options(of: OptionReader, *, deletes: bool) -> tuple[str, ...]:
    def checked(said: RawOption, text: str) -> str:
        check_option(text, is_delete_enabled=deletes)
        return with_absolute_path(text, said.directory)

    found = tuple(of.values("rsync_option", convert=checked))
    try:
        check_combination(found)
    except UsageError as error:
        of.add_error(of.raw_options("rsync_option")[0], str(error))
    return found


def _shell(of: OptionReader, destination: Destination, default: str) -> str:
    """Return the remote shell, whose program is there if the destination needs one."""
    own = of.value_or_none("rsh", str)
    text = own or default
    if destination.transport is Transport.SHELL:
        try:
            machine_checks.check_remote_shell(text)
        except UsageError as error:
            # No default of ours has a fault but that ssh is not there.
            origin = "RSYNC_RSH" if not own and default != OPTIONS_BY_KEY["rsh"].default else ""
            for said in of.raw_options("rsh")[-1:] or [
                RawOption(OPTIONS_BY_KEY["rsh"], (), origin)
            ]:
                of.add_error(said, str(error))
    return text


def _hooks(of: OptionReader) -> HookSettings:
    return HookSettings(
        batch=of.path_or_none("hook_batch", machine_checks.check_command) or (),
        error=of.path_or_none("hook_error", machine_checks.check_command) or (),
        recovery=of.path_or_none("hook_recovery", machine_checks.check_command) or (),
        held=of.path_or_none("hook_held", machine_checks.check_command) or (),
        timeout=of.value("hook_timeout", converters.parse_seconds),
    )
