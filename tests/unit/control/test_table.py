"""The table shows each destination of a status, aligned and safe for a terminal."""

import re
from dataclasses import replace

import pytest
from support.commands import IN_SYNC_STATUS, MIXED_STATUS, NOW, destination, status

from pylsyncd.control.table import describe_set_aside, format_table
from pylsyncd.model.formatting import display_width
from pylsyncd.model.status import Condition, DestinationCounts, PathSummary, SetAside

TABLE = """\
pylsyncd 0.1, pid 4242, up 2 h 5 min; 5 destinations: 1 in sync, 1 waiting, 1 retrying, 1 held, 1 paused
SYNC  DESTINATION  STATE     BEHIND        WAITING  LAST RUN                              NEXT ATTEMPT
web   srv2         in sync   -                   0  12 s ago, 3 files, 1 deleted, 1.2 MB  -
web   srv3         waiting   2 s                12  -                                     -
web   srv4         retrying  2 h 5 min        1234  5 min ago, exit 10                    in 40 s
    no rsync daemon listens on the port: check that it is running there
web   srv5         held      1 d 1 h    everything  -                                     -
    too much.
web   srv6         paused    -                   0  12 s ago, ended by signal 9           -
"""  # noqa: E501


def test_the_table_has_a_line_for_each_destination_and_one_for_its_error() -> None:
    assert "".join(f"{line}\n" for line in format_table(MIXED_STATUS)) == TABLE


def test_the_destination_column_leaves_out_the_name_of_the_sync() -> None:
    rows = format_table(
        status(destination("web/srv2"), destination("web/h:/a/b/"), destination("b/c"))
    )
    assert [row.split()[:2] for row in rows[2:]] == [
        ["web", "srv2"], ["web", "h:/a/b/"], ["web", "b/c"],
    ]  # fmt: skip


def test_a_status_without_destinations_has_a_table() -> None:
    assert format_table(status())[0].endswith("up 2 h 5 min; 0 destinations, all in sync")


def test_remarks_on_a_source_follow_the_table() -> None:
    held = status(held="nothing is mounted there", unwatched=3)
    polled = "Polled for lack of a watch: 3 directories of /srv/www (fs.inotify.max_user_watches"
    assert format_table(held)[-2:] == [
        "The source /srv/www is held: nothing is mounted there", f"{polled} is 65536).",
    ]  # fmt: skip
    scanned = format_table(status(oldest_look=125.0))[-1]
    assert scanned == "All of /srv/www was scanned within the last 2 min 5 s."
    assert format_table(status(is_watching=False))[-1] == "The source /srv/www is not watched yet."


def test_what_a_destination_lacks_follows_its_line() -> None:
    failed = PathSummary(12, ("a", "b\x1b"))
    lacking = SetAside(failed, PathSummary(1, ("nested",)), PathSummary(3, ("c", "d", "e")))
    held = {"nested": "another file system was mounted there"}
    lines = format_table(
        status(destination("srv2", error="why.", set_aside=lacking), held_subtrees=held)
    )
    assert lines[-5:] == [
        "    why.",
        r"    except for 12 failed paths: a, b\x1b, ...",
        "    except for 1 held subtree: nested",
        "    except for 3 paths with other attributes: c, d, e",
        "nested in /srv/www is held: another file system was mounted there",
    ]
    assert describe_set_aside("srv2", SetAside(held=PathSummary(1, ("nested",)))) == [
        "srv2 is in sync, except for 1 held subtree: nested"
    ]


def test_an_unverified_destination_is_not_called_in_sync() -> None:
    each = destination("srv2", unverified="never compared: run pylsyncctl sync srv2")
    lines = format_table(status(each, destination("srv3")), is_coloured=True)
    assert lines[0].endswith("; 2 destinations: 1 in sync, 1 unverified")
    assert "\x1b[33munverified\x1b[0m" in lines[2]
    assert lines[3] == "    unverified: never compared: run pylsyncctl sync srv2"
    assert "\x1b[32min sync\x1b[0m" in lines[4]


def test_a_state_that_says_more_than_in_sync_is_shown_of_an_unverified_destination() -> None:
    each = destination("srv2", Condition.SYNCING, unverified="its full sync is not complete")
    lines = format_table(status(each))
    assert lines[0].endswith("; 1 destination: 1 syncing")
    assert lines[-1] == "    unverified: its full sync is not complete"


def test_a_remark_tells_since_when_a_destination_was_compared() -> None:
    compared = destination(
        "web/srv2", compared_since=NOW - 3600.0, counts=DestinationCounts(repaired=2)
    )
    assert format_table(status(compared))[-1] == (
        "All of web/srv2 was compared within the last 1 h, 2 paths repaired."
    )


def test_a_remark_names_the_threads_that_make_no_progress() -> None:
    stuck = format_table(replace(IN_SYNC_STATUS, stuck_threads=("watcher", "srv\x1b")))[-1]
    assert stuck.startswith(r"These threads make no progress: watcher, srv\x1b. What ")


def test_the_last_remark_tells_of_a_reload_that_failed() -> None:
    failed = replace(IN_SYNC_STATUS, last_reload=NOW - 125.0, reload_error="line 1: no\x1b")
    assert format_table(failed)[-1] == (
        "The last reload, 2 min 5 s ago, has failed: line 1: no\\x1b"
    )
    read = replace(failed, reload_error="")
    assert format_table(read) == format_table(IN_SYNC_STATUS)


def test_the_table_shows_the_age_of_an_old_status() -> None:
    assert format_table(IN_SYNC_STATUS, age=0.5)[1].startswith("SYNC")
    assert format_table(IN_SYNC_STATUS, age=30.0)[1] == "As of 30 s ago"
    assert (
        format_table(IN_SYNC_STATUS, age=31.0)[1] == "As of 31 s ago: pylsyncd has ended or hangs"
    )
    assert format_table(IN_SYNC_STATUS, age=-30.0)[1].startswith("SYNC")
    assert "5 min ahead of the clock" in format_table(IN_SYNC_STATUS, age=-300.0)[1]
    stopped = replace(IN_SYNC_STATUS, stopped=NOW)
    assert format_table(stopped, age=300.0)[1] == "As of 5 min ago: pylsyncd was stopped"
    unwatched = replace(status(destination("a"), is_watching=False), stopped=NOW)
    assert format_table(unwatched)[-1].startswith("web")


def test_only_the_state_is_coloured_and_only_on_request() -> None:
    assert not any("\x1b" in line for line in format_table(MIXED_STATUS))
    coloured = format_table(MIXED_STATUS, is_coloured=True)
    assert "\x1b[32min sync\x1b[0m " in coloured[2]
    plain = [line.replace("\x1b[0m", "") for line in coloured]
    for code in ("32", "33", "35", "36", "1;31"):
        plain = [line.replace(f"\x1b[{code}m", "") for line in plain]
    assert plain == format_table(MIXED_STATUS)


@pytest.mark.parametrize("width", [20, 30, 50, 60, 80, 100, 200])
def test_the_table_fits_into_a_window_and_keeps_the_state(width: int) -> None:
    error = "the connection failed: check that the destination is up and reachable."
    names = ("one", "a-rather-long-name.of.some.server.example.com:/srv/www/htdocs")
    each = [destination(name, Condition.RETRYING, behind=99.0, error=error) for name in names]
    lines = format_table(status(*each, name="a-long-name-of-a-sync"), age=40.0, width=width)
    assert all(display_width(line) <= width for line in lines)
    rows = [line for line in lines if re.fullmatch(r"(\S.*  )?retrying(  .*)?", line)]
    assert len(rows) == 2
    assert ("…" in rows[1]) is (width < 200)
    # Each word of a sentence is there.
    assert " ".join(lines).split().count("reachable.") == 2


def test_the_longest_columns_make_room_first() -> None:
    shown = [
        next(line for line in format_table(MIXED_STATUS, width=width) if "STATE" in line)
        for width in (200, 80, 64, 50, 30, 10)
    ]
    assert [re.split("  +", line)[-1] for line in shown] == [
        "NEXT ATTEMPT", "NEXT ATTEMPT", "NEXT ATTEMPT", "WAITING", "STATE", "STATE"
    ]  # fmt: skip
    assert ["LAST RUN" in line for line in shown] == [True] + [False] * 5


def test_without_a_width_nothing_is_cut() -> None:
    assert format_table(MIXED_STATUS) == format_table(MIXED_STATUS, width=1000)


def test_control_characters_are_escaped() -> None:
    evil = "\x1b]0;title\x07\x9b2J\r\n\u202egnp.\udcff"
    each = status(destination(evil, error=evil), name=evil, source=evil, held=evil)
    lines = format_table(replace(each, version=evil))
    assert all(line.isprintable() for line in lines)


def test_columns_are_aligned_for_wide_and_combining_characters() -> None:
    lines = format_table(status(destination("日本"), destination("e\u0301"), destination("plain")))
    rows = [line.partition("in sync")[0] for line in lines[2:]]
    assert len({display_width(row) for row in rows}) == 1
