"""The machine outlives a test, and its process is another one after a reboot."""

import pytest


@pytest.fixture(autouse=True)
def _check_for_leaks() -> None:
    """Take the place of the check of the other tests."""
