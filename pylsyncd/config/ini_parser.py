"""The notation of the configuration file: sections, keys and their lines. Pure.

It is configparser's, of which it reads the same, but with the number of each line, and without
ending at the first fault. A comment begins with ``#`` or ``;`` and has a line of its own. What is
indented continues the value above.
"""

import re
from dataclasses import dataclass, field

_HEADING = re.compile(r"\[(?P<title>.*)\]")
_BLANKS = " \t\r\f\v"


@dataclass(slots=True)
class IniEntry:
    """A key with its value, of which each line is stripped and none is empty."""

    key: str
    line: int
    lines: list[tuple[int, str]] = field(default_factory=list)
    """Each with the number of its line."""


@dataclass(slots=True)
class IniSection:
    """A section, as it was written."""

    title: str
    line: int
    entries: list[IniEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IniProblem:
    """What is wrong in a file."""

    line: int
    message: str
    section: str = ""


def parse_ini(text: str) -> tuple[list[IniSection], list[IniProblem]]:
    """Return what a file says, and all that is wrong with its notation."""
    reader = IniParser()
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        reader.parse_line(number, line)
    return reader.sections, reader.problems


class IniParser:
    """Takes line after line."""

    def __init__(self) -> None:
        self.sections: list[IniSection] = []
        self.problems: list[IniProblem] = []
        self._entry: IniEntry | None = None
        self._tells_stray = True

    def parse_line(self, number: int, line: str) -> None:
        """Take one line."""
        content = line.strip(_BLANKS)
        if "\0" in content:
            self._fault(number, "The line holds a NUL, which no text does: is this the right file?")
        elif not content or content.startswith(("#", ";")):
            return
        elif line[0] in _BLANKS and self._entry is not None:
            self._entry.lines.append((number, content))
        elif heading := _HEADING.fullmatch(content):
            self._open(number, heading["title"].strip(_BLANKS))
        elif content.startswith("["):
            self._fault(number, f"{content!r} is no [NAME] on a line of its own: correct it.")
        else:
            self._take_entry(number, content)

    def _open(self, number: int, title: str) -> None:
        self._entry = None
        self._tells_stray = True
        self.sections.append(IniSection(title, number))

    def _take_entry(self, number: int, content: str) -> None:
        key, equals, value = content.partition("=")
        key, value = key.strip(_BLANKS), value.strip(_BLANKS)
        # What is indented below what cannot be read belongs to it: one fault is enough.
        self._entry = IniEntry(key, number)
        if not equals or not key:
            self._fault(
                number,
                f"{content!r} is neither KEY = VALUE nor a [section]: correct it, put a # before "
                "it, or indent it to continue the value above.",
            )
            return
        if value:
            self._entry.lines.append((number, value))
        if self.sections:
            self.sections[-1].entries.append(self._entry)
        elif self._tells_stray:
            self._tells_stray = False
            self._fault(number, f"{key} stands before all sections: write [pylsyncd] above it.")

    def _fault(self, number: int, sentence: str) -> None:
        title = self.sections[-1].title if self.sections else ""
        self.problems.append(IniProblem(number, sentence, title))


def normalize_key(key: str) -> str:
    """Return a key as it is known: in lower case, with underscores."""
    return key.lower().replace("-", "_")


def entries_by_key(section: IniSection) -> tuple[dict[str, IniEntry], list[IniEntry]]:
    """Return the first entry of each key in their order, and those that repeat a key."""
    first: dict[str, IniEntry] = {}
    for entry in section.entries:
        first.setdefault(normalize_key(entry.key), entry)
    return first, [each for each in section.entries if first[normalize_key(each.key)] is not each]
