"""Finds rules that can never match, and says what to write instead."""

import re
from collections.abc import Callable

from pylsyncd.model import paths
from pylsyncd.rules.excludes import Rules
from pylsyncd.rules.explain import describe_rule
from pylsyncd.rules.patterns import (
    NEVER_MATCHES,
    SLASH,
    FilterRule,
    has_slash_in_brackets,
    tokenize,
)

_DOT = re.escape(b".")
# With one name in common, /srv/x may be right for a source /srv/tree; with two, it is a mistake.
_MIN_COMMON_NAMES = 2


def find_never_matching_rules(
    rules: Rules, source: bytes, exists: Callable[[bytes], bool] = lambda _path: False
) -> list[str]:
    """Return a sentence for each rule whose pattern can never match in the source.

    ``source`` is an absolute path. A pattern that begins with it never matches, unless the source
    contains a directory of the first name, as in ``/app/app``; ``exists`` answers that.
    """
    return [
        f"The pattern of {describe_rule(rule)} can match nothing: {fault}."
        for rule in rules.ordered
        # Rules with x are about the names of extended attributes.
        if b"x" not in rule.modifiers and (fault := _fault(rule, source, exists))
    ]


def _fault(rule: FilterRule, source: bytes, exists: Callable[[bytes], bool]) -> str:
    body = rule.body
    tokens = tokenize(body)
    names = _split(tokens)
    if NEVER_MATCHES in tokens:
        return (
            "it has brackets without an end, brackets with an unknown class, or a backslash at its "
            "end: write a backslash before a character that stands for itself"
        )
    if not body.startswith((b"/", b"**")) and has_slash_in_brackets(body, tokens):
        return "a slash in brackets matches nothing: write one rule for each path"
    if [_DOT, _DOT] in names:
        return "no path in the source contains '..': write the path relative to the source"
    tidy = _tidy(rule.pattern)
    if fault := _absolute_path_fault(tidy, rule.pattern, source, exists):
        return fault
    if [_DOT] in names or [] in names[1:] or names == [[]]:
        return f"no path has an empty or '.' component: {_advice(rule.pattern, tidy)}"
    return ""


def _split(tokens: list[bytes]) -> list[list[bytes]]:
    """Return the tokens of each path component of a pattern."""
    names: list[list[bytes]] = [[]]
    for token in tokens:
        if token == SLASH:
            names.append([])
        else:
            names[-1].append(token)
    return names


def _tidy(text: bytes) -> bytes:
    """Return a pattern without empty and ``.`` components; empty if none is left."""
    names = [part for part in text.split(b"/") if part not in {b"", b"."}]
    if not names:
        return b""
    front = b"/" if text.startswith((b"/", b"./")) else b""
    return front + b"/".join(names) + (b"/" if text.endswith((b"/", b"/.")) else b"")


def _absolute_path_fault(
    tidy: bytes, written: bytes, source: bytes, exists: Callable[[bytes], bool]
) -> str:
    """Return the fault of a pattern that begins with the source's path, or with one beside it."""
    above = [part for part in source.split(b"/") if part]
    _, *names = tidy.split(b"/")
    if not (tidy.startswith(b"/") and above and names[0] == above[0]):
        return ""
    common = _count_common_names(names, above)
    shorter = min(len(above), len([part for part in names if part]))
    is_outside = _MIN_COMMON_NAMES <= common < shorter
    if (common < len(above) and not is_outside) or exists(paths.join(source, names[0])):
        return ""
    rest = b"/" + b"/".join(names[common:])
    cure = "remove the rule" if is_outside else _advice(written, rest if rest != b"/" else b"")
    what = "is a path outside it" if is_outside else "begins with its absolute path"
    shown = paths.printable(source)
    return f"patterns are relative to the source, {shown}, and this one {what}: {cure}"


def _count_common_names(names: list[bytes], above: list[bytes]) -> int:
    """Return how many leading names of a pattern match those of a path."""
    for number, (part, directory) in enumerate(zip(names, above, strict=False)):
        # Two stars match any number of names.
        if b"**" in part or not Rules((FilterRule(part),)).matches(directory, is_directory=True):
            return number
    return min(len(names), len(above))


def _advice(written: bytes, better: bytes) -> str:
    if not better:
        return "remove the rule, because the source itself is always synced"
    return f"write '{paths.printable(better)}' instead of '{paths.printable(written)}'"
