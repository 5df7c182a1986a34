"""Exclude rules: whether rsync would leave a path out, decided without asking rsync.

rsync filters what it finds while it walks, but not the parents that a list of names implies: with
``--files-from``, a listed ``d/f`` is sent although ``/d/`` is excluded. Nor need an excluded
directory be watched. So we decide ourselves, and rsync gets the same rules for what it scans and
deletes by itself.

What a pattern means is from rsync(1), "PATTERN MATCHING RULES". What that page leaves open was
found by experiment with rsync 3.5.0: the table in the tests has a row for each such fact.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count, groupby
from operator import attrgetter
from typing import Final, TypeAlias

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError

LONGEST_PATTERN: Final = 4095
"""In bytes: rsync drops a longer pattern with no more than a message (its MAXPATHLEN)."""

_PREFIXES = (b"- ", b"+ ")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One rule: a pattern as rsync writes it, and whether what matches is included or excluded."""

    text: bytes
    includes: bool = False

    @property
    def body(self) -> bytes:
        """The pattern without the slash that restricts it to directories."""
        return self.text[:-1] if self.is_for_directories else self.text

    @property
    def is_for_directories(self) -> bool:
        """Whether only directories can match."""
        return self.text.endswith(b"/")

    @property
    def looks_at_path(self) -> bool:
        """Whether the pattern is compared with the whole path, not with the last name alone."""
        return b"/" in self.body or b"**" in self.body

    def argument(self) -> bytes:
        """Return the command line argument that gives rsync this rule."""
        if self.text == b"!" or self.text.startswith(_PREFIXES):
            return (b"--exclude=+ " if self.includes else b"--exclude=- ") + self.text
        return (b"--include=" if self.includes else b"--exclude=") + self.text


@dataclass(frozen=True, slots=True)
class Clear:
    """The rule ``!``: those before it are forgotten."""


Step: TypeAlias = Pattern | Clear

_Test: TypeAlias = tuple[bool, bool, Callable[[bytes], object]]
"""Whether it is about the whole path, whether what matches is excluded, and the comparison."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in their order: the first that matches decides; what none matches is not excluded."""

    patterns: tuple[Pattern, ...] = ()
    depends_on_place: bool = field(init=False, repr=False, compare=False)
    """Whether a rename of a directory can change what is excluded below it.

    False means that an entry's last name and kind alone decide whether it matches.
    """
    _file_tests: tuple[_Test, ...] = field(init=False, repr=False, compare=False)
    _directory_tests: tuple[_Test, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for_files = [pattern for pattern in self.patterns if not pattern.is_for_directories]
        derived = {
            "depends_on_place": any(pattern.looks_at_path for pattern in self.patterns),
            "_file_tests": tuple(_tests(for_files, is_directory=False)),
            "_directory_tests": tuple(_tests(self.patterns, is_directory=True)),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def excludes(self, path: bytes, *, is_directory: bool) -> bool:
        """Tell whether rsync, walking down from the root, would leave ``path`` out.

        It does so, too, when a directory above is excluded. The root never is. ``is_directory`` is
        for a directory itself, not for a symlink to one.
        """
        return self.matches(path, is_directory=is_directory) or any(
            self.matches(directory, is_directory=True) for directory in paths.ancestors(path)
        )

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        """Tell the same of a path in a directory that is known not to be excluded."""
        if not path:
            return False
        name = path[path.rfind(b"/") + 1 :]
        if is_directory:
            tests, whole = self._directory_tests, b"/" + path + b"/"
        else:
            tests, whole = self._file_tests, b"/" + path
        for is_about_path, verdict, match in tests:
            if match(whole if is_about_path else name):
                return verdict
        return False

    def arguments(self) -> list[bytes]:
        """Return the arguments that give rsync these rules in this order."""
        return [pattern.argument() for pattern in self.patterns]


def parse_pattern(text: bytes) -> tuple[Step, ...]:
    """Read one PATTERN as rsync's ``--exclude`` does.

    Only ``- `` and ``+ `` are prefixes and only a lone ``!`` clears, as in rsync: ``-p x`` and
    ``!x`` are plain names. rsync ignores an empty pattern; here it is an error, since it stems
    from a variable that nobody has set.
    """
    if text == b"!":
        return (Clear(),)
    pattern = text[2:] if text.startswith(_PREFIXES) else text
    if not pattern:
        fault = "has no pattern: give it one, or remove it"
    elif b"\0" in pattern:
        fault = "holds a NUL, which no name can: write plain text, one rule a line"
    elif len(pattern) > LONGEST_PATTERN:
        fault = f"is longer than the {LONGEST_PATTERN} bytes that rsync accepts: shorten it"
    else:
        return (Pattern(pattern, includes=text.startswith(b"+ ")),)
    shown = paths.show(text[:80]) if text else ""
    raise UsageError(f"The exclude rule '{shown}' {fault}.")


def parse_lines(content: bytes) -> tuple[Step, ...]:
    r"""Read the content of a FILE as rsync's ``--exclude-from`` does.

    A line ends with ``\n`` or ``\r``. Empty lines and those that begin with ``#`` or ``;`` are
    skipped. Blanks belong to the pattern.
    """
    lines = re.split(rb"[\r\n]", content)
    rules = [line for line in lines if line and not line.startswith((b"#", b";"))]
    return tuple(step for rule in rules for step in parse_pattern(rule))


def build(values: Iterable[Iterable[Step]]) -> Rules:
    """Return the rules that the options given in this order make, each one parsed."""
    patterns: list[Pattern] = []
    for step in chain.from_iterable(values):
        if isinstance(step, Clear):
            patterns.clear()
        else:
            patterns.append(step)
    return Rules(tuple(patterns))


def _tests(patterns: Iterable[Pattern], *, is_directory: bool) -> Iterator[_Test]:
    """Yield one comparison for each run of patterns that look at the same and decide alike."""
    for includes, run in groupby(patterns, attrgetter("includes")):
        alike = sorted(run, key=attrgetter("looks_at_path"))  # order decides nothing within a run
        for is_about_path, some in groupby(alike, attrgetter("looks_at_path")):
            groups = count(1)
            expressions = [_expression(one, groups, is_directory=is_directory) for one in some]
            compiled = re.compile(b"|".join(expressions), re.DOTALL)
            yield is_about_path, not includes, compiled.fullmatch


# A pattern is cut into tokens: stars, marked by a NUL that no name holds, and regular expressions
# that match one byte each. A pattern that looks at the path is compared with the path behind a
# slash and, of a directory, before one: so every name stands behind a slash, and "dir/***" needs
# no rule of its own.

_STAR = b"\0*"
_STARS = b"\0**"
_SLASH = b"/"
_NOTHING = b"(?!)"
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


def _expression(pattern: Pattern, groups: Iterator[int], *, is_directory: bool) -> bytes:
    """Return a pattern as a regular expression; ``groups`` numbers its groups."""
    body = pattern.body
    tokens = _tokens(body)
    if not pattern.looks_at_path:
        return _assemble(tokens, groups)
    if not body.startswith((b"/", b"**")):
        # rsync compares as many names as the pattern has slashes, and one, but no slash in
        # brackets matches.
        if b"**" not in body and tokens.count(_SLASH) != body.count(_SLASH):
            return _NOTHING
        tokens = [_STARS, _SLASH, *tokens]
    if is_directory and not body.endswith(b"***"):
        tokens.append(_SLASH)
    return _assemble(tokens, groups)


def _tokens(body: bytes) -> list[bytes]:
    if not re.search(rb"[*?[]", body):
        return [re.escape(bytes([byte])) for byte in body]  # here a backslash is itself
    tokens = []
    position = 0
    while position < len(body):
        if body.startswith(b"[", position):
            token, position = _bracketed(body, position + 1)
        elif match := _TOKEN.match(body, position):
            token, position = _token(match[0]), match.end()
        else:
            token, position = _NOTHING, len(body)  # a lone backslash at the end
        tokens.append(token)
    return tokens


def _token(text: bytes) -> bytes:
    if text.startswith(b"*"):
        return _STAR if text == b"*" else _STARS
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
            return _NOTHING, len(body)
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
    *blocks, final = b"".join(tokens).split(_STARS)
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
