"""The settings of a sync come from its section, its destinations' sections and the defaults."""

from pathlib import Path

import pytest
from support.configuration import (
    destinations_by_name,
    errors_of,
    load,
    settings_of,
    sync_section,
)

from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.rsync.command import DeletionTime

pytestmark = pytest.mark.usefixtures("place")


def test_the_most_specific_section_wins() -> None:
    settings = settings_of(
        "[pylsyncd]\nnice = 1\n[destination srv]\nnice = 4\n[destination two/srv]\nnice = 5\n"
        + sync_section("one", "a/./", "srv:", "srv2:")
        + sync_section("two", "b/./", "srv:/x", "srv2:/x", more="nice = 3")
    )
    nice = {name: each.rsync.nice for name, each in destinations_by_name(settings).items()}
    assert nice == {"one/srv": 4, "one/srv2": 1, "two/srv": 5, "two/srv2": 3}


def test_the_window_of_a_sync_is_the_shortest_of_its_destinations() -> None:
    settings = settings_of(
        "[destination srv]\nwindow = 4\n"
        + sync_section("one", "a/./", "srv:", "srv2:", more="window = 9")
    )
    assert settings.syncs[0].window == 4
    assert [each.window for each in settings.syncs[0].destinations] == [4, 9]
    assert load("-w", "3", "a/./", "srv:").settings.syncs[0].window == 3


@pytest.mark.parametrize(
    ("lines", "budget", "interval"),
    [
        ("", 0.005, 0.0),
        ("scan_budget = 2", 0.02, 0.0),
        ("scan_interval = 3600", 0.0, 3600.0),
        ("scan_interval = 0", 0.0, 0.0),
        ("scan_interval =", 0.005, 0.0),
        ("scan_interval = 3600\nscan_budget = 2", 0.02, 3600.0),
    ],
)
def test_an_interval_for_scans_takes_the_place_of_the_default_budget(
    lines: str, budget: float, interval: float
) -> None:
    (only,) = settings_of(sync_section("one", "a/./", "srv:", more=lines)).syncs
    assert (only.scan_budget, only.scan_interval) == (budget, interval)


@pytest.mark.parametrize(
    ("line", "delete", "only", "is_initial"),
    [
        ("", True, None, False),
        ("delete = no", False, None, False),
        ("delete = startup", True, DeletionTime.STARTUP, True),
        ("delete = running", True, DeletionTime.RUNNING, False),
    ],
)
def test_what_only_a_start_deletes_needs_a_full_sync_at_each_start(
    line: str, only: DeletionTime | None, *, delete: bool, is_initial: bool
) -> None:
    (sync,) = settings_of(sync_section("one", "a/./", "srv:", more=line)).syncs
    (rsync,) = (each.rsync for each in sync.destinations)
    assert (sync.delete, sync.delete_only, sync.initial_sync) == (delete, only, is_initial)
    assert (rsync.delete, rsync.delete_only) == (delete, only)


def test_with_deletions_at_a_time_no_option_may_switch_them_on() -> None:
    more = "delete = running\nrsync_option = --delete-after"
    assert "switches deletion on" in str(errors_of(sync_section("one", "a/./", "srv:", more=more)))


def test_an_empty_value_unsets_an_option_of_a_less_specific_section() -> None:
    settings = settings_of(
        "[pylsyncd]\nmax_delete = 5\nexclude = *.o\nrsync_option = -z\nhook_batch = true\n"
        + sync_section(
            "one", "a/./", "srv:", more="max_delete =\nexclude =\nrsync_option =\nhook_batch ="
        )
    )
    (only,) = settings.syncs
    rsync = only.destinations[0].rsync
    assert (rsync.max_delete, rsync.extra_options, only.hooks.batch) == (None, (), ())
    assert not only.rules


def test_rules_apply_in_the_order_of_their_keys_and_a_more_specific_section_replaces_them() -> None:
    settings = settings_of(
        "[pylsyncd]\nexclude = *.o\n"
        + sync_section(
            "one", "a/./", "srv:", more="include = /keep\nfilter =\n  - *.a\n  + x\nexclude = *"
        )
        + sync_section("two", "b/./", "srv:/x")
    )
    one, two = ([each.pattern for each in sync.rules.ordered] for sync in settings.syncs)
    assert one == [b"/keep", b"*.a", b"x", b"*"]
    assert two == [b"*.o"]


def test_rules_on_the_command_line_apply_in_their_order() -> None:
    Path("patterns").write_text("*.b\n")
    settings = load(
        "-x", "*.a", "--include", "-keep", "--exclude-from", "patterns", "--filter", "- c",
        "-x", "-d", "a/./", "srv:",
    ).settings  # fmt: skip
    texts = [pattern.pattern for pattern in settings.syncs[0].rules.ordered]
    assert texts == [b"*.a", b"-keep", b"*.b", b"c", b"-d"]


def test_a_rule_knows_its_origin() -> None:
    settings = settings_of(sync_section("one", "a/./", "srv:", more="exclude =\n  *.a\n  *.b"))
    origins = [pattern.origin for pattern in settings.syncs[0].rules.ordered]
    assert origins == ["p.conf:6: [sync one] exclude", "p.conf:7: [sync one] exclude"]
    (pattern,) = load("-x", "*.a", "a/./", "srv:").settings.syncs[0].rules.ordered
    assert pattern.origin == "--exclude=*.a"


def test_a_destination_of_a_file_is_named_after_its_sync_and_its_name() -> None:
    settings = settings_of(
        sync_section("one", "a/./", "srv:/x", "srv:/y") + sync_section("two", "b/./", "srv:/z")
    )
    assert list(destinations_by_name(settings)) == ["one/srv", "one/srv:/y", "two/srv"]
    assert list(destinations_by_name(load("a/./", "srv:/x").settings)) == ["srv"]


def test_an_error_in_the_remote_shell_of_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RSYNC_RSH", "no-such-shell")
    with pytest.raises(ConfigurationError, match=r"^RSYNC_RSH: .* no-such-shell is not installed"):
        load("a/./", "srv:")


def test_a_password_file_that_others_can_read_is_refused(place: Path) -> None:
    content = sync_section("one", "a/./", "srv::m", more="password_file = secret")
    (error,) = errors_of(content)
    assert error.endswith("/secret: No such file or directory.")
    assert "Cannot read " in error
    (place / "secret").touch()
    (place / "secret").chmod(0o604)
    (error,) = errors_of(content)
    assert "is accessible to other users: run chmod o= " in error
    (place / "secret").chmod(0o640)
    assert settings_of(content)


def test_each_destination_may_have_files_of_its_own_that_go_last() -> None:
    settings = settings_of(
        "[destination srv]\nlast =\n  /index\n  current\n"
        + sync_section("one", "a/./", "srv:", "srv2:", more="last = *.html")
    )
    named = destinations_by_name(settings)
    last = {
        name: [rule.pattern for rule in each.rsync.last.ordered] for name, each in named.items()
    }
    assert last == {"one/srv": [b"/index", b"current"], "one/srv2": [b"*.html"]}


@pytest.mark.parametrize("text", ["+ /index", "!", ""])
def test_what_goes_last_is_a_pattern(text: str) -> None:
    with pytest.raises(ConfigurationError, match="pattern"):
        load("--last", text, "a/./", "srv:")
