"""What the commands begin with, until all that they are made of has been imported."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def pylsyncd() -> int:
    """Run the command ``pylsyncd``; return its exit status."""
    with _interruptible():
        from pylsyncd import cli  # noqa: PLC0415  # what takes long

    return cli.main()


def pylsyncctl() -> int:
    """Run the command ``pylsyncctl``; return its exit status."""
    with _interruptible():
        from pylsyncd import ctl  # noqa: PLC0415  # likewise

    return ctl.main()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process without a word: there is nothing to clean up yet."""
    # Who starts it in the background may have it ignored.
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
