"""A row of the option table: its flags, kind and converter."""

import pytest

from pylsyncd.config.option import (
    OptionKind,
    OptionScope,
    format_number,
    list_option,
    switch_option,
    value_option,
)


def test_a_switch_has_a_flag_without_a_value() -> None:
    option = switch_option("dry_run", OptionScope.COMMAND_LINE, "Help.", short="-n")
    assert option.kind is OptionKind.SWITCH
    assert option.flags == ("-n", "--dry-run")
    assert option.long_flag == "--dry-run"
    assert option.convert("yes") is True


def test_the_flag_of_a_switch_that_turns_something_off_begins_with_no() -> None:
    option = switch_option("delete", OptionScope.SYNC, "Help.", flag_value="no")
    assert option.flags == ("--no-delete",)


def test_a_flag_that_sets_another_option_keeps_its_own_name() -> None:
    option = switch_option(
        "foreground", OptionScope.COMMAND_LINE, "Help.", flag_value="no", sets_key="daemon"
    )
    assert option.flags == ("--foreground",)


def test_an_option_with_one_value_converts_it() -> None:
    option = value_option("window", OptionScope.SYNC, "SECONDS", float, "Help.", short="-w")
    assert option.flags == ("-w", "--window")
    assert option.convert("2") == 2.0
    assert not option.is_list


def test_a_positional_option_has_no_flags_and_is_called_by_its_key() -> None:
    option = list_option("paths", OptionScope.SYNC, "PATH", "Help.", is_positional=True)
    assert option.flags == ()
    assert option.long_flag == "paths"
    assert option.is_list


@pytest.mark.parametrize(("number", "text"), [(60.0, "60"), (0.5, "0.5"), (86400.0, "86400")])
def test_a_number_is_written_without_needless_digits(number: float, text: str) -> None:
    assert format_number(number) == text
