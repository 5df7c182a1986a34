"""The example of a configuration file: every option with its default, from the table. Pure.

To print it: ``python -c 'import pylsyncd.config.example as e; print(e.generate_example())'``
"""

import textwrap
from collections.abc import Iterator

from pylsyncd.config.options import FILE_OPTIONS, OPTION_GROUPS, Option, OptionScope

_WIDTH = 88

_HEAD = """\
pylsyncd.conf: what pylsyncd keeps equal to what. Start it with: pylsyncd -c FILE

Each option is shown with its default, behind a #. Remove the # to set it. An option without a \
value is not set: an empty one undoes what a section farther out says.

[pylsyncd] is about the process. [sync NAME] is about one source, NAME is yours to choose. \
[destination NAME] is about one destination, whose NAME is its host or its last directory, as it \
is in the log; where two syncs have one of that name it is about both, and SYNC/NAME is one of \
them. What may be said of a destination may also be said in a [sync] section, for all of its \
destinations, and all of that but source and destinations in [pylsyncd], for all syncs. The \
nearest section that says something counts, also for what may have several values; exclude, \
exclude_from, include and filter count as one.

Several values stand one a line, indented. A line is a comment if it begins with # or ; after any \
blanks: a pattern that begins so is written [#]*. Yes is yes, true, on or 1, and no is no, false, \
off or 0. A time is in seconds. A relative path begins in the directory of this file. Commands are \
split into words by a shell's quoting, but no shell runs them.

pylsyncd --check-config -c FILE tells what a file means, or all that is wrong with it. A running \
pylsyncd reads its file again at the signal HUP; if there is something wrong with it, nothing \
changes.
"""

_SYNC = """\
[sync www]
source = /var/www/./
destinations =
    www-data@srv2:/var/www/
    www-data@srv3:/var/www/
    rsync://backup/www/
"""

_SECTIONS = {
    OptionScope.PROCESS: "[pylsyncd]\n",
    OptionScope.SYNC: _SYNC,
    OptionScope.DESTINATION: "[destination backup]\n",
}

_ORDER = """\
The rules of a section apply in the order in which their keys stand in it, and of one key from the \
first line to the last. The first rule that matches a path decides. Where kinds of rules have to \
alternate, write them all with filter.
"""


def generate_example() -> str:
    """Return the example."""
    return "\n".join(_blocks())


def _blocks() -> Iterator[str]:
    yield "\n#\n".join(map(_comment, _HEAD.strip().split("\n\n"))) + "\n"
    for scope, heading in _SECTIONS.items():
        options = [option for option in FILE_OPTIONS if option.scope is scope]
        shown = [option for option in options if _is_set(option, heading)]
        yield "".join(f"{_comment(f'{each.key}: {each.help}')}\n" for each in shown) + heading
        for group in OPTION_GROUPS:
            of_group = [each for each in options if each.group == group and each not in shown]
            if of_group:
                yield f"# ---- {group} ----\n"
                yield from map(_lines, of_group)


def _is_set(option: Option, heading: str) -> bool:
    return f"\n{option.key} =" in heading


def _lines(option: Option) -> str:
    order = f"{_comment(_ORDER)}\n#\n" if option.key == "exclude" else ""
    setting = f"#{option.key} = {option.default}".rstrip()
    return f"{order}{_comment(option.help)}\n{setting}\n"


def _comment(paragraph: str) -> str:
    return textwrap.fill(
        paragraph,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
