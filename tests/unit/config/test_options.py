"""The table of options is what the command line, the file and the example are made from."""

import configparser
import dataclasses
import getpass
import grp
import os
import re
from pathlib import Path

import pytest

from pylsyncd.config import command_line_parser, example, loader
from pylsyncd.config.options import (
    FILE_OPTIONS,
    OPTION_GROUPS,
    OPTIONS,
    Option,
    OptionKind,
    OptionScope,
)
from pylsyncd.config.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "pylsyncd.conf.example"

# For each option what may be said of it, and is not its default; several for a list.
SAID = {
    "exclude": ("*.tmp", "- /cache/"),
    "exclude_from": ("patterns",),
    "include": ("/keep/", "*.c"),
    "filter": ("- *.o", "+ */"),
    "delete": ("no",),
    "max_delete": ("7",),
    "modify": ("yes",),
    "initial_sync": ("yes",),
    "window": ("0.5",),
    "max_changes": ("12",),
    "full_sync_interval": ("3600",),
    "poll_interval": ("7",),
    "scan_interval": ("0",),
    "rsync": ("./my-rsync",),
    "rsh": ("ssh -p 2222",),
    "share_ssh": ("no",),
    "timeout": ("30",),
    "bandwidth_limit": ("1.5m",),
    "password_file": ("secret",),
    "batch_size_limit": ("100M",),
    "nice": ("19",),
    "ionice": ("best-effort:7",),
    "rsync_option": ("--compress", "--log-file=transfers"),
    "retry_first": ("2",),
    "retry_longest": ("20",),
    "retry_held": ("200",),
    "hook_batch": ("true 'a b' c",),
    "hook_error": ("./hook",),
    "hook_recovery": ("true",),
    "hook_held": ("true held",),
    "hook_timeout": ("5",),
    "daemon": ("yes",),
    "pidfile": ("a.pid",),
    "user": (getpass.getuser(),),
    "group": (str(os.getegid()),),
    "chdir": (".",),
    "umask": ("077",),
    "state_dir": ("state",),
    "max_runs": ("3",),
    "log_level": ("error",),
    "logfile": ("a.log",),
    "syslog": ("yes",),
    "syslog_facility": ("local3",),
    "control": ("no",),
    "status_file": ("status.json",),
    "metrics_file": ("a.prom",),
    "metrics_port": ("9999",),
}
# Without these another option would be refused.
BESIDE = {"daemon": [("syslog", "yes")]}
# Something else again, for those that have no default.
OTHERWISE = {
    "control": "a.sock",
    "user": str(os.geteuid()),
    "group": grp.getgrgid(os.getegid()).gr_name,
    "state_dir": "dst2",
    "pidfile": "b.pid",
    "logfile": "b.log",
    "status_file": "b.json",
    "metrics_file": "b.prom",
    "metrics_port": "1",
    "max_runs": "1",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("src", "dst", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "patterns").write_text("*.bak\n")
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "secret").chmod(0o600)
    for name, does in (("my-rsync", 'exec rsync "$@"'), ("hook", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RSYNC_RSH", raising=False)
    return tmp_path


def settings_of(words: list[str]) -> Settings:
    """Return the settings that a command line makes, without the name that only a file gives."""
    made = loader.load_configuration(
        command_line_parser.parse_command_line(words), loader.StartEnvironment.current()
    ).settings
    return dataclasses.replace(made, syncs=tuple(map(unnamed, made.syncs)))


def unnamed(sync: loader.SyncSettings) -> loader.SyncSettings:
    deliveries = tuple(
        dataclasses.replace(
            each,
            destination=dataclasses.replace(
                each.destination, name=each.name.removeprefix(f"{sync.name}/")
            ),
        )
        for each in sync.destinations
    )
    return dataclasses.replace(sync, name="", destinations=deliveries)


def assignment(key: str, *texts: str) -> str:
    return "\n    ".join([f"{key} =", *texts]) + "\n" if len(texts) > 1 else f"{key} = {texts[0]}\n"


def written(sections: dict[str, str]) -> str:
    whole = {
        "pylsyncd": "",
        "sync s": "source = src/./\ndestinations = dst/\n",
        "destination dst": "",
    }
    return "".join(
        f"[{title}]\n{content}{sections.get(title, '')}" for title, content in whole.items()
    )


def sections_for(option: Option) -> list[str]:
    places = {
        OptionScope.PROCESS: ["pylsyncd"],
        OptionScope.SYNC: ["pylsyncd", "sync s"],
        OptionScope.DESTINATION: ["pylsyncd", "sync s", "destination dst"],
    }
    return places[option.scope]


def said_by_flags(option: Option) -> list[str]:
    if option.kind is OptionKind.SWITCH:
        return [option.long_flag]
    return [word for text in SAID[option.key] for word in (option.long_flag, text)]


NAMED = [option for option in FILE_OPTIONS if option.flags]


@pytest.mark.parametrize("option", NAMED, ids=lambda option: option.key)
def test_a_flag_and_a_key_make_the_same_settings_and_not_the_default_ones(
    option: Option, place: Path
) -> None:
    beside = BESIDE.get(option.key, [])
    flags = [f"--{key}" for key, _ in beside]
    default = settings_of([*flags, "src/./", "dst/"])
    by_flag = settings_of([*flags, *said_by_flags(option), "src/./", "dst/"])
    assert by_flag != default
    for section in sections_for(option):
        content = "".join(assignment(*each) for each in beside)
        content += assignment(option.key.replace("_", "-"), *SAID[option.key])
        (place / "pylsyncd.conf").write_text(written({section: content}))
        assert settings_of(["-c", "pylsyncd.conf"]) == by_flag, section


@pytest.mark.parametrize(
    "option",
    [each for each in NAMED if each.scope is OptionScope.PROCESS],
    ids=lambda option: option.key,
)
def test_a_flag_about_the_process_goes_before_the_file(option: Option, place: Path) -> None:
    beside = BESIDE.get(option.key, [])
    content = "".join(assignment(*each) for each in beside)
    (place / "plain.conf").write_text(written({"pylsyncd": content}))
    other = assignment(option.key, option.default or OTHERWISE[option.key])
    (place / "other.conf").write_text(written({"pylsyncd": content + other}))
    flags = said_by_flags(option)
    assert settings_of(["-c", "other.conf"]) != settings_of(["-c", "other.conf", *flags])
    plain = settings_of(["-c", "plain.conf", *flags])
    assert settings_of(["-c", "other.conf", *flags]) == plain


def test_every_option_is_tried_above() -> None:
    assert {option.key for option in NAMED} == set(SAID)
    positional = {option.key for option in FILE_OPTIONS} - set(SAID)
    assert positional == {"source", "destinations"}


def test_keys_and_flags_are_unique() -> None:
    keys = [option.key for option in OPTIONS]
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(keys) == len(set(keys))
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_an_option_is_described_completely(option: Option) -> None:
    assert option.group in OPTION_GROUPS
    assert option.help.endswith(".")
    assert option.help[0].isupper()
    assert bool(option.metavar) is (option.kind is not OptionKind.SWITCH)
    assert all(flag.startswith("--") for flag in option.flags[-1:])
    if option.flag_value == "no" and not option.sets_key:
        assert option.flag_help.endswith(".")


def test_the_example_is_made_from_the_table() -> None:
    says = "make it: see pylsyncd/config/example.py"
    assert EXAMPLE.read_text() == example.generate_example(), says


def test_the_example_names_every_key_once_in_its_innermost_section_and_no_other() -> None:
    found: dict[str, str] = {}
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+).*\]", line):
            section = heading[1]
        elif setting := re.match(r"#?([a-z_]+) =", line):
            assert setting[1] not in found
            found[setting[1]] = section
    names = {
        OptionScope.PROCESS: "pylsyncd",
        OptionScope.SYNC: "sync",
        OptionScope.DESTINATION: "destination",
    }
    assert found == {option.key: names[option.scope] for option in FILE_OPTIONS}


def example_here(text: str, place: Path) -> str:
    return text.replace("/var/www/./", f"{place}/src/./")


def test_the_example_says_nothing_but_defaults(place: Path) -> None:
    text = example_here(EXAMPLE.read_text(), place)
    assert "# " in text
    # Prose has a blank behind its #, an option has none.
    (place / "set.conf").write_text(re.sub(r"^#(?=[a-z_]+ =)", "", text, flags=re.MULTILINE))
    (place / "as-it-is.conf").write_text(text)
    as_it_is = settings_of(["-c", "as-it-is.conf"])
    assert settings_of(["-c", "set.conf"]) == as_it_is
    destinations = ["www-data@srv2:/var/www/", "www-data@srv3:/var/www/", "rsync://backup/www/"]
    assert settings_of([f"{place}/src/./", *destinations]) == as_it_is


def test_the_example_is_what_configparser_reads_too() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(EXAMPLE.read_text())
    assert parser.sections() == ["pylsyncd", "sync www", "destination backup"]
