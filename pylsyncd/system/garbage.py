"""Keeps the garbage collector away from what the imports of a command create.

That is no garbage, but there is much of it: to look for garbage there at the start, in the first
collections after it and at the exit takes a fifth of the CPU time of a command.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected_imports() -> Iterator[None]:
    """Collect no garbage during the imports, and later none of what is there after them.

    At the exit of the process, nothing at all is collected.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
        atexit.register(gc.freeze)
    finally:
        if was_enabled:
            gc.enable()


def tracked_objects() -> list[object]:
    """Return all objects that the collector knows, with those that are kept away from it."""
    gc.unfreeze()
    return gc.get_objects()
