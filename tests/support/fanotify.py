"""Whether this machine permits fanotify."""

import os
from pathlib import Path

import pytest

from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.fanotify import Fanotify
from pylsyncd.watcher.marked_source import MarkedSource


def skip_without_fanotify(directory: Path) -> None:
    """Skip the test if fanotify does not work here, or not on a directory's file system."""
    try:
        group = Fanotify()
    except OSError as error:
        pytest.skip(f"fanotify is not permitted: {error.strerror}")
    try:
        MarkedSource(os.fsencode(directory), group, Rules())
    except OSError as error:
        pytest.skip(f"fanotify does not work on this file system: {error.strerror}")
    finally:
        group.close()


def skip_without_ignore_marks(group: Fanotify, directory: int) -> None:
    """Have the events of an open directory ignored; skip the test if the kernel is too old."""
    try:
        group.ignore_files_in(directory)
    except OSError as error:
        pytest.skip(f"the kernel ignores no directories: {error.strerror}")
