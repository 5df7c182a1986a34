"""Ctrl-C during the imports of a command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_interrupts() -> Iterator[None]:
    """Let SIGINT kill the process silently, unless it is ignored: there is nothing to clean up."""
    # A shell has background commands ignore it.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
