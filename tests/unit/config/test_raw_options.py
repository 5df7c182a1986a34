"""The most specific layer that sets an option wins, and all errors are collected."""

import pytest

from pylsyncd.config import process_options, sync_options
from pylsyncd.config.raw_options import (
    ConfigurationError,
    ErrorCollector,
    Layer,
    OptionReader,
    Origin,
    RawConfiguration,
    RawOption,
    Section,
    destination_label,
)


def window(*texts: str, origin: str = "") -> Layer:
    return (RawOption(sync_options.WINDOW, texts, Origin(origin)),)


def test_errors_are_raised_together_in_the_order_of_their_lines() -> None:
    errors = ErrorCollector()
    errors.raise_if_any()
    errors.add("Second.", Origin("f:12", 12))
    errors.add("First.", Origin("f:3", 3))
    errors.add("Second.", Origin("f:12", 12))
    with pytest.raises(ConfigurationError) as caught:
        errors.raise_if_any()
    assert caught.value.messages == ("f:3: First.", "f:12: Second.")
    assert str(caught.value) == "f:3: First.\nf:12: Second."


def test_the_first_layer_that_sets_an_option_wins() -> None:
    reader = OptionReader([(), window("5"), window("7")], ErrorCollector())
    assert reader.value(sync_options.WINDOW) == 5.0


def test_the_last_value_in_a_layer_wins() -> None:
    reader = OptionReader([window("5") + window("6")], ErrorCollector())
    assert reader.value(sync_options.WINDOW) == 6.0


def test_an_option_that_is_not_set_has_its_default() -> None:
    reader = OptionReader([], ErrorCollector())
    assert reader.value(sync_options.WINDOW) == 60.0
    assert reader.optional(sync_options.MAX_DELETE) is None


def test_an_error_is_collected_and_the_default_takes_the_place_of_the_value() -> None:
    errors = ErrorCollector()
    reader = OptionReader([window("soon", origin="--window")], errors)
    assert reader.value(sync_options.WINDOW) == 60.0
    with pytest.raises(ConfigurationError, match=r"^--window: Expected a time"):
        errors.raise_if_any()


def test_an_empty_value_unsets_an_option_without_a_default() -> None:
    errors = ErrorCollector()
    unset = (RawOption(sync_options.MAX_DELETE, ()),)
    reader = OptionReader([unset, (RawOption(sync_options.MAX_DELETE, ("5",)),)], errors)
    assert reader.optional(sync_options.MAX_DELETE) is None
    errors.raise_if_any()


def test_an_empty_value_is_an_error_if_the_option_has_a_default() -> None:
    errors = ErrorCollector()
    assert OptionReader([window()], errors).value(sync_options.WINDOW) == 60.0
    with pytest.raises(ConfigurationError, match="remove the option to use the default, 60"):
        errors.raise_if_any()


def test_a_check_gets_the_directory_and_the_converted_value() -> None:
    raw = RawOption(process_options.METRICS_PORT, ("80",), directory="/here")
    reader = OptionReader([(raw,)], ErrorCollector())
    pair = reader.checked(process_options.METRICS_PORT, lambda directory, port: (directory, port))
    assert pair == ("/here", 80)


def test_values_keep_the_order_of_several_options() -> None:
    layer = (
        RawOption(sync_options.INCLUDE, ("a",)),
        RawOption(sync_options.EXCLUDE, ("b",)),
        RawOption(sync_options.INCLUDE, ("c",)),
    )
    reader = OptionReader([layer], ErrorCollector())
    found = reader.values(
        sync_options.EXCLUDE,
        sync_options.INCLUDE,
        convert=lambda raw, text: f"{raw.option.key} {text}",
    )
    assert found == ["include a", "exclude b", "include c"]


def test_the_layers_of_a_destination_begin_with_its_qualified_section() -> None:
    sync = Section("www", window("1"))
    raw = RawConfiguration(
        window("4"),
        (sync,),
        (Section("srv", window("3")), Section("www/srv", window("2")), Section("x", window("9"))),
        window("0"),
    )
    layers = raw.destination_layers(sync, "srv")
    assert [layer[0].texts for layer in layers] == [("2",), ("3",), ("1",), ("4",)]
    assert [layer[0].texts for layer in raw.process_layers] == [("0",), ("4",)]


def test_a_section_that_matches_no_destination_is_unknown() -> None:
    sections = tuple(Section(name, ()) for name in ("srv", "www/srv", "www", "b/srv"))
    raw = RawConfiguration((), (), sections)
    unknown = raw.unknown_destinations([("www", "srv")])
    assert [section.name for section in unknown] == ["www", "b/srv"]


def test_a_label_of_a_destination_contains_the_name_of_the_sync() -> None:
    assert destination_label("www", "srv") == "www/srv"
    assert destination_label("", "srv") == "srv"
