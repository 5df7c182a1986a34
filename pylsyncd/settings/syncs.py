"""One source with its destinations: from what was said to a `Sync`."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pylsyncd.model import endpoints, notation
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.model.errors import UsageError
from pylsyncd.model.notation import Transport
from pylsyncd.rsync import installed
from pylsyncd.rsync.commands import OLDEST_RSYNC, Rsync
from pylsyncd.rsync.passthrough import anchored, check_option, check_together
from pylsyncd.rsync.quoting import Version
from pylsyncd.rsync.retry import Pauses
from pylsyncd.rules import excludes, filters
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.filters import Step
from pylsyncd.settings import checks, values
from pylsyncd.settings.layout import Layout, Part, label
from pylsyncd.settings.options import BY_KEY, RULES
from pylsyncd.settings.said import Faults, Said, Values
from pylsyncd.settings.settings import Delivery, Hooks, Sync


@dataclass(frozen=True, slots=True)
class Draft:
    """A sync as far as it could be read."""

    part: Part
    sync: Sync | None
    """None if something essential is missing."""
    names: tuple[str, ...] | None
    """Of its destinations, without the sync's; None if they could not be read."""


class Reader:
    """Reads syncs; what cannot be used is a fault."""

    def __init__(
        self, layout: Layout, faults: Faults, environ: Mapping[str, str], *, all_runs: Rsync
    ) -> None:
        """Take what was said, where faults go, and what is the same for all runs of rsync."""
        self._layout = layout
        self._faults = faults
        self._environ = environ
        self._all_runs = all_runs
        self._versions: dict[str, Version] = {}

    def read(self, part: Part) -> Draft:
        """Return one sync."""
        of = Values(self._layout.sync(part), self._faults)
        rsync = self._rsync(of)
        rsync = replace(rsync, version=self._version(of, rsync.program))
        # What no destination uses may have faults, too.
        self._delivery(of, rsync, _NOWHERE)
        source = of.placed("source", checks.source)
        if not any("".join(said.texts) for said in of.said("source")):
            # Without an origin: on the command line, where a variable may have been empty.
            empty = "The source is empty: write . for the current directory."
            says = "It has no source." if part.origin else empty
            self._faults.add(says, part.origin, part.line)
        destinations = self._destinations(part, of, source)
        deliveries = tuple(
            self._delivery(
                Values(self._layout.destination(part, destination.name), self._faults),
                rsync,
                replace(destination, name=label(part.name, destination.name)),
            )
            for destination in destinations or ()
        )
        sync = self._sync(part, of, source, deliveries, rsync.rules)
        names = None if destinations is None else tuple(each.name for each in destinations)
        return Draft(part, sync, names)

    def check(self, of: Values) -> None:
        """Look for faults in what no sync may use."""
        rsync = self._rsync(of)
        if of.said("rsync"):
            self._version(of, rsync.program)
        self._delivery(of, rsync, _NOWHERE)
        self._sync(Part("", ()), of, None, (), Rules())

    def _sync(
        self,
        part: Part,
        of: Values,
        source: Source | None,
        deliveries: tuple[Delivery, ...],
        rules: Rules,
    ) -> Sync | None:
        made = Sync(
            source=source or _NO_SOURCE,
            deliveries=deliveries,
            rules=rules,
            name=part.name,
            delete=of.one("delete", values.switch),
            window=min((each.window for each in deliveries), default=0.0),
            max_changes=of.one("max_changes", values.count),
            initial_sync=of.one("initial_sync", values.switch),
            modify=of.one("modify", values.switch),
            poll_interval=of.one("poll_interval", values.seconds),
            scan_interval=of.one("scan_interval", values.interval),
            full_sync_interval=of.one("full_sync_interval", values.interval),
            hooks=_hooks(of),
        )
        return made if source is not None and deliveries else None

    def _destinations(
        self, part: Part, of: Values, source: Source | None
    ) -> tuple[Destination, ...] | None:
        said = of.said("destinations")
        texts = [os.fsencode(text) for each in said for text in each.texts]
        if not texts:
            self._faults.add("It has no destinations.", part.origin, part.line)
            return None
        places = of.each("destinations", convert=_place)
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
            of.refuse(said[0], str(error))
            return None

    def _rsync(self, of: Values) -> Rsync:
        """Return what is the same for all destinations of a sync."""
        return replace(
            self._all_runs,
            program=of.placed("rsync", checks.program) or BY_KEY["rsync"].default,
            rules=excludes.build(of.each(*RULES, convert=_steps)),
            delete=of.one("delete", values.switch),
            max_delete=of.maybe("max_delete", values.count_or_none),
        )

    def _version(self, of: Values, program: str) -> Version:
        if program not in self._versions:
            try:
                self._versions[program] = installed.version(program)
            except UsageError as error:
                self._versions[program] = OLDEST_RSYNC
                for said in of.said("rsync")[-1:] or [Said(BY_KEY["rsync"], ())]:
                    of.refuse(said, str(error))
        return self._versions[program]

    def _delivery(self, of: Values, rsync: Rsync, destination: Destination) -> Delivery:
        default_shell = self._environ.get("RSYNC_RSH") or BY_KEY["rsh"].default
        return Delivery(
            destination,
            replace(
                rsync,
                rsh=_shell(of, destination, default_shell),
                shares_ssh=of.one("share_ssh", values.switch),
                nice=of.one("nice", values.niceness),
                ionice=of.maybe("ionice", values.scheduling) or "",
                bandwidth_limit=of.maybe("bandwidth_limit", values.rate) or "",
                password_file=of.placed("password_file", checks.password_file) or "",
                options=_options(of, deletes=rsync.delete),
                timeout=of.one("timeout", values.seconds),
            ),
            window=of.one("window", values.seconds),
            pauses=Pauses(
                first=of.one("retry_first", values.seconds),
                longest=of.one("retry_longest", values.seconds),
                held=of.one("retry_held", values.seconds),
            ),
            batch_size_limit=of.maybe("batch_size_limit", values.size),
        )


_NO_SOURCE = Source(b"/", b"", is_full_path=False)
_NOWHERE = Destination("", "", Transport.LOCAL, None, b"/")


def _place(said: Said, text: str) -> notation.Place:
    return notation.parse_place(os.fsencode(text), os.fsencode(said.directory), os.path.isdir)


def _steps(said: Said, text: str) -> Iterable[Step]:
    origin = said.origin if said.line else ""
    rule = os.fsencode(text)
    if said.option.key == "exclude_from":
        return checks.exclude_from(said.directory, text)
    if said.option.key == "include":
        return filters.parse_include(rule, origin)
    if said.option.key == "filter":
        return filters.parse_filter(rule, origin)
    return filters.parse_pattern(rule, origin)


def _options(of: Values, *, deletes: bool) -> tuple[str, ...]:
    def checked(said: Said, text: str) -> str:
        check_option(text, deletes=deletes)
        return anchored(text, said.directory)

    found = tuple(of.each("rsync_option", convert=checked))
    try:
        check_together(found)
    except UsageError as error:
        of.refuse(of.said("rsync_option")[0], str(error))
    return found


def _shell(of: Values, destination: Destination, default: str) -> str:
    """Return the remote shell, whose program is there if the destination needs one."""
    own = of.maybe("rsh", str)
    text = own or default
    if destination.transport is Transport.SHELL:
        try:
            checks.remote_shell(text)
        except UsageError as error:
            # No default of ours has a fault but that ssh is not there.
            origin = "RSYNC_RSH" if not own and default != BY_KEY["rsh"].default else ""
            for said in of.said("rsh")[-1:] or [Said(BY_KEY["rsh"], (), origin)]:
                of.refuse(said, str(error))
    return text


def _hooks(of: Values) -> Hooks:
    return Hooks(
        batch=of.placed("hook_batch", checks.command) or (),
        error=of.placed("hook_error", checks.command) or (),
        recovery=of.placed("hook_recovery", checks.command) or (),
        held=of.placed("hook_held", checks.command) or (),
        timeout=of.one("hook_timeout", values.seconds),
    )
