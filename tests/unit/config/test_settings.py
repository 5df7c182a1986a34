"""The settings that others build directly have the defaults of the configuration."""

from pylsyncd.config.settings import (
    DEFAULT_WINDOW,
    DestinationSettings,
    HookSettings,
    SyncSettings,
)
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination, Source
from pylsyncd.rsync.command import RsyncOptions


def test_hook_settings_are_true_if_there_is_a_command() -> None:
    assert not HookSettings()
    assert not HookSettings(timeout=5.0)
    for event in ("batch", "error", "recovery", "held"):
        assert HookSettings(**{event: ("true",)})  # type: ignore[arg-type]


def test_destination_settings_are_named_after_their_destination() -> None:
    destination = Destination("www/srv", "srv:", Transport.SHELL, "srv", b"srv:./")
    assert DestinationSettings(destination, RsyncOptions("rsync", (3, 2, 7))).name == "www/srv"


def test_a_sync_deletes_and_keeps_no_state_by_default() -> None:
    sync = SyncSettings(Source(b"/src", b"", is_full_path=False), ())
    assert sync.delete
    assert sync.window == DEFAULT_WINDOW
    assert sync.state_dir is None
