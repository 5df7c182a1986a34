"""A row of the option table: its flags follow from its key."""

import pytest

from pylsyncd.config.converters import parse_switch
from pylsyncd.config.option import Option, OptionScope, format_number


def switch(key: str, *, flag_value: str = "yes", sets_key: str = "") -> Option[bool]:
    return Option(
        key, OptionScope.SYNC, parse_switch, "Help.", flag_value=flag_value, sets_key=sets_key
    )


def test_an_option_without_a_placeholder_is_a_switch() -> None:
    assert switch("dry_run").is_switch
    assert not Option("window", OptionScope.SYNC, float, "Help.", metavar="SECONDS").is_switch


def test_the_long_flag_has_dashes_for_the_underscores_of_the_key() -> None:
    assert switch("dry_run").flags == ("--dry-run",)


def test_the_short_flag_stands_first() -> None:
    option = Option("window", OptionScope.SYNC, float, "Help.", metavar="SECONDS", short_flag="-w")
    assert option.flags == ("-w", "--window")
    assert option.long_flag == "--window"


def test_the_flag_of_a_switch_that_turns_something_off_begins_with_no() -> None:
    assert switch("share_ssh", flag_value="no").flags == ("--no-share-ssh",)


def test_a_flag_that_sets_another_option_keeps_its_own_name() -> None:
    assert switch("foreground", flag_value="no", sets_key="daemon").flags == ("--foreground",)


def test_a_positional_option_has_no_flags_and_is_called_by_its_key() -> None:
    option = Option("paths", OptionScope.SYNC, str, "Help.", metavar="PATH", is_positional=True)
    assert option.flags == ()
    assert option.long_flag == "paths"


@pytest.mark.parametrize(("number", "text"), [(60.0, "60"), (0.5, "0.5"), (86400.0, "86400")])
def test_a_number_is_written_without_needless_digits(number: float, text: str) -> None:
    assert format_number(number) == text
