"""The configuration file: sections and keys to what was said, with all faults of both."""

import difflib
import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pylsyncd.config import ini_parser
from pylsyncd.config.ini_parser import IniEntry, IniSection
from pylsyncd.config.options import FILE_OPTIONS, OPTIONS_BY_KEY, Option, OptionScope
from pylsyncd.config.raw_options import RawConfiguration, Section
from pylsyncd.config.said import ErrorCollector, Layer, RawOption
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError

PROCESS_SECTION = "pylsyncd"

# How like a name must be to be the one that was meant.
_LIKENESS = 0.6

_NAMED = {"sync": OptionScope.SYNC, "destination": OptionScope.DESTINATION}
_KINDS = (PROCESS_SECTION, *_NAMED)
_BELONGS = {
    OptionScope.PROCESS: "in the section [pylsyncd]",
    OptionScope.SYNC: "in a section [sync NAME]",
    OptionScope.DESTINATION: "in a section [destination NAME]",
    OptionScope.COMMAND_LINE: "on the command line",
}
# Only these say what a sync is, so that no two have the same.
_OWN = frozenset(["source", "destinations"])

_HEADING = re.compile(rf"\[({'|'.join(_KINDS)})(\s.*)?\]")
_ASSIGNMENT = re.compile(r"(?P<key>[A-Za-z][\w-]*)\s*=")


def read_config_file(
    path: str, faults: ErrorCollector, *, shown: str, overriding: Layer = ()
) -> RawConfiguration:
    """Return what a file says, and add what is wrong with it.

    ``path`` is absolute, and ``shown`` how a person wrote it. A relative path in the file is
    relative to the directory of the file. Raises UsageError if it cannot be read.
    """
    name = paths.printable(os.fsencode(shown))
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(
            f"The configuration file {name} cannot be read: {error.strerror}."
        ) from None
    reader = ConfigFileReader(name, os.path.dirname(path), faults)
    return reader.read(os.fsdecode(content), overriding)


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a question for the one of several that may have been meant, or nothing."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=_LIKENESS)
    return f" Did you mean {found[0]}?" if found else ""


@dataclass(slots=True)
class ConfigFileReader:
    """Reads one file."""

    name: str
    directory: str
    faults: ErrorCollector
    defaults: list[RawOption] = field(default_factory=list)
    sections: dict[OptionScope, dict[str, Section]] = field(
        default_factory=lambda: {OptionScope.SYNC: {}, OptionScope.DESTINATION: {}}
    )
    headings: dict[str, int] = field(default_factory=dict)

    def read(self, text: str, overriding: Layer) -> RawConfiguration:
        """Return the sections of the file, and collect its faults."""
        sections, found = ini_parser.parse_ini(text)
        for fault in found:
            self._refuse(fault.line, f"[{fault.section}]" if fault.section else "", fault.message)
        for section in sections:
            self._take(section)
        syncs, destinations = (
            tuple(self.sections[scope].values())
            for scope in (OptionScope.SYNC, OptionScope.DESTINATION)
        )
        if not any(section.title.split()[:1] == ["sync"] for section in sections):
            self.faults.add(f"{self.name}: There is no [sync NAME] section, so nothing to do.")
        return RawConfiguration(tuple(self.defaults), syncs, destinations, overriding)

    def _take(self, section: IniSection) -> None:
        kind, _, name = section.title.partition(" ")
        name = name.strip()
        if kind == PROCESS_SECTION and not name:
            self._note_heading(section, PROCESS_SECTION)
            self.defaults += self._layer(section, OptionScope.PROCESS)
        elif kind in _NAMED and self._is_name(section, kind, name):
            self._note_heading(section, f"{kind} {name}")
            scope = _NAMED[kind]
            origin = f"{self.name}:{section.line}: [{kind} {name}]"
            part = Section(name, self._layer(section, scope), origin, section.line)
            first = self.sections[scope].setdefault(name, part)
            if first is not part:
                self.sections[scope][name] = replace(first, options=first.options + part.options)
        elif kind not in _NAMED:
            self._refuse_heading(section)

    def _note_heading(self, section: IniSection, heading: str) -> None:
        if heading in self.headings:
            says = f"It is there already, from line {self.headings[heading]} on: join them."
            self._refuse(section.line, f"[{heading}]", says)
        self.headings.setdefault(heading, section.line)

    def _is_name(self, section: IniSection, kind: str, name: str) -> bool:
        if not name:
            says = f"The section needs a name: [{kind} NAME]."
        elif not name.isprintable():
            says = "The name of the section cannot be printed: choose another one."
        elif kind == "sync" and re.search(r"[\s/\[\]]", name):
            says = "The name of a sync has neither blanks nor / nor brackets: choose another one."
        else:
            return True
        self._refuse(section.line, f"[{section.title}]", says)
        return False

    def _refuse_heading(self, section: IniSection) -> None:
        first, *rest = re.split(r"[\s:]+", section.title.strip(), maxsplit=1)
        found = difflib.get_close_matches(first.lower(), _KINDS, n=1, cutoff=_LIKENESS)
        meant = ""
        if found:
            name = rest[0] if rest and rest[0] else "NAME"
            meant = (
                f" Did you mean [{found[0]}{'' if found[0] == PROCESS_SECTION else ' ' + name}]?"
            )
        says = "There is no such section, only [pylsyncd], [sync NAME] and [destination NAME]."
        self._refuse(section.line, f"[{section.title}]", says + meant)

    def _layer(self, section: IniSection, scope: OptionScope) -> Layer:
        entries, repeated = ini_parser.entries_by_key(section)
        for again in repeated:
            first = entries[ini_parser.normalize_key(again.key)]
            self._refuse(
                again.line,
                f"[{section.title}] {again.key}",
                f"It is said already in line {first.line}: leave one of them out.",
            )
        said = [self._said(section, entry, scope) for entry in entries.values()]
        return tuple(itertools.chain.from_iterable(said))

    def _said(
        self, section: IniSection, entry: IniEntry, scope: OptionScope
    ) -> Iterable[RawOption]:
        origin = f"[{section.title}] {entry.key}"
        option = OPTIONS_BY_KEY.get(ini_parser.normalize_key(entry.key))
        if option is None:
            known = [each.key for each in FILE_OPTIONS if _may_stand(each, scope)]
            says = f"There is no such option.{suggest(ini_parser.normalize_key(entry.key), known)}"
        elif not _may_stand(option, scope):
            says = f"This belongs {_BELONGS[option.scope]}, not here."
        else:
            self._check_lines(origin, option, entry)
            return self._items(option, entry, _printable(origin))
        self._refuse(entry.line, origin, says)
        return ()

    def _items(self, option: Option, entry: IniEntry, origin: str) -> Iterable[RawOption]:
        """Yield one for each line of the value; an empty one says that there is to be none."""
        items: list[tuple[int, tuple[str, ...]]]
        lines = entry.lines if option.is_list else entry.lines[:1]
        items = [(number, (text,)) for number, text in lines]
        for number, texts in items or [(entry.line, ())]:
            yield RawOption(
                option, texts, f"{self.name}:{number}: {origin}", number, self.directory
            )

    def _check_lines(self, origin: str, option: Option, entry: IniEntry) -> None:
        """Refuse what is indented, and so continues a value, although it was not meant so."""
        for number, text in entry.lines:
            assignment = _ASSIGNMENT.match(text)
            is_option = assignment and ini_parser.normalize_key(assignment["key"]) in OPTIONS_BY_KEY
            if number != entry.line and (is_option or _HEADING.fullmatch(text)):
                says = f"{text!r} continues this value, since it is indented: do not indent it."
            elif not option.is_list and (number, text) != entry.lines[0]:
                says = f"It takes one value, but {text!r} continues it: leave that line out."
            else:
                continue
            self._refuse(number, origin, says)

    def _refuse(self, line: int, where: str, sentence: str) -> None:
        place = f"{self.name}:{line}"
        self.faults.add(sentence, f"{place}: {_printable(where)}" if where else place, line)


def _may_stand(option: Option, scope: OptionScope) -> bool:
    """Tell whether an option may stand in the section of a scope."""
    if option.scope is OptionScope.COMMAND_LINE:
        return False
    if scope is OptionScope.PROCESS:
        return option.key not in _OWN
    if scope is OptionScope.SYNC:
        return option.scope is not OptionScope.PROCESS
    return option.scope is OptionScope.DESTINATION


def _printable(text: str) -> str:
    return text if text.isprintable() else paths.printable(os.fsencode(text))
