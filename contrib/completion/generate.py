"""Makes what completes the commands in bash and zsh, from the options that they have.

    python contrib/completion/generate.py

writes pylsyncd.bash and _pylsyncd beside itself; to be run when an option has come or gone, or is
described in other words.
"""

# ruff: noqa: INP001  # a script, and no package

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pylsyncd.config.options import OPTIONS
from pylsyncd.control import command_line

HERE = Path(__file__).parent


class Value(Enum):
    """What completes a value: how bash says it, and how zsh does."""

    FILE = ("-f", "_files")
    DIRECTORY = ("-d", "_files -/")
    PROGRAM = ("-c", "_command_names -e")
    USER = ("-u", "_users")
    GROUP = ("-g", "_groups")
    OTHER = ("", " ")


_BY_METAVAR = {
    "FILE": Value.FILE,
    "SOCKET": Value.FILE,
    "PATH": Value.FILE,
    "DIRECTORY": Value.DIRECTORY,
    "PROGRAM": Value.PROGRAM,
    "COMMAND": Value.PROGRAM,
}


@dataclass(frozen=True)
class Flag:
    """An option of a command."""

    names: tuple[str, ...]
    about: str
    metavar: str = ""
    """Empty for one without a value."""
    value: Value = Value.OTHER
    choices: tuple[str, ...] = ()
    is_repeated: bool = False
    is_value_optional: bool = False


def daemon_flags() -> list[Flag]:
    """Return the options of pylsyncd."""
    return [
        *(
            Flag(
                option.flags,
                (option.flag_help or option.help).partition(". ")[0].rstrip("."),
                option.metavar,
                _value(option.key, option.metavar),
                option.choices,
                option.is_list,
            )
            for option in OPTIONS
            if option.flags
        ),
        Flag(("-h", "--help"), "Show all options and end"),
        Flag(("--version",), "Show the version and end"),
    ]


def _value(key: str, metavar: str) -> Value:
    named = {"user": Value.USER, "group": Value.GROUP}
    return named.get(key) or _BY_METAVAR.get(metavar, Value.OTHER)


def control_flags(parser: argparse.ArgumentParser) -> list[Flag]:
    """Return the options of pylsyncctl, or of one of its commands."""
    return [
        Flag(
            tuple(action.option_strings),
            str(action.help).partition(" (default")[0],
            str(action.metavar or ""),
            _value("", str(action.metavar or "")),
            is_value_optional=action.nargs == "?",
        )
        for action in parser._actions  # noqa: SLF001  # argparse has no other name for them
        if action.option_strings
    ]


def control_commands() -> dict[str, argparse.ArgumentParser]:
    """Return the commands of pylsyncctl."""
    for action in command_line.make_parser()._actions:  # noqa: SLF001  # likewise
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # likewise
            return dict(action.choices)
    raise LookupError("pylsyncctl has no commands")


def levels() -> str:
    """Return what ``pylsyncctl log-level`` takes."""
    for action in control_commands()["log-level"]._actions:  # noqa: SLF001  # likewise
        if action.choices:
            return " ".join(map(str, action.choices))
    raise LookupError("log-level has no choices")


# bash

_BASH = r"""# bash completion for pylsyncd and pylsyncctl. Made by contrib/completion/generate.py.
#
# To install it: cp pylsyncd.bash /usr/share/bash-completion/completions/pylsyncd, and a symbolic
# link to it there that is called pylsyncctl; or read it from ~/.bashrc.

# What is typed, and what stands before it; bash makes three words of --option=value.
_pylsyncd_words() {
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
}

_pylsyncd_offer() { # OPTIONS OF COMPGEN...
    mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
    case $1 in
    -f | -d) compopt -o filenames 2>/dev/null ;;
    esac
}

_pylsyncd() {
    local cur prev
    _pylsyncd_words
    case $prev in
@DAEMON_VALUES@
    esac
    case $cur in
    -*) _pylsyncd_offer -W "@DAEMON_FLAGS@" ;;
    *) _pylsyncd_offer -d ;;
    esac
}

_pylsyncctl() {
    local cur prev word command=
    _pylsyncd_words
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        @COMMANDS_EITHER@) command=$word && break ;;
        esac
    done
    case $prev in
@CONTROL_VALUES@
    esac
    case $command:$cur in
    :-*) _pylsyncd_offer -W "@CONTROL_FLAGS@" ;;
    :*) _pylsyncd_offer -W "@COMMANDS@" ;;
@COMMAND_FLAGS@
    log-level:*) _pylsyncd_offer -W "@LEVELS@" ;;
    esac
}

complete -F _pylsyncd pylsyncd
complete -F _pylsyncctl pylsyncctl
"""


def bash() -> str:
    """Return the completion for bash."""
    commands = control_commands()
    top = control_flags(command_line.make_parser())
    below = {name: control_flags(parser) for name, parser in commands.items()}
    every = {flag.names: flag for flags in (top, *below.values()) for flag in flags}
    parts = {
        "@DAEMON_VALUES@": "\n".join(_bash_values(daemon_flags())),
        "@DAEMON_FLAGS@": _names(daemon_flags()),
        "@COMMANDS_EITHER@": " | ".join(commands),
        "@COMMANDS@": " ".join(commands),
        "@CONTROL_VALUES@": "\n".join(_bash_values(list(every.values()))),
        "@CONTROL_FLAGS@": _names(top),
        "@COMMAND_FLAGS@": "\n".join(
            f'    {name}:-*) _pylsyncd_offer -W "{_names(flags)}" ;;'
            for name, flags in below.items()
        ),
        "@LEVELS@": levels(),
    }
    text = _BASH
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def _names(flags: list[Flag]) -> str:
    return " ".join(name for flag in flags for name in flag.names)


def _bash_values(flags: list[Flag]) -> Iterator[str]:
    """Yield a case for each option that takes a value."""
    for flag in flags:
        if not flag.metavar or flag.is_value_optional:
            continue
        either = " | ".join(flag.names)
        how = f'-W "{" ".join(flag.choices)}"' if flag.choices else flag.value.value[0]
        # Where nothing is known of a value, nothing is offered, rather than something wrong.
        offer = f"_pylsyncd_offer {how}; return" if how else "return"
        yield f"    {either}) {offer} ;;"


# zsh

_ZSH = r"""#compdef pylsyncd pylsyncctl
# zsh completion for pylsyncd and pylsyncctl. Made by contrib/completion/generate.py.
#
# To install it: cp _pylsyncd into a directory of $fpath, as /usr/share/zsh/site-functions.

_pylsyncd_daemon() {
    _arguments -s -S \
@DAEMON_FLAGS@
        '1:source:_files -/' \
        '*:destination:_files -/'
}

_pylsyncctl() {
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C -S \
@CONTROL_FLAGS@
        '1:command:->commands' \
        '*::argument:->arguments'
    case $state in
    commands)
        local -a commands=(
@COMMANDS@
        )
        _describe command commands
        ;;
    arguments)
        case $line[1] in
@COMMAND_FLAGS@
        esac
        ;;
    esac
}

case $service in
pylsyncctl) _pylsyncctl "$@" ;;
*) _pylsyncd_daemon "$@" ;;
esac
"""


def zsh() -> str:
    """Return the completion for zsh."""
    commands = control_commands()
    parts = {
        "@DAEMON_FLAGS@": _zsh_flags(daemon_flags(), 8),
        "@CONTROL_FLAGS@": _zsh_flags(control_flags(command_line.make_parser()), 8),
        "@COMMANDS@": "\n".join(
            f"            '{name}:{_zsh_text(str(parser.description).rstrip('.'))}'"
            for name, parser in commands.items()
        ),
        "@COMMAND_FLAGS@": "\n".join(map(_zsh_command, commands.items())),
    }
    text = _ZSH
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def _zsh_command(command: tuple[str, argparse.ArgumentParser]) -> str:
    name, parser = command
    last = f"'1:level:({levels()})'" if name == "log-level" else "'*:destination:()'"
    flags = _zsh_flags(control_flags(parser), 16)
    return (
        f"        {name})\n            _arguments -S \\\n{flags}\n{' ' * 16}{last}\n            ;;"
    )


def _zsh_flags(flags: list[Flag], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{_zsh_flag(flag)} \\" for flag in flags)


def _zsh_flag(flag: Flag) -> str:
    about = _zsh_text(flag.about)
    value = ""
    if flag.metavar:
        how = f"({' '.join(flag.choices)})" if flag.choices else flag.value.value[1]
        value = f"{':' * (1 + flag.is_value_optional)}{flag.metavar.lower()}:{how}"
    take = "=" * bool(flag.metavar) + "-" * flag.is_value_optional
    names = [name + take if name.startswith("--") else name for name in flag.names]
    before = "*" if flag.is_repeated else f"({' '.join(flag.names)})"
    either = f"{{{','.join(names)}}}" if len(names) > 1 else f"'{names[0]}'"
    return f"'{before}'{either}'[{about}]{value}'"


def _zsh_text(text: str) -> str:
    """Return a text for a place between brackets, before a colon, in single quotes."""
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text.replace("'", "'\\''")


FILES = {"pylsyncd.bash": bash, "_pylsyncd": zsh}


def main() -> None:
    """Write the files."""
    for name, make in FILES.items():
        (HERE / name).write_text(make())


if __name__ == "__main__":
    main()
