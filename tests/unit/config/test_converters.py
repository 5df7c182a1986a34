"""Texts are converted to values, or refused with a sentence that says what is expected."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylsyncd.config import converters
from pylsyncd.model.errors import UsageError
from pylsyncd.rsync.command import DeletionTime

Converter = Callable[[str], object]

ACCEPTED: list[tuple[Converter, str, object]] = [
    (converters.parse_switch, "yes", True),
    (converters.parse_switch, "ON", True),
    (converters.parse_switch, "0", False),
    (converters.parse_deletion, "yes", True),
    (converters.parse_deletion, "False", False),
    (converters.parse_deletion, "Startup", DeletionTime.STARTUP),
    (converters.parse_deletion, "running", DeletionTime.RUNNING),
    (converters.parse_seconds, "0.5", 0.5),
    (converters.parse_seconds, "604800", 604800.0),
    (converters.parse_interval, "0", 0.0),
    (converters.parse_interval, "31622400", 31622400.0),
    (converters.parse_interval, "1d", 86400.0),
    (converters.parse_interval, "1.5h", 5400.0),
    (converters.parse_interval, "366d", 31622400.0),
    (converters.parse_interval, "10m", 600.0),
    (converters.parse_interval, "10s", 10.0),
    (converters.parse_interval, "0min", 0.0),
    (converters.parse_seconds, "1h30min", 5400.0),
    (converters.parse_seconds, "7d", 604800.0),
    (converters.parse_wait, "0", 0.0),
    (converters.parse_wait, "5min", 300.0),
    (converters.parse_share, "0", 0.0),
    (converters.parse_share, "0.5", 0.005),
    (converters.parse_share, "100", 1.0),
    (converters.parse_positive_count, "1", 1),
    (converters.parse_count, "0", 0),
    (converters.parse_niceness, "19", 19),
    (converters.parse_port, "65535", 65535),
    (converters.parse_modify_window, "-1", -1),
    (converters.parse_modify_window, "0", 0),
    (converters.parse_modify_window, "7200", 7200),
    (converters.parse_modify_window, "1h", 3600),
    (converters.parse_size, "500000", 500000),
    (converters.parse_size, "2k", 2048),
    (converters.parse_size, "2KB", 2000),
    (converters.parse_size, "1G", 1 << 30),
    (converters.check_rate, "1.5m", "1.5m"),
    (converters.check_rate, "512b", "512b"),
    (converters.check_rate, "0", "0"),
    (converters.check_io_class, "idle", "idle"),
    (converters.check_io_class, "best-effort:0", "best-effort:0"),
    (converters.parse_umask, "022", 0o022),
    (converters.parse_file_mode, "640", 0o640),
    (converters.parse_file_mode, "00664", 0o664),
    (converters.parse_file_mode, "0", 0),
    (converters.parse_umask, "0077", 0o077),
    (converters.check_log_level, "notice", "notice"),
    (converters.split_command, "mail -s 'a b' root", ("mail", "-s", "a b", "root")),
    (converters.split_command, "echo $HOME; ls", ("echo", "$HOME;", "ls")),
]

REFUSED: list[tuple[Converter, str, str]] = [
    (converters.parse_switch, "perhaps", "Expected yes or no"),
    (converters.parse_deletion, "never", "Expected yes, no, startup or running"),
    (converters.parse_seconds, "soon", "Expected a time, such as 60, 0.5, 90s, 5min, 1h or 1d"),
    (converters.parse_seconds, "1_0", "Expected a time, such as 60, 0.5, 90s, 5min, 1h or 1d"),
    (converters.parse_seconds, " 5", "Expected a time, such as 60, 0.5, 90s, 5min, 1h or 1d"),
    (converters.parse_seconds, "\u0665", "Expected a time, such as 60, 0.5, 90s, 5min, 1h or 1d"),
    (converters.parse_seconds, "0", "Expected more than 0 and at most 604800 seconds (7 days)"),
    (converters.parse_seconds, "nan", "Expected a time"),
    (converters.parse_seconds, "9" * 400, "Expected more than 0"),
    (converters.parse_seconds, "604801", "at most 604800 seconds"),
    (converters.parse_interval, "31622401", "at most 31622400 seconds"),
    (converters.parse_interval, "367d", "at most 31622400 seconds (366 days)"),
    (converters.parse_interval, "d", "Expected a time"),
    (converters.parse_interval, "1dd", "Expected a time"),
    (converters.parse_interval, "53w", "at most 31622400 seconds (366 days)"),
    (converters.parse_modify_window, "-2", "from 0 to 7200"),
    (converters.parse_modify_window, "0.5", "from 0 to 7200"),
    (converters.parse_modify_window, "2h1s", "from 0 to 7200"),
    (converters.parse_wait, "-1", "Expected a time"),
    (converters.parse_wait, "9" * 400, "Expected a shorter time"),
    (converters.parse_share, "0.001", "0 or from 0.01 to 100"),
    (converters.parse_share, "101", "0 or from 0.01 to 100"),
    (converters.parse_share, "nan", "0 or from 0.01 to 100"),
    (converters.parse_share, "half", "Expected a percentage"),
    (converters.parse_positive_count, "0", "Expected a whole number of at least 1"),
    (converters.parse_positive_count, "-1", "Expected a whole number of at least 1"),
    (converters.parse_count, "9" * 5000, "Expected a whole number of at least 0"),
    (converters.parse_count, "\u00b2", "Expected a whole number"),
    (converters.parse_niceness, "20", "Expected a whole number from 0 to 19"),
    (converters.parse_port, "65536", "Expected a whole number from 1 to 65535"),
    (converters.parse_size, "0M", "Expected a size"),
    (converters.parse_size, "1X", "Expected a size"),
    (converters.check_rate, "fast", "Expected a rate"),
    (converters.check_rate, "511b", "no rate below 512 bytes per second"),
    (converters.check_io_class, "best-effort:8", "Expected idle, or best-effort:N"),
    (converters.check_io_class, "realtime", "Expected idle, or best-effort:N"),
    (converters.parse_umask, "8", "Expected permissions in octal"),
    (converters.parse_file_mode, "666", "Expected permissions in octal, from 000 to 664"),
    (converters.parse_file_mode, "750", "Expected permissions in octal"),
    (converters.parse_file_mode, "4640", "Expected permissions in octal"),
    (converters.parse_file_mode, "rw-", "Expected permissions in octal"),
    (converters.parse_umask, "1777", "Expected permissions in octal"),
    (converters.check_log_level, "loud", "Expected one of error, warning, notice, info, debug"),
    (converters.split_command, "", "The command is empty"),
    (converters.split_command, "''", "The command is empty"),
    (converters.split_command, "echo 'x", "Cannot split the command"),
]


def name_of(value: object) -> str:
    return value.__name__ if callable(value) else repr(value)[:20]


@pytest.mark.parametrize(("convert", "text", "expected"), ACCEPTED, ids=name_of)
def test_a_valid_text_is_converted(convert: Converter, text: str, expected: object) -> None:
    assert convert(text) == expected


@pytest.mark.parametrize(("convert", "text", "message"), REFUSED, ids=name_of)
def test_an_invalid_text_is_refused_with_what_is_expected(
    convert: Converter, text: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        convert(text)
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")


@given(st.text())
def test_seconds_are_finite_and_positive_whatever_the_text(text: str) -> None:
    try:
        seconds = converters.parse_seconds(text)
    except UsageError:
        return
    assert math.isfinite(seconds)
    assert 0.0 < seconds <= 604800.0
