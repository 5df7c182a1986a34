"""A working directory with some sources in it."""

from pathlib import Path

import pytest


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a directory with the sources src, a, b and c."""
    for name in ("src", "a", "b", "c", "states"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/states")
    return tmp_path
