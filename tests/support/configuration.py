"""Loads configurations from a command line, or from a file that a test writes."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pylsyncd.config.command_line_parser import parse_command_line
from pylsyncd.config.loader import Configuration, StartEnvironment, load_configuration
from pylsyncd.config.raw_options import ConfigurationError
from pylsyncd.config.settings import DestinationSettings, Settings, SyncSettings

FILE = "p.conf"


def load(*words: str) -> Configuration:
    """Load the configuration of a command line."""
    return load_configuration(parse_command_line(words), StartEnvironment.current())


def load_file(content: str | bytes, *words: str) -> Configuration:
    """Load a configuration file with this content; ``words`` follow on the command line."""
    Path(FILE).write_bytes(os.fsencode(content) if isinstance(content, str) else content)
    return load("-c", FILE, *words)


def settings_of(content: str | bytes, *words: str) -> Settings:
    """Return the settings in a configuration file with this content."""
    return load_file(content, *words).settings


def errors_of(content: str | bytes) -> list[str]:
    """Return the errors in a configuration file with this content."""
    with pytest.raises(ConfigurationError) as caught:
        load_file(content)
    assert str(caught.value) == "\n".join(caught.value.messages)
    return list(caught.value.messages)


def sync_section(name: str, source: str, *destinations: str, more: str = "") -> str:
    """Return the section of a sync, which ``more`` lines follow."""
    lines = "".join(f"  {destination}\n" for destination in destinations)
    return f"[sync {name}]\nsource = {source}\ndestinations =\n{lines}{more}\n"


def destinations_by_name(settings: Settings) -> dict[str, DestinationSettings]:
    """Return the destinations of all syncs by their names."""
    return {each.name: each for sync in settings.syncs for each in sync.destinations}


def settings_without_names(words: list[str]) -> Settings:
    """Return the settings of a command line without the names that only a file sets."""
    settings = load(*words).settings
    return replace(settings, syncs=tuple(map(_without_name, settings.syncs)))


def _without_name(sync: SyncSettings) -> SyncSettings:
    destinations = tuple(
        replace(each, destination=replace(each.destination, name="")) for each in sync.destinations
    )
    return replace(sync, name="", destinations=destinations)
