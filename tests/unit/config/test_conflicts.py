"""Syncs of one process must not undo each other's work."""

import os
import re
from pathlib import Path

import pytest
from support.configuration import errors_of, settings_of, sync_section

from pylsyncd.config.conflicts import find_source_conflict

CONFLICTS = {
    "the same destination": (
        sync_section("one", "a/./", "d/") + sync_section("two", "b/./", "./d"),
        "The destination ./d is also a destination of the sync one",
    ),
    "the same remote destination": (
        sync_section("one", "a/./", "srv:/x") + sync_section("two", "b/./", "srv:/x/"),
        "The destination srv:/x/ is also a destination of the sync one",
    ),
    "one inside the other": (
        sync_section("one", "a/./", "d/") + sync_section("two", "b/./", "d/inner"),
        "The destination d/inner is in d/, where the sync one would delete it",
    ),
    "one inside the other at a daemon": (
        sync_section("two", "b/./", "srv::m/inner") + sync_section("one", "a/./", "rsync://srv/m"),
        "The destination srv::m/inner is in rsync://srv/m, where the sync one would delete it",
    ),
    "one inside the other that is hidden only": (
        sync_section("one", "a/./", "d/", more="filter = H /inner")
        + sync_section("two", "b/./", "d/inner"),
        "The destination d/inner is in d/, where the sync one would delete it",
    ),
    "a loop of two": (
        sync_section("one", "a/./", "b/") + sync_section("two", "b/./", "a/"),
        "Files that the sync one copies come back to its source by two, one,",
    ),
    "a loop of three, through directories above and below": (
        sync_section("one", "a/./", "b/below/")
        + sync_section("two", "b/./", "c/")
        + sync_section("three", "c/deep/./", "a/"),
        "Files that the sync one copies come back to its source by two, three, one,",
    ),
}


@pytest.mark.parametrize(("content", "message"), CONFLICTS.values(), ids=CONFLICTS)
def test_syncs_that_undo_each_other_are_refused(content: str, message: str, place: Path) -> None:
    (place / "c/deep").mkdir()
    errors = errors_of(content)
    assert len(errors) == 1
    assert re.match(r"p\.conf:[16]: \[sync \w+\]: " + re.escape(message), errors[0]), errors


COMPATIBLE = {
    "a name that begins like the other": sync_section("one", "a/./", "d/")
    + sync_section("two", "b/./", "d2/"),
    "a relay": sync_section("one", "a/./", "b/") + sync_section("two", "b/./", "srv:/x"),
    "neither deletes": "[pylsyncd]\ndelete = no\n"
    + sync_section("one", "a/./", "d/")
    + sync_section("two", "b/./", "d/"),
    "the outer one excludes the inner one": sync_section(
        "one", "a/./", "d/", more="exclude = /inner/"
    )
    + sync_section("two", "b/./", "d/inner/"),
    "the outer one excludes what is above the inner one": sync_section(
        "one", "a/./", "d/", more="filter = H /x\nexclude = /above"
    )
    + sync_section("two", "b/./", "d/above/inner/"),
    "the same source twice": sync_section("one", "a/./", "d/")
    + sync_section("two", "a/./", "e/", more="window=1"),
    "parts of the same source": sync_section("one", "a/./", "d/")
    + sync_section("two", "a/./", "srv:/x"),
}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("content", COMPATIBLE.values(), ids=COMPATIBLE)
def test_syncs_that_are_compatible_are_accepted(content: str) -> None:
    assert len(settings_of(content).syncs) == 2


SYNCS = sync_section("one", "a/./", "d/") + sync_section("two", "b/./", "c/")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("d", "it leads into its own destination d/, or above it"),
        ("d/below", "it leads into its own destination d/, or above it"),
        ("", "it leads into its own destination d/, or above it"),
        ("c", "Files that the sync one copies come back to its source by two, one, and would be"),
        ("elsewhere", ""),
    ],
)
def test_a_source_that_comes_later_must_not_lead_to_what_undoes_a_sync(
    place: Path, target: str, reason: str
) -> None:
    syncs = settings_of(SYNCS).syncs
    real_sources = [os.fsencode(place / target), os.fsencode(place / "d/relayed")]
    found = find_source_conflict(syncs[0], syncs, real_sources)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
