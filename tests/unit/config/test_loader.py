"""A command line and a configuration file are loaded, and all errors are reported together."""

import os
from pathlib import Path

import pytest
from support.configuration import errors_of, load, settings_of, sync_section

from pylsyncd.config import command_line_parser, loader
from pylsyncd.config.raw_options import ConfigurationError

pytestmark = pytest.mark.usefixtures("place")


def test_the_order_of_the_sections_does_not_matter() -> None:
    one = sync_section("one", "a/./", "srv:", more="exclude = x\nwindow = 3")
    assert settings_of(one + "[pylsyncd]\nsyslog = yes") == settings_of(
        "# moved\n[pylsyncd]\nsyslog=on\n" + one
    )


def test_the_last_of_several_flags_wins() -> None:
    settings = load("-w", "3", "-w", "4", "--log-level=debug", "--daemon", "--foreground",
                     "a/./", "srv:").settings  # fmt: skip
    assert settings.syncs[0].window == 4
    assert not settings.process.background


def test_all_errors_of_a_command_line_are_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("-w", "soon", "-x", "", "--nice", "20", "none", "srv:")
    beginnings = [error.split(": ")[0] for error in caught.value.messages]
    missing = f"The source {os.getcwd()}/none does not exist."
    assert sorted(beginnings) == ["--exclude", "--nice", "--window", missing]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["", "srv:"], "The source is empty"),
        (["dangling", "srv:"], "dangling is a symbolic link to no\\x1bwhere, which does not exist"),
        (["loop", "srv:"], "loop cannot be used: Too many levels"),
        (["file/x", "srv:"], "file/x does not exist"),
        (["file", "srv:"], "file is not a directory"),
        (["-w", "1_0", "a/./", "srv:"], "--window: Expected a time"),
        (["-w", " 5", "a/./", "srv:"], "--window: Expected a time"),
        (["-w", "\u0665", "a/./", "srv:"], "--window: Expected a time"),
        (["--window=-inf", "a/./", "srv:"], "--window: Expected a time"),
        (["-e", "ssh 'x", "a/./", "srv:"], '--rsh: Cannot split the command "ssh \'x"'),
        (["-e", "./ssh -x", "a/./", "srv:"], "--rsh: The remote shell ./ssh needs an"),
        (["--rsync", "no\x1b", "a/./", "srv:"], "--rsync: no\\x1b cannot be run"),
    ],
    ids=repr,
)
def test_an_error_of_a_command_line_names_the_option_and_the_reason(
    words: list[str], message: str
) -> None:
    Path("dangling").symlink_to("no\x1bwhere")
    Path("loop").symlink_to("loop")
    Path("file").touch()
    with pytest.raises(ConfigurationError) as caught:
        load(*words)
    assert message in str(caught.value)


def test_a_reload_gives_the_same_settings_in_any_directory_and_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("p.conf").write_text(sync_section("one", "a/./", "srv:"))
    command_line = command_line_parser.parse_command_line(["-c", "p.conf", "--pidfile", "my.pid"])
    start_environment = loader.StartEnvironment.current()
    first = loader.load_configuration(command_line, start_environment).settings
    monkeypatch.chdir("/")
    monkeypatch.setenv("STATE_DIRECTORY", "/nowhere")
    assert loader.load_configuration(command_line, start_environment).settings == first
    assert first.process.pidfile == f"{place}/my.pid"


@pytest.mark.parametrize("key", ["pidfile", "logfile", "status_file", "metrics_file", "control"])
def test_files_of_the_daemon_must_not_be_in_a_source_or_destination(key: str) -> None:
    content = sync_section("one", "a/./", "b/", more="exclude = /out/")
    (error,) = errors_of(f"[pylsyncd]\n{key} = a/x\n" + content)
    assert error.startswith(f"p.conf:2: [pylsyncd] {key}: ")
    assert "is in the source, so that each write would cause another sync" in error
    (error,) = errors_of(f"[pylsyncd]\n{key} = b/x\n" + content)
    assert "is in the destination b/, where a sync would delete it" in error
    Path("a/out").mkdir()
    assert settings_of(f"[pylsyncd]\n{key} = a/out/x\n" + content)


def test_the_state_directory_must_not_be_in_a_source_or_destination() -> None:
    content = sync_section("one", "a/./", "b/") + sync_section("two", "c/./", "a2/")
    (error,) = errors_of("[pylsyncd]\nstate_dir = c/state\n" + content)
    assert "is in the source" in error
    (error,) = errors_of("[pylsyncd]\nstate_dir = b\n" + content)
    assert "is in the destination b/" in error
