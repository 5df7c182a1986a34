"""A source with an excluded directory, a good destination, and one that is hostile."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hostile.scripted_rsync import Act, ScriptedRsync
from support.daemon import Pylsyncd
from support.trees import differences
from support.waiting import wait_until

from pylsyncd.control.client import send_request
from pylsyncd.control.protocol import ControlRequest

STATUS_TIMEOUT = 20.0
SECONDS = 45.0


class Targets:
    """A source with an excluded directory, a good destination, and one that plays scripts."""

    def __init__(self, top: Path) -> None:
        self.top = top / "parent"
        self.source, self.good, self.hostile = (
            self.top / name for name in ("source", "good", "hostile")
        )
        self.socket = top / "control.sock"
        (self.source / "secret/deep").mkdir(parents=True)
        for name in ("a", "d/b", "d/e/c", "secret/key", "secret/deep/key", "quota.txt"):
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            (self.source / name).write_text(name)
        for name in ("...", "...abcdef", "rsync: [x", "Deletions stopped due to --max-delete"):
            (self.source / name).write_text(name)
        (self.source / ".secret.abcdef").symlink_to("nowhere")
        for name in ("hostile/secret", "good/secret"):
            (self.top / name).mkdir(parents=True)
        (self.hostile / "secret/only-there").write_text("kept")
        (self.top / "outside").write_text("outside")
        self.rsync = ScriptedRsync(top, "/hostile/")

    @contextmanager
    def daemon(self, argument: str = "", options: Sequence[str] = ()) -> Iterator[Pylsyncd]:
        """Run a daemon for both; ``argument`` names the hostile destination, else a directory."""
        daemon = Pylsyncd(
            *("-v", "-i", "-w", "0.1", "--rsync", self.rsync.program, "-x", "/secret/", *options),
            *("--retry-first", "0.1", "--retry-longest", "0.5", "--control", self.socket),
            *(f"{self.source}/./", f"{self.good}/", argument or f"{self.hostile}/"),
            names=("good",),
        )
        with daemon:
            daemon.wait_ready()
            yield daemon

    def change(self) -> None:
        """Change files with honest and with misleading names."""
        for name in ("a", "d/b", "d/new", "quota.txt", "rsync: [x", "...", "...abcdef"):
            (self.source / name).write_text("changed")
        (self.source / "d/e/c").unlink()
        (self.source / ".secret.abcdef").unlink()
        (self.source / ".secret.abcdef").symlink_to("elsewhere")

    def wait_for_equal(self, copy: Path, daemon: Pylsyncd) -> None:
        """Wait until a copy is equal; all the time the daemon answers."""
        wait_until(
            lambda: self.status_is_answered() and not self.differences(copy), SECONDS,
            message=lambda: f"{self.differences(copy)}\n{daemon.log_tail}",
        )  # fmt: skip

    def status_is_answered(self) -> bool:
        """Return True, or raise when the daemon does not answer in time."""
        send_request(str(self.socket), ControlRequest("status"), STATUS_TIMEOUT)
        return True

    def differences(self, copy: Path) -> list[str]:
        """Return what differs, but for the excluded directory."""
        found = differences(os.fsencode(self.source), os.fsencode(copy))
        return [line for line in found if not line.startswith(("b'secret'", "b'secret/"))]

    def localized(self, act: Act) -> Act:
        """Return an act whose messages name this source and this destination."""
        named = act.stderr.replace("{dst}", str(self.hostile)).replace("{src}", str(self.source))
        return replace(act, stderr=named)

    def check_lists(self) -> None:
        """Assert that no path outside the source, or behind the rule, was ever named."""
        for run in self.rsync.runs():
            for entry in run.entries:
                names = entry.removeprefix(b"./").rstrip(b"/").split(b"/")
                assert b".." not in names, run
                assert names[0] != b"secret", run

    def check_nothing_lost(self) -> None:
        """Assert that nothing was deleted that the rules keep, or that lies outside."""
        assert (self.hostile / "secret/only-there").read_text() == "kept"
        assert not (self.hostile / "secret/key").exists()
        assert (self.top / "outside").read_text() == "outside"
