"""A look at all files for their hard links, in a thread of its own."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from support.held_up import held_up
from support.waiting import DEADLINE, wait_until

from pylsyncd.model.moments import Moment
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock
from pylsyncd.watcher import hard_link_look
from pylsyncd.watcher.hard_link_look import HardLinkLook


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    (directory / "d").mkdir(parents=True)
    (directory / "one").touch()
    os.link(directory / "one", directory / "d/two")
    return directory


@pytest.fixture
def make_look(source: Path) -> Iterator[Callable[..., HardLinkLook]]:
    looks: list[HardLinkLook] = []

    def make(since: Moment, on_found: Callable[[], None] = lambda: None) -> HardLinkLook:
        look = HardLinkLook(os.fsencode(source), Rules(), since, on_found, pytest.fail)
        looks.append(look)
        look.start()
        return look

    yield make
    for look in looks:
        look.stop()
        look.join()


def test_a_look_finds_all_hard_links(make_look: Callable[..., HardLinkLook]) -> None:
    found = Event()
    look = make_look(clock.now(), found.set)
    assert found.wait(DEADLINE)
    assert look.has_ended
    assert look.found is not None
    assert list(look.found.paths_by_file.values()) == [{b"one", b"d/two"}]


def test_a_clock_set_back_hides_no_change_from_a_look(
    source: Path, make_look: Callable[..., HardLinkLook]
) -> None:
    present = clock.now()
    (source / "one").chmod(0o600)
    # As if it had been set back by an hour since.
    look = make_look(replace(present, wall=present.wall + 3600.0))
    look.join()
    assert look.found is not None
    assert look.found.changed_paths.keys() == {b"one", b"d/two"}


def test_a_look_at_a_missing_source_finds_nothing(
    source: Path, make_look: Callable[..., HardLinkLook]
) -> None:
    shutil.rmtree(source)
    look = make_look(clock.now(), lambda: pytest.fail("nothing is found"))
    wait_until(lambda: look.has_ended)
    assert look.found is None


def test_a_look_that_is_stopped_finds_nothing(
    source: Path, make_look: Callable[..., HardLinkLook]
) -> None:
    with held_up(source / "d") as held:
        look = make_look(clock.now())
        held.wait_until_opened()
        look.stop()
        assert look.is_alive()
        assert not look.has_ended
    look.join()
    assert look.has_ended
    assert look.found is None


@pytest.mark.parametrize("is_urgent", [False, True])
def test_a_look_makes_pauses_unless_a_caller_waits_for_it(
    source: Path, monkeypatch: pytest.MonkeyPatch, *, is_urgent: bool
) -> None:
    monkeypatch.setattr(hard_link_look, "_SLICE", 0.0)
    monkeypatch.setattr(hard_link_look, "_PAUSE", 1e5)
    look = HardLinkLook(os.fsencode(source), Rules(), clock.now(), lambda: None, pytest.fail)
    if is_urgent:
        look.hurry()
    look.start()
    look.join(30.0 if is_urgent else 0.1)
    assert look.has_ended is is_urgent
    look.stop()
    look.join()


def test_a_look_makes_no_pause_while_its_slice_lasts(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_link_look, "_SLICE", 1e5)
    monkeypatch.setattr(hard_link_look, "_PAUSE", 1e5)
    look = HardLinkLook(os.fsencode(source), Rules(), clock.now(), lambda: None, pytest.fail)
    look.start()
    look.join(30.0)
    assert look.has_ended
