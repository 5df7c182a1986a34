"""Makes the manual pages: prose from the files beside this one, facts from the program itself.

Whatever the program knows as a table (options, reasons of failures, commands) is put in where a
page has the directive for it, so that a page cannot say other than the program.

    python docs/manual.py DIRECTORY
"""

import argparse
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from docutils import nodes
from docutils.core import publish_string
from docutils.parsers.rst import Directive, directives
from docutils.writers import manpage

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from markup import Row, definitions, flags_of, paragraph, section, sentence_of  # noqa: E402

from pylsyncd import __version__  # noqa: E402  # the one of this tree
from pylsyncd.config.option import OptionScope  # noqa: E402
from pylsyncd.config.options import OPTION_GROUPS, AnyOption  # noqa: E402
from pylsyncd.control import command_line  # noqa: E402
from pylsyncd.rsync import outcomes  # noqa: E402

PAGES = {
    "pylsyncd.8": "pylsyncd.8.rst",
    "pylsyncctl.8": "pylsyncctl.8.rst",
    "pylsyncd.conf.5": "pylsyncd.conf.5.rst",
    "pylsyncd-lsyncd.7": "coming-from-lsyncd.rst",
}
"""What each page is made from."""


def build(directory: Path) -> list[Path]:
    """Write all pages into a directory, which is created; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, directive in _DIRECTIVES.items():
        directives.register_directive(name, directive)
    made = []
    for page, source in PAGES.items():
        path = directory / page
        path.write_text(_page(HERE / source), encoding="utf-8")
        made.append(path)
    return made


def _page(source: Path) -> str:
    text = publish_string(
        source.read_text(encoding="utf-8") + _EPILOG.format(version=__version__, date=_date()),
        source_path=str(source),
        writer=manpage.Writer(),
        settings_overrides={
            "halt_level": 2,  # a warning is a mistake
            "report_level": 2,
            "output_encoding": "unicode",
            "text_references": True,
            "smart_quotes": False,
        },
    )
    return _polished(text)


_EPILOG = """

.. |version| replace:: pylsyncd {version}
.. |date| replace:: {date}
"""


def _date() -> str:
    """Return the day of the build, or the one that makes a build reproducible."""
    moment = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def _polished(text: str) -> str:
    """Mend what the writer does not do as man(7) and all its readers want it."""
    # What stands in a command is to be copied; alone, they may be shown as accents.
    text = text.replace("~", r"\(ti").replace("^", r"\(ha")
    text = re.sub(r"^(\.S[HS] .*\n)\.sp\n", r"\1", text, flags=re.MULTILINE)
    # Names of options that are broken at a line's end cannot be searched for.
    text = re.sub(r"^(\.TH .*\n)", r"\1.nr HY 0\n.nh\n.ad l\n", text, flags=re.MULTILINE)
    return text.replace(".SH Name\n", ".SH NAME\n")


class CommandLine(Directive):
    """All options of the command line, a subsection for each group."""

    def run(self) -> list[nodes.Node]:
        """Return the subsections."""
        return [
            section(
                title,
                definitions(
                    (_written(option), [paragraph(_of_flag(option))])
                    for option in options
                    if option.flags
                ),
            )
            for title, options in OPTION_GROUPS.items()
        ]


class Configuration(Directive):
    """The keys that have their place in one kind of section, given as the name of a scope."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the subsections, one for each group."""
        scope = OptionScope[self.arguments[0].upper()]
        found: list[nodes.Node] = []
        for title, options in OPTION_GROUPS.items():
            here = [option for option in options if option.scope is scope]
            if here:
                found.append(
                    section(title, definitions((_key(option), _of_key(option)) for option in here))
                )
        return found


class Diagnostics(Directive):
    """The reasons for failures that are treated alike, given as their labels."""

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        """Return a list of the reasons, each with what to do and rsync's exit statuses."""
        labels = {name.lower() for name in self.arguments}
        codes: dict[str, set[int]] = defaultdict(set)
        for row in outcomes._TABLE:  # noqa: SLF001  # it is private to the program
            if row.outcome.label in labels:
                codes[row.outcome.reason] |= row.codes
        return [definitions(_reason(text, statuses) for text, statuses in codes.items())]


class Control(Directive):
    """The commands of pylsyncctl, and the options that each has."""

    def run(self) -> list[nodes.Node]:
        """Return the options of all commands, and the commands with their own ones."""
        parser = command_line.make_parser()
        general, commands = [], []
        for action in _arguments(parser):
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # nothing public is
                meanings = {each.dest: each.help for each in action._choices_actions}  # noqa: SLF001
                commands += [
                    _command(name, meanings[name], each) for name, each in action.choices.items()
                ]
            else:
                general.append(_argument(parser, action))
        return [definitions(general), definitions(commands)]


_DIRECTIVES = {
    "command-line": CommandLine,
    "configuration": Configuration,
    "control": Control,
    "diagnostics": Diagnostics,
}


def _written(option: AnyOption) -> nodes.Node:
    term = flags_of(option.flags)
    if option.metavar:
        term += [nodes.Text(" "), nodes.emphasis(option.metavar, option.metavar)]
    return term


def _of_flag(option: AnyOption) -> str:
    meaning = option.flag_help or option.help
    return " ".join(filter(None, [meaning, _repeatable(option), _default(option)]))


def _repeatable(option: AnyOption) -> str:
    return "May be repeated." if option.is_list else ""


def _default(option: AnyOption) -> str:
    return f"Default: {option.default}." if option.default and option.metavar else ""


def _key(option: AnyOption) -> nodes.Node:
    value = option.metavar or "yes|no"
    return nodes.term(
        "",
        "",
        nodes.strong(option.key, option.key),
        nodes.Text(" = "),
        nodes.emphasis(value, value),
    )


def _of_key(option: AnyOption) -> list[nodes.Node]:
    default = f"Default: {option.default}." if option.default else ""
    several = "One a line." if option.is_list else ""
    flag = f"On the command line: {option.long_flag}." if option.flags else ""
    return [paragraph(" ".join(filter(None, [option.help, several, default, flag])))]


def _reason(text: str, codes: Iterable[int]) -> Row:
    cause, _, advice = text.partition(": ")
    ended = sorted(code for code in codes if code >= 0)
    statuses = f"rsync's exit status: {', '.join(map(str, ended))}."
    sentence = f"{advice[:1].upper()}{advice[1:]}. {statuses}" if advice else statuses
    return nodes.term(cause, cause), [paragraph(sentence)]


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help"]  # noqa: SLF001


def _command(name: str, meaning: str, parser: argparse.ArgumentParser) -> Row:
    # The socket may be said behind the command as well.
    arguments = [action for action in _arguments(parser) if action.dest != "socket"]
    term = nodes.term("", "", nodes.strong(name, name))
    for action in arguments:
        if not action.option_strings:
            term += [nodes.Text(" "), *_value(action)]
        if action.choices:
            meaning += f": {', '.join(map(str, action.choices))}"
    rows = [_argument(parser, action) for action in arguments if action.option_strings]
    return term, [paragraph(sentence_of(meaning)), *([definitions(rows)] if rows else [])]


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Row:
    term = flags_of(action.option_strings)
    if action.nargs != 0:
        term += [nodes.Text(" "), *_value(action)]
    # It puts in defaults.
    meaning = parser._get_formatter()._expand_help(action)  # noqa: SLF001
    return term, [paragraph(sentence_of(meaning))]


def _value(action: argparse.Action) -> list[nodes.Node]:
    word = str(action.metavar or action.dest.upper())
    before, after = {"*": ("[", " ...]"), "+": ("", " ..."), "?": ("[", "]")}.get(
        str(action.nargs), ("", "")
    )
    return [nodes.Text(before), nodes.emphasis(word, word), nodes.Text(after)]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Make the manual pages.")
    parser.add_argument("directory", type=Path, help="where they are written")
    for path in build(parser.parse_args().directory):
        print(path)


if __name__ == "__main__":
    _main()
