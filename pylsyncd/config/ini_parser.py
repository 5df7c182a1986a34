"""The syntax of the configuration file: sections, keys and the lines of their values. Pure.

It is the syntax of configparser, read to the end in spite of errors and with line numbers. A
comment begins with ``#`` or ``;`` and has a line of its own. An indented line continues the value
above it.
"""

import re
from dataclasses import dataclass, field

_HEADING = re.compile(r"\[(?P<title>.*)\]")
_BLANKS = " \t\r\f\v"


@dataclass(slots=True)
class IniEntry:
    """A key with its value."""

    key: str
    line: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    """The lines of the value with their numbers, stripped; none is empty."""


@dataclass(slots=True)
class IniSection:
    """A section as it was written."""

    title: str
    line: int
    entries: list[IniEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IniProblem:
    """A line that cannot be parsed."""

    line: int
    message: str
    section: str = ""


def parse_ini(text: str) -> tuple[list[IniSection], list[IniProblem]]:
    """Return the sections of a file, and every line that cannot be parsed."""
    parser = IniParser()
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        parser.parse_line(number, line)
    return parser.sections, parser.problems


class IniParser:
    """Parses a file line by line."""

    def __init__(self) -> None:
        self.sections: list[IniSection] = []
        self.problems: list[IniProblem] = []
        self._entry: IniEntry | None = None
        self._reported_missing_section = False

    def parse_line(self, number: int, line: str) -> None:
        """Parse the next line."""
        content = line.strip(_BLANKS)
        if "\0" in content:
            self._add_problem(number, "The line contains a NUL byte: this is not a text file.")
        elif not content or content.startswith(("#", ";")):
            return
        elif line[0] in _BLANKS and self._entry is not None:
            self._entry.lines.append((number, content))
        elif heading := _HEADING.fullmatch(content):
            self._start_section(number, heading["title"].strip(_BLANKS))
        elif content.startswith("["):
            self._add_problem(
                number, f"{content!r} is not a section: write [NAME] on a line of its own."
            )
        else:
            self._parse_entry(number, content)

    def _start_section(self, number: int, title: str) -> None:
        self._entry = None
        self._reported_missing_section = False
        self.sections.append(IniSection(title, number))

    def _parse_entry(self, number: int, content: str) -> None:
        key, equals, value = content.partition("=")
        key, value = key.strip(_BLANKS), value.strip(_BLANKS)
        # Indented lines below a line that cannot be parsed belong to it: one error is enough.
        self._entry = IniEntry(key, number)
        if not equals or not key:
            self._add_problem(
                number,
                f"{content!r} is neither KEY = VALUE nor a [section]: correct it, put a # before "
                "it, or indent it to continue the value above.",
            )
            return
        if value:
            self._entry.lines.append((number, value))
        if self.sections:
            self.sections[-1].entries.append(self._entry)
        elif not self._reported_missing_section:
            self._reported_missing_section = True
            self._add_problem(
                number, f"{key} stands before the first section: write [pylsyncd] above it."
            )

    def _add_problem(self, number: int, message: str) -> None:
        title = self.sections[-1].title if self.sections else ""
        self.problems.append(IniProblem(number, message, title))


def normalize_key(key: str) -> str:
    """Return a key in lower case, with underscores for dashes."""
    return key.lower().replace("-", "_")


def entries_by_key(section: IniSection) -> tuple[dict[str, IniEntry], list[IniEntry]]:
    """Return the first entry of each key, in their order, and all entries that repeat a key."""
    first: dict[str, IniEntry] = {}
    for entry in section.entries:
        first.setdefault(normalize_key(entry.key), entry)
    return first, [
        entry for entry in section.entries if first[normalize_key(entry.key)] is not entry
    ]
