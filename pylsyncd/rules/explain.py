"""Says in words which rule decides about a path."""

from collections.abc import Iterable

from pylsyncd.model import paths
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.patterns import FilterRule


def explain(rules: Rules, path: bytes, *, is_directory: bool) -> str:
    """Return one to three sentences for a person: whether a path is synced, and which rule says so.

    ``is_directory`` is for a directory itself, not for a symlink to one.
    """
    if not path:
        return "The source itself is always synced: rules decide only about what is in it."
    sending = [pattern for pattern in rules.ordered if pattern.affects_sending]
    shown = _shown(path, is_directory=is_directory)
    own = _decisive(sending, path, is_directory=is_directory)
    for directory in reversed(list(paths.ancestors(path))):
        above = _decisive(sending, directory, is_directory=True)
        if above is not None and not above.is_include:
            closed = _shown(directory, is_directory=True)
            sentences = [
                (
                    f"{shown} is not synced: {describe_rule(above)} excludes the directory "
                    f"{closed} above it."
                ),
                *_of_no_avail(own, closed),
                *_of_copies(rules, directory, above, is_directory=True),
            ]
            return " ".join(sentences)
    sentences = [_verdict(shown, own), *_of_copies(rules, path, own, is_directory=is_directory)]
    return " ".join(sentences)


def describe_rule(rule: FilterRule) -> str:
    """Return how a message names a rule: as it is written, and where."""
    if rule.origin.startswith("--") and rule.origin.endswith(paths.printable(rule.pattern)):
        return f"the rule '{rule.origin}'"
    written = f"the rule '{paths.printable(rule.as_filter)}'"
    return f"{written} ({rule.origin})" if rule.origin else written


def _decisive(
    patterns: Iterable[FilterRule], path: bytes, *, is_directory: bool
) -> FilterRule | None:
    """Return the first rule that is about a path in a directory that is not excluded."""
    # Alone and as an exclude, a rule shows whether it is about the path.
    for pattern in patterns:
        if _alone(pattern).matches(path, is_directory=is_directory):
            return pattern
    return None


def _alone(pattern: FilterRule) -> Rules:
    modifiers = b"!" if pattern.is_negated else b""
    return Rules((FilterRule(pattern.pattern, modifiers=modifiers),))


def _shown(path: bytes, *, is_directory: bool) -> str:
    return paths.printable(path) + ("/" if is_directory else "")


def _verdict(shown: str, rule: FilterRule | None) -> str:
    if rule is None:
        return f"{shown} is synced: no rule matches it."
    since = ", since its pattern does not match" if rule.is_negated else ""
    if rule.is_include:
        return f"{shown} is synced: {describe_rule(rule)} includes it{since}."
    return f"{shown} is not synced: {describe_rule(rule)} excludes it{since}."


def _of_no_avail(own: FilterRule | None, closed: str) -> list[str]:
    """Tell of an include that cannot help what is below an excluded directory."""
    if own is None or not own.is_include:
        return []
    reason = "rsync does not look into an excluded directory"
    return [
        f"{_capital(describe_rule(own))} is not asked, for {reason}: include {closed} before, too."
    ]


def _of_copies(
    rules: Rules, path: bytes, decisive: FilterRule | None, *, is_directory: bool
) -> list[str]:
    """Tell what becomes of copies, where the rules for the two sides differ about them."""
    is_sent = decisive is None or decisive.is_include
    if is_sent != rules.protects(path, is_directory=is_directory):
        return []
    shown = _shown(path, is_directory=is_directory)
    if not is_sent:
        return [f"A copy of {shown} at a destination is not protected from deletion by any rule."]
    deletion = [pattern for pattern in rules.ordered if pattern.affects_deletion]
    protecting = _decisive(deletion, path, is_directory=is_directory)
    by = "" if protecting is None else f": {describe_rule(protecting)} protects them"
    but = ", unless the directory that they are in goes, too" if _is_perishable(protecting) else ""
    return [f"Once {shown} is gone from the source, its copies are kept{by}{but}."]


def _is_perishable(rule: FilterRule | None) -> bool:
    return rule is not None and b"p" in rule.modifiers


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
