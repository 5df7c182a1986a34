"""What `make system-test` says, the parts of README that it walks through, and what it needs."""

import os
import re
import shutil
import textwrap
from pathlib import Path

import pytest
from system.machine import PROGRAMS

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README").read_text()
PACKAGE = os.environ.get("SYSTEM_TEST_PACKAGE", "")
CACHE = Path(os.environ.get("SYSTEM_TEST_CACHE", "/var/cache/pylsyncd-system-test"))
MIRROR = os.environ.get("SYSTEM_TEST_MIRROR", "http://deb.debian.org/debian")

_MISSING = [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/usr/bin") is None]

needs_system_test = [
    pytest.mark.skipif(not PACKAGE, reason="run it with make system-test"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can boot a container"),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {' '.join(_MISSING)}"),
]


def readme_section(title: str, underline: str = "-") -> str:
    """Return a section of README."""
    found = re.search(
        rf"^{title}\n{underline}+\n((?:.|\n)*?)(?=^\S.*\n-+\n|\Z)", README, re.MULTILINE
    )
    assert found, title
    return found[1]


def readme_block(text: str, first: str) -> str:
    """Return the indented block of a text that begins with some words."""
    found = re.search(rf"^    {re.escape(first)}.*\n(?:(?:    .*)?\n)*", text, re.MULTILINE)
    assert found, first
    return textwrap.dedent(found[0]).strip() + "\n"
