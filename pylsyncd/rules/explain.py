"""Explains which rule decides about a path."""

from collections.abc import Iterable

from pylsyncd.model import paths
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.patterns import FilterRule


def explain(rules: Rules, path: bytes, *, is_directory: bool) -> str:
    """Return one to three sentences that say whether a path is synced, and which rule decides.

    ``is_directory`` is False for a symlink to a directory.
    """
    if not path:
        return "The source itself is always synced: rules apply only to what is in it."
    sending = [rule for rule in rules.ordered if rule.affects_sending]
    shown = _show(path, is_directory=is_directory)
    own = _deciding_rule(sending, path, is_directory=is_directory)
    for directory in reversed(list(paths.ancestors(path))):
        above = _deciding_rule(sending, directory, is_directory=True)
        if above is not None and not above.is_include:
            excluded = _show(directory, is_directory=True)
            why = f"{describe_rule(above)} excludes the directory {excluded} above it"
            sentences = [
                f"{shown} is not synced: {why}.",
                *_on_useless_include(own, excluded),
                *_on_copies(rules, directory, above, is_directory=True),
            ]
            return " ".join(sentences)
    sentences = [_verdict(shown, own), *_on_copies(rules, path, own, is_directory=is_directory)]
    return " ".join(sentences)


def describe_rule(rule: FilterRule) -> str:
    """Return a rule for a message: as it is written, and where."""
    if rule.origin.startswith("--") and rule.origin.endswith(paths.printable(rule.pattern)):
        return f"the rule '{rule.origin}'"
    written = f"the rule '{paths.printable(rule.as_filter)}'"
    return f"{written} ({rule.origin})" if rule.origin else written


def _deciding_rule(
    rules: Iterable[FilterRule], path: bytes, *, is_directory: bool
) -> FilterRule | None:
    """Return the first rule that matches a path whose parent directories are not excluded."""
    return next((one for one in rules if _matches(one, path, is_directory=is_directory)), None)


def _matches(rule: FilterRule, path: bytes, *, is_directory: bool) -> bool:
    modifiers = b"!" if rule.is_negated else b""
    alone = Rules((FilterRule(rule.pattern, modifiers=modifiers),))
    return alone.matches(path, is_directory=is_directory)


def _show(path: bytes, *, is_directory: bool) -> str:
    return paths.printable(path) + ("/" if is_directory else "")


def _verdict(shown: str, rule: FilterRule | None) -> str:
    if rule is None:
        return f"{shown} is synced: no rule matches it."
    because = ", because its pattern does not match" if rule.is_negated else ""
    if rule.is_include:
        return f"{shown} is synced: {describe_rule(rule)} includes it{because}."
    return f"{shown} is not synced: {describe_rule(rule)} excludes it{because}."


def _on_useless_include(own: FilterRule | None, excluded: str) -> list[str]:
    """Return a sentence if an include below an excluded directory has no effect."""
    if own is None or not own.is_include:
        return []
    rule = describe_rule(own)
    because = "because rsync does not enter an excluded directory"
    cure = f"include {excluded} as well, in an earlier rule"
    return [f"{rule[:1].upper()}{rule[1:]} has no effect, {because}: {cure}."]


def _on_copies(
    rules: Rules, path: bytes, decisive: FilterRule | None, *, is_directory: bool
) -> list[str]:
    """Return a sentence on deletion if the rules for sending and for deletion differ."""
    is_sent = decisive is None or decisive.is_include
    if is_sent != rules.protects(path, is_directory=is_directory):
        return []
    shown = _show(path, is_directory=is_directory)
    if not is_sent:
        return [f"No rule protects a copy of {shown} at a destination from deletion."]
    deletion = [rule for rule in rules.ordered if rule.affects_deletion]
    protecting = _deciding_rule(deletion, path, is_directory=is_directory)
    by = "" if protecting is None else f": {describe_rule(protecting)} protects them"
    is_perishable = protecting is not None and b"p" in protecting.modifiers
    but = ", unless their directory is deleted as well" if is_perishable else ""
    return [f"Once {shown} is gone from the source, its copies are kept{by}{but}."]
