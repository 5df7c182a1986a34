"""The rsync commands for each kind of destination."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.destinations import make_destination
from support.rsync_features import CAPABILITIES

from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import arguments
from pylsyncd.rsync.command import CURRENT_DIRECTORY, DeletionTime, RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.outcomes import Verdict, interpret
from pylsyncd.rsync.runner import Runner, RunResult
from pylsyncd.rules.excludes import build_rules
from pylsyncd.rules.filters import parse_exclude

LOCAL = Destination("d", "/d/", Transport.LOCAL, None, b"/d/")
SHELL = Destination("h", "h:/d/", Transport.SHELL, "h", b"h:/d/")
DAEMON = Destination("h", "h::m/", Transport.DAEMON, "h", b"h::m/")
EVERY = [LOCAL, SHELL, DAEMON]
RSYNC = RsyncOptions("rsync", (3, 2, 7))
PASSWORDS = "/p"


def listed(
    rsync: RsyncOptions, to: Destination, capabilities: RsyncCapabilities | None = None
) -> list[bytes]:
    return rsync.file_list_command(
        b"/s", to, capabilities or RsyncCapabilities(), create_parents=False
    )


@pytest.mark.parametrize("to", EVERY, ids=lambda to: to.transport.name)
def test_times_are_compared_in_nanoseconds_and_local_runs_avoid_the_option_that_breaks_long_lists(
    to: Destination,
) -> None:
    verbatim = b"-M--modify-window=-1" in listed(RSYNC, to)
    assert verbatim is (to is not LOCAL)
    assert verbatim is not (b"--modify-window=-1" in listed(RSYNC, to))


@pytest.mark.parametrize("window", [-1, 0, 1])
def test_times_that_count_as_equal_may_differ_by_a_window(window: int) -> None:
    rsync = replace(RSYNC, modify_window=window)
    option = b"--modify-window=%d" % window
    assert option in listed(rsync, LOCAL)
    assert b"-M" + option in listed(rsync, SHELL)
    assert rsync.time_tolerance_ns == (window + 1) * 10**9
    assert RSYNC.time_tolerance_ns == 0


@pytest.mark.parametrize(
    ("delete", "capabilities", "expected"),
    [
        (True, RsyncCapabilities(), {b"--delete", b"--delete-missing-args"}),
        (
            True,
            RsyncCapabilities(has_delete_missing_args=False),
            {b"--delete", b"--ignore-missing-args"},
        ),
        (False, RsyncCapabilities(), {b"--force", b"--ignore-missing-args"}),
    ],
)
def test_deletion_by_name_needs_both_options(
    delete: bool, capabilities: RsyncCapabilities, expected: set[bytes]
) -> None:
    options = {b"--delete", b"--delete-missing-args", b"--ignore-missing-args", b"--force"}
    command = listed(RsyncOptions("rsync", (3, 2, 7), delete=delete), LOCAL, capabilities)
    assert options & set(command) == expected


def test_deletion_of_named_paths_alone_deletes_nothing_that_a_listing_finds() -> None:
    named = RsyncOptions("rsync", (3, 2, 7), delete=False, deletes_named=True, max_delete=7)
    command = listed(named, LOCAL, RsyncCapabilities())
    assert {b"--force", b"--delete-missing-args", b"--max-delete=7"} <= set(command)
    assert b"--delete" not in command
    command = listed(named, LOCAL, RsyncCapabilities(has_delete_missing_args=False))
    assert {b"--force", b"--ignore-missing-args"} <= set(command)


@pytest.mark.parametrize(
    ("when", "is_shown"),
    [(None, True), (DeletionTime.STARTUP, True), (DeletionTime.RUNNING, False)],
)
def test_a_comparison_shows_what_only_the_copy_has_if_a_start_deletes_it(
    when: DeletionTime | None, *, is_shown: bool
) -> None:
    rsync = RsyncOptions("rsync", (3, 2, 7), delete_only=when)
    command = rsync.compare_command(b"/s", LOCAL, RsyncCapabilities(), checksum=False)
    assert (b"--delete" in command) is is_shown


@pytest.mark.parametrize("may", [True, False])
def test_missing_directories_are_created_only_if_the_remote_rsync_supports_mkpath(
    *, may: bool
) -> None:
    capabilities = RsyncCapabilities(has_mkpath=may)
    commands = [
        RSYNC.full_sync_command(b"/s", LOCAL, capabilities),
        RSYNC.file_list_command(b"/s", LOCAL, capabilities, create_parents=True),
        RSYNC.probe_command(b"/s", LOCAL, capabilities),
    ]
    assert [b"--mkpath" in command for command in commands] == [may] * 3
    # Not once the directory exists: it may be a mount point.
    assert b"--mkpath" not in RSYNC.file_list_command(
        b"/s", LOCAL, capabilities, create_parents=False
    )


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [((), True), (("--force",), True), (("--delete-delay",), False)],
)
def test_deletions_come_last_unless_the_administrator_has_said_when(
    chosen: tuple[str, ...], *, expected: bool
) -> None:
    rsync = replace(RSYNC, deletes_last=True, extra_options=chosen)
    command = rsync.full_sync_command(b"/s", LOCAL, RsyncCapabilities())
    assert (b"--delete-after" in command) is expected


def test_errors_are_never_ignored() -> None:
    for command in (
        listed(RSYNC, LOCAL),
        RSYNC.full_sync_command(b"/s", LOCAL, RsyncCapabilities()),
    ):
        assert b"--ignore-errors" not in command


@pytest.mark.parametrize(
    ("version", "target", "is_secluded"),
    [
        ((3, 2, 3), b"h:/d/", True),
        ((3, 2, 4), b"h:/d/", False),
        ((3, 2, 4), b"h:/a b$(c)/", False),
        ((3, 4, 4), b"h:/a[1]/", True),
        ((3, 5, 0), b"h:/a[1]/", False),
        ((3, 2, 7), b"h:/new\nline/", True),
        ((3, 2, 7), b"h:/back`tick/", True),
    ],
)
def test_arguments_bypass_the_remote_shell_if_rsync_does_not_quote_them(
    version: tuple[int, int, int], target: bytes, is_secluded: bool
) -> None:
    to = Destination("h", "", Transport.SHELL, "h", target)
    assert (b"-s" in listed(RsyncOptions("rsync", version), to)) is is_secluded


def test_the_default_remote_shell_asks_no_questions_and_detects_a_dead_peer() -> None:
    shell = next(word for word in listed(RSYNC, SHELL) if word.startswith(b"--rsh="))
    for option in (b"BatchMode=yes", b"ConnectTimeout=", b"ServerAliveInterval="):
        assert option in shell
    assert not any(word.startswith(b"--rsh=") for word in listed(RSYNC, DAEMON))


def test_options_for_daemons_are_passed_only_to_daemons() -> None:
    rsync = RsyncOptions("rsync", (3, 2, 7), extra_options=("--password-file=/p", "--bwlimit=1m"))
    assert b"--sockopts=TCP_NODELAY" in listed(rsync, DAEMON)
    for to in EVERY:
        assert (b"--password-file=/p" in listed(rsync, to)) is (to is DAEMON)
        assert b"--bwlimit=1m" in listed(rsync, to)


def every_command(rsync: RsyncOptions, to: Destination) -> list[list[bytes]]:
    return [
        listed(rsync, to),
        rsync.full_sync_command(CURRENT_DIRECTORY, to, RsyncCapabilities()),
        rsync.probe_command(CURRENT_DIRECTORY, to, RsyncCapabilities()),
        rsync.compare_command(CURRENT_DIRECTORY, to, RsyncCapabilities(), checksum=True),
    ]


def test_every_run_to_a_daemon_sends_small_packets_without_delay() -> None:
    for command in every_command(RSYNC, DAEMON):
        assert b"--sockopts=TCP_NODELAY" in command
    for to in (LOCAL, SHELL):
        assert not any(b"TCP_NODELAY" in word for word in listed(RSYNC, to))


def test_every_run_to_a_daemon_suppresses_its_greeting() -> None:
    for command in every_command(RSYNC, DAEMON):
        assert b"--no-motd" in command
    for to in (LOCAL, SHELL):
        assert b"--no-motd" not in listed(RSYNC, to)


@pytest.mark.parametrize("to", EVERY, ids=lambda to: to.transport.name)
def test_a_bandwidth_limit_applies_to_all_transports_and_a_password_file_to_daemons(
    to: Destination,
) -> None:
    rsync = RsyncOptions("rsync", (3, 2, 7), bandwidth_limit="1.5m", password_file=PASSWORDS)
    for command in every_command(rsync, to):
        assert b"--bwlimit=1.5m" in command
        assert (b"--password-file=/p" in command) is (to is DAEMON)
    assert not any(word.startswith(b"--bwlimit") for word in listed(RSYNC, to))


def test_an_rsync_option_of_the_user_overrides_the_bandwidth_limit() -> None:
    rsync = RsyncOptions("rsync", (3, 2, 7), bandwidth_limit="1m", extra_options=("--bwlimit=2m",))
    command = listed(rsync, LOCAL)
    assert command.index(b"--bwlimit=1m") < command.index(b"--bwlimit=2m")


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("", ""),
        ("0", "0"),
        ("1000", "256000b"),
        ("1.5m", "393216b"),
        ("4MB", "1000000b"),
        ("4MiB", "1048576b"),
        ("8k+1", "2048b"),
        ("600b", "512b"),
    ],
)
def test_the_runs_of_parts_share_the_bandwidth(rate: str, expected: str) -> None:
    assert arguments.divided_rate(rate, 4) == expected
    assert arguments.divided_rate(rate, 1) == rate
    extra = ("-z", f"--bwlimit={rate}")
    rsync = RsyncOptions("rsync", (3, 2, 7), bandwidth_limit=rate, parallel=4, extra_options=extra)
    assert rsync.for_part().bandwidth_limit == expected
    assert rsync.for_part().extra_options == ("-z", f"--bwlimit={expected}")


@pytest.mark.parametrize("to", EVERY, ids=lambda to: to.transport.name)
def test_the_run_of_a_part_deletes_nothing(to: Destination) -> None:
    extra = ("--delete-after", "--force", "--delete-delay", "-z")
    rsync = RsyncOptions("rsync", (3, 2, 7), max_delete=7, extra_options=extra)
    command = rsync.part_command(
        CURRENT_DIRECTORY, to, RsyncCapabilities(), create_parents=True, excluded=[b"a"]
    )
    assert not [word for word in command if b"delete" in word or b"force" in word]
    for word in (b"-z", b"--mkpath", b"--files-from=-", b"--exclude=/a"):
        assert word in command


@pytest.mark.parametrize(
    ("nice", "ionice", "expected"),
    [
        (0, "", b""),
        (10, "", b"nice -n 10"),
        (0, "idle", b"ionice -c 3"),
        (0, "best-effort:7", b"ionice -c 2 -n 7"),
        (19, "best-effort:0", b"nice -n 19 ionice -c 2 -n 0"),
    ],
)
def test_nice_and_ionice_start_an_rsync_of_lower_priority(
    nice: int, ionice: str, expected: bytes
) -> None:
    rsync = RsyncOptions("rsync", (3, 2, 7), nice=nice, ionice=ionice)
    for command in every_command(rsync, LOCAL):
        assert command[: command.index(b"rsync")] == expected.split()
        assert b"--checksum" not in command[: command.index(b"rsync") + 1]


def test_every_command_has_the_rules() -> None:
    rsync = RsyncOptions("rsync", (3, 2, 7), rules=build_rules([parse_exclude(b"*.tmp")]))
    for command in (
        listed(rsync, LOCAL),
        rsync.full_sync_command(b"/s", LOCAL, RsyncCapabilities()),
    ):
        assert b"--exclude=*.tmp" in command


def test_source_and_destination_come_last_and_are_never_options() -> None:
    assert listed(RSYNC, LOCAL)[-3:] == [b"--", b"/s/", b"/d/"]
    assert RSYNC.full_sync_command(b"/", LOCAL, RsyncCapabilities())[-3:] == [b"--", b"/", b"/d/"]


def test_a_probe_and_a_dry_run_change_nothing() -> None:
    dry = RsyncOptions("rsync", (3, 2, 7), dry_run=True)
    for command in (
        RSYNC.probe_command(b"/s", LOCAL, RsyncCapabilities()),
        listed(dry, LOCAL),
        dry.full_sync_command(b"/s", LOCAL, RsyncCapabilities()),
    ):
        assert b"--dry-run" in command


def test_every_command_has_the_timeout() -> None:
    assert b"--timeout=600" in listed(RSYNC, LOCAL)
    assert b"--timeout=2" in listed(RsyncOptions("rsync", (3, 2, 7), timeout=1.5), LOCAL)


@pytest.mark.parametrize(
    "capabilities", [RsyncCapabilities(), RsyncCapabilities(has_delete_missing_args=False)]
)
def test_every_run_that_deletes_has_the_deletion_limit(
    capabilities: RsyncCapabilities,
) -> None:
    limited = RsyncOptions("rsync", (3, 2, 7), max_delete=7)
    for command in (
        listed(limited, LOCAL, capabilities),
        limited.full_sync_command(CURRENT_DIRECTORY, LOCAL, capabilities),
    ):
        assert b"--max-delete=7" in command
    for command in (
        limited.as_dry_run().full_sync_command(CURRENT_DIRECTORY, LOCAL, capabilities),
        limited.compare_command(CURRENT_DIRECTORY, LOCAL, capabilities, checksum=False),
        RsyncOptions("rsync", (3, 2, 7), max_delete=7, delete=False).full_sync_command(
            CURRENT_DIRECTORY, LOCAL, capabilities
        ),
    ):
        assert not any(word.startswith(b"--max-delete") for word in command)


# Real runs.


def run(command: list[bytes], source: Path, *entries: bytes) -> RunResult:
    content = b"".join(b"./" + entry + b"\0" for entry in entries)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        return Runner().run(command, content, directory=descriptor)
    finally:
        os.close(descriptor)


def plant(root: Path, *names: str | bytes) -> Path:
    """Create files with these names, and the directories above them."""
    root.mkdir(exist_ok=True)
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    return root


def found(root: Path) -> set[bytes]:
    """Return the files below a directory."""
    top = os.fsencode(root)
    return {
        os.path.relpath(os.path.join(directory, name), top)
        for directory, _, names in os.walk(top)
        for name in names
    }


@pytest.fixture(scope="module", params=["local", "ssh", "rsyncd"])
def kind(request: pytest.FixtureRequest) -> str:
    """Return a kind of destination whose server is running."""
    servers = {"ssh": "ssh_server", "rsyncd": "rsync_daemon"}
    if request.param in servers:
        request.getfixturevalue(servers[request.param])
    return str(request.param)


@pytest.fixture
def to(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Destination, RsyncOptions, Path]:
    """Return a destination of each kind, options to reach it, and its directory."""
    # All tests share the module of one server, so names have to differ.
    place = make_destination(kind, tmp_path / tmp_path.name, request)
    directory = Path(os.fsdecode(place.path))
    directory.mkdir(exist_ok=True)
    transport = {"local": Transport.LOCAL, "ssh": Transport.SHELL, "rsyncd": Transport.DAEMON}
    rsh = place.options[1] if place.options else "ssh"
    destination = Destination("d", "", transport[kind], None, place.argument.encode())
    return destination, RsyncOptions("rsync", (3, 2, 7), rsh=rsh), directory


def test_a_dry_run_counts_exactly_what_a_real_run_deletes(
    to: tuple[Destination, RsyncOptions, Path], tmp_path: Path
) -> None:
    destination, rsync, replica = to
    source = plant(tmp_path / "src", "k", "l/a", "file")
    stale = ("g1", "gd/x", "gd/y/z", "l/s1", "l/sd/t", "l/sd/u", "file/was/directory")
    plant(replica, *stale)
    entries = (
        (b"g1", b"gd", b"l/", b"file")
        if CAPABILITIES.has_delete_missing_args
        else (b"", b"l/", b"file")
    )
    limited = replace(rsync, max_delete=3)
    trial = limited.as_dry_run().file_list_command(
        CURRENT_DIRECTORY, destination, CAPABILITIES, create_parents=False
    )
    assert (run(trial, source, *entries).deleted, len(found(replica))) == (11, len(stale))
    trial = limited.as_dry_run().full_sync_command(
        CURRENT_DIRECTORY, destination, RsyncCapabilities()
    )
    assert (run(trial, source).deleted, len(found(replica))) == (11, len(stale))
    real = limited.file_list_command(
        CURRENT_DIRECTORY, destination, CAPABILITIES, create_parents=False
    )
    result = run(real, source, *entries)
    # A daemon's rsync prints this, and exits with 0.
    assert interpret(result.exit_status, result.messages).verdict is Verdict.HELD
    assert len(found(replica)) > len(found(source))
    assert (
        run(
            rsync.full_sync_command(CURRENT_DIRECTORY, destination, RsyncCapabilities()), source
        ).exit_status
        == 0
    )
    assert found(replica) == found(source)


def test_a_dry_run_counts_no_less_than_a_real_run_deletes_if_something_is_protected(
    to: tuple[Destination, RsyncOptions, Path], tmp_path: Path
) -> None:
    destination, rsync, replica = to
    source = plant(tmp_path / "src")
    plant(replica, "d/stale", "d/e/kept")
    rsync = replace(rsync, rules=build_rules([parse_exclude(b"kept")]))
    trial = run(
        rsync.as_dry_run().full_sync_command(CURRENT_DIRECTORY, destination, RsyncCapabilities()),
        source,
    )
    real = run(rsync.full_sync_command(CURRENT_DIRECTORY, destination, RsyncCapabilities()), source)
    assert found(replica) == {b"d/e/kept"}
    assert trial.deleted >= real.deleted == 1


@pytest.mark.parametrize("checksum", [False, True])
def test_a_comparison_prints_the_paths_that_differ_and_changes_nothing(
    to: tuple[Destination, RsyncOptions, Path], tmp_path: Path, checksum: bool
) -> None:
    destination, rsync, replica = to
    source = plant(tmp_path / "src", "same", "new", "corrupt")
    run(rsync.full_sync_command(CURRENT_DIRECTORY, destination, RsyncCapabilities()), source)
    (replica / "new").unlink()
    plant(replica, "stale")
    status = (source / "corrupt").stat()
    for root, content in ((source, b"right"), (replica, b"wrong")):
        (root / "corrupt").write_bytes(content)
        os.utime(root / "corrupt", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(replica, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    shown: list[str] = []
    descriptor = os.open(source, os.O_RDONLY)
    try:
        command = rsync.compare_command(
            CURRENT_DIRECTORY, destination, RsyncCapabilities(), checksum=checksum
        )
        result = Runner().run(command, b"", shown.append, directory=descriptor)
    finally:
        os.close(descriptor)
    assert result.exit_status == 0
    expected = {"new", "stale"} | ({"corrupt"} if checksum else set())
    assert {line.split()[-1] for line in shown} == expected
    assert found(replica) == {b"same", b"corrupt", b"stale"}


def test_nice_and_ionice_become_rsync_itself_in_the_same_process(
    tmp_path: Path,
) -> None:
    program = tmp_path / "rsync"
    program.write_text(
        "#!/bin/sh\n"
        f"exec >{tmp_path}/seen; echo $$ $PPID; cut -d ' ' -f 19 /proc/$$/stat; ionice -p $$\n"
    )
    program.chmod(0o755)
    rsync = RsyncOptions(str(program), (3, 2, 7), nice=7, ionice="best-effort:6")
    assert run(listed(rsync, LOCAL), tmp_path).exit_status == 0
    processes, niceness, scheduling = (tmp_path / "seen").read_text().splitlines()
    assert processes.split()[1] == str(os.getpid())
    assert niceness == str(min(19, os.nice(0) + 7))
    assert scheduling == "best-effort: prio 6"


def test_files_in_flight_are_excluded_and_their_temporary_files_are_protected() -> None:
    command = listed(replace(RSYNC, in_flight=frozenset([b"d/big"])), LOCAL)
    rules = [word for word in command if word.startswith((b"--filter=", b"--exclude="))]
    assert rules == [
        b"--filter=P /d/.big.??????", b"--exclude=/d/big", b"--exclude=/d/big/**"
    ]  # fmt: skip
    full = replace(RSYNC, in_flight=frozenset([b"d/big"])).full_sync_command(
        CURRENT_DIRECTORY, LOCAL, RsyncCapabilities()
    )
    assert set(rules) < set(full)


def test_a_run_for_large_files_deletes_nothing_with_any_options() -> None:
    rsync = RsyncOptions(
        "rsync", (3, 2, 7), max_delete=5, extra_options=("--delete-after", "--force", "-z")
    )
    for to in EVERY:
        command = rsync.large_files_command(CURRENT_DIRECTORY, to)
        assert not any(word.startswith((b"--delete", b"--force", b"--max")) for word in command)
        assert b"--ignore-missing-args" in command
        assert b"-z" in command


@pytest.mark.parametrize(
    ("option", "expected"), [("-z", b"--link-dest=../o"), ("--inplace", b"--copy-dest=../o")]
)
def test_a_run_that_moves_files_deletes_nothing_and_makes_neither_links_nor_devices(
    option: str, expected: bytes
) -> None:
    rsync = RsyncOptions(
        "rsync", (3, 2, 7), max_delete=5, extra_options=("--delete-after", "--force", option)
    )
    for to in EVERY:
        command = rsync.linked_files_command(CURRENT_DIRECTORY, to, b"../o")
        directories = rsync.directories_command(CURRENT_DIRECTORY, to)
        assert expected in command
        assert expected not in directories
        for each in (command, directories):
            assert b"-ptgo" in each
            assert not any(word.startswith((b"--delete", b"--force", b"--max")) for word in each)


ODD = [
    b"plain", b"d/deep", b"a*b", b"a?c", b"a[x]d", b"back\\slash", b"both\\*", b"tr\\", b"tr*\\",
    b"new\nline", b"cr\rx", b"*", b"[", b"[[:alpha:]]", b"\\[q", b"#h", b";s", b"- x", b"+ y",
    b"!", b"\xff\xfe", b"sp ace", b"d/in*/deep",
]  # fmt: skip
# A pattern that is not taken literally would match these.
BAIT = [b"aXb", b"aYc", b"axd", b"backslash", b"both*", b"bothX", b"tr", b"trX", b"newline", b"q",
        b"d/inX/deep", b"d/in*/other", b"d/d/deep", b"zplain", b"z/plain"]  # fmt: skip


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "listed"])
def test_an_excluded_path_with_any_name_is_neither_sent_nor_deleted(
    to: tuple[Destination, RsyncOptions, Path], tmp_path: Path, is_full: bool
) -> None:
    destination, rsync, replica = to
    # The user's rules follow.
    rsync = replace(rsync, rules=build_rules([parse_exclude(b"+ old")]))
    beside = [name + b".beside" for name in ODD]
    source = plant(tmp_path / "src", *(name + b"/new" for name in ODD), *beside, *BAIT)
    kept = [name + b"/old" for name in ODD]
    plant(replica, *kept, b"stale")
    if is_full:
        result = run(
            rsync.full_sync_command(
                CURRENT_DIRECTORY, destination, RsyncCapabilities(), excluded=ODD
            ),
            source,
        )
    else:
        command = rsync.file_list_command(
            CURRENT_DIRECTORY, destination, CAPABILITIES, create_parents=False, excluded=ODD
        )
        below = [name + end for name in ODD for end in (b"", b"/", b"/new", b"/old")]
        result = run(command, source, b"", b"d/", *beside, *BAIT, *below)
    assert (result.exit_status, list(result.messages)) == (0, [])
    assert found(replica) == {*kept, *beside, *BAIT}


def test_a_thousand_paths_can_be_excluded(tmp_path: Path) -> None:
    source, replica = plant(tmp_path / "src", "f"), plant(tmp_path / "dst", "old")
    to = replace(LOCAL, target=os.fsencode(replica) + b"/")
    without = [b"old", *(b"%0200d" % number for number in range(1000))]
    result = run(
        RSYNC.full_sync_command(CURRENT_DIRECTORY, to, RsyncCapabilities(), excluded=without),
        source,
    )
    assert result.exit_status == 0
    assert found(replica) == {b"f", b"old"}
