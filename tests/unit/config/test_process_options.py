"""The table of the options of the process."""

from pylsyncd.config import process_options
from pylsyncd.config.option import OptionScope
from pylsyncd.config.settings import DEFAULT_DIRECTORY, DEFAULT_UMASK

TABLE = (
    *process_options.RUN_OPTIONS,
    *process_options.DAEMON_OPTIONS,
    *process_options.LOG_OPTIONS,
    *process_options.CONTROL_OPTIONS,
)


def test_options_of_the_process_belong_to_its_section_or_to_the_command_line() -> None:
    scopes = {option.scope for option in TABLE}
    assert scopes == {OptionScope.PROCESS, OptionScope.COMMAND_LINE}


def test_run_modes_exist_on_the_command_line_only() -> None:
    assert {option.scope for option in process_options.RUN_OPTIONS} == {OptionScope.COMMAND_LINE}


def test_the_defaults_are_those_of_the_settings() -> None:
    umask, chdir = process_options.UMASK, process_options.CHDIR
    assert umask.convert(umask.default) == DEFAULT_UMASK
    assert chdir.default == DEFAULT_DIRECTORY


def test_flags_for_the_log_level_set_one_of_its_choices() -> None:
    level = process_options.LOG_LEVEL
    flags = [option for option in TABLE if option.sets_key == level.key]
    assert {option.flag_value for option in flags} == {"debug", "info", "warning"}
    assert {option.flag_value for option in flags} < set(level.choices)
    assert all(option.is_switch for option in flags)
