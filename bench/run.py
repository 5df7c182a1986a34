"""Measures pylsyncd beside inotifywait, lsyncd and bare rsync, and prints one table.

    python bench/run.py [--quick | --size SHARE] [--dir DIRECTORY] [--pylsyncd COMMAND] [NAME ...]

Each row prepares its trees, starts the program, waits until it is idle, takes its CPU, does the
work, waits until it is idle again, and takes its CPU again. A program that is not installed is
``-``; one that fails says so in its cell. The exit status tells whether the bench could run, not
whether goals were met. Run it on a machine that does nothing else.
"""

import argparse
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import replace
from types import FrameType

import case_database
import case_first_change
import case_initial_sync
import case_links
import case_many
import case_open_files
import case_outage
import case_overflow
import case_parallel
import case_renames
import case_restart
import case_scan
import case_single
import case_ssh
import case_storm
import case_totals
import case_watching
from measure import QUIET_SECONDS, stopwatch
from peers import Peers, pylsyncd_command, remove
from report import TableRow, table
from watch_limit import raised_limit

_MODULES = (
    case_watching,
    case_open_files,
    case_database,
    case_scan,
    case_single,
    case_ssh,
    case_totals,
    case_renames,
    case_restart,
    case_first_change,
    case_initial_sync,
    case_overflow,
    case_storm,
    case_outage,
    case_parallel,
    case_links,
    case_many,
)
CASES = {case.name: case for module in _MODULES for case in module.CASES}

METHOD = (
    f"Each row: prepare, start, wait until idle ({QUIET_SECONDS:g} s without CPU or child), take"
    " the CPU, do the work,\nwait until equal and idle, take the CPU. Programs are measured one"
    " after the other, bare rsync after every turn."
)


def main() -> int:
    """Run the rows asked for, and return the exit status."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if shutil.which("rsync") is None:
        print("bench: rsync is not installed, and nothing can be compared without it; install it")
        return 1
    command = pylsyncd_command(arguments.pylsyncd)
    if command is None:
        print("pylsyncd does not run (--version fails); its figures are missing below")
    scratch = tempfile.mkdtemp(prefix="pylsyncd-bench-", dir=arguments.dir)
    bytecode = tempfile.mkdtemp(prefix="pylsyncd-bench-bytecode-")
    lines: list[TableRow] = []
    try:
        with (
            stopwatch() as elapsed,
            raised_limit() if arguments.raise_limit else contextlib.nullcontext(),
        ):
            peers = Peers(scratch, bytecode, command)
            for name in arguments.names or CASES:
                lines += _run(name, peers, arguments.size)
                print(f"{elapsed():4.0f} s: {name} done", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; what was measured:")
    finally:
        remove(scratch)
        remove(bytecode)
    if command is None:
        lines = [replace(line, verdict="-") for line in lines]
    _print(arguments, lines)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows: " + ", ".join(CASES))
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--size", type=float, default=1.0, metavar="SHARE", help="0.5: half of all")
    size.add_argument(
        "--quick",
        dest="size",
        action="store_const",
        const=0.1,
        help="a tenth of everything: a smoke test",
    )
    parser.add_argument("--dir", default="/dev/shm", help="where the trees are (%(default)s)")  # noqa: S108
    parser.add_argument(
        "--raise-limit", action="store_true", help="raise max_user_watches meanwhile, as root"
    )
    parser.add_argument("--pylsyncd", metavar="COMMAND", help="how to run pylsyncd")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - CASES.keys()
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return arguments


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(name: str, peers: Peers, scale: float) -> list[TableRow]:
    try:
        return list(CASES[name].run(peers, scale))
    except Exception as error:  # noqa: BLE001 - one row that fails must not hide the others
        traceback.print_exc()
        return [TableRow(name, "failed", "-", "-", "-", "-", note=repr(error))]


def _print(arguments: argparse.Namespace, lines: list[TableRow]) -> None:
    print(
        f"\n{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, load"
        f" {os.getloadavg()[0]:.1f}, Python {platform.python_version()},"
        f" {_first_line('rsync', '--version')}; {_first_line('lsyncd', '-version')};"
        f" {_first_line('inotifywait', '--help')}; trees in {arguments.dir}"
        + (f"; SIZE {arguments.size:g} of the numbers below" if arguments.size != 1.0 else "")
        + "\n"
    )
    print(table(lines))
    print(f"\n{METHOD}\n")
    for name in dict.fromkeys(line.row for line in lines):
        print(f"{name}: {CASES[name].what}")


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return f"no {command[0]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = " ".join((done.stdout or done.stderr).split("\n", 1)[0].split())
    return text if command[0] in text else f"{command[0]} {text}"


if __name__ == "__main__":
    raise SystemExit(main())
