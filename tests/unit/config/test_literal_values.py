"""What a shell would expand, unquote or split is not taken literally in silence."""

from pathlib import Path

import pytest
from support.configuration import errors_of, load, load_file, sync_section

from pylsyncd.config.literal_values import check_path, find_literal_values
from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.model.errors import UsageError

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("NOT_SET", raising=False)


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("~/x/", "write /home/me/x/, or ./~/x/ for a"),
        ("~", "write /home/me, or ./~ for a"),
        ("~root/x", "write /root/x, or ./~root/x for a"),
        ("$HOME/x/", "write /home/me/x/, or ./$HOME/x/ for a"),
        ("${HOME}/x/./", "write /home/me/x/./, or"),
        ("$NOT_SET/x", "write the whole path, or ./$NOT_SET/x for a"),
        ('"/srv/my files/"', 'write /srv/my files/, also if it contains blanks, or ./"/srv/my'),
        ("'srv:/x'", "write srv:/x, also"),
        ('"/srv/x', "write /srv/x, also"),
    ],
)
def test_a_path_that_a_shell_expands_or_unquotes_is_refused(text: str, instead: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_path(text)
    assert instead in str(caught.value)
    check_path(f"./{text}")


@pytest.mark.parametrize(
    "text", ["/srv/~x", "~nobody-has-this-name/x", "a~", "/srv/$x", "srv:~/x", "it's", "$", "", "."]
)
def test_other_paths_are_not_refused(text: str) -> None:
    check_path(text)


PATH_OPTIONS = ("logfile", "pidfile", "status_file", "metrics_file", "state_dir", "control",
                "chdir", "exclude_from", "password_file", "rsync", "hook_batch")  # fmt: skip


@pytest.mark.parametrize("key", PATH_OPTIONS)
def test_each_option_with_a_path_is_checked(key: str) -> None:
    (error,) = errors_of(f"[pylsyncd]\n{key} = ~/x\n" + sync_section("www", "src/./", "dst/"))
    assert error.startswith(f"p.conf:2: [pylsyncd] {key}: '~/x' begins with ~, which a shell")


def test_sources_and_destinations_are_checked_with_their_lines_and_nothing_else_is_said() -> None:
    # The names of destinations do not belong to their paths.
    content = sync_section("www", '"src/./"', "~/x/", "srv:/y", "two = $HOME/z")
    in_source, *in_destinations = errors_of(content)
    assert in_source.startswith('p.conf:2: [sync www] source: The quotes in "src/./" would be part')
    assert [error.partition(", which")[0] for error in in_destinations] == [
        "p.conf:4: [sync www] destinations: '~/x/' begins with ~",
        "p.conf:6: [sync www] destinations: '$HOME/z' begins with $HOME",
    ]


def test_a_command_line_is_checked_as_well() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("--logfile=~/log", "src/./", "~/dst/")
    assert [error.partition(" begins")[0] for error in caught.value.messages] == [
        "--logfile: '~/log'",
        "'~/dst/'",
    ]


def doubts(key: str, text: str) -> list[str]:
    content = sync_section("www", "src/./", "srv:/x", more=f"{key} = {text}")
    if key == "destinations":
        content = sync_section("www", "src/./", text)
    return list(find_literal_values(load_file(content).raw))


@pytest.mark.parametrize(
    ("key", "text", "doubt"),
    [
        ("exclude", "*.tmp, *.bak", "is one pattern: write each one on a line of its own"),
        ("exclude", "*.tmp,*.bak", "is one pattern"),
        ("exclude", "*.tmp *.bak", "is one pattern"),
        ("exclude", ".git /cache", "is one pattern"),
        ("include", "/a, /b", "is one pattern"),
        ("last", "index.html, *.json", "is one pattern"),
        ("filter", "- *.tmp, *.bak", "is one pattern"),
        ("exclude", '"*.tmp"', "The quotes in '\"*.tmp\"' are part of the pattern"),
        ("filter", "- '*.tmp'", "are part of the pattern"),
        ("exclude", "*.{tmp,bak}", "rsync's patterns have no braces"),
        ("exclude", "~/cache", "begins with ~, which pylsyncd does not expand"),
        ("exclude", "$HOME/cache", "begins with $HOME, which"),
        ("destinations", "srv:/home/$USER/x", "$USER in 'srv:/home/$USER/x' is not expanded"),
        ("destinations", "/srv/${NAME}-copy", "${NAME} in"),
        ("destinations", 'srv:"/my files"', "are part of the path: remove them"),
        ("destinations", "one:/a,two:/b", "is one destination: write each one on a line"),
        ("rsync_option", '--log-file-format="%n"', "are part of the value: remove them"),
    ],
)
def test_a_value_that_was_probably_meant_otherwise_is_a_warning(
    key: str, text: str, doubt: str
) -> None:
    (found,) = doubts(key, text)
    assert found.startswith(f"p.conf:{'4' if key == 'destinations' else '5'}: [sync www] {key}: ")
    assert doubt in found


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("exclude", "*,v"),
        ("exclude", "*~"),
        ("exclude", "~snapshot/"),
        ("exclude", "$RECYCLE.BIN/"),
        ("exclude", "Copy of *"),
        ("exclude", "My Documents/"),
        ("exclude", "a{1}"),
        ("filter", "-s *.tmp"),
        ("filter", "- My Documents/"),
        ("filter", "protect /x"),
        ("destinations", "srv:/my files/x"),
        ("destinations", "srv:/a,b"),
        ("destinations", "/srv/$RECYCLE.BIN"),
        ("rsync_option", "--chmod=D755,F644"),
    ],
)
def test_other_values_are_no_warning(key: str, text: str) -> None:
    assert doubts(key, text) == []


LUA = 'settings {\n    logfile = "/var/log/lsyncd.log",\n}\nsync { default.rsync }\n'


@pytest.mark.parametrize(
    "content", [LUA, "-- old\nsettings = {\n}\n", 'sync{\n source="/a",\n}\n', "  sync({ x })\n"]
)
def test_a_configuration_of_lsyncd_is_refused_with_the_command_that_converts_it(
    content: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        load_file(content)
    assert str(caught.value) == (
        "p.conf: this is an lsyncd configuration: run pylsyncd-from-lsyncd p.conf > pylsyncd.conf, "
        "and read the comments in the new file."
    )


def test_a_file_that_is_named_like_one_of_lsyncd_is_told_by_its_sections(place: Path) -> None:
    (place / "x y.lua").write_text("-- only a comment\n")
    with pytest.raises(UsageError, match=r"run pylsyncd-from-lsyncd 'x y\.lua'"):
        load("-c", "x y.lua")
    (place / "x y.lua").write_text(sync_section("www", "src/./", "srv:/x"))
    load("-c", "x y.lua")
