"""A wrapper around rsync that can be told to fail."""

import itertools
import shlex
import shutil
from pathlib import Path

# mv is atomic: of two runs at the same time only one takes a fault.
SCRIPT = """#!/bin/sh
case " $* " in *" --version "*|*" --list-only "*) exec {rsync} "$@";; esac
for fault in {faults}/*; do
    mv "$fault" {taken}/$$ 2>/dev/null || continue
    . {taken}/$$
    break
done
[ -d {rules} ] || exec {rsync} "$@"
case " $* " in
*" --files-from=- "*) cat >{list};;
*) printf '%s\\0' EVERYTHING >{list};;
esac
tr '\\0' '\\t' <{list} | sed 's#^\\./##; s#\\t\\./#\\t#g' >>{runs}
echo >>{runs}
for rule in {rules}/*.sh; do
    entry="$(cat "${{rule%.sh}}.entry" 2>/dev/null)" || continue
    [ -z "$entry" ] || tr '\\0' '\\n' <{list} | sed 's#^\\./##' | grep -qxF "$entry" || continue
    . "$rule"
done
exec {rsync} "$@" <{list}
"""
LINE = "rsync: an unknown message of a usual length, which does not mention the name of a path"


class FaultyRsync:
    """A program for ``--rsync`` that applies each added fault to one run, the next one.

    A fault is a piece of shell script. Unless it exits, the real rsync runs after it. A rule is one
    that applies to all runs whose list has a certain entry.
    """

    def __init__(self, directory: Path, rsync: str | None = None) -> None:
        self.program = directory / "faulty-rsync"
        self.real_rsync = shlex.quote(rsync or shutil.which("rsync") or "rsync")
        self._faults, self._taken = directory / "faults", directory / "faults-taken"
        self._faults.mkdir()
        self._taken.mkdir()
        self._count = itertools.count()
        self._rules, self._runs = directory / "rules", directory / "runs"
        files = {
            "faults": self._faults, "taken": self._taken, "rules": self._rules, "runs": self._runs,
            "list": directory / "list",
        }  # fmt: skip
        paths = {name: shlex.quote(str(path)) for name, path in files.items()}
        self.program.write_text(SCRIPT.format(rsync=self.real_rsync, **paths))
        self.program.chmod(0o755)

    def add_fault(self, text: str) -> None:
        """Apply a shell script to the next run that has none."""
        name = f"{next(self._count):06}"
        hidden = self._faults / f".{name}"  # not matched by the script's * until it is complete
        hidden.write_text(f"{text}\n")
        hidden.rename(self._faults / name)

    def add_rule(self, entry: str, text: str) -> None:
        """Apply a shell script to each run whose list has an entry; an empty one stands for any.

        The list of a full sync is EVERYTHING. From the first rule on, runs are recorded.
        """
        self._rules.mkdir(exist_ok=True)
        name = f"{next(self._count):06}"
        (self._rules / f"{name}.entry").write_text(entry)
        (self._rules / f"{name}.sh").write_text(f"{text}\n")

    def discard_rules(self) -> None:
        """Let all later runs succeed; they are recorded, too."""
        for path in self._rules.iterdir():
            path.unlink()

    @property
    def runs(self) -> list[list[str]]:
        """The lists of the runs since the first rule."""
        lines = self._runs.read_text().splitlines() if self._runs.exists() else []
        return [line.rstrip("\t").split("\t") for line in lines]

    @property
    def pending_faults(self) -> int:
        """The number of faults that no run has taken yet."""
        return sum(not path.name.startswith(".") for path in self._faults.iterdir())

    def discard_faults(self) -> None:
        """Remove the faults that no run has taken yet."""
        for path in self._faults.iterdir():
            path.unlink(missing_ok=True)


def exit_with(code: int) -> str:
    """Return a fault: exit without any work."""
    return f"exit {code}"


def print_error_and_exit(message: str, code: int) -> str:
    """Return a fault: print a message on standard error and exit."""
    return f"printf '%s\\n' {shlex.quote(message)} >&2; exit {code}"


def work_and_exit_with(code: int) -> str:
    """Return a fault: do all the work, but exit with a failure."""
    return f'rsync "$@"; exit {code}'


def hang(*, ignore_sigterm: bool = False) -> str:
    """Return a fault: do nothing forever, optionally without reacting to SIGTERM."""
    # A shell whose child is killed would continue with the real rsync.
    return "trap '' TERM; while :; do sleep 600; done" if ignore_sigterm else "exec sleep 86400"


def flood_stderr(megabytes: int, code: int, *, in_lines: bool = True) -> str:
    """Return a fault: fill standard error with lines, or with one endless line, and exit."""
    source = f"yes {shlex.quote(LINE)}" if in_lines else "yes | tr -d '\\n'"
    return f"{source} | head -c {megabytes}000000 >&2; exit {code}"


def wait_for_file(path: Path) -> str:
    """Return a fault: start the real rsync only when a file exists."""
    return f"until [ -e {shlex.quote(str(path))} ]; do sleep 0.02; done"


def kill_itself(signal_name: str = "KILL") -> str:
    """Return a fault: die of a signal."""
    return f"kill -{signal_name} $$; sleep 86400"
