"""A status survives its way as JSON and as a file, and is shown as what it means."""

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import IN_SYNC_STATUS, NOW, RUN, destination, status
from support.waiting import wait_until

from pylsyncd.control import status_file
from pylsyncd.control.nagios import ServiceState, Thresholds, evaluate
from pylsyncd.control.protocol import NoDaemonError
from pylsyncd.control.status_file import StatusFileWriter
from pylsyncd.control.table import format_table
from pylsyncd.model.errors import StateError
from pylsyncd.model.formatting import display_width
from pylsyncd.model.status import Condition, DestinationStatus, RunStatus, Status

# -- the table ------------------------------------------------------------------------------------


FAILURE = RunStatus(NOW - 300, 2.0, "later", 10)

ALL = status(
    destination("srv2", last_run=RUN),
    destination("srv3", Condition.WAITING, behind=2.5, waiting=12),
    destination(
        "srv4", Condition.RETRYING, behind=7500.0, waiting=1234, last_run=FAILURE,
        next_attempt=40.0,
        error="no rsync daemon listens on the port: check that it is running there",
    ),
    destination("srv5", Condition.HELD, behind=90000.0, owes_everything=True, error="too much."),
    destination("srv6", Condition.PAUSED, last_run=replace(RUN, code=-9, outcome="later")),
)  # fmt: skip

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


def test_the_table_shows_how_each_destination_stands() -> None:
    assert "".join(f"{line}\n" for line in format_table(ALL)) == TABLE


def test_the_name_of_a_sync_is_not_repeated_beside_it() -> None:
    rows = format_table(
        status(destination("web/srv2"), destination("web/h:/a/b/"), destination("b/c"))
    )
    assert [row.split()[:2] for row in rows[2:]] == [
        ["web", "srv2"], ["web", "h:/a/b/"], ["web", "b/c"],
    ]  # fmt: skip


def test_a_status_without_destinations_has_a_table() -> None:
    assert format_table(status())[0].endswith("up 2 h 5 min; 0 destinations, all in sync")


def test_what_is_to_be_said_of_a_source_stands_below() -> None:
    held = status(held="nothing is mounted there", unwatched=3)
    polled = "Polled for lack of a watch: 3 directories of /srv/www (fs.inotify.max_user_watches"
    assert format_table(held)[-2:] == [
        "The source /srv/www is held: nothing is mounted there", f"{polled} is 65536).",
    ]  # fmt: skip
    assert format_table(status(is_watching=False))[-1] == "The source /srv/www is not watched yet."


def test_an_old_status_says_so() -> None:
    assert format_table(IN_SYNC_STATUS, age=0.5)[1].startswith("SYNC")
    assert format_table(IN_SYNC_STATUS, age=12.0)[1] == "As of 12 s ago"
    assert (
        format_table(IN_SYNC_STATUS, age=300.0)[1] == "As of 5 min ago: pylsyncd has ended or hangs"
    )


def test_colours_are_only_about_the_state_and_only_when_asked_for() -> None:
    assert not any("\x1b" in line for line in format_table(ALL))
    coloured = format_table(ALL, is_coloured=True)
    assert "\x1b[32min sync\x1b[0m " in coloured[2]
    plain = [line.replace("\x1b[0m", "") for line in coloured]
    for code in ("32", "33", "35", "36", "1;31"):
        plain = [line.replace(f"\x1b[{code}m", "") for line in plain]
    assert plain == format_table(ALL)


def test_nothing_that_a_terminal_would_obey_is_left() -> None:
    evil = "\x1b]0;title\x07\x9b2J\r\n\u202egnp.\udcff"
    each = status(
        destination(evil, error=evil), name=evil, source=evil, held=evil
    )  # fmt: skip
    lines = format_table(replace(each, version=evil))
    assert all(line.isprintable() for line in lines)
    assert evaluate([each], Thresholds(1.0))[1].isprintable()


def test_columns_stand_below_each_other_whatever_the_names_are_written_in() -> None:
    lines = format_table(status(destination("日本"), destination("e\u0301"), destination("plain")))
    rows = [line.partition("in sync")[0] for line in lines[2:]]
    assert len({display_width(row) for row in rows}) == 1


# -- Nagios ---------------------------------------------------------------------------------------

LIMITS = Thresholds(60.0, 30.0)


@pytest.mark.parametrize(
    ("each", "limits", "level", "said"),
    [
        (destination("a"), LIMITS, ServiceState.OK, "1 destination, at most 0 s behind"),
        (destination("a", Condition.SYNCING, behind=30.0), LIMITS, ServiceState.OK, "30 s behind"),
        (destination("a", Condition.SYNCING, behind=30.1), LIMITS, ServiceState.WARNING,
         "a syncing, 30 s behind"),
        (destination("a", Condition.SYNCING, behind=60.1), LIMITS, ServiceState.CRITICAL,
         "a syncing, 1 min behind"),
        (destination("a", Condition.SYNCING, behind=59), Thresholds(60.0), ServiceState.OK,
         "59 s behind"),
        (destination("a", Condition.RETRYING, behind=1.0, error="it is full"), LIMITS,
         ServiceState.WARNING, "a retrying, 1 s behind (it is full)"),
        (destination("a", Condition.RETRYING, behind=99.0), LIMITS, ServiceState.CRITICAL,
         "a retrying"),
        (destination("a", Condition.PAUSED), LIMITS, ServiceState.WARNING, "a paused"),
        (destination("a", Condition.HELD, error="x | y"), LIMITS, ServiceState.CRITICAL,
         "a held (x / y)"),
        (destination("a", Condition.STARTING), LIMITS, ServiceState.OK, "0 s behind"),
    ],
)  # fmt: skip
def test_how_serious_a_state_is(
    each: DestinationStatus, limits: Thresholds, level: ServiceState, said: str
) -> None:
    found, line = evaluate([status(destination("b"), each)], limits)
    assert found is level
    assert line.startswith(f"PYLSYNCD {level.name} - ")
    assert said.replace("1 destination,", "2 destinations,") in line.partition(" | ")[0]


def test_the_worst_counts_and_comes_first() -> None:
    level, line = evaluate([ALL], LIMITS)
    assert level is ServiceState.CRITICAL
    said = line.partition(" | ")[0].partition(" - ")[2].split("; ")
    assert [text.split()[0] for text in said] == ["srv4", "srv5", "srv6"]


def test_a_source_that_is_held_is_critical() -> None:
    level, line = evaluate([status(destination("a"), held="nothing is mounted there")], LIMITS)
    assert level is ServiceState.CRITICAL
    assert "source /srv/www held: nothing is mounted there" in line


def test_a_status_that_is_old_is_critical() -> None:
    assert evaluate([IN_SYNC_STATUS], LIMITS, age=59.0)[0] is ServiceState.OK
    level, line = evaluate([IN_SYNC_STATUS], LIMITS, age=61.0)
    assert level is ServiceState.CRITICAL
    assert "no status from pylsyncd for 1 min 1 s" in line
    # It is not written anew each second.
    assert evaluate([IN_SYNC_STATUS], Thresholds(1.0), age=15.0)[0] is ServiceState.OK


def test_graphs_get_numbers_under_labels_of_their_own() -> None:
    both = [
        status(destination("a", Condition.WAITING, behind=2.0, waiting=3), destination("it's=|")),
        status(destination("a"), name="other"),
    ]
    assert evaluate(both, LIMITS)[1].partition(" | ")[2] == (
        "'web a lag'=2s;30;60;0 'web a waiting'=3;;;0 'it''s-/ lag'=0s;30;60;0 "
        "'it''s-/ waiting'=0;;;0 'other a lag'=0s;30;60;0 'other a waiting'=0;;;0"
    )


# -- the file -------------------------------------------------------------------------------------


class Changing:
    """What a file is written of."""

    def __init__(self) -> None:
        self.now = IN_SYNC_STATUS

    def __call__(self) -> Status:
        return replace(self.now, time=time.time())


@pytest.fixture
def changing() -> Changing:
    return Changing()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


@pytest.fixture
def writer(path: Path, changing: Changing) -> Iterator[StatusFileWriter]:
    failed: list[str] = []
    made = StatusFileWriter(str(path), changing, failed.append, max_age=0.5, check_interval=0.01)
    yield made
    made.stop()
    assert failed == []


def test_the_file_holds_the_status_for_all_to_read(path: Path, writer: StatusFileWriter) -> None:
    before = os.umask(0o077)
    try:
        writer.start()
        wait_until(path.exists)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert replace(status_file.read_status_file(str(path)), time=NOW) == IN_SYNC_STATUS
    assert path.read_text().endswith("}\n")


def test_it_is_written_now_and_then_so_that_its_age_tells(
    path: Path, writer: StatusFileWriter
) -> None:
    writer.start()
    wait_until(path.exists)
    first = status_file.read_status_file(str(path)).time
    wait_until(lambda: status_file.read_status_file(str(path)).time > first)
    assert status_file.read_status_file(str(path)).time >= first + 0.4


def test_a_change_that_matters_is_written_at_once(
    path: Path, changing: Changing, tmp_path: Path
) -> None:
    writer = StatusFileWriter(
        str(path), changing, lambda _: None, max_age=3600.0, check_interval=0.01
    )
    writer.start()
    try:
        wait_until(path.exists)
        changing.now = ALL
        wait_until(lambda: len(status_file.read_status_file(str(path)).syncs[0].destinations) == 5)
        before = path.stat().st_ino
        changing.now = replace(ALL, watch_limit=7)
        changing.now = status(*(replace(each, behind=9.0) for each in ALL.syncs[0].destinations))
    finally:
        writer.stop()
    # What only counts on was not worth a file of its own, and the end was.
    assert path.stat().st_ino != before
    assert {
        each.behind for each in status_file.read_status_file(str(path)).syncs[0].destinations
    } == {9.0}
    assert os.listdir(tmp_path) == ["status.json"]


def test_who_reads_sees_a_whole_status_at_any_time(path: Path, changing: Changing) -> None:
    changing.now = status(*(destination(f"srv{number}") for number in range(300)))
    writer = StatusFileWriter(str(path), changing, lambda _: None, max_age=0.0, check_interval=0.0)
    writer.start()
    try:
        wait_until(path.exists)
        seen = set()
        while len(seen) < 20:
            seen.add(status_file.read_status_file(str(path)).time)
    finally:
        writer.stop()


def test_a_symbolic_link_is_replaced_and_not_followed(
    path: Path, tmp_path: Path, writer: StatusFileWriter
) -> None:
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    writer.start()
    wait_until(lambda: not path.is_symlink())
    assert (tmp_path / "precious").read_text() == "precious"
    assert status_file.read_status_file(str(path)).pid == IN_SYNC_STATUS.pid


def test_a_failure_is_said_once_and_so_is_its_end(
    tmp_path: Path, changing: Changing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "later/status.json"
    asked = threading.Semaphore(0)

    def counted() -> Status:
        asked.release()
        return changing()

    writer = StatusFileWriter(str(path), counted, lambda _: None, max_age=0.0, check_interval=0.0)
    writer.start()
    try:
        for _ in range(10):
            assert asked.acquire(timeout=20)
        path.parent.mkdir()
        wait_until(path.exists)
        wait_until(lambda: "is written again" in caplog.text)
    finally:
        writer.stop()
    assert [record.getMessage() for record in caplog.records] == [
        f"The status file {path} cannot be written: No such file or directory. Retrying.",
        f"The status file {path} is written again.",
    ]


def test_what_killed_writers_have_left_is_removed_and_nothing_else(
    path: Path, tmp_path: Path, writer: StatusFileWriter
) -> None:
    left = tmp_path / f".status.json.{'0' * 16}.tmp"
    others = [
        tmp_path / f".status.json.{'1' * 16}.tmp",
        tmp_path / f".statusXjson.{'0' * 16}.tmp",
        tmp_path / ".status.json.tmp",
    ]
    for each in (left, *others):
        each.touch()
        if each != others[0]:  # The first of them is another writer's, just now.
            os.utime(each, (1.0, 1.0))
    writer.start()
    wait_until(path.exists)
    assert set(tmp_path.iterdir()) >= set(others)
    assert not left.exists()


@pytest.mark.parametrize(
    ("make", "kind", "reason"),
    [
        (lambda _: None, NoDaemonError, "There is no status file .*--status-file="),
        (lambda path: path.mkdir(), StateError, "is not a regular file"),
        (os.mkfifo, StateError, "is not a regular file"),
        (lambda path: path.write_text("{}"), StateError, "not a status file of pylsyncd: it lacks"),
        (lambda path: path.write_text("\0"), StateError, "not a status file of pylsyncd: it is no"),
    ],
)
def test_what_cannot_be_read_is_said_with_a_sentence(
    path: Path, make: Callable[[Path], object], kind: type[Exception], reason: str
) -> None:
    make(path)
    with pytest.raises(kind, match=reason):
        status_file.read_status_file(str(path))
