"""One rule, and its pattern as a regular expression.

What a pattern means is from rsync(1), "PATTERN MATCHING RULES" and "FILTER RULE MODIFIERS". What
these leave open was found by experiment with rsync 3.5.0: the tables in the tests have a row for
each such fact.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, groupby
from operator import attrgetter
from typing import Final, TypeAlias

RULE_PREFIXES: Final = (b"- ", b"+ ")
"""What rsync's ``--exclude`` and ``--include`` take for a rule of the one kind or the other."""

Comparison: TypeAlias = tuple[bool, bool, Callable[[bytes], object]]
"""Whether it is about the whole path, whether what matches is excluded, and the comparison."""


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: a pattern as rsync writes it, and whether what matches is included or excluded."""

    pattern: bytes
    is_include: bool = False
    modifiers: bytes = b""
    """Some of ``!prsx`` in this order, each once. Of ``r`` and ``s`` there is one or none."""
    origin: str = field(default="", compare=False)
    """Who wrote it, for a person: an option, or a file and a line."""

    @property
    def body(self) -> bytes:
        """The pattern without the slash that restricts it to directories."""
        return self.pattern[:-1] if self.is_directory_only else self.pattern

    @property
    def is_directory_only(self) -> bool:
        """Whether only directories can match."""
        return self.pattern.endswith(b"/")

    @property
    def matches_full_path(self) -> bool:
        """Whether the pattern is compared with the whole path, not with the last name alone."""
        return b"/" in self.body or b"**" in self.body

    @property
    def is_negated(self) -> bool:
        """Whether the rule is about whatever does not match the pattern."""
        return b"!" in self.modifiers

    @property
    def affects_sending(self) -> bool:
        """Whether the rule decides what is looked for at the source."""
        return not (b"r" in self.modifiers or b"x" in self.modifiers)

    @property
    def affects_deletion(self) -> bool:
        """Whether the rule decides what is deleted at a destination once the source lacks it."""
        return not (b"s" in self.modifiers or b"x" in self.modifiers)

    @property
    def as_filter(self) -> bytes:
        """The rule as rsync's ``--filter`` takes it."""
        return (b"+" if self.is_include else b"-") + self.modifiers + b" " + self.pattern

    def argument(self) -> bytes:
        """Return the command line argument that gives rsync this rule."""
        if self.modifiers:
            return b"--filter=" + self.as_filter
        if self.pattern == b"!" or self.pattern.startswith(RULE_PREFIXES):
            return b"--exclude=" + self.as_filter
        return (b"--include=" if self.is_include else b"--exclude=") + self.pattern


def compile_comparisons(
    patterns: Iterable[FilterRule], *, is_directory: bool
) -> Iterator[Comparison]:
    """Yield one comparison for each run of patterns that look at the same and decide alike.

    The path to compare with begins with a slash, that of a directory ends with one, too. The first
    comparison that succeeds decides.
    """
    able = [p for p in patterns if is_directory or p.is_negated or not p.is_directory_only]
    for includes, run in groupby(able, attrgetter("is_include")):
        alike = sorted(
            run, key=attrgetter("matches_full_path")
        )  # order decides nothing within a run
        for is_about_path, some in groupby(alike, attrgetter("matches_full_path")):
            groups = count(1)
            expressions = [_expression(one, groups, is_directory=is_directory) for one in some]
            compiled = re.compile(b"|".join(expressions), re.DOTALL)
            yield is_about_path, not includes, compiled.fullmatch


# A pattern is cut into tokens: stars, marked by a NUL that no name holds, and regular expressions
# that match one byte each. A pattern that looks at the path is compared with the path behind a
# slash and, of a directory, before one: so every name stands behind a slash, and "dir/***" needs
# no rule of its own.

DOUBLE_STAR: Final = b"\0**"
"""The token that matches slashes, too."""
SLASH: Final = b"/"
NEVER_MATCHES: Final = b"(?!)"
"""The token that stands for what no name can match."""

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
"""As in the C locale, which rsync is run in."""


def _expression(pattern: FilterRule, groups: Iterator[int], *, is_directory: bool) -> bytes:
    """Return a pattern as a regular expression; ``groups`` numbers its groups."""
    if pattern.is_directory_only and not is_directory:
        return b".*"  # negated: it does not match what is no directory
    expression = _positive(pattern, groups, is_directory=is_directory)
    return b"(?!(?:%b)\\Z).*" % expression if pattern.is_negated else expression


def _positive(pattern: FilterRule, groups: Iterator[int], *, is_directory: bool) -> bytes:
    body = pattern.body
    tokens = tokenize(body)
    if not pattern.matches_full_path:
        return _assemble(tokens, groups)
    if not body.startswith((b"/", b"**")):
        if has_slash_in_brackets(body, tokens):
            return NEVER_MATCHES
        tokens = [DOUBLE_STAR, SLASH, *tokens]
    if is_directory and not body.endswith(b"***"):
        tokens.append(SLASH)
    return _assemble(tokens, groups)


def has_slash_in_brackets(body: bytes, tokens: list[bytes]) -> bool:
    """Tell whether a slash in brackets keeps a pattern that is not anchored from ever matching.

    rsync compares as many names as the pattern has slashes, and one, but no slash in brackets
    matches.
    """
    return b"**" not in body and tokens.count(SLASH) != body.count(SLASH)


def tokenize(body: bytes) -> list[bytes]:
    """Cut the body of a pattern into tokens."""
    if not _WILDCARD.search(body):
        return [re.escape(bytes([byte])) for byte in body]  # here a backslash is itself
    tokens = []
    position = 0
    while position < len(body):
        if body.startswith(b"[", position):
            token, position = _bracketed(body, position + 1)
        elif match := _TOKEN.match(body, position):
            token, position = _token(match[0]), match.end()
        else:
            token, position = NEVER_MATCHES, len(body)  # a lone backslash at the end
        tokens.append(token)
    return tokens


def _token(text: bytes) -> bytes:
    if text.startswith(b"*"):
        return _STAR if text == b"*" else DOUBLE_STAR
    return b"[^/]" if text == b"?" else re.escape(text[-1:])


def _bracketed(body: bytes, position: int) -> tuple[bytes, int]:
    """Return the token for the brackets opened before ``position``, and where they end.

    Brackets that nothing closes, or with an unknown class such as ``[:foo:]``, match nothing.
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
    """Join tokens to an expression that takes little time whatever the names are.

    What stands between two stars is taken where it is found first, and never tried further on: the
    second star makes up for the difference. A ``*`` cannot make up for a slash, so this holds for
    what stands between two ``*``, and for all that stands between two ``**``.
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
            # An atomic group; Python has a notation for it from 3.11 on.
            expression += b"(?=(?P<%b>%b?%b))(?P=%b)" % (group, filler, piece, group)
        else:
            expression += filler + piece
    return expression
