"""Reads the configuration file into raw options and reports every error in it."""

import difflib
import itertools
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pylsyncd.config import write_access
from pylsyncd.config.ini_parser import (
    IniEntry,
    IniSection,
    entries_by_key,
    normalize_key,
    parse_ini,
)
from pylsyncd.config.option import OptionScope
from pylsyncd.config.options import FILE_OPTIONS, OPTIONS_BY_KEY, AnyOption
from pylsyncd.config.raw_options import (
    ErrorCollector,
    Layer,
    Origin,
    RawConfiguration,
    RawOption,
    Section,
)
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError
from pylsyncd.model.formatting import printable

_PROCESS_SECTION = "pylsyncd"

# The similarity of a misspelt name to the one that is suggested.
_MIN_SIMILARITY = 0.6

_NAMED_SECTIONS = {"sync": OptionScope.SYNC, "destination": OptionScope.DESTINATION}
_SECTION_KINDS = (_PROCESS_SECTION, *_NAMED_SECTIONS)
_SCOPE_LOCATIONS = {
    OptionScope.PROCESS: "in the section [pylsyncd]",
    OptionScope.SYNC: "in a section [sync NAME]",
    OptionScope.DESTINATION: "in a section [destination NAME]",
    OptionScope.COMMAND_LINE: "on the command line",
}
# Options that [pylsyncd] cannot preset, since each sync needs its own.
_SYNC_ONLY = frozenset(["source", "destinations"])

_ANY_SECTION = re.compile(rb"^\[(?:pylsyncd|sync|destination)\b", re.MULTILINE)
# The calls settings{...} and sync{...}, and the assignment settings = {...} of old versions.
_LUA = re.compile(rb"^\s*(?:settings\s*=?|sync)\s*\(?\s*\{", re.MULTILINE)
_HEADING = re.compile(rf"\[({'|'.join(_SECTION_KINDS)})(\s.*)?\]")
_ASSIGNMENT = re.compile(r"(?P<key>[A-Za-z][\w-]*)\s*=")


def read_config_file(
    path: str, errors: ErrorCollector, *, shown: str, overrides: Layer = ()
) -> RawConfiguration:
    """Return the raw options of a file; add its errors to ``errors``.

    ``path`` is absolute, ``shown`` is the path as the user wrote it. Relative paths in the file
    start from the directory of the file. Raises UsageError if the file cannot be read, or if other
    users could have written it.
    """
    name = paths.printable(os.fsencode(shown))
    try:
        with open(path, "rb") as file:
            write_access.check_config_file(path, os.fstat(file.fileno()), name)
            content = file.read()
    except OSError as error:
        raise UsageError(f"Cannot read the configuration file {name}: {error.strerror}.") from None
    if _is_of_lsyncd(path, content):
        raise UsageError(
            f"{name}: this is an lsyncd configuration: run pylsyncd-from-lsyncd "
            f"{shlex.quote(name)} > pylsyncd.conf, and read the comments in the new file."
        )
    reader = ConfigFileReader(name, os.path.dirname(path), errors)
    return reader.read(os.fsdecode(content), overrides)


def _is_of_lsyncd(path: str, content: bytes) -> bool:
    """Return True if a file is not in the syntax of this configuration, but in that of lsyncd."""
    if _ANY_SECTION.search(content):
        return False
    return path.endswith(".lua") or _LUA.search(content) is not None


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a question that suggests the most similar known word, or nothing."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=_MIN_SIMILARITY)
    return f" Did you mean {found[0]}?" if found else ""


def split_name(text: str) -> tuple[str, str]:
    """Return the name that is given to a destination, empty for none, and the destination.

    ``NAME = DESTINATION`` gives a name. Without blanks around the equals sign it does only if a
    host or an absolute path follows, since a=b/c is a directory. Raises UsageError for a name that
    is not usable.
    """
    before, equals, after = text.partition("=")
    name, destination = before.strip(), after.strip()
    is_spaced = before != name or after != destination
    is_clear = destination.startswith("/") or ":" in destination.partition("/")[0]
    if not equals or re.search("[/:]", before) or not (is_spaced or is_clear):
        return "", text
    if not re.fullmatch(r"[^\s\[\]\"'@]+", name) or not name.isprintable():
        raise UsageError(
            f"'{printable(name)}' cannot be the name of a destination: use one "
            "without blanks, quotes, brackets and @, or write ./ before a directory."
        )
    if not destination:
        raise UsageError(f"The name {name} has no destination: write {name} = DESTINATION.")
    return name, destination


@dataclass(slots=True)
class ConfigFileReader:
    """Reads the sections of one file."""

    name: str
    directory: str
    errors: ErrorCollector
    defaults: list[RawOption] = field(default_factory=list)
    sections: dict[OptionScope, dict[str, Section]] = field(
        default_factory=lambda: {OptionScope.SYNC: {}, OptionScope.DESTINATION: {}}
    )
    first_lines: dict[str, int] = field(default_factory=dict)
    """The line of each heading."""

    def read(self, text: str, overrides: Layer) -> RawConfiguration:
        """Return the raw options of a text."""
        ini_sections, problems = parse_ini(text)
        for problem in problems:
            where = f"[{problem.section}]" if problem.section else ""
            self._add_error(problem.line, where, problem.message)
        for ini_section in ini_sections:
            self._read_section(ini_section)
        if not any(section.title.split()[:1] == ["sync"] for section in ini_sections):
            self.errors.add(
                f"{self.name}: There is no section [sync NAME]: add one with a source and its "
                "destinations."
            )
        syncs, destinations = (
            tuple(self.sections[scope].values())
            for scope in (OptionScope.SYNC, OptionScope.DESTINATION)
        )
        return RawConfiguration(tuple(self.defaults), syncs, destinations, overrides)

    def _read_section(self, ini_section: IniSection) -> None:
        kind, _, name = ini_section.title.partition(" ")
        name = name.strip()
        if kind == _PROCESS_SECTION and not name:
            self._check_unique(ini_section, _PROCESS_SECTION)
            self.defaults += self._read_options(ini_section, OptionScope.PROCESS)
        elif kind in _NAMED_SECTIONS and self._check_name(ini_section, kind, name):
            self._check_unique(ini_section, f"{kind} {name}")
            scope = _NAMED_SECTIONS[kind]
            origin = self._origin(ini_section.line, f"[{kind} {name}]")
            options = self._read_options(ini_section, scope)
            section = Section(name, options, origin)
            first = self.sections[scope].setdefault(name, section)
            if first is not section:
                self.sections[scope][name] = replace(first, options=first.options + options)
        elif kind not in _NAMED_SECTIONS:
            self._refuse_heading(ini_section)

    def _check_unique(self, ini_section: IniSection, heading: str) -> None:
        first_line = self.first_lines.setdefault(heading, ini_section.line)
        if first_line != ini_section.line:
            message = f"The section already exists in line {first_line}: merge them."
            self._add_error(ini_section.line, f"[{heading}]", message)

    def _check_name(self, ini_section: IniSection, kind: str, name: str) -> bool:
        """Return True if a section has a usable name."""
        if not name:
            message = f"The section needs a name: [{kind} NAME]."
        elif not name.isprintable():
            message = "The name of the section contains unprintable characters: remove them."
        elif kind == "sync" and re.search(r"[\s/\[\]]", name):
            message = "The name of a sync must not contain blanks, slashes or brackets: change it."
        else:
            return True
        self._add_error(ini_section.line, f"[{ini_section.title}]", message)
        return False

    def _refuse_heading(self, ini_section: IniSection) -> None:
        first, *rest = re.split(r"[\s:]+", ini_section.title.strip(), maxsplit=1)
        found = difflib.get_close_matches(
            first.lower(), _SECTION_KINDS, n=1, cutoff=_MIN_SIMILARITY
        )
        suggestion = ""
        if found:
            name = rest[0] if rest and rest[0] else "NAME"
            heading = found[0] if found[0] == _PROCESS_SECTION else f"{found[0]} {name}"
            suggestion = f" Did you mean [{heading}]?"
        message = "Unknown section; use [pylsyncd], [sync NAME] or [destination NAME]."
        self._add_error(ini_section.line, f"[{ini_section.title}]", message + suggestion)

    def _read_options(self, ini_section: IniSection, scope: OptionScope) -> Layer:
        entries, repeated = entries_by_key(ini_section)
        for entry in repeated:
            first = entries[normalize_key(entry.key)]
            self._add_error(
                entry.line,
                f"[{ini_section.title}] {entry.key}",
                f"The option is already set in line {first.line}: remove one of the two.",
            )
        read = (self._read_entry(ini_section, entry, scope) for entry in entries.values())
        return tuple(itertools.chain.from_iterable(read))

    def _read_entry(
        self, ini_section: IniSection, entry: IniEntry, scope: OptionScope
    ) -> Iterable[RawOption]:
        where = f"[{ini_section.title}] {entry.key}"
        key = normalize_key(entry.key)
        option = OPTIONS_BY_KEY.get(key)
        if option is None:
            known = [each.key for each in FILE_OPTIONS if _is_allowed_in(scope, each)]
            message = f"Unknown option.{suggest(key, known)}"
        elif not _is_allowed_in(scope, option):
            message = f"This option belongs {_SCOPE_LOCATIONS[option.scope]}: move it there."
        else:
            self._check_lines(where, option, entry)
            return self._raw_options(option, entry, where)
        self._add_error(entry.line, where, message)
        return ()

    def _raw_options(self, option: AnyOption, entry: IniEntry, where: str) -> Iterable[RawOption]:
        """Yield one raw option per line of the value; for an empty value one that unsets it."""
        lines = entry.lines if option.is_list else entry.lines[:1]
        values: list[tuple[int, tuple[str, ...]]] = [(number, (text,)) for number, text in lines]
        for number, texts in values or [(entry.line, ())]:
            yield RawOption(option, texts, self._origin(number, where), self.directory)

    def _check_lines(self, where: str, option: AnyOption, entry: IniEntry) -> None:
        """Report indented lines that continue a value, probably by mistake."""
        for number, text in entry.lines:
            assignment = _ASSIGNMENT.match(text)
            is_option = assignment and normalize_key(assignment["key"]) in OPTIONS_BY_KEY
            if number != entry.line and (is_option or _HEADING.fullmatch(text)):
                message = f"{text!r} is indented, so it continues the value above: unindent it."
            elif not option.is_list and (number, text) != entry.lines[0]:
                message = f"The option takes one value: remove the line {text!r}."
            else:
                continue
            self._add_error(number, where, message)

    def _add_error(self, line: int, where: str, message: str) -> None:
        self.errors.add(message, self._origin(line, where))

    def _origin(self, line: int, where: str) -> Origin:
        where = where if where.isprintable() else paths.printable(os.fsencode(where))
        return Origin(f"{self.name}:{line}: {where}" if where else f"{self.name}:{line}", line)


def _is_allowed_in(scope: OptionScope, option: AnyOption) -> bool:
    """Return True if an option may be set in a section of this scope."""
    if option.scope is OptionScope.COMMAND_LINE:
        return False
    if scope is OptionScope.PROCESS:
        return option.key not in _SYNC_ONLY
    if scope is OptionScope.SYNC:
        return option.scope is not OptionScope.PROCESS
    return option.scope is OptionScope.DESTINATION
