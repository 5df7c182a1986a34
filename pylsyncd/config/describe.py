"""Describes the settings for ``--check-config``. Pure."""

import re
import shlex
from collections.abc import Collection, Iterator, Sequence

from pylsyncd.config import sync_options
from pylsyncd.config.option import OptionScope
from pylsyncd.config.options import OPTIONS, RULE_OPTIONS, AnyOption
from pylsyncd.config.raw_options import Layer, RawConfiguration, Section
from pylsyncd.config.settings import DestinationSettings, Settings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.formatting import printable
from pylsyncd.rsync import quoting
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities

# The description of a sync shows these by itself.
_SHOWN_BY_SYNC = (sync_options.SOURCE, sync_options.DESTINATIONS, sync_options.WINDOW)

# Unlikely in a name, but typical of a comment behind a value, or a second destination on a line.
_COMMENT = re.compile(r"\s[;#](\s|\Z)")
_SECOND_DESTINATION = re.compile(r"\s(/|[^\s/]+:)")


def describe_settings(
    settings: Settings, raw: RawConfiguration, *, commands: bool = False
) -> Iterator[str]:
    """Yield lines about the settings: the syncs, and all options that differ from their defaults.

    With ``commands``, also yield the rsync commands.
    """
    yield from _differing_options(raw.process_layers, (), {OptionScope.PROCESS}, "")
    for sync, section in zip(settings.syncs, raw.syncs, strict=True):
        yield from _describe_sync(sync, section, raw, commands=commands)


def suspicious_values(sync: SyncSettings) -> Iterator[str]:
    """Yield a warning for each value that is valid but hardly intended."""
    for settings in sync.destinations:
        yield from _destination_warnings(settings)
    of_rules = [rule.pattern.decode("utf-8", "surrogateescape") for rule in sync.rules.ordered]
    for text in [*(each.destination.notation for each in sync.destinations), *of_rules]:
        if _COMMENT.search(text):
            yield (
                f"'{printable(text)}' is one value as a whole. If its end is a comment, move that "
                "to a line of its own."
            )


def _destination_warnings(settings: DestinationSettings) -> Iterator[str]:
    destination, version = settings.destination, settings.rsync.version
    notation = destination.notation
    path = paths.printable(destination.target)
    if not _COMMENT.search(notation) and _SECOND_DESTINATION.search(notation):
        yield (
            f"'{printable(notation)}' is one destination with a blank in its name. Write several "
            "destinations on separate lines."
        )
    if quoting.expands_wildcards(destination, version):
        yield (
            f"The rsync at the destination {notation} expands *, ? and [ in its path ({path}), and "
            "copies to another directory that matches: choose a path without them."
        )
    if quoting.has_unexpanded_tilde(destination, version):
        yield (
            f"The rsync at the destination {notation} does not expand the ~ in its path ({path}), "
            "and copies to a directory of that name: write the full path."
        )


def _describe_sync(
    sync: SyncSettings, section: Section, raw: RawConfiguration, *, commands: bool
) -> Iterator[str]:
    title = f"sync {sync.name}: " if sync.name else ""
    yield f"{title}{paths.printable(sync.source.path)}, window {sync.window:g} s"
    sync_layers = raw.sync_layers(section)
    yield from _differing_options(
        sync_layers, (), {OptionScope.SYNC, OptionScope.DESTINATION}, "    "
    )
    for settings in sync.destinations:
        destination = settings.destination
        target = paths.printable(destination.target)
        yield f"    [{settings.name}] {destination.notation} -> {target}"
        name = settings.name.removeprefix(f"{sync.name}/" if sync.name else "")
        layers = raw.destination_layers(section, name, *destination.aliases)
        yield from _differing_options(layers, sync_layers, {OptionScope.DESTINATION}, "        ")
        if commands:
            yield from _rsync_commands(settings)


def _differing_options(
    layers: Sequence[Layer], base: Sequence[Layer], scopes: Collection[OptionScope], indent: str
) -> Iterator[str]:
    """Yield the options of some scopes whose values differ from those in the base layers."""
    for option in OPTIONS:
        if option.scope in scopes and (option not in _SHOWN_BY_SYNC or base):
            texts = _effective_texts(option, layers)
            if texts != _effective_texts(option, base):
                yield from (f"{indent}{option.key} = {printable(text)}" for text in texts or [""])


def _effective_texts(option: AnyOption, layers: Sequence[Layer]) -> list[str]:
    """Return the texts of an option in the most specific layer that sets it, or the default."""
    options = RULE_OPTIONS if option in RULE_OPTIONS else (option,)
    for layer in layers:
        if found := [raw for raw in layer if raw.option in options]:
            texts = [text for raw in found if raw.option is option for text in raw.texts if text]
            return texts if option.is_list else texts[-1:]
    return [option.default] if option.default else []


def _rsync_commands(settings: DestinationSettings) -> Iterator[str]:
    rsync, destination = settings.rsync, settings.destination
    capabilities = RsyncCapabilities()
    full = rsync.full_sync_command(CURRENT_DIRECTORY, destination, capabilities)
    listed = rsync.file_list_command(
        CURRENT_DIRECTORY, destination, capabilities, create_parents=False
    )
    for title, command in (("full sync", full), ("file list", listed)):
        words = [word.decode("utf-8", "surrogateescape") for word in command]
        yield f"        {title}: {printable(shlex.join(words))}"
