"""What the tests of the terminal share."""

import pytest

from pylsyncd.terminal import log_handler, progress


@pytest.fixture(autouse=True)
def _patient_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a busy machine change nothing: a footer lasts a second, and the end takes two."""
    monkeypatch.setattr(log_handler, "_FOOTER_LIFETIME", 3600.0)
    monkeypatch.setattr(progress, "_STOP_TIMEOUT", 20.0)
