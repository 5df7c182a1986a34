"""Finds values that a shell would expand, unquote or split, and pylsyncd takes as they are.

The first source would be a directory named ~, and two patterns one with a comma in it.
"""

import os
import re
from collections.abc import Iterator

from pylsyncd.config import process_options, sync_options
from pylsyncd.config.options import AnyOption
from pylsyncd.config.raw_options import Layer, RawConfiguration
from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError

_PATHS: tuple[AnyOption, ...] = (
    sync_options.SOURCE, sync_options.DESTINATIONS, sync_options.EXCLUDE_FROM,
    sync_options.PASSWORD_FILE, process_options.LOGFILE, process_options.PIDFILE,
    process_options.STATUS_FILE, process_options.METRICS_FILE, process_options.STATE_DIR,
    process_options.CONTROL, process_options.CHDIR,
)  # fmt: skip
_PATTERNS: tuple[AnyOption, ...] = (
    sync_options.EXCLUDE, sync_options.INCLUDE, sync_options.FILTER, sync_options.LAST,
)  # fmt: skip

_EXPANDED = re.compile(r"(?:~[\w.-]*|\$(?:[A-Za-z_]\w*|\{\w+\}))(?=/|\Z)")
_VARIABLE = re.compile(r"\$\{\w+\}|(?<=[/:])\$[A-Za-z_]\w*(?=/|\Z)")
_QUOTED = re.compile(r"(?P<quote>[\"']).+(?P=quote)")
# ``describe.suspicious_values`` finds one after a blank.
_SECOND_DESTINATION = re.compile(r",(?:/|[^\s/,]+:)")

# Not before a letter: RCS keeps files with names that end with ",v".
_COMMA = re.compile(r",(?:\s|(?=[*/]|\.\w))")
# Several words that all begin as patterns do, and names with blanks hardly.
_WORDS = re.compile(r"(?:\*\.|/|\.)\S+(?:\s+(?:\*\.|/|\.)\S+)+")
_EXPANDED_IN_PATTERN = re.compile(r"(?:~|\$(?:[A-Za-z_]\w*|\{\w+\}))(?=/)")
_BRACES = re.compile(r"\{[^{}/]*,[^{}/]*\}")


def check_path(text: str) -> None:
    """Raise UsageError if a path begins with something that a shell expands, or with a quote."""
    shown = _show(text)
    as_it_is = f"./{shown} for a file or directory of that name"
    found, expanded = _EXPANDED.match(text), os.path.expanduser(os.path.expandvars(text))
    # A directory may be named ~snapshot, if no user is.
    if found and (expanded != text or found[0] == "~" or found[0].startswith("$")):
        path = _show(expanded) if expanded.startswith("/") else "the whole path"
        raise UsageError(
            f"'{shown}' begins with {found[0]}, which a shell expands and pylsyncd does not: write "
            f"{path}, or {as_it_is}."
        )
    if text.startswith(('"', "'")):
        raise UsageError(
            f"The quotes in {shown} would be part of the name: write {_show(text.strip(text[0]))}, "
            f"also if it contains blanks, or {as_it_is}."
        )


def find_literal_values(raw: RawConfiguration) -> Iterator[str]:
    """Yield a warning for each value that is valid, and was probably meant otherwise."""
    sections = (*raw.syncs, *raw.destinations)
    layers: tuple[Layer, ...] = (raw.overrides, raw.defaults, *(each.options for each in sections))
    for each in (raw_option for layer in layers for raw_option in layer):
        for text in each.texts:
            for doubt in _doubts(each.option, text):
                yield f"{each.origin.text}: {doubt}" if each.origin.text else doubt


def _doubts(option: AnyOption, text: str) -> Iterator[str]:
    shown = f"'{_show(text)}'"
    if option in _PATTERNS:
        yield from _pattern_doubts(text, shown, is_rule=option is sync_options.FILTER)
    if option in _PATHS and (variable := _VARIABLE.search(text)):
        yield f"{variable[0]} in {shown} is not expanded: write the value of the variable."
    if option is sync_options.DESTINATIONS:
        if _SECOND_DESTINATION.search(text):
            yield f"{shown} is one destination: write each one on a line of its own."
        if _QUOTED.fullmatch(text.partition(":")[2]):
            yield f"The quotes in {shown} are part of the path: remove them."
    if option is sync_options.RSYNC_OPTION and _QUOTED.fullmatch(text.partition("=")[2]):
        yield f"The quotes in {shown} are part of the value: remove them."


def _pattern_doubts(text: str, shown: str, *, is_rule: bool) -> Iterator[str]:
    pattern = text.split(maxsplit=1)[-1] if is_rule else text
    if _QUOTED.fullmatch(pattern):
        yield f"The quotes in {shown} are part of the pattern: remove them."
    elif _COMMA.search(pattern) or _WORDS.fullmatch(pattern):
        yield f"{shown} is one pattern: write each one on a line of its own."
    if _BRACES.search(pattern):
        yield f"rsync's patterns have no braces as in {shown}: write a pattern for each word."
    if found := _EXPANDED_IN_PATTERN.match(pattern):
        yield (
            f"{shown} begins with {found[0]}, which pylsyncd does not expand. Patterns are "
            "relative to the source, where a leading slash stands for its root."
        )


def _show(text: str) -> str:
    return paths.printable(os.fsencode(text))
