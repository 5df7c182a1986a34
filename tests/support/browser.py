"""A headless browser, driven over the pipe of its DevTools protocol."""

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.waiting import DEADLINE

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")

_OPTIONS = (
    "--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-sync", "--disable-extensions", "about:blank",
)  # fmt: skip

# The browser reads its commands from descriptor 3 and writes to 4. Both are moved out of the way
# first, since each may have the number of the other.
_LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A running browser with one page."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, messages: int) -> None:
        self._process = process
        self._commands = commands
        self._messages = messages
        self._numbers = itertools.count(1)
        self._received = b""
        self.events: list[Mapping[str, object]] = []
        """The notifications of the page so far."""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = str(attached["sessionId"])
        for domain in ("Page", "Log", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def open(self, url: str, width: int) -> None:
        """Load a page in a window of so many pixels, and wait for it."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not self.happened("Page.loadEventFired"):
            self._receive()

    def happened(self, method: str) -> list[Mapping[str, object]]:
        """Return the notifications of one kind since the page was opened."""
        return [event for event in self.events if event["method"] == method]

    def evaluate(self, expression: str) -> object:
        """Return the value that an expression has in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        result = answer["result"]
        assert isinstance(result, dict), answer
        assert "exceptionDetails" not in answer, answer
        return result.get("value")

    def call(self, method: str, **parameters: object) -> Mapping[str, object]:
        """Return the result of a command."""
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            pass
        assert "result" in answer, answer
        result: Mapping[str, object] = answer["result"]  # type: ignore[assignment]
        return result

    def _receive(self) -> Mapping[str, object]:
        deadline = time.monotonic() + DEADLINE
        while b"\0" not in self._received:
            assert time.monotonic() < deadline, "the browser does not answer"
            if select.select([self._messages], [], [], 1.0)[0]:
                chunk = os.read(self._messages, 1 << 16)
                assert chunk, f"the browser has ended: {self._process.poll()}"
                self._received += chunk
        line, _, self._received = self._received.partition(b"\0")
        message: Mapping[str, object] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def running_browser(directory: Path) -> Iterator[Browser]:
    """Run a browser whose files are in a directory; skip the test where none is installed."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    # A browser refuses to isolate its processes for root.
    options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    commands_read, commands_write = os.pipe()
    messages_read, messages_write = os.pipe()
    ends = commands_read, messages_write
    with (directory / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *map(str, ends), program,
             f"--user-data-dir={directory}/profile", *options],
            pass_fds=ends, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)},
        )  # fmt: skip
    for end in ends:
        os.close(end)
    try:
        yield Browser(process, commands_write, messages_read)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(commands_write)
        os.close(messages_read)
