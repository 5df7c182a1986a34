"""One rule, and its pattern as a regular expression.

The meaning of a pattern is from rsync(1), "PATTERN MATCHING RULES" and "FILTER RULE MODIFIERS".
Where these leave questions open, rsync 3.5.0 was tried: the tests have a row for each such fact.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, groupby
from operator import attrgetter
from typing import Final, NamedTuple

RULE_PREFIXES: Final = (b"- ", b"+ ")
"""A pattern of ``--exclude`` or ``--include`` may begin with one, which then decides its kind."""


class Comparison(NamedTuple):
    """Consecutive rules with the same input and the same result, as one regular expression."""

    needs_full_path: bool
    is_excluding: bool
    match: Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: a pattern as rsync writes it, and whether it includes or excludes."""

    pattern: bytes
    is_include: bool = False
    modifiers: bytes = b""
    """Some of ``!prsx``, sorted, each once; never both ``r`` and ``s``."""
    origin: str = field(default="", compare=False)
    """Where it is written, for messages: an option, or a file and line."""

    @property
    def body(self) -> bytes:
        """The pattern without the slash that restricts it to directories."""
        return self.pattern[:-1] if self.is_directory_only else self.pattern

    @property
    def is_directory_only(self) -> bool:
        """True if only directories can match."""
        return self.pattern.endswith(b"/")

    @property
    def matches_full_path(self) -> bool:
        """True if the pattern is matched against the whole path, not the last name alone."""
        return b"/" in self.body or b"**" in self.body

    @property
    def is_negated(self) -> bool:
        """True if the rule applies to paths that do not match the pattern."""
        return b"!" in self.modifiers

    @property
    def affects_sending(self) -> bool:
        """True if the rule decides what rsync sends from the source."""
        return not (b"r" in self.modifiers or b"x" in self.modifiers)

    @property
    def affects_deletion(self) -> bool:
        """True if the rule decides what rsync deletes once it is gone from the source."""
        return not (b"s" in self.modifiers or b"x" in self.modifiers)

    def may_match_below(self, directory: bytes) -> bool:
        """Return False if certainly nothing below a directory matches, whatever it is called."""
        body = self.body
        is_simple = not self.is_negated and not (b"[" in body or b"\\" in body)
        if not (is_simple and body.startswith(b"/")):
            return True
        names = directory.split(b"/")
        patterns = body[1:].split(b"/")
        for pattern, name in zip(patterns, names, strict=False):
            if b"**" in pattern:
                return True
            if not re.fullmatch(_assemble(tokenize(pattern), count(1)), name, re.DOTALL):
                return False
        return len(patterns) > len(names)

    @property
    def as_filter(self) -> bytes:
        """The rule as an argument of rsync's ``--filter``."""
        return (b"+" if self.is_include else b"-") + self.modifiers + b" " + self.pattern

    def argument(self) -> bytes:
        """Return the command line argument that gives rsync this rule."""
        if self.modifiers:
            return b"--filter=" + self.as_filter
        if self.pattern == b"!" or self.pattern.startswith(RULE_PREFIXES):
            return b"--exclude=" + self.as_filter
        return (b"--include=" if self.is_include else b"--exclude=") + self.pattern


def compile_comparisons(rules: Iterable[FilterRule], *, is_directory: bool) -> Iterator[Comparison]:
    """Yield the comparisons of which the first that matches decides.

    A path to match begins with a slash; that of a directory also ends with one.
    """
    able = [one for one in rules if is_directory or one.is_negated or not one.is_directory_only]
    for is_include, run in groupby(able, attrgetter("is_include")):
        # Within a run the order has no effect.
        alike = sorted(run, key=attrgetter("matches_full_path"))
        for needs_full_path, some in groupby(alike, attrgetter("matches_full_path")):
            groups = count(1)
            expressions = [_expression(one, groups, is_directory=is_directory) for one in some]
            compiled = re.compile(b"|".join(expressions), re.DOTALL)
            yield Comparison(needs_full_path, not is_include, compiled.fullmatch)


# A pattern is cut into tokens: stars, marked by a NUL, which no name contains, and regular
# expressions that match one byte each. A path to match has a slash before it, and one after it if
# it is a directory: so a slash precedes every name, and "dir/***" needs no special case.

DOUBLE_STAR: Final = b"\0**"
"""The token that also matches slashes."""
SLASH: Final = b"/"
NEVER_MATCHES: Final = b"(?!)"
"""The token that matches no name."""

_STAR = b"\0*"
_WILDCARD = re.compile(rb"[*?[]")
_TOKEN = re.compile(rb"\*+|\\.|[^\\]", re.DOTALL)
_CLASS_MEMBER = re.compile(
    rb"\[:(?P<name>[^\]]*):\]|(?P<first>\\.|[^\\])(?:-(?P<last>\\.|[^\]\\]))?", re.DOTALL
)
_NAMED_CLASSES = {
    b"alnum": b"0-9A-Za-z",
    b"alpha": b"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": b"0-9",
    b"graph": b"!-~",
    b"lower": b"a-z",
    b"print": b" -~",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb"\t-\r ",
    b"upper": b"A-Z",
    b"xdigit": b"0-9A-Fa-f",
}
"""As in the C locale, in which rsync runs."""


def _expression(rule: FilterRule, groups: Iterator[int], *, is_directory: bool) -> bytes:
    """Return the pattern of a rule as a regular expression; ``groups`` numbers its groups."""
    if rule.is_directory_only and not is_directory:
        return b".*"  # The rule is negated, and a file never matches its pattern.
    expression = _positive_expression(rule, groups, is_directory=is_directory)
    return b"(?!(?:%b)\\Z).*" % expression if rule.is_negated else expression


def _positive_expression(rule: FilterRule, groups: Iterator[int], *, is_directory: bool) -> bytes:
    body = rule.body
    tokens = tokenize(body)
    if not rule.matches_full_path:
        return _assemble(tokens, groups)
    if not body.startswith((b"/", b"**")):
        if has_slash_in_brackets(body, tokens):
            return NEVER_MATCHES
        tokens = [DOUBLE_STAR, SLASH, *tokens]
    if is_directory and not body.endswith(b"***"):
        tokens.append(SLASH)
    return _assemble(tokens, groups)


def has_slash_in_brackets(body: bytes, tokens: list[bytes]) -> bool:
    """Return True if a slash in brackets keeps an unanchored pattern from ever matching.

    rsync matches the pattern against one name more than it has slashes, but a slash in brackets
    matches none.
    """
    return b"**" not in body and tokens.count(SLASH) != body.count(SLASH)


def tokenize(body: bytes) -> list[bytes]:
    """Cut the body of a pattern into tokens."""
    if not _WILDCARD.search(body):
        # Without a wildcard, a backslash is literal.
        return [re.escape(bytes([byte])) for byte in body]
    tokens = []
    position = 0
    while position < len(body):
        if body.startswith(b"[", position):
            token, position = _bracket_token(body, position + 1)
        elif match := _TOKEN.match(body, position):
            token, position = _token(match[0]), match.end()
        else:
            token, position = NEVER_MATCHES, len(body)  # A lone backslash at the end.
        tokens.append(token)
    return tokens


def _token(text: bytes) -> bytes:
    if text.startswith(b"*"):
        return _STAR if text == b"*" else DOUBLE_STAR
    return b"[^/]" if text == b"?" else re.escape(text[-1:])


def _bracket_token(body: bytes, position: int) -> tuple[bytes, int]:
    """Return the token for the brackets opened before ``position``, and the position after them.

    Brackets without an end, or with an unknown class such as ``[:foo:]``, match nothing.
    """
    is_negated = body.startswith((b"!", b"^"), position)
    position += is_negated
    members: list[bytes] = []
    while not (members and body.startswith(b"]", position)):
        match = _CLASS_MEMBER.match(body, position)
        if match is None or (match["name"] is not None and match["name"] not in _NAMED_CLASSES):
            return NEVER_MATCHES, len(body)
        members.append(_members(match))
        position = match.end()
    bracketed = b"(?!/)[%b%b]" % (b"^" if is_negated else b"", b"".join(members))
    return bracketed, position + 1


def _members(match: re.Match[bytes]) -> bytes:
    if match["name"] is not None:
        return _NAMED_CLASSES[match["name"]]
    first = match["first"][-1]
    last = match["last"][-1] if match["last"] else first
    return b"\\x%02x-\\x%02x" % (first, max(first, last))


def _assemble(tokens: list[bytes], groups: Iterator[int]) -> bytes:
    """Join tokens to an expression that matches in little time, whatever the name is.

    The text between two stars is matched where it is found first and never tried again further on,
    because the second star takes up the difference. A ``*`` cannot take up a slash, so this holds
    between two ``*``, and for everything between two ``**``.
    """
    *blocks, final = b"".join(tokens).split(DOUBLE_STAR)
    expressions = [_chain(block.split(_STAR), b"[^/]*", groups) for block in blocks]
    expressions.append(_chain(final.split(_STAR), b"[^/]*", groups, is_final=True))
    return _chain(expressions, b".*", groups, is_final=True)


def _chain(
    pieces: list[bytes], filler: bytes, groups: Iterator[int], *, is_final: bool = False
) -> bytes:
    expression, *others = pieces
    while others:
        piece = others.pop(0)
        if others or not is_final:
            group = b"g%d" % next(groups)
            # An atomic group, for which Python has a notation since 3.11.
            expression += b"(?=(?P<%b>%b?%b))(?P=%b)" % (group, filler, piece, group)
        else:
            expression += filler + piece
    return expression
