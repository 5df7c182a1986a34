"""The README is true: each option that it names is one; and those that everybody needs are there.

All of them are in the manual pages, which are made from the same table as ``--help``.
"""

import re
import subprocess
import sys
from pathlib import Path

from pylsyncd.settings.options import OPTIONS

REPOSITORY = Path(__file__).resolve().parents[2]
BESIDE = {"--help", "--version"}


def test_help_has_all_options_and_no_others() -> None:
    usage = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    shown = set(re.findall(r"^  (?:-\w, )?(?:-\w \S+, )?(--[a-z-]+)", usage, re.MULTILINE))
    assert shown == {option.flag for option in OPTIONS if option.flags} | BESIDE


def test_the_readme_names_the_options_that_everybody_needs_and_none_that_there_is_not() -> None:
    readme = (REPOSITORY / "README").read_text()
    section = readme[readme.index("\nOptions\n") : readme.index("\nSignals\n")]
    documented = set(re.findall(r"^    (?:-\w, )?(--[a-z-]+)", section, re.MULTILINE))
    assert documented <= {option.flag for option in OPTIONS if option.flags} | BESIDE
    assert {"--window", "--exclude", "--rsync-option"} <= documented
