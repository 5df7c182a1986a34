"""The rsync commands: what stands in them for each kind of destination."""

import pytest

from pylsyncd.commands import Abilities, Rsync
from pylsyncd.endpoints import Destination
from pylsyncd.excludes import build, parse_pattern
from pylsyncd.notation import Transport

LOCAL = Destination("d", "/d/", Transport.LOCAL, None, b"/d/")
SHELL = Destination("h", "h:/d/", Transport.SHELL, "h", b"h:/d/")
DAEMON = Destination("h", "h::m/", Transport.DAEMON, "h", b"h::m/")
EVERY = [LOCAL, SHELL, DAEMON]
RSYNC = Rsync("rsync", (3, 2, 7))


def listed(rsync: Rsync, to: Destination, abilities: Abilities | None = None) -> list[bytes]:
    return rsync.listed(b"/s", to, abilities or Abilities(), mkpath=False)


@pytest.mark.parametrize("to", EVERY, ids=lambda to: to.transport.name)
def test_nanoseconds_are_compared_and_locally_without_the_option_that_breaks_long_lists(
    to: Destination,
) -> None:
    verbatim = b"-M--modify-window=-1" in listed(RSYNC, to)
    assert verbatim is (to is not LOCAL)
    assert verbatim is not (b"--modify-window=-1" in listed(RSYNC, to))


@pytest.mark.parametrize(
    ("delete", "abilities", "expected"),
    [
        (True, Abilities(), {b"--delete", b"--delete-missing-args"}),
        (True, Abilities(missing_args=False), {b"--delete", b"--ignore-missing-args"}),
        (False, Abilities(), {b"--force", b"--ignore-missing-args"}),
    ],
)
def test_deleting_by_name_needs_both_options(
    delete: bool, abilities: Abilities, expected: set[bytes]
) -> None:
    options = {b"--delete", b"--delete-missing-args", b"--ignore-missing-args", b"--force"}
    command = listed(Rsync("rsync", (3, 2, 7), delete=delete), LOCAL, abilities)
    assert options & set(command) == expected


def test_errors_are_never_ignored() -> None:
    for command in (listed(RSYNC, LOCAL), RSYNC.full(b"/s", LOCAL, Abilities())):
        assert b"--ignore-errors" not in command


@pytest.mark.parametrize(
    ("version", "target", "is_secluded"),
    [
        ((3, 2, 3), b"h:/d/", True),
        ((3, 2, 4), b"h:/d/", False),
        ((3, 2, 4), b"h:/a b$(c)/", False),
        ((3, 2, 7), b"h:/new\nline/", True),
        ((3, 2, 7), b"h:/back`tick/", True),
    ],
)
def test_arguments_go_past_the_remote_shell_where_rsync_does_not_quote_them(
    version: tuple[int, int, int], target: bytes, is_secluded: bool
) -> None:
    to = Destination("h", "", Transport.SHELL, "h", target)
    assert (b"-s" in listed(Rsync("rsync", version), to)) is is_secluded


def test_a_remote_shell_asks_no_questions_and_notices_a_dead_peer() -> None:
    shell = next(word for word in listed(RSYNC, SHELL) if word.startswith(b"--rsh="))
    for option in (b"BatchMode=yes", b"ConnectTimeout=", b"ServerAliveInterval="):
        assert option in shell
    assert not any(word.startswith(b"--rsh=") for word in listed(RSYNC, DAEMON))


def test_what_is_only_for_daemons_goes_to_daemons_only() -> None:
    rsync = Rsync("rsync", (3, 2, 7), options=("--password-file=/p", "--bwlimit=1m"))
    assert b"--sockopts=TCP_NODELAY" in listed(rsync, DAEMON)
    for to in EVERY:
        assert (b"--password-file=/p" in listed(rsync, to)) is (to is DAEMON)
        assert b"--bwlimit=1m" in listed(rsync, to)


def test_the_rules_stand_in_every_command() -> None:
    rsync = Rsync("rsync", (3, 2, 7), rules=build([parse_pattern(b"*.tmp")]))
    for command in (listed(rsync, LOCAL), rsync.full(b"/s", LOCAL, Abilities())):
        assert b"--exclude=*.tmp" in command


def test_source_and_destination_come_last_and_never_as_options() -> None:
    assert listed(RSYNC, LOCAL)[-3:] == [b"--", b"/s/", b"/d/"]
    assert RSYNC.full(b"/", LOCAL, Abilities())[-3:] == [b"--", b"/", b"/d/"]


def test_a_probe_and_a_dry_run_change_nothing() -> None:
    dry = Rsync("rsync", (3, 2, 7), dry_run=True)
    for command in (
        RSYNC.probe(b"/s", LOCAL, Abilities()),
        listed(dry, LOCAL),
        dry.full(b"/s", LOCAL, Abilities()),
    ):
        assert b"--dry-run" in command
