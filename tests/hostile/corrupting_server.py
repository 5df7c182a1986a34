"""The remote side of rsync that goes wrong after so many bytes; run by a remote shell's script.

``corrupting_server.py FILE COMMAND...``: ``FILE`` holds an `Attack` in JSON; without it the
command, which is the real ``rsync --server``, runs undisturbed.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time


def copy(source: int, target: int) -> None:
    """Copy until the end of the source, or until the target is closed."""
    with contextlib.suppress(OSError):
        while chunk := os.read(source, 1 << 16):
            os.write(target, chunk)
        os.close(target)


def flood(block: bytes, times: int) -> None:
    """Write a block again and again, until the reader has gone."""
    with contextlib.suppress(OSError):
        for _ in range(times):
            os.write(1, block)


def main() -> None:
    """Become the command, or go wrong."""
    path, *command = sys.argv[1:]
    try:
        with open(path) as file:
            attack = json.load(file)
    except FileNotFoundError:
        os.execvp(command[0], command)  # noqa: S606 - without a shell, as it was asked for
    sys.stderr.write(attack["banner"])
    sys.stderr.flush()
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    threading.Thread(target=copy, args=(0, server.stdin.fileno()), daemon=True).start()
    left = attack["after"]
    while left > 0 and (chunk := os.read(server.stdout.fileno(), min(left, 1 << 16))):
        os.write(1, chunk)
        left -= len(chunk)
    flood(attack["bytes"].encode("latin-1"), attack["times"])
    if attack["hangs"]:
        time.sleep(60)
    server.kill()
    server.wait()
    os._exit(attack["exit_status"])


main()
