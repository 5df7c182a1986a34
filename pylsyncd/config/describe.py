"""What would be kept equal to what, in words. Pure."""

import re
import shlex
from collections.abc import Iterator, Sequence

from pylsyncd.config.options import OPTIONS, RULE_KEYS, Option, OptionScope
from pylsyncd.config.raw_options import RawConfiguration, Section
from pylsyncd.config.said import Layer
from pylsyncd.config.settings import DestinationSettings, Settings, SyncSettings
from pylsyncd.model import paths
from pylsyncd.model.formatting import printable
from pylsyncd.rsync import quoting
from pylsyncd.rsync.command import CURRENT_DIRECTORY, RsyncCapabilities

_OWN = frozenset(["source", "destinations", "window"])

# What does not occur in a name, but in what was meant otherwise: a comment behind a value, a second
# destination behind the first one.
_COMMENT = re.compile(r"\s[;#](\s|\Z)")
_SEVERAL = re.compile(r"\s(/|[^\s/]+:)")


def describe_settings(
    settings: Settings, layout: RawConfiguration, *, commands: bool = False
) -> Iterator[str]:
    """Yield lines that tell what these settings mean, with ``commands`` those of rsync, too.

    Of options, those are told that are not at their default.
    """
    yield from _differing(layout.process_layers, (), {OptionScope.PROCESS}, "")
    for sync, part in zip(settings.syncs, layout.syncs, strict=True):
        yield from _describe_sync(sync, part, layout, commands=commands)


def suspicious_values(sync: SyncSettings) -> Iterator[str]:
    """Yield a sentence for each value that is possible, but hardly what was meant."""
    for delivery in sync.destinations:
        written = delivery.destination.notation
        if not _COMMENT.search(written) and _SEVERAL.search(written):
            yield (
                f"'{printable(written)}' is one destination, with a blank in its name. If several "
                "are meant, write one a line."
            )
        if quoting.expands_wildcards(delivery.destination, delivery.rsync.version):
            yield (
                f"The rsync at the destination {written} takes *, ? and [ in its path "
                f"({paths.printable(delivery.destination.target)}) for a pattern, and copies "
                "to another "
                "directory that matches it: choose a path without them."
            )
        if quoting.has_unexpanded_tilde(delivery.destination, delivery.rsync.version):
            yield (
                f"The rsync at the destination {written} does not know the home that its path "
                f"({paths.printable(delivery.destination.target)}) begins with, and copies to a "
                "directory of that name: write the whole path."
            )
    of_rules = [
        pattern.pattern.decode("utf-8", "surrogateescape") for pattern in sync.rules.ordered
    ]
    for text in [*(each.destination.notation for each in sync.destinations), *of_rules]:
        if _COMMENT.search(text):
            yield (
                f"All of '{printable(text)}' is taken for the value. If its end is meant as a "
                "comment, put that on a line of its own."
            )


def _describe_sync(
    sync: SyncSettings, part: Section, layout: RawConfiguration, *, commands: bool
) -> Iterator[str]:
    title = f"sync {sync.name}: " if sync.name else ""
    yield f"{title}{paths.printable(sync.source.path)}, window {sync.window:g} s"
    of_sync = layout.sync_layers(part)
    yield from _differing(of_sync, (), {OptionScope.SYNC, OptionScope.DESTINATION}, "    ")
    for delivery in sync.destinations:
        destination = delivery.destination
        yield (
            f"    [{delivery.name}] {destination.notation} -> {paths.printable(destination.target)}"
        )
        plain = delivery.name.removeprefix(f"{sync.name}/" if sync.name else "")
        of_destination = layout.destination_layers(part, plain)
        yield from _differing(of_destination, of_sync, {OptionScope.DESTINATION}, "        ")
        if commands:
            yield from _commands(delivery)


def _differing(
    layers: Sequence[Layer], beside: Sequence[Layer], scopes: set[OptionScope], indent: str
) -> Iterator[str]:
    """Yield what counts of some options, where it differs from what counts beside them."""
    for option in OPTIONS:
        if option.scope in scopes and (option.key not in _OWN or beside):
            texts = _counting(option, layers)
            if texts != _counting(option, beside):
                yield from (f"{indent}{option.key} = {printable(text)}" for text in texts or [""])


def _counting(option: Option, layers: Sequence[Layer]) -> list[str]:
    """Return what counts of an option: what the nearest layer says, or the default."""
    keys = RULE_KEYS if option.key in RULE_KEYS else {option.key}
    for layer in layers:
        if found := [said for said in layer if said.option.key in keys]:
            texts = [text for said in found if said.option is option for text in said.texts if text]
            return texts if option.is_list else texts[-1:]
    return [option.default] if option.default else []


def _commands(delivery: DestinationSettings) -> Iterator[str]:
    rsync, destination = delivery.rsync, delivery.destination
    full = rsync.full_sync_command(CURRENT_DIRECTORY, destination, RsyncCapabilities())
    listed = rsync.file_list_command(
        CURRENT_DIRECTORY, destination, RsyncCapabilities(), create_parents=False
    )
    for title, command in (("everything", full), ("a list", listed)):
        words = [word.decode("utf-8", "surrogateescape") for word in command]
        yield f"        {title}: {printable(shlex.join(words))}"
