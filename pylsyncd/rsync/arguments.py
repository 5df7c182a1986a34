"""Builds groups of arguments for rsync commands. Pure; the facts about options were measured."""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from pylsyncd.model.destination_notation import Transport
from pylsyncd.rsync import temporary_names

CONNECT_TIMEOUT: Final = 30
"""Seconds for connecting, after which rsync gives up (exit 35, or 255 from ssh)."""

# A rate as rsync's --bwlimit takes it. The second letter decides if 1000 or 1024 is meant.
_RATE = re.compile(r"(\d{1,9}(?:\.\d*)?|\.\d+)(?:([bkmgtp])(ib|b)?)?(?:[-+]1)?", re.IGNORECASE)
_UNITS: Final = "bkmgtp"
_LOWEST_RATE: Final = 512

_NO_TIMES: Final = frozenset(["--no-times", "--no-t"])


def encode(text: str) -> bytes:
    """Return an argument as the system takes it."""
    return text.encode(errors="surrogateescape")


def priority_arguments(nice: int, ionice: str) -> list[bytes]:
    """Return the nice and ionice that start rsync; each execs the next, so the pid stays."""
    words = [b"nice", b"-n", b"%d" % nice] if nice else []
    if ionice:
        name, _, level = ionice.partition(":")
        words += [b"ionice", b"-c", b"3" if name == "idle" else b"2"]
        words += [b"-n", level.encode()] if level else []
    return words


def divided_rate(rate: str, count: int) -> str:
    """Return one of ``count`` equal parts of a rate for ``--bwlimit``; empty or 0 for no limit."""
    if not (found := _RATE.fullmatch(rate)) or count == 1:
        return rate
    number, unit, suffix = found.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    # Without a unit, it is KiB.
    total = float(number) * base ** _UNITS.index((unit or "k").lower())
    return f"{max(_LOWEST_RATE, int(total / count))}b" if total else rate


def divided_rate_option(option: str, count: int) -> str:
    """Return an option of rsync; if it is a limit of the rate, one for one of ``count`` runs."""
    name, separator, rate = option.partition("=")
    return f"{name}{separator}{divided_rate(rate, count)}" if name == "--bwlimit" else option


def daemon_options(password_file: str) -> list[bytes]:
    """Return the options for a run to an rsync daemon."""
    # Without TCP_NODELAY, the small packets of a list wait 40 ms for each other.
    options = [b"--sockopts=TCP_NODELAY", b"--contimeout=%d" % CONNECT_TIMEOUT]
    # The greeting of the daemon would be on the same output as rsync's own lines.
    options.append(b"--no-motd")
    if password_file:
        options.append(encode(f"--password-file={password_file}"))
    return options


def exclude_arguments(excluded: Iterable[bytes], in_flight: AbstractSet[bytes]) -> list[bytes]:
    """Return the options that exclude paths, and protect the copies of files in flight.

    The first match decides, so the rules come after them.
    """
    ordered = sorted(in_flight)
    protected = [temporary_names.temporary_pattern(path) for path in ordered]
    patterns = [each for path in (*excluded, *ordered) for each in _exact_patterns(path)]
    return [
        *(b"--filter=P " + pattern for pattern in protected),
        *(b"--exclude=" + pattern for pattern in patterns),
    ]


def _exact_patterns(path: bytes) -> tuple[bytes, bytes]:
    """Return the patterns that match exactly one path, and everything below it.

    Listed paths need the second: rsync compares the rules with the whole listed path only, not
    with the directories above it.
    """
    escaped = temporary_names.escape_wildcards(path)
    # rsync takes a backslash for an escape only in patterns that have a wildcard.
    itself = escaped if re.search(rb"[*?[]", path) else path
    return b"/" + itself, b"/" + escaped + b"/**"


def keeps_times(options: Iterable[str]) -> bool:
    """Return True if rsync gives each copy the time of its file, with further ``options``."""
    return _NO_TIMES.isdisjoint(options)


def counters_option(transport: Transport) -> bytes:
    """Return the option that makes rsync print how much it has done.

    A daemon of 3.2.3, 3.2.7 or 3.4.1 counts no deletions (3.5.0 does), but names them if asked to.
    """
    return b"--info=stats2,del" if transport is Transport.DAEMON else b"--info=stats2"


def modify_window_option(transport: Transport, window: int | None) -> bytes:
    """Return the option that says which times count as equal.

    Without -1, rsync misses a second change within one second. It is sent verbatim to a remote
    side, because older ones reject the short form that rsync makes of it; but not locally, where
    any -M breaks the protocol from a list of 1,000 entries on.
    """
    option = b"--modify-window=%d" % (-1 if window is None else window)
    return option if transport is Transport.LOCAL else b"-M" + option
