"""What the tests of transfers share."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.worker_setup import WorkerSetup


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., WorkerSetup]]:
    """Return a function that makes a source and its copy with the given options."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            contextlib.closing(WorkerSetup(tmp_path, **options))
        )


@pytest.fixture
def place(make: Callable[..., WorkerSetup]) -> WorkerSetup:
    return make()
