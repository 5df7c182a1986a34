"""A configuration of more syncs than a user has inotify instances."""

import os
from contextlib import suppress
from pathlib import Path

from support.ctl import Pylsyncctl
from support.daemon import Pylsyncd
from support.reloading import RELOADED_MESSAGE
from support.waiting import wait_until

COUNT = 200
REPLACED_COUNT = 20

# Seconds: on two processors that do nothing else, the whole test takes about fifteen.
SECONDS = 150.0

CONFIGURATION = """\
[pylsyncd]
window = 0.1
"""

SYNC = """
[sync s{number}]
source = {top}/sources/{number}/./
destinations = {top}/copies/{number}/
"""


class ManySyncs(Pylsyncctl):
    """A configuration file with syncs by number."""

    def __init__(self, top: Path) -> None:
        super().__init__(top / "run")
        self.top = top
        self.file = top / "pylsyncd.conf"
        self.numbers = range(0)

    def set_numbers(self, numbers: range) -> None:
        """Have the file describe these syncs."""
        self.numbers = numbers
        text = CONFIGURATION
        for number in numbers:
            (self.top / f"sources/{number}/directory").mkdir(parents=True, exist_ok=True)
            (self.top / f"copies/{number}").mkdir(parents=True, exist_ok=True)
            text += SYNC.format(number=number, top=self.top)
        self.file.write_text(text)

    def write(self, name: str, numbers: range) -> None:
        for number in numbers:
            (self.top / f"sources/{number}/directory/{name}").write_text(name)

    def lacking(self, name: str) -> list[int]:
        """Return the numbers of the syncs whose copies lack a file."""
        return [
            number
            for number in self.numbers
            if not (self.top / f"copies/{number}/directory/{name}").exists()
        ]


def count_watching(daemon: Pylsyncd) -> int:
    return daemon.log.count(" watching ")


def count_instances(daemon: Pylsyncd) -> int:
    """Return the number of inotify instances of a daemon."""
    directory = f"/proc/{daemon.pid}/fd"
    count = 0
    for name in os.listdir(directory):
        # It may be closed meanwhile.
        with suppress(FileNotFoundError):
            count += os.readlink(f"{directory}/{name}") == "anon_inode:inotify"
    return count


def test_two_hundred_syncs_start_copy_reload_and_stop(tmp_path: Path) -> None:
    many = ManySyncs(tmp_path)
    many.set_numbers(range(COUNT))
    with Pylsyncd(
        "-c", many.file, extra_environment={"RUNTIME_DIRECTORY": str(many.directory)}
    ) as daemon:
        wait_until(lambda: count_watching(daemon) == COUNT, SECONDS, lambda: daemon.log_tail)
        assert count_instances(daemon) <= 32
        many.write("first", many.numbers)
        wait_until(lambda: not many.lacking("first"), SECONDS, lambda: f"{many.lacking('first')}")
        answer = many.run("status")
        assert answer.returncode == 0, answer
        assert answer.stdout.count("/sources/") == COUNT, answer
        removed = range(REPLACED_COUNT)
        many.set_numbers(range(REPLACED_COUNT, COUNT + REPLACED_COUNT))
        mark = daemon.log_length()
        daemon.reload()
        daemon.wait_for(RELOADED_MESSAGE, SECONDS, after=mark)
        wanted = COUNT + REPLACED_COUNT
        wait_until(lambda: count_watching(daemon) == wanted, SECONDS, lambda: daemon.log_tail)
        many.write("second", range(COUNT + REPLACED_COUNT))
        wait_until(lambda: not many.lacking("second"), SECONDS, lambda: f"{many.lacking('second')}")
        many.numbers = removed
        assert many.lacking("second") == list(removed)
        daemon.stop(SECONDS)
