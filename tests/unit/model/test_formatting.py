"""Numbers, durations and foreign text as people read them."""

import math

import pytest

from pylsyncd.model.formatting import (
    display_width,
    fit,
    format_count,
    format_duration,
    format_size,
    printable,
    truncate,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (5e15, "5000.0 TB")],
)
def test_sizes_have_decimal_units(count: float, text: str) -> None:
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
        (0, "change", "0 changes"),
        (4, "process", "4 processes"),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(count: int, noun: str, text: str) -> None:
    assert format_count(count, noun) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (61, "1 min 1 s"),
        (3599, "59 min 59 s"), (3600, "1 h"), (7500, "2 h 5 min"), (86399, "23 h 59 min"),
        (86400, "1 d"), (90000, "1 d 1 h"), (86400 * 400 + 5, "400 d"),
        (math.inf, "11574074 d 1 h"), (-math.inf, "0 s"), (math.nan, "0 s"),
    ],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_control_characters_are_escaped_and_other_text_is_kept() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"
    assert printable("Grüße/日本") == "Grüße/日本"


@pytest.mark.parametrize(("text", "width"), [("web1", 4), ("日本", 4), ("e\u0301", 1), ("", 0)])
def test_the_display_width_counts_wide_and_combining_characters(text: str, width: int) -> None:
    assert display_width(text) == width


@pytest.mark.parametrize(
    ("text", "width", "cut", "fitted"),
    [
        ("web1", 6, "web1", "web1  "),
        ("web1", 2, "we", "w…"),
        ("日本", 3, "日", "日…"),
        ("e\u0301x", 1, "e\u0301", "e\u0301"),
        ("web1", 0, "", ""),
    ],
)
def test_a_text_is_cut_and_padded_by_its_display_width(
    text: str, width: int, cut: str, fitted: str
) -> None:
    assert (truncate(text, width), fit(text, width)) == (cut, fitted)
