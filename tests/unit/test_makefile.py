"""The Makefile makes an environment, and makes one anew that is not whole."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

MAKE = shutil.which("make") or ""

pytestmark = pytest.mark.skipif(not MAKE, reason="make is not installed")

# Instead of Python: makes an environment of which its own copy is the Python.
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >>{top}/log
case "$*" in
"-m venv"*)
    for directory; do :; done
    rm -rf "$directory" && mkdir -p "$directory/bin"
    cp "$0" "$directory/bin/python"
    printf '#!/bin/sh\\n' >"$directory/bin/pip"
    chmod +x "$directory/bin/pip" ;;
esac
"""


class Checkout:
    """A directory with the Makefile, and a stand-in for Python."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self.environment = top / "env"
        for name in ("Makefile", "setup.py", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, top)
        (top / "python3").write_text(PYTHON.format(top=top))
        (top / "python3").chmod(0o755)

    def make(self) -> int:
        """Have the environment made; return how many were."""
        made = subprocess.run(
            [MAKE, "env/.run", "VENV=env", "PYTHON=./python3"],
            cwd=self._top, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        log = self._top / "log"
        count = log.read_text().count("python3 -m venv --clear env\n") if log.exists() else 0
        log.unlink(missing_ok=True)
        return count


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_an_environment_is_made_once(checkout: Checkout) -> None:
    assert checkout.make() == 1
    assert (checkout.environment / ".run").exists()
    assert checkout.make() == 0


def test_half_an_environment_is_made_anew(checkout: Checkout) -> None:
    # As "python -m venv" leaves it that has found no ensurepip.
    (checkout.environment / "bin").mkdir(parents=True)
    assert checkout.make() == 1
    assert checkout.make() == 0


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.make()
    (checkout.environment / "bin/python").unlink()
    (checkout.environment / "bin/python").symlink_to("/nonexistent/python3.9")
    assert checkout.make() == 1
    assert (checkout.environment / ".run").exists()
