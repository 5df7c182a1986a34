"""The columns of the log, and how long lines are wrapped."""

import logging

from pylsyncd.terminal.colours import Palette
from pylsyncd.terminal.log_columns import LogLayout, wrap


def lay_out(columns: LogLayout, message: str, width: int = 60) -> list[str]:
    return columns.format_message("12:00:00", logging.INFO, message, width).split("\n")


def test_texts_are_aligned() -> None:
    columns = LogLayout(Palette())
    columns.format_message("12:00:00", logging.INFO, "[server22] x", 80)
    assert lay_out(columns, "[web1] text") == ["12:00:00   [web1]     text"]
    assert lay_out(columns, "[server22] text") == ["12:00:00   [server22] text"]
    assert lay_out(columns, "text") == ["12:00:00   text"]


def test_one_long_name_does_not_widen_the_column() -> None:
    columns = LogLayout(Palette())
    assert lay_out(columns, f"[{'x' * 90}] text") == [f"12:00:00   [{'x' * 90}] text"]
    assert lay_out(columns, "[web1] text") == ["12:00:00   [web1]               text"]


def test_the_paths_of_events_are_aligned() -> None:
    columns = LogLayout(Palette())
    lines = [
        lay_out(columns, f"event {mask} path")[0]
        for mask in ("CREATE|ISDIR", "MOVED_FROM|ISDIR", "MODIFY")
    ]
    assert len({line.index("path") for line in lines}) == 1


def test_a_long_list_is_wrapped_at_blanks_and_indented() -> None:
    words = [f"dir/file{number}" for number in range(30)]
    lines = lay_out(LogLayout(Palette()), f"[web1] list of 30: {' '.join(words)}")
    assert len(lines) > 5
    assert max(map(len, lines)) <= 60
    assert all(line.startswith(" " * 13 + "dir/") for line in lines[1:])
    assert " ".join(" ".join(lines).split()).endswith(" ".join(words))


def test_a_word_longer_than_the_line_stays_whole() -> None:
    long = "x" * 100
    assert wrap(f"a {long} b", 30, 30) == ["a", long, "b"]
    assert wrap(long, 30, 30) == [long]
    assert wrap("", 30, 30) == [""]


def test_a_command_is_not_wrapped() -> None:
    command = "rsync " + " ".join(f"--exclude={number}" for number in range(30))
    assert len(lay_out(LogLayout(Palette()), f"[web1] running: {command}")) == 1
