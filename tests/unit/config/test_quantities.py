"""Times and sizes are read as people write them, and sizes as rsync reads them."""

import math
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.config.quantities import parse_size, parse_time

TIMES = {
    "90": 90.0,
    "0": 0.0,
    "0.5": 0.5,
    ".5": 0.5,
    "5.": 5.0,
    "+5": 5.0,
    "1e3": 1000.0,
    "90s": 90.0,
    "250ms": 0.25,
    "5min": 300.0,
    "5m": 300.0,
    "1h": 3600.0,
    "1.5h": 5400.0,
    "1d": 86400.0,
    "1w": 604800.0,
    "1h30min": 5400.0,
    "1h 30 min": 5400.0,
    "2 hours": 7200.0,
    "1 day 1 second": 86401.0,
    "0s": 0.0,
    "9" * 400: math.inf,
    "9" * 400 + "s": math.inf,
}

SIZES = {
    "500000": 500_000,
    "100b": 100,
    "2k": 2 << 10,
    "2K": 2 << 10,
    "2KiB": 2 << 10,
    "2KB": 2_000,
    "1.5M": 3 << 19,
    "1.5mb": 1_500_000,
    "1.5mb-1": 1_499_999,
    "1G+1": (1 << 30) + 1,
    ".5gib": 1 << 29,
    "1.g": 1 << 30,
    "1T": 1 << 40,
    "1.0001k": 1024,
}


@pytest.mark.parametrize("text", TIMES)
def test_a_time_is_a_number_of_seconds_or_has_units(text: str) -> None:
    assert parse_time(text) == pytest.approx(TIMES[text])


@pytest.mark.parametrize(
    "text",
    ["", " ", " 5", "-5", "-5s", "soon", "s", "5x", "5M", "5S", "1h30", "30 1h", "1dd", "1_0s",
     "nan", "inf", "0x10", "\u0665", "\u0665s", "1h,30min", "5min\n"],
)  # fmt: skip
def test_any_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        parse_time(text)


@given(st.text(alphabet="0123456789.eE+- smhdwin", max_size=60) | st.text())
def test_a_time_is_never_negative(text: str) -> None:
    try:
        seconds = parse_time(text)
    except ValueError:
        return
    assert seconds >= 0.0


@given(st.integers(0, 10**9), st.sampled_from(["s", "min", "h", "d"]))
def test_units_may_follow_each_other(count: int, unit: str) -> None:
    assert parse_time(f"{count}{unit}1s") == parse_time(f"{count}{unit}") + 1.0


@pytest.mark.parametrize("text", SIZES)
def test_a_size_is_a_number_of_bytes_or_has_a_suffix(text: str) -> None:
    assert parse_size(text) == SIZES[text]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "1X",
        "1 M",
        "-1M",
        "1kk",
        "1bb",
        "1kib2",
        "1k+2",
        "1_0",
        "\u0665",
        "1" * 16 + "k",
        ".",
    ],
)
def test_any_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)


def test_a_size_means_what_rsync_takes_it_for(tmp_path: Path) -> None:
    for name, excess in (("allowed", 0), ("larger", 1)):
        (tmp_path / name).mkdir()
        for number, size in enumerate(SIZES.values()):
            with (tmp_path / name / str(number)).open("wb") as file:
                file.truncate(size + excess)
    for number, text in enumerate(SIZES):
        command = ["rsync", "-rn", "--out-format=%n", f"--max-size={text}", "--include=*/"]
        command += [f"--include={number}", "--exclude=*", f"{tmp_path}/", f"{tmp_path}/copy/"]
        sent = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert [name for name in sent if not name.endswith("/")] == [f"allowed/{number}"]
