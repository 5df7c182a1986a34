"""The README is true: it names every option, and no option that there is not."""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_readme_has_all_options_and_no_others() -> None:
    usage = subprocess.run(
        [sys.executable, "-m", "pylsyncd", "--help"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    options = set(re.findall(r"^  (?:-\w, )?(?:-\w \S+, )?(--[a-z-]+)", usage, re.MULTILINE))
    readme = (REPOSITORY / "README").read_text()
    section = readme[readme.index("\nOptions\n") : readme.index("\nSignals\n")]
    documented = set(re.findall(r"^    (?:-\w, )?(--[a-z-]+)", section, re.MULTILINE))
    assert documented | {"--help"} == options | {"--help"}
    assert {"--window", "--exclude", "--rsync-option"} <= options
