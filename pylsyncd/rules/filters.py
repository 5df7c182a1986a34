"""Reads rules as rsync's options and files write them.

What cannot be decided here as rsync decides it is refused with the reason. Origins are for a
person: the option, or the file and the line that a rule comes from.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.rules.patterns import RULE_PREFIXES, FilterRule

MAX_PATTERN_BYTES: Final = 4095
"""In bytes: rsync drops a longer pattern with no more than a message (its MAXPATHLEN)."""


@dataclass(frozen=True, slots=True)
class ClearRules:
    """The rule ``!``: those before it are forgotten."""


RuleStep: TypeAlias = FilterRule | ClearRules


def parse_exclude(text: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Read one PATTERN as rsync's ``--exclude`` does. Raises UsageError.

    Only ``- `` and ``+ `` are prefixes and only a lone ``!`` clears, as in rsync: ``-p x`` and
    ``!x`` are plain names. rsync ignores an empty pattern; here it is an error, since it stems
    from a variable that nobody has set.
    """
    return _parse(text, "exclude", origin or _option("exclude", text))


def parse_include(text: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Read one PATTERN as rsync's ``--include`` does; like `parse_pattern` otherwise."""
    return _parse(text, "include", origin or _option("include", text))


def parse_exclude_lines(content: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    r"""Read the content of a FILE as rsync's ``--exclude-from`` does. Raises UsageError.

    A line ends with ``\n`` or ``\r``. Empty lines and those that begin with ``#`` or ``;`` are
    skipped. Blanks belong to the pattern. ``origin`` is the name of the file.
    """
    return tuple(_parse_each(content, "exclude", origin))


def parse_include_lines(content: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Read the content of a FILE as rsync's ``--include-from`` does; like `parse_lines` else."""
    return tuple(_parse_each(content, "include", origin))


def parse_filter(text: bytes, origin: str = "") -> tuple[RuleStep, ...]:
    """Read one RULE as rsync's ``--filter`` does. Raises UsageError.

    A rule is ``RULE[,MODIFIERS] PATTERN``. The comma may be left out behind a rule of one letter,
    and one blank or underscore stands before the pattern.
    """
    origin = origin or _option("filter", text)
    name, rest = _split_name(text)
    if name == b"!":
        if rest:
            raise _refusal(text, "filter", "has something behind it: write it alone")
        return (ClearRules(),)
    modifiers, pattern = _split_modifiers(rest)
    if fault := _fault_of_rule(name, modifiers) or _fault(pattern):
        raise _refusal(text, "filter", fault)
    side = _SIDES.get(name, b"")
    return (FilterRule(pattern, name in _INCLUDING, _canonical(modifiers + side), origin),)


def _parse_each(content: bytes, kind: str, origin: str) -> Iterator[RuleStep]:
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", content), start=1):
        if line and not line.startswith((b"#", b";")):
            place = f"{origin}, line {number}" if origin else f"line {number}"
            try:
                yield from _parse(line, kind, place)
            except UsageError as error:
                raise UsageError(f"{place}: {error}") from None


def _parse(text: bytes, kind: str, origin: str) -> tuple[RuleStep, ...]:
    if text == b"!":
        return (ClearRules(),)
    is_prefixed = text.startswith(RULE_PREFIXES)
    pattern = text[2:] if is_prefixed else text
    if fault := _fault(pattern):
        raise _refusal(text, kind, fault)
    includes = text.startswith(b"+") if is_prefixed else kind == "include"
    return (FilterRule(pattern, includes, origin=origin),)


def _fault(pattern: bytes) -> str:
    if not pattern:
        return "has no pattern: give it one, or remove it"
    if b"\0" in pattern:
        return "holds a NUL, which no name can: write plain text, one rule a line"
    if len(pattern) > MAX_PATTERN_BYTES:
        return f"is longer than the {MAX_PATTERN_BYTES} bytes that rsync accepts: shorten it"
    return ""


def _option(name: str, text: bytes) -> str:
    return f"--{name}={paths.printable(text) if text else ''}"


def _refusal(text: bytes, kind: str, fault: str) -> UsageError:
    shown = paths.printable(text[:80]) if text else ""
    return UsageError(f"The {kind} rule '{shown}' {fault}.")


# -- the rules of --filter ------------------------------------------------------------------------

_LONG_NAMES = {
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
_NAMED_LONG = re.compile(rb"(%b)(?=[ \t-\r_,]|\Z)" % b"|".join(_LONG_NAMES))
_SIDES = {b"H": b"s", b"S": b"s", b"P": b"r", b"R": b"r"}
_INCLUDING = frozenset([b"+", b"S", b"R"])
_TAKES_MODIFIERS = frozenset([b"-", b"+", *_SIDES])
_MODIFIERS = b"!prsx"

_REFUSED_RULES = {
    b".": (
        "reads further rules from a file, and pylsyncd must know them, too: write them as options "
        "or in the configuration, or name a file of patterns with --exclude-from"
    ),
    b":": (
        "reads further rules from files within the source, which may change at any time while "
        "pylsyncd must know the rules, too: write them as options or in the configuration, or name "
        "a file of patterns with --exclude-from"
    ),
}
_REFUSED_MODIFIERS = {
    "/": (
        "compares with absolute paths, and those of a destination are others than those of the "
        "source: leave the / away and write the path relative to the source, as in '- /cache'"
    ),
    "C": (
        "takes rules from the environment and the home directory of whoever runs rsync on either "
        "side: write the patterns that are meant, such as '- CVS/'"
    ),
}


def _split_name(text: bytes) -> tuple[bytes, bytes]:
    """Return the rule's name as one letter, and what stands behind it and behind its comma."""
    long = _NAMED_LONG.match(text)
    name = _LONG_NAMES[long[0]] if long else text[:1]
    return name, text[long.end() if long else 1 :].removeprefix(b",")


def _split_modifiers(rest: bytes) -> tuple[bytes, bytes]:
    """Return the modifiers, and the pattern that one blank or underscore separates from them."""
    modifiers, *patterns = re.split(rb"[ _]", rest, maxsplit=1)
    return modifiers, b"".join(patterns)


def _fault_of_rule(name: bytes, modifiers: bytes) -> str:
    if name in _REFUSED_RULES:
        return _REFUSED_RULES[name]
    if name not in _TAKES_MODIFIERS:
        return (
            "does not begin with the name of a rule: to leave out what matches a pattern write "
            "'- PATTERN', to keep it '+ PATTERN'"
        )
    for code in modifiers:
        modifier = chr(code)
        if modifier in _REFUSED_MODIFIERS:
            return f"has the modifier {modifier}, which {_REFUSED_MODIFIERS[modifier]}"
        if code not in _MODIFIERS:
            return (
                f"has the modifier '{paths.printable(bytes([code]))}', which rsync does not "
                "know here: "
                "it knows ! p r s x, and before the pattern it wants one blank, as in '- PATTERN'"
            )
    if name in _SIDES and (b"r" in modifiers or b"s" in modifiers):
        return "names its side twice: of H, S, P and R each has its own, so leave r and s away"
    return ""


def _canonical(modifiers: bytes) -> bytes:
    """Return each modifier once and in one order; both sides together are no restriction."""
    kept = set(modifiers)
    if kept.issuperset(b"rs"):
        kept.difference_update(b"rs")
    return bytes(sorted(kept))
