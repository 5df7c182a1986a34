"""The command line and the file know the same options, those of the tables."""

import getpass
import grp
import os
from pathlib import Path

import pytest
from support.configuration import settings_without_names

from pylsyncd.config.converters import parse_switch
from pylsyncd.config.option import OptionScope
from pylsyncd.config.options import FILE_OPTIONS, OPTION_GROUPS, OPTIONS, AnyOption

# Values of each option that differ from its default; several for a list.
VALUES = {
    "exclude": ("*.tmp", "- /cache/"),
    "exclude_from": ("patterns",),
    "include": ("/keep/", "*.c"),
    "filter": ("- *.o", "+ */"),
    "delete": ("no",),
    "max_delete": ("7",),
    "last": ("/index", "current"),
    "modify": ("yes",),
    "initial_sync": ("yes",),
    "window": ("0.5",),
    "max_changes": ("12",),
    "full_sync_interval": ("3600",),
    "repair_interval": ("1d",),
    "poll_interval": ("7",),
    "scan_budget": ("5",),
    "scan_interval": ("0",),
    "watch": ("fanotify",),
    "open_file_interval": ("0",),
    "rsync": ("./my-rsync",),
    "rsh": ("ssh -p 2222",),
    "share_ssh": ("no",),
    "detect_renames": ("no",),
    "timeout": ("30",),
    "bandwidth_limit": ("1.5m",),
    "parallel": ("4",),
    "password_file": ("secret",),
    "batch_size_limit": ("100M",),
    "modify_window": ("-1",),
    "nice": ("19",),
    "ionice": ("best-effort:7",),
    "rsync_option": ("--compress", "--log-file=transfers"),
    "retry_first": ("2",),
    "retry_longest": ("20",),
    "retry_held": ("200",),
    "hook_before": ("true",),
    "hook_batch": ("true 'a b' c",),
    "hook_error": ("./hook",),
    "hook_recovery": ("true",),
    "hook_held": ("true held",),
    "hook_repair": ("true repaired",),
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
    "status_file_mode": ("600",),
    "metrics_file": ("a.prom",),
    "metrics_port": ("9999",),
}
# Options that these require.
REQUIRED = {"daemon": [("syslog", "yes")]}
# Other values of options without a default.
OTHER_VALUES = {
    "control": "a.sock",
    "user": str(os.geteuid()),
    "group": grp.getgrgid(os.getegid()).gr_name,
    "state_dir": "dst2",
    "pidfile": "b.pid",
    "logfile": "b.log",
    "status_file": "b.json",
    "status_file_mode": "644",
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


def assignment(key: str, *texts: str) -> str:
    return "\n    ".join([f"{key} =", *texts]) + "\n" if len(texts) > 1 else f"{key} = {texts[0]}\n"


def file_with(sections: dict[str, str]) -> str:
    whole = {
        "pylsyncd": "",
        "sync s": "source = src/./\ndestinations = dst/\n",
        "destination dst": "",
    }
    return "".join(
        f"[{title}]\n{content}{sections.get(title, '')}" for title, content in whole.items()
    )


def sections_for(option: AnyOption) -> list[str]:
    places = {
        OptionScope.PROCESS: ["pylsyncd"],
        OptionScope.SYNC: ["pylsyncd", "sync s"],
        OptionScope.DESTINATION: ["pylsyncd", "sync s", "destination dst"],
    }
    return places[option.scope]


def flags_for(option: AnyOption) -> list[str]:
    if option.is_switch:
        return [option.long_flag]
    return [word for text in VALUES[option.key] for word in (option.long_flag, text)]


WITH_FLAGS = [option for option in FILE_OPTIONS if option.flags]


@pytest.mark.parametrize("option", WITH_FLAGS, ids=lambda option: option.key)
def test_a_flag_and_a_key_change_the_same_settings(option: AnyOption, place: Path) -> None:
    required = REQUIRED.get(option.key, [])
    flags = [f"--{key}" for key, _ in required]
    default = settings_without_names([*flags, "src/./", "dst/"])
    by_flag = settings_without_names([*flags, *flags_for(option), "src/./", "dst/"])
    assert by_flag != default
    for section in sections_for(option):
        content = "".join(assignment(*each) for each in required)
        content += assignment(option.key.replace("_", "-"), *VALUES[option.key])
        (place / "pylsyncd.conf").write_text(file_with({section: content}))
        assert settings_without_names(["-c", "pylsyncd.conf"]) == by_flag, section


@pytest.mark.parametrize(
    "option",
    [each for each in WITH_FLAGS if each.scope is OptionScope.PROCESS],
    ids=lambda option: option.key,
)
def test_a_flag_of_the_process_overrides_the_file(option: AnyOption, place: Path) -> None:
    required = REQUIRED.get(option.key, [])
    content = "".join(assignment(*each) for each in required)
    (place / "plain.conf").write_text(file_with({"pylsyncd": content}))
    other = assignment(option.key, option.default or OTHER_VALUES[option.key])
    (place / "other.conf").write_text(file_with({"pylsyncd": content + other}))
    flags = flags_for(option)
    assert settings_without_names(["-c", "other.conf"]) != settings_without_names(
        ["-c", "other.conf", *flags]
    )
    plain = settings_without_names(["-c", "plain.conf", *flags])
    assert settings_without_names(["-c", "other.conf", *flags]) == plain


def test_every_option_has_values_above() -> None:
    assert {option.key for option in WITH_FLAGS} == set(VALUES)
    positional = {option.key for option in FILE_OPTIONS} - set(VALUES)
    assert positional == {"source", "destinations"}


def test_keys_and_flags_are_unique() -> None:
    keys = [option.key for option in OPTIONS]
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(keys) == len(set(keys))
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_an_option_is_described_completely(option: AnyOption) -> None:
    assert sum(option in group for group in OPTION_GROUPS.values()) == 1
    assert option.help.endswith(".")
    assert option.help[0].isupper()
    assert option.is_switch is (option.convert is parse_switch)
    assert all(flag.startswith("--") for flag in option.flags[-1:])
    if option.flag_value == "no" and not option.sets_key:
        assert option.flag_help.endswith(".")
