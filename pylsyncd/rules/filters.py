"""Parses rules as rsync's options and files write them.

A rule that pylsyncd cannot apply exactly as rsync does is refused with the reason. The origin of a
rule is for messages: the option, or the file and line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.rules.patterns import RULE_PREFIXES, FilterRule

MAX_PATTERN_BYTES: Final = 4095
"""rsync drops a longer pattern with only a message (its MAXPATHLEN)."""


@dataclass(frozen=True, slots=True)
class ClearRules:
    """The rule ``!``, which drops all rules before it."""


RuleStep: TypeAlias = FilterRule | ClearRules


def parse_exclude(text: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Parse one PATTERN as rsync's ``--exclude`` does. Raises UsageError.

    As in rsync, only ``- `` and ``+ `` are prefixes and only a lone ``!`` clears: ``-p x`` and
    ``!x`` are plain names. rsync ignores an empty pattern; here it is an error, because it usually
    comes from an unset variable.
    """
    return _parse(text, "exclude", origin or _option_origin("exclude", text))


def parse_include(text: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Parse one PATTERN as rsync's ``--include`` does; otherwise like `parse_exclude`."""
    return _parse(text, "include", origin or _option_origin("include", text))


def parse_exclude_lines(content: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    r"""Parse the content of a FILE as rsync's ``--exclude-from`` does. Raises UsageError.

    A line ends with ``\n`` or ``\r``. Empty lines and lines that begin with ``#`` or ``;`` are
    skipped. Blanks belong to the pattern. ``origin`` is the name of the file.
    """
    return tuple(_parse_lines(content, "exclude", origin))


def parse_include_lines(content: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Parse a FILE as rsync's ``--include-from`` does; otherwise like `parse_exclude_lines`."""
    return tuple(_parse_lines(content, "include", origin))


def parse_filter(text: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Parse one RULE as rsync's ``--filter`` does. Raises UsageError.

    A rule is ``RULE[,MODIFIERS] PATTERN``. After a RULE of one letter the comma is optional; one
    blank or underscore precedes the pattern.
    """
    origin = origin or _option_origin("filter", text)
    name, rest = _split_name(text)
    if name == b"!":
        if rest:
            raise _refusal(text, "filter", "has text after it: write it alone")
        return (ClearRules(),)
    modifiers, pattern = _split_modifiers(rest)
    if fault := _rule_fault(name, modifiers) or _pattern_fault(pattern):
        raise _refusal(text, "filter", fault)
    side = _IMPLIED_SIDES.get(name, b"")
    modifiers = _normalize_modifiers(modifiers + side)
    return (FilterRule(pattern, name in _INCLUDE_NAMES, modifiers, origin),)


def _parse_lines(content: bytes, kind: str, origin: str) -> Iterator[RuleStep]:
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", content), start=1):
        if line and not line.startswith((b"#", b";")):
            line_origin = f"{origin}, line {number}" if origin else f"line {number}"
            try:
                yield from _parse(line, kind, line_origin)
            except UsageError as error:
                raise UsageError(f"{line_origin}: {error}") from None


def _parse(text: bytes, kind: str, origin: str) -> tuple[RuleStep, ...]:
    if text == b"!":
        return (ClearRules(),)
    is_prefixed = text.startswith(RULE_PREFIXES)
    pattern = text[2:] if is_prefixed else text
    if fault := _pattern_fault(pattern):
        raise _refusal(text, kind, fault)
    is_include = text.startswith(b"+") if is_prefixed else kind == "include"
    return (FilterRule(pattern, is_include, origin=origin),)


def _pattern_fault(pattern: bytes) -> str:
    if not pattern:
        return "has no pattern: give it one, or remove it"
    if b"\0" in pattern:
        return "holds a NUL byte: write plain text, one rule a line"
    if len(pattern) > MAX_PATTERN_BYTES:
        return f"is longer than the {MAX_PATTERN_BYTES} bytes that rsync accepts: shorten it"
    return ""


def _option_origin(name: str, text: bytes) -> str:
    return f"--{name}={paths.printable(text) if text else ''}"


def _refusal(text: bytes, kind: str, fault: str) -> UsageError:
    shown = paths.printable(text[:80]) if text else ""
    return UsageError(f"The {kind} rule '{shown}' {fault}.")


_SHORT_NAMES = {
    b"clear": b"!",
    b"dir-merge": b":",
    b"exclude": b"-",
    b"hide": b"H",
    b"include": b"+",
    b"merge": b".",
    b"protect": b"P",
    b"risk": b"R",
    b"show": b"S",
}
_LONG_NAME = re.compile(rb"(%b)(?=[ \t-\r_,]|\Z)" % b"|".join(_SHORT_NAMES))
_IMPLIED_SIDES = {b"H": b"s", b"S": b"s", b"P": b"r", b"R": b"r"}
_INCLUDE_NAMES = frozenset([b"+", b"S", b"R"])
_NAMES_WITH_MODIFIERS = frozenset([b"-", b"+", *_IMPLIED_SIDES])
_MODIFIERS = b"!prsx"

_REFUSED_RULES = {
    b".": (
        "makes rsync read further rules from a file, which pylsyncd would not know: write them as "
        "options or in the configuration, or name a file of patterns with --exclude-from"
    ),
    b":": (
        "makes rsync read further rules from files within the source, which may change without "
        "pylsyncd knowing: write them as options or in the configuration, or name a file of "
        "patterns with --exclude-from"
    ),
}
_REFUSED_MODIFIERS = {
    "/": (
        "matches absolute paths (these differ between source and destination): remove the / and "
        "write the path relative to the source, as in '- /cache'"
    ),
    "C": (
        "takes rules from the environment and the home directory of the user on either side: write "
        "the patterns themselves, such as '- CVS/'"
    ),
}


def _split_name(text: bytes) -> tuple[bytes, bytes]:
    """Return the rule's name as one letter, and the text after it and its comma."""
    long = _LONG_NAME.match(text)
    name = _SHORT_NAMES[long[0]] if long else text[:1]
    return name, text[long.end() if long else 1 :].removeprefix(b",")


def _split_modifiers(rest: bytes) -> tuple[bytes, bytes]:
    """Return the modifiers, and the pattern after one blank or underscore."""
    modifiers, *patterns = re.split(rb"[ _]", rest, maxsplit=1)
    return modifiers, b"".join(patterns)


def _rule_fault(name: bytes, modifiers: bytes) -> str:
    if name in _REFUSED_RULES:
        return _REFUSED_RULES[name]
    if name not in _NAMES_WITH_MODIFIERS:
        return (
            "does not begin with the name of a rule: write '- PATTERN' to exclude what matches, "
            "'+ PATTERN' to include it"
        )
    for code in modifiers:
        modifier = chr(code)
        if modifier in _REFUSED_MODIFIERS:
            return f"has the modifier {modifier}, which {_REFUSED_MODIFIERS[modifier]}"
        if code not in _MODIFIERS:
            return (
                f"has the unknown modifier '{paths.printable(bytes([code]))}': use only ! p r s x, "
                "and write one blank before the pattern, as in '- PATTERN'"
            )
    if name in _IMPLIED_SIDES and (b"r" in modifiers or b"s" in modifiers):
        return "names its side twice: H, S, P and R imply a side, so remove r and s"
    return ""


def _normalize_modifiers(modifiers: bytes) -> bytes:
    """Return each modifier once, sorted; ``r`` and ``s`` together restrict nothing."""
    kept = set(modifiers)
    if kept.issuperset(b"rs"):
        kept.difference_update(b"rs")
    return bytes(sorted(kept))
