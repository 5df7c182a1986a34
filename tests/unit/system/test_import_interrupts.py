"""Ctrl-C during the imports of a command kills it without a traceback."""

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from support.daemon import environment

from pylsyncd.system.import_interrupts import silent_interrupts

INTERRUPTED = (
    "import os, signal, sys\n"
    "from pylsyncd.system.import_interrupts import silent_interrupts\n"
    "with silent_interrupts():\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "print(signal.getsignal(signal.SIGINT).__class__.__name__)\n"
)
NOT_INTERRUPTED = INTERRUPTED.replace("os.kill(os.getpid(), signal.SIGINT)", "pass")


@pytest.mark.parametrize(
    ("program", "ignored", "returncode", "output"),
    [
        pytest.param(INTERRUPTED, False, -signal.SIGINT, "", id="interrupted"),
        pytest.param(INTERRUPTED, True, 0, "Handlers\n", id="in the background"),
        pytest.param(NOT_INTERRUPTED, False, 0, "builtin_function_or_method\n", id="restored"),
    ],
)
def test_an_interrupt_kills_silently_unless_it_is_ignored(
    program: str, ignored: bool, returncode: int, output: str
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        run = subprocess.run(
            (sys.executable, "-c", program), env=environment(), capture_output=True, check=False
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (run.returncode, run.stdout.decode(), run.stderr) == (returncode, output, b"")


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_the_handler_is_restored(handler: Callable[..., object] | signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with silent_interrupts():
            is_ignored = handler is signal.SIG_IGN
            expected = signal.SIG_IGN if is_ignored else signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) is expected
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
