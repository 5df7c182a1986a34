"""Generates the example configuration, which shows every option with its default. Pure.

``python -c 'from pylsyncd.config import example; print(example.generate_example(), end="")'``
prints it.
"""

import textwrap
from collections.abc import Iterator

from pylsyncd.config import sync_options
from pylsyncd.config.option import OptionScope
from pylsyncd.config.options import FILE_OPTIONS, OPTION_GROUPS, AnyOption

_WIDTH = 88

_INTRODUCTION = """\
Configuration of pylsyncd. Start the daemon with: pylsyncd -c FILE

Every option is shown with its default, commented out. Remove the # to set it. An option without \
a value is unset by default.

SECTIONS. [pylsyncd] holds the options of the process. Each [sync NAME] holds one source with its \
destinations; choose any name. A [destination NAME] overrides options for one destination. Its \
NAME is the one before the equals sign in the list of destinations, or else the host or the last \
directory of the destination, as shown in the log; it applies to the destinations of that name in \
all syncs. SYNC/NAME selects the one of a single sync.

DEFAULTS. Options of a destination may also be set in [sync NAME], for all its destinations. \
Options of syncs and destinations, except source and destinations, may also be set in [pylsyncd], \
for all syncs. The most specific section wins: a list there replaces the other one, and exclude, \
exclude_from, include and filter count as one list. An empty value unsets an option that a less \
specific section sets.

SYNTAX. Options with several values take one per line, indented. A line whose first character \
after any blanks is # or ; is a comment; write [#]* for a pattern that begins with #. Switches are \
yes, true, on or 1, and no, false, off or 0. Times are in seconds, or have units: 90s, \
5min, 1h30min, 1d. Relative paths start from the directory of this file. Commands are split into \
words with a shell's quoting, but run without a shell.

Check the file with: pylsyncd --check-config -c FILE. A running daemon reloads it on the signal \
HUP or with pylsyncctl reload; a file with errors changes nothing.
"""

_SYNC = """\
[sync www]
source = /var/www/./
destinations =
    www-data@srv2:/var/www/
    www-data@srv3:/var/www/
    backup = rsync://nas.example.com/www/
"""

_SECTIONS = {
    OptionScope.PROCESS: "[pylsyncd]\n",
    OptionScope.SYNC: _SYNC,
    OptionScope.DESTINATION: "[destination backup]\n",
}

_RULE_ORDER = """\
Rules are tried in the order in which they stand in the section, and the first one that matches a \
path decides. A key may appear only once in a section: where includes and excludes alternate, \
write them all as filter rules.
"""


def generate_example() -> str:
    """Return the text of the example configuration."""
    return "\n".join(_blocks())


def _blocks() -> Iterator[str]:
    yield "\n#\n".join(map(_comment, _INTRODUCTION.strip().split("\n\n"))) + "\n"
    for scope, heading in _SECTIONS.items():
        options = [option for option in FILE_OPTIONS if option.scope is scope]
        required = [option for option in options if f"\n{option.key} =" in heading]
        descriptions = (f"{_comment(f'{each.key}: {each.help}')}\n" for each in required)
        yield "".join(descriptions) + heading
        for title, group in OPTION_GROUPS.items():
            shown = [option for option in options if option in group and option not in required]
            if shown:
                yield f"# ---- {title} ----\n"
                yield from map(_option_lines, shown)


def _option_lines(option: AnyOption) -> str:
    order = f"{_comment(_RULE_ORDER)}\n#\n" if option is sync_options.EXCLUDE else ""
    assignment = f"#{option.key} = {option.default}".rstrip()
    return f"{order}{_comment(option.help)}\n{assignment}\n"


def _comment(paragraph: str) -> str:
    return textwrap.fill(
        paragraph,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
