"""Finds rules whose pattern can match nothing, and says what to write instead."""

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
# This many names in common are no accident: /srv/x may be right for a source /srv/tree.
_FAMILIAR = 2


def find_never_matching_rules(
    rules: Rules, source: bytes, is_there: Callable[[bytes], bool] = lambda _path: False
) -> list[str]:
    """Return a sentence for each rule whose pattern can match nothing in the source.

    ``source`` is an absolute path. A pattern that has it in front is such a rule unless, as in
    ``/app/app``, the source has the first of its own names in it: ``is_there`` tells that.
    """
    return [
        f"The pattern of {describe_rule(pattern)} can match nothing: {fault}."
        for pattern in rules.ordered
        # The names of extended attributes are no paths.
        if b"x" not in pattern.modifiers and (fault := _fault(pattern, source, is_there))
    ]


def _fault(pattern: FilterRule, source: bytes, is_there: Callable[[bytes], bool]) -> str:
    body = pattern.body
    tokens = tokenize(body)
    names = _split(tokens)
    if NEVER_MATCHES in tokens:
        return (
            "it has brackets that nothing closes, brackets with an unknown class, or a backslash "
            "at its end: write a backslash before what stands for itself"
        )
    if not body.startswith((b"/", b"**")) and has_slash_in_brackets(body, tokens):
        return "a slash in brackets matches nothing: write a rule for each path that is meant"
    if [_DOT, _DOT] in names:
        return "no path in the source has '..' in it: write the path from the source on"
    tidy = _tidied(pattern.pattern)
    if outside := _absolute(tidy, pattern.pattern, source, is_there):
        return outside
    if [_DOT] in names or [] in names[1:] or names == [[]]:
        return f"no path has an empty name or '.' in it: {_advice(pattern.pattern, tidy)}"
    return ""


def _split(tokens: list[bytes]) -> list[list[bytes]]:
    """Return the tokens of each name of a pattern."""
    names: list[list[bytes]] = [[]]
    for token in tokens:
        if token == SLASH:
            names.append([])
        else:
            names[-1].append(token)
    return names


def _tidied(text: bytes) -> bytes:
    """Return a pattern without empty names and dots; empty where nothing is left."""
    names = [part for part in text.split(b"/") if part not in {b"", b"."}]
    if not names:
        return b""
    front = b"/" if text.startswith((b"/", b"./")) else b""
    return front + b"/".join(names) + (b"/" if text.endswith((b"/", b"/.")) else b"")


def _absolute(tidy: bytes, written: bytes, source: bytes, is_there: Callable[[bytes], bool]) -> str:
    """Return the fault of a pattern that has the source's path, or one beside it, in front."""
    above = [part for part in source.split(b"/") if part]
    _, *names = tidy.split(b"/")
    if not (tidy.startswith(b"/") and above and names[0] == above[0]):
        return ""
    common = _in_common(names, above)
    is_outside = _FAMILIAR <= common < min(len(above), len([part for part in names if part]))
    if (common < len(above) and not is_outside) or is_there(paths.join(source, names[0])):
        return ""
    rest = b"/" + b"/".join(names[common:])
    cure = "remove the rule" if is_outside else _advice(written, rest if rest != b"/" else b"")
    what = "is the path of something outside it" if is_outside else "has its absolute path in front"
    return f"patterns begin in the source, {paths.printable(source)}, and this one {what}: {cure}"


def _in_common(names: list[bytes], above: list[bytes]) -> int:
    """Return how many of the first names of a pattern match those of a path."""
    for number, (part, directory) in enumerate(zip(names, above, strict=False)):
        # Two stars may stand for any number of names.
        if b"**" in part or not Rules((FilterRule(part),)).matches(directory, is_directory=True):
            return number
    return min(len(names), len(above))


def _advice(written: bytes, better: bytes) -> str:
    if not better:
        return "remove the rule, since the source itself is always synced"
    return f"write '{paths.printable(better)}' instead of '{paths.printable(written)}'"
