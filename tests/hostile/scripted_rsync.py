"""A substitute for rsync that plays a script towards one destination, and records its lists."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

PROGRAM = """#!{python} -S
import json, os, subprocess, sys

record, rsync, marker = {record!r}, {rsync!r}, {marker!r}
words = sys.argv[1:]
if "--version" in words or not any(marker in word for word in words):
    os.execv(rsync, [rsync, *words])
listed = b"" if sys.stdin is None else sys.stdin.buffer.read()
number = 0
while True:
    try:
        descriptor = os.open(f"{{record}}/{{number:06}}.run", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        break
    except FileExistsError:
        number += 1
with os.fdopen(descriptor, "w") as file:
    json.dump({{"arguments": words, "listed": listed.decode("latin-1")}}, file)
acts = sorted(name for name in os.listdir(record) if name.endswith(".act"))
is_probe = ".pylsyncd-probe" in listed.decode("latin-1")
for name in acts:
    with open(f"{{record}}/{{name}}") as file:
        act = json.load(file)
    if is_probe and not act["answers_probes"]:
        continue
    if act["runs"] > 0:
        act["runs"] -= 1
        with open(f"{{record}}/.new", "w") as file:
            json.dump(act, file)
        os.rename(f"{{record}}/.new", f"{{record}}/{{name}}")
        if act["carries"]:
            subprocess.run([rsync, *words], input=listed)
        for stream, text in ((sys.stdout, act["stdout"]), (sys.stderr, act["stderr"])):
            block = (text.encode("latin-1") + b"\\n") if text else b""
            for _ in range(act["times"]):
                stream.buffer.write(block)
            stream.flush()
        if act["signal"]:
            os.kill(os.getpid(), act["signal"])
        sys.exit(act["exit_status"])
sys.exit(subprocess.run([rsync, *words], input=listed).returncode)
"""


@dataclass(frozen=True)
class Act:
    """What the substitute does in its next runs, before it is the real rsync again."""

    stderr: str = ""
    stdout: str = ""
    exit_status: int = 23
    runs: int = 3
    times: int = 1
    """How often the texts are written."""
    carries: bool = False
    """Whether the real rsync does the work first."""
    answers_probes: bool = False
    signal: int = 0


class RecordedRun(NamedTuple):
    """What one run towards the hostile destination was told."""

    arguments: list[str]
    entries: list[bytes]
    """The list on its standard input, without the zero bytes."""


class ScriptedRsync:
    """An executable for ``--rsync``: real but for destinations whose argument has the marker."""

    def __init__(self, directory: Path, marker: str) -> None:
        self.program = directory / "scripted-rsync"
        self._record = directory / "record"
        self._record.mkdir()
        text = PROGRAM.format(
            python=sys.executable, record=str(self._record), marker=marker,
            rsync=shutil.which("rsync"),
        )  # fmt: skip
        self.program.write_text(text)
        self.program.chmod(0o755)

    def play(self, acts: Sequence[Act]) -> None:
        """Play these, one after the other, from the next run on."""
        for number, act in enumerate(acts):
            hidden = self._record / ".script"
            hidden.write_text(json.dumps(asdict(act)))
            hidden.rename(self._record / f"{number:03}.act")

    @property
    def has_finished(self) -> bool:
        """Whether every act was played."""
        acts = [json.loads(path.read_text()) for path in self._record.glob("*.act")]
        return all(act["runs"] == 0 for act in acts)

    def runs(self) -> list[RecordedRun]:
        """Return all runs so far."""
        found = []
        for path in sorted(self._record.glob("*.run")):
            text = path.read_text()
            if text:  # Else it is being written.
                run = json.loads(text)
                entries = run["listed"].encode("latin-1").split(b"\0")[:-1]
                found.append(RecordedRun(run["arguments"], entries))
        return found
