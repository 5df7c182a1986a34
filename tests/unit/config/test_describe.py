"""The settings are described, and suspicious values are warned of."""

from pathlib import Path

import pytest
from support.configuration import load, load_file, settings_of, sync_section
from support.rsync_features import can_quote_wildcards

from pylsyncd.config.describe import describe_settings, suspicious_values


def test_options_that_differ_from_their_defaults_are_described(place: Path) -> None:
    made = load_file(
        "[pylsyncd]\nmax_runs = 3\nexclude = *.o\ntimeout = 30\n[destination srv]\nwindow = 2\n"
        + sync_section("one", "a/./", "srv:/x", "b/", more="max_delete = 5\nhook_held = true\n")
    )
    lines = list(describe_settings(made.settings, made.raw))
    assert lines == [
        "max_runs = 3",
        f"sync one: {place}/a, window 2 s",
        "    exclude = *.o",
        "    max_delete = 5",
        "    timeout = 30",
        "    hook_held = true",
        "    [one/srv] srv:/x -> srv:/x/",
        "        window = 2",
        f"    [one/b] b/ -> {place}/b/",
    ]
    with_commands = list(describe_settings(made.settings, made.raw, commands=True))
    assert [line for line in with_commands if line in lines] == lines
    commands = [line for line in with_commands if line not in lines]
    assert [line.split()[0] for line in commands] == ["full", "file", "full", "file"]
    assert "rsync -rlptgoD" in commands[0]
    assert "--files-from=-" in commands[1]


@pytest.mark.usefixtures("place")
def test_a_value_that_is_hardly_intended_is_warned_of() -> None:
    made = settings_of(
        "[sync www]\nsource = a/./\ndestinations =\n  /a /b\n  a:/x b:/y\n  h:/x # old\n"
        "  /My Disk/c;d\nexclude =\n  *.tmp ; temporary\n  a b\n"
    )
    warnings = [sentence.partition("' is")[0] for sentence in suspicious_values(made.syncs[0])]
    assert warnings == [
        "'/a /b",
        "'a:/x b:/y",
        "'h:/x # old",
        "'*.tmp ; temporary",
    ]


@pytest.mark.usefixtures("place")
def test_a_path_that_the_rsync_at_the_destination_expands_is_warned_of() -> None:
    made = settings_of(
        "[sync www]\nsource = a/./\ndestinations =\n  a::m/[x]\n  rsync://[::1]/m/x\n"
        "  h:/x*\n  /x*\n"
    )
    expected = ["a::m/[x]"] if can_quote_wildcards() else ["a::m/[x]", "h:/x*"]
    for warning, written in zip(suspicious_values(made.syncs[0]), expected, strict=True):
        assert f"The rsync at the destination {written} expands" in warning


@pytest.mark.usefixtures("place")
def test_a_home_directory_that_the_rsync_at_the_destination_does_not_expand_is_warned_of() -> None:
    made = settings_of("[sync www]\nsource = a/./\ndestinations =\n  h:~u/`\n  h:~/`\n")
    (warning,) = suspicious_values(made.syncs[0])
    assert warning.startswith("The rsync at the destination h:~u/` does not expand the ~")


def test_a_command_line_is_described_as_well(place: Path) -> None:
    made = load("-q", "-x", "a\nb", "--check-config", "a/./", "srv:")
    assert list(describe_settings(made.settings, made.raw)) == [
        "log_level = warning",
        f"{place}/a, window 60 s",
        r"    exclude = a\nb",
        "    [srv] srv: -> srv:./",
    ]
