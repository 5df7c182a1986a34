"""A substitute for rsync that fails in chosen runs, and is the real one in all others."""

import itertools
import shlex
import shutil
from pathlib import Path

# mv is the claim: of two runs at once only one gets an order.
SCRIPT = """#!/bin/sh
case " $* " in *" --version "*) exec {rsync} "$@";; esac
for order in {orders}/*; do
    mv "$order" {taken}/$$ 2>/dev/null || continue
    . {taken}/$$
    break
done
exec {rsync} "$@"
"""
LINE = "rsync: a message that nobody has ever seen, and that says nothing of any path at all"


class FaultyRsync:
    """An executable for ``--rsync``; each order is for one run, the next that finds it.

    An order is a piece of shell. When it ends without an ``exit``, the real rsync is run.
    """

    def __init__(self, directory: Path, rsync: str | None = None) -> None:
        self.program = directory / "faulty-rsync"
        self.real_rsync = shlex.quote(rsync or shutil.which("rsync") or "rsync")
        self._orders, self._taken = directory / "orders", directory / "orders-taken"
        self._orders.mkdir()
        self._taken.mkdir()
        self._count = itertools.count()
        paths = {"orders": shlex.quote(str(self._orders)), "taken": shlex.quote(str(self._taken))}
        self.program.write_text(SCRIPT.format(rsync=self.real_rsync, **paths))
        self.program.chmod(0o755)

    def add_fault(self, text: str) -> None:
        """Have the next run do this."""
        name = f"{next(self._count):06}"
        hidden = self._orders / f".{name}"  # the script's * does not see it before it is complete
        hidden.write_text(f"{text}\n")
        hidden.rename(self._orders / name)

    @property
    def pending_faults(self) -> int:
        """How many orders no run has taken yet."""
        return sum(not path.name.startswith(".") for path in self._orders.iterdir())

    def discard_faults(self) -> None:
        """Take back the orders that no run has taken yet."""
        for path in self._orders.iterdir():
            path.unlink(missing_ok=True)


def exit_with(code: int) -> str:
    """Return the order to do nothing and exit."""
    return f"exit {code}"


def print_error_and_exit(message: str, code: int) -> str:
    """Return the order to say something on stderr and exit."""
    return f"printf '%s\\n' {shlex.quote(message)} >&2; exit {code}"


def work_and_exit_with(code: int) -> str:
    """Return the order to do all the work and then exit as if it had failed."""
    return f'rsync "$@"; exit {code}'


def hang(*, ignore_sigterm: bool = False) -> str:
    """Return the order to do nothing for ever; stubbornly is without an ear for TERM."""
    # A shell whose child is killed would go on to the real rsync.
    return "trap '' TERM; while :; do sleep 600; done" if ignore_sigterm else "exec sleep 86400"


def flood_stderr(megabytes: int, code: int, *, in_lines: bool = True) -> str:
    """Return the order to fill stderr, with lines or with one that never ends, and exit."""
    source = f"yes {shlex.quote(LINE)}" if in_lines else "yes | tr -d '\\n'"
    return f"{source} | head -c {megabytes}000000 >&2; exit {code}"


def wait_for_file(path: Path) -> str:
    """Return the order to wait for a file to exist, and then to be rsync."""
    return f"until [ -e {shlex.quote(str(path))} ]; do sleep 0.02; done"


def kill_itself(signal_name: str = "KILL") -> str:
    """Return the order to end itself by a signal."""
    return f"kill -{signal_name} $$; sleep 86400"
