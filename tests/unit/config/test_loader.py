"""What counts where several things are said, and which syncs do not go together."""

import os
import re
from pathlib import Path

import pytest
from support.installed import quotes_wildcards

from pylsyncd.config import command_line_parser, loader
from pylsyncd.config.describe import describe_settings, suspicious_values
from pylsyncd.config.said import ConfigurationError
from pylsyncd.config.settings import DestinationSettings, Settings
from pylsyncd.model.errors import UsageError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a", "b", "c", "states"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/states")
    return tmp_path


def configuration(content: str, *words: str) -> loader.Configuration:
    Path("p.conf").write_text(content)
    return loader.load_configuration(
        command_line_parser.parse_command_line(["-c", "p.conf", *words]),
        loader.StartEnvironment.current(),
    )


def read(content: str, *words: str) -> Settings:
    return configuration(content, *words).settings


def plain(*words: str) -> Settings:
    return loader.load_configuration(
        command_line_parser.parse_command_line(words), loader.StartEnvironment.current()
    ).settings


def deliveries(settings: Settings) -> dict[str, DestinationSettings]:
    return {each.name: each for sync in settings.syncs for each in sync.destinations}


def faults(content: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(content)
    return list(caught.value.messages)


def sync(name: str, source: str, *destinations: str, more: str = "") -> str:
    places = "".join(f"  {destination}\n" for destination in destinations)
    return f"[sync {name}]\nsource = {source}\ndestinations =\n{places}{more}\n"


def test_the_nearest_section_counts() -> None:
    settings = read(
        "[pylsyncd]\nnice = 1\n[destination srv]\nnice = 4\n[destination two/srv]\nnice = 5\n"
        + sync("one", "a/./", "srv:", "srv2:")
        + sync("two", "b/./", "srv:/x", "srv2:/x", more="nice = 3")
    )
    nice = {name: delivery.rsync.nice for name, delivery in deliveries(settings).items()}
    assert nice == {"one/srv": 4, "one/srv2": 1, "two/srv": 5, "two/srv2": 3}


def test_the_window_of_a_sync_is_the_shortest_of_its_destinations() -> None:
    settings = read(
        "[destination srv]\nwindow = 4\n" + sync("one", "a/./", "srv:", "srv2:", more="window = 9")
    )
    assert settings.syncs[0].window == 4
    assert [each.window for each in settings.syncs[0].destinations] == [4, 9]
    assert plain("-w", "3", "a/./", "srv:").syncs[0].window == 3


def test_an_empty_value_undoes_what_a_section_farther_out_says() -> None:
    settings = read(
        "[pylsyncd]\nmax_delete = 5\nexclude = *.o\nrsync_option = -z\nhook_batch = true\n"
        + sync("one", "a/./", "srv:", more="max_delete =\nexclude =\nrsync_option =\nhook_batch =")
    )
    (only,) = settings.syncs
    rsync = only.destinations[0].rsync
    assert (rsync.max_delete, rsync.extra_options, only.hooks.batch) == (None, (), ())
    assert not only.rules


def test_rules_apply_in_the_order_of_their_keys_and_a_nearer_section_has_its_own() -> None:
    settings = read(
        "[pylsyncd]\nexclude = *.o\n"
        + sync("one", "a/./", "srv:", more="include = /keep\nfilter =\n  - *.a\n  + x\nexclude = *")
        + sync("two", "b/./", "srv:/x")
    )
    one, two = ([each.pattern for each in sync.rules.ordered] for sync in settings.syncs)
    assert one == [b"/keep", b"*.a", b"x", b"*"]
    assert two == [b"*.o"]


def test_rules_on_the_command_line_apply_in_their_order() -> None:
    Path("patterns").write_text("*.b\n")
    settings = plain(
        "-x", "*.a", "--include", "-keep", "--exclude-from", "patterns", "--filter", "- c",
        "-x", "-d", "a/./", "srv:",
    )  # fmt: skip
    texts = [pattern.pattern for pattern in settings.syncs[0].rules.ordered]
    assert texts == [b"*.a", b"-keep", b"*.b", b"c", b"-d"]


def test_a_rule_remembers_where_it_was_said() -> None:
    settings = read(sync("one", "a/./", "srv:", more="exclude =\n  *.a\n  *.b"))
    origins = [pattern.origin for pattern in settings.syncs[0].rules.ordered]
    assert origins == ["p.conf:6: [sync one] exclude", "p.conf:7: [sync one] exclude"]
    (pattern,) = plain("-x", "*.a", "a/./", "srv:").syncs[0].rules.ordered
    assert pattern.origin == "--exclude=*.a"


def test_settings_are_the_same_wherever_in_the_file_they_are_said() -> None:
    one = sync("one", "a/./", "srv:", more="exclude = x\nwindow = 3")
    assert read(one + "[pylsyncd]\nsyslog = yes") == read("# moved\n[pylsyncd]\nsyslog=on\n" + one)


def test_the_last_of_several_flags_counts() -> None:
    settings = plain("-w", "3", "-w", "4", "--log-level=debug", "--daemon", "--foreground",
                     "a/./", "srv:")  # fmt: skip
    assert settings.syncs[0].window == 4
    assert not settings.process.background


def test_a_destination_of_a_file_is_called_by_its_sync_and_its_name() -> None:
    settings = read(sync("one", "a/./", "srv:/x", "srv:/y") + sync("two", "b/./", "srv:/z"))
    assert list(deliveries(settings)) == ["one/srv:/x", "one/srv:/y", "two/srv"]
    assert list(deliveries(plain("a/./", "srv:/x"))) == ["srv"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-c", "p.conf", "a/./", "srv:"], "leave a/./ srv: out"),
        (["-c", "p.conf", "-w", "3"], "--window: With a configuration file, say it there"),
        (["-c", "p.conf", "-i"], "initial_sync = yes"),
        (["--checksum", "a/./", "srv:"], "--checksum is for --check"),
        (["--check", "--explain", "x", "a/./", "srv:"], "--check and --explain do not go together"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], says: str) -> None:
    Path("p.conf").write_text(sync("one", "a/./", "srv:"))
    with pytest.raises(UsageError, match=says):
        command_line_parser.parse_command_line(words)


def test_all_faults_of_a_command_line_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        plain("-w", "soon", "-x", "", "--nice", "20", "none", "srv:")
    beginnings = [fault.split(": ")[0] for fault in caught.value.messages]
    missing = f"The source {os.getcwd()}/none does not exist."
    assert sorted(beginnings) == ["--exclude", "--nice", "--window", missing]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["", "srv:"], "The source is empty"),
        (["dangling", "srv:"], "dangling is a symbolic link to no\\x1bwhere, which does not exist"),
        (["loop", "srv:"], "loop cannot be used: Too many levels"),
        (["file/x", "srv:"], "file/x does not exist"),
        (["file", "srv:"], "file is not a directory"),
        (["-w", "1_0", "a/./", "srv:"], "--window: A number of seconds is needed"),
        (["-w", " 5", "a/./", "srv:"], "--window: A number of seconds is needed"),
        (["-w", "\u0665", "a/./", "srv:"], "--window: A number of seconds is needed"),
        (["--window=-inf", "a/./", "srv:"], "--window: It must be more than 0"),
        (["-e", "ssh 'x", "a/./", "srv:"], '--rsh: The command "ssh \'x" has a fault'),
        (["-e", "./ssh -x", "a/./", "srv:"], "--rsh: The remote shell's program ./ssh needs its"),
        (["--rsync", "no\x1b", "a/./", "srv:"], "--rsync: no\\x1b cannot be run"),
    ],
    ids=repr,
)
def test_a_fault_of_a_command_line_is_told_as_it_is(words: list[str], says: str) -> None:
    Path("dangling").symlink_to("no\x1bwhere")
    Path("loop").symlink_to("loop")
    Path("file").touch()
    with pytest.raises(ConfigurationError) as caught:
        plain(*words)
    assert says in str(caught.value)


def test_a_fault_of_a_remote_shell_in_the_environment_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RSYNC_RSH", "no-such-shell")
    with pytest.raises(ConfigurationError, match=r"^RSYNC_RSH: .* no-such-shell is not installed"):
        plain("a/./", "srv:")


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (["a", "x:", "-w", "3", "y:", "-i", "z:"], ["a", "x:", "y:", "z:"]),
        (["-i", "a", "--", "x:"], ["a", "x:"]),
        (["a", "-i", "x:", "--", "y:"], ["a", "x:", "y:"]),
        (["--", "-a", "-x"], ["-a", "-x"]),
    ],
    ids=" ".join,
)
def test_options_stand_wherever_they_like(words: list[str], places: list[str]) -> None:
    assert [
        text
        for said in command_line_parser.parse_command_line(words).positionals
        for text in said.texts
    ] == places


def test_a_second_reading_is_like_the_first_wherever_the_process_is_by_then(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("p.conf").write_text(sync("one", "a/./", "srv:"))
    request = command_line_parser.parse_command_line(["-c", "p.conf", "--pidfile", "my.pid"])
    surroundings = loader.StartEnvironment.current()
    first = loader.load_configuration(request, surroundings).settings
    monkeypatch.chdir("/")
    monkeypatch.setenv("STATE_DIRECTORY", "/nowhere")
    assert loader.load_configuration(request, surroundings).settings == first
    assert first.process.pidfile == f"{place}/my.pid"


def test_a_daemon_needs_a_log() -> None:
    (fault,) = faults("[pylsyncd]\ndaemon = yes\n" + sync("one", "a/./", "srv:"))
    assert fault.startswith("p.conf:2: [pylsyncd] daemon: Nobody would see the log")
    assert read("[pylsyncd]\ndaemon = yes\nlogfile = log\n" + sync("one", "a/./", "srv:"))


def test_a_password_that_others_can_read_is_refused(place: Path) -> None:
    content = sync("one", "a/./", "srv::m", more="password_file = secret")
    (fault,) = faults(content)
    assert fault.endswith("secret cannot be read: No such file or directory.")
    (place / "secret").touch()
    (place / "secret").chmod(0o604)
    (fault,) = faults(content)
    assert "can be read or written by others: chmod o= " in fault
    (place / "secret").chmod(0o640)
    assert read(content)


@pytest.mark.parametrize("key", ["pidfile", "logfile", "status_file", "metrics_file", "control"])
def test_files_of_its_own_are_neither_in_a_source_nor_in_a_destination(key: str) -> None:
    content = sync("one", "a/./", "b/", more="exclude = /out/")
    (fault,) = faults(f"[pylsyncd]\n{key} = a/x\n" + content)
    assert fault.startswith(f"p.conf:2: [pylsyncd] {key}: ")
    assert "lies in the source, which would be changed by each sync" in fault
    (fault,) = faults(f"[pylsyncd]\n{key} = b/x\n" + content)
    assert "lies in the destination b/, which would delete it" in fault
    Path("a/out").mkdir()
    assert read(f"[pylsyncd]\n{key} = a/out/x\n" + content)


def test_the_state_directory_is_neither_in_a_source_nor_in_a_destination() -> None:
    content = sync("one", "a/./", "b/") + sync("two", "c/./", "a2/")
    (fault,) = faults("[pylsyncd]\nstate_dir = c/state\n" + content)
    assert "lies in the source" in fault
    (fault,) = faults("[pylsyncd]\nstate_dir = b\n" + content)
    assert "lies in the destination b/" in fault


def test_a_file_that_is_written_needs_a_directory_and_is_none() -> None:
    content = sync("one", "a/./", "srv:")
    (fault,) = faults("[pylsyncd]\npidfile = none/x\n" + content)
    assert fault.endswith("/none for it: make it.")
    (fault,) = faults("[pylsyncd]\nlogfile = b\n" + content)
    assert fault.endswith("/b is a directory: name a file.")
    (fault,) = faults("[pylsyncd]\nchdir = p.conf\n" + content)
    assert fault.endswith("/p.conf is not a directory.")


# -- syncs beside each other ----------------------------------------------------------------------

FIGHTS = {
    "the same destination": (
        sync("one", "a/./", "d/") + sync("two", "b/./", "./d"),
        "The destination ./d is that of the sync one, too",
    ),
    "the same remote destination": (
        sync("one", "a/./", "srv:/x") + sync("two", "b/./", "srv:/x/"),
        "The destination srv:/x/ is that of the sync one, too",
    ),
    "one inside the other": (
        sync("one", "a/./", "d/") + sync("two", "b/./", "d/inner"),
        "The destination d/inner lies in d/, where the sync one would delete it",
    ),
    "one inside the other at a daemon": (
        sync("two", "b/./", "srv::m/inner") + sync("one", "a/./", "rsync://srv/m"),
        "The destination srv::m/inner lies in rsync://srv/m, where the sync one would delete it",
    ),
    "one inside the other that is hidden only": (
        sync("one", "a/./", "d/", more="filter = H /inner") + sync("two", "b/./", "d/inner"),
        "The destination d/inner lies in d/, where the sync one would delete it",
    ),
    "a loop of two": (
        sync("one", "a/./", "b/") + sync("two", "b/./", "a/"),
        "What the sync one copies comes back to its own source by two, one,",
    ),
    "a loop of three, through directories above and below": (
        sync("one", "a/./", "b/below/")
        + sync("two", "b/./", "c/")
        + sync("three", "c/deep/./", "a/"),
        "What the sync one copies comes back to its own source by two, three, one,",
    ),
}


@pytest.mark.parametrize(("content", "says"), FIGHTS.values(), ids=FIGHTS)
def test_syncs_that_undo_each_other_are_refused(content: str, says: str, place: Path) -> None:
    (place / "c/deep").mkdir()
    found = faults(content)
    assert len(found) == 1
    assert re.match(r"p\.conf:[16]: \[sync \w+\]: " + re.escape(says), found[0]), found


PEACE = {
    "a name that begins like the other": sync("one", "a/./", "d/") + sync("two", "b/./", "d2/"),
    "a relay": sync("one", "a/./", "b/") + sync("two", "b/./", "srv:/x"),
    "neither deletes": "[pylsyncd]\ndelete = no\n"
    + sync("one", "a/./", "d/")
    + sync("two", "b/./", "d/"),
    "the outer one excludes the inner one": sync("one", "a/./", "d/", more="exclude = /inner/")
    + sync("two", "b/./", "d/inner/"),
    "the outer one excludes what is above the inner one": sync(
        "one", "a/./", "d/", more="filter = H /x\nexclude = /above"
    )
    + sync("two", "b/./", "d/above/inner/"),
    "the same source twice": sync("one", "a/./", "d/") + sync("two", "a/./", "e/", more="window=1"),
    "parts of the same source": sync("one", "a/./", "d/") + sync("two", "a/./", "srv:/x"),
}


@pytest.mark.parametrize("content", PEACE.values(), ids=PEACE)
def test_syncs_that_go_together_are_taken(content: str) -> None:
    assert len(read(content).syncs) == 2


# -- what would run -------------------------------------------------------------------------------


def test_what_would_run_is_told_with_what_is_not_at_its_default(place: Path) -> None:
    made = configuration(
        "[pylsyncd]\nmax_runs = 3\nexclude = *.o\ntimeout = 30\n[destination srv]\nwindow = 2\n"
        + sync("one", "a/./", "srv:/x", "b/", more="max_delete = 5\nhook_held = true\n")
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
    assert [line.split()[0] for line in commands] == ["everything:", "a", "everything:", "a"]
    assert "rsync -rlptgoD" in commands[0]
    assert "--files-from=-" in commands[1]


@pytest.mark.usefixtures("place")
def test_what_is_possible_but_hardly_meant_is_told() -> None:
    made = read(
        "[sync www]\nsource = a/./\ndestinations =\n  /a /b\n  a:/x b:/y\n  h:/x # old\n"
        "  /My Disk/c;d\nexclude =\n  *.tmp ; temporary\n  a b\n"
    )
    told = [sentence.partition("' is")[0] for sentence in suspicious_values(made.syncs[0])]
    assert told == [
        "'/a /b",
        "'a:/x b:/y",
        "All of 'h:/x # old",
        "All of '*.tmp ; temporary",
    ]


@pytest.mark.usefixtures("place")
def test_a_path_that_is_a_pattern_where_it_arrives_is_told() -> None:
    made = read(
        "[sync www]\nsource = a/./\ndestinations =\n  a::m/[x]\n  rsync://[::1]/m/x\n"
        "  h:/x*\n  /x*\n"
    )
    expected = ["a::m/[x]"] if quotes_wildcards() else ["a::m/[x]", "h:/x*"]
    for told, written in zip(suspicious_values(made.syncs[0]), expected, strict=True):
        assert f"The rsync at the destination {written} takes" in told


@pytest.mark.usefixtures("place")
def test_the_home_of_another_user_that_nobody_knows_where_the_path_arrives_is_told() -> None:
    made = read("[sync www]\nsource = a/./\ndestinations =\n  h:~u/`\n  h:~/`\n")
    (told,) = suspicious_values(made.syncs[0])
    assert told.startswith("The rsync at the destination h:~u/` does not know the home")


def test_what_would_run_is_told_of_a_command_line_too(place: Path) -> None:
    made = loader.load_configuration(
        command_line_parser.parse_command_line(
            ["-q", "-x", "a\nb", "--check-config", "a/./", "srv:"]
        ),
        loader.StartEnvironment.current(),
    )
    assert list(describe_settings(made.settings, made.raw)) == [
        "log_level = warning",
        f"{place}/a, window 60 s",
        r"    exclude = a\nb",
        "    [srv] srv: -> srv:./",
    ]
