"""The table of the options of syncs and destinations."""

import pytest

from pylsyncd.config import settings, sync_options
from pylsyncd.config.option import Option, OptionScope
from pylsyncd.rsync.command import DEFAULT_TIMEOUT
from pylsyncd.rsync.retry_policy import RetryPolicy

TABLE = (
    *sync_options.SELECTION_OPTIONS,
    *sync_options.TIMING_OPTIONS,
    *sync_options.RSYNC_OPTIONS,
    *sync_options.RETRY_OPTIONS,
    *sync_options.HOOK_OPTIONS,
)


def test_options_of_syncs_can_all_be_set_in_the_file() -> None:
    in_file = [option for option in TABLE if not option.sets_key]
    assert {option.scope for option in in_file} == {OptionScope.SYNC, OptionScope.DESTINATION}


def test_only_the_source_and_the_destinations_are_positional() -> None:
    positional = [option for option in TABLE if not option.flags]
    assert positional == [sync_options.SOURCE, sync_options.DESTINATIONS]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (sync_options.WINDOW, settings.DEFAULT_WINDOW),
        (sync_options.MAX_CHANGES, settings.DEFAULT_MAX_CHANGES),
        (sync_options.POLL_INTERVAL, settings.DEFAULT_POLL_INTERVAL),
        (sync_options.SCAN_BUDGET, settings.DEFAULT_SCAN_BUDGET),
        (sync_options.HOOK_TIMEOUT, settings.DEFAULT_HOOK_TIMEOUT),
        (sync_options.TIMEOUT, DEFAULT_TIMEOUT),
        (sync_options.RETRY_FIRST, RetryPolicy().first_pause),
        (sync_options.RETRY_LONGEST, RetryPolicy().max_pause),
        (sync_options.RETRY_HELD, RetryPolicy().held_pause),
    ],
    ids=lambda value: value.key if isinstance(value, Option) else "",
)
def test_a_default_in_the_table_is_the_default_of_the_settings(
    option: Option[float], expected: float
) -> None:
    assert option.convert(option.default) == expected
