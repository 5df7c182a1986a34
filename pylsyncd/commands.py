"""Builds the rsync commands. Pure; the facts behind each option are measured ones."""

from dataclasses import dataclass, field, replace

from pylsyncd.endpoints import Destination
from pylsyncd.excludes import Rules
from pylsyncd.notation import Transport

Version = tuple[int, int, int]

OLDEST_RSYNC: Version = (3, 2, 3)

# Arguments with blanks or quotes reach a remote shell as they are from this version on.
_QUOTES_ARGUMENTS: Version = (3, 2, 4)

# Seconds without a byte from the peer after which rsync gives up (exit 30), and seconds for
# connecting (exit 35, or 255 from ssh).
_SILENCE = 600
_CONNECT = 30

# No questions, since nobody is there to answer; a peer that is gone is noticed within a minute.
SSH = (
    f"ssh -o BatchMode=yes -o ConnectTimeout={_CONNECT} "
    "-o ServerAliveInterval=15 -o ServerAliveCountMax=4"
)

# rsync refuses to run (exit 1) when these stand before any other destination than a daemon.
_FOR_DAEMONS = ("--password-file=", "--contimeout=")

# One line for every path that rsync acts on: what, then the name, with odd bytes escaped.
_ITEMS = b"--out-format=%i %n%L"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a destination's rsync understands, as far as it has been seen."""

    missing_args: bool = True
    """It deletes listed paths that are missing (``--delete-missing-args``, not in 3.4.3)."""
    mkpath: bool = True
    """It creates missing directories above the destination (``--mkpath``, from 3.2.3 on)."""


@dataclass(frozen=True, slots=True)
class Rsync:
    """The program and the options that all runs share."""

    program: str
    version: Version
    rsh: str = SSH
    options: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    delete: bool = True
    dry_run: bool = False
    tells_items: bool = False
    """It prints what it does to each path."""

    def full(self, source: bytes, destination: Destination, abilities: Abilities) -> list[bytes]:
        """Return the command that offers the whole tree."""
        command = self._start(destination, b"-rlptgoD", abilities, mkpath=True)
        command += [b"--delete"] if self.delete else [b"--force"]
        return self._end(command, source, destination)

    def listed(
        self, source: bytes, destination: Destination, abilities: Abilities, *, mkpath: bool
    ) -> list[bytes]:
        """Return the command that offers the paths of a list, read from standard input."""
        command = self._start(destination, b"-lptgoD", abilities, mkpath=mkpath)
        # Not -r, which would recurse into every listed directory.
        command += [b"--dirs", b"--from0", b"--files-from=-"]
        if not self.delete:
            command += [b"--force", b"--ignore-missing-args"]
        elif abilities.missing_args:
            # Alone, either of the two leaves a missing directory as it is, without a word.
            command += [b"--delete", b"--delete-missing-args"]
        else:
            command += [b"--delete", b"--ignore-missing-args"]
        return self._end(command, source, destination)

    def probe(self, source: bytes, destination: Destination, abilities: Abilities) -> list[bytes]:
        """Return the command that tries a list and changes nothing."""
        trial = replace(self, dry_run=True)
        return trial.listed(source, destination, abilities, mkpath=True)

    def _start(
        self, destination: Destination, archive: bytes, abilities: Abilities, *, mkpath: bool
    ) -> list[bytes]:
        command = [self.program.encode(errors="surrogateescape"), archive]
        command += [b"--info=stats2", b"--no-h"]
        if self.tells_items:
            command.append(_ITEMS)
        command += [_compare_nanoseconds(destination.transport), b"--timeout=%d" % _SILENCE]
        if self.dry_run:
            command.append(b"--dry-run")
        if mkpath and abilities.mkpath:
            command.append(b"--mkpath")
        return command

    def _end(self, command: list[bytes], source: bytes, destination: Destination) -> list[bytes]:
        command += self.rules.arguments()
        command += self._transport_options(destination)
        command += [
            option.encode(errors="surrogateescape")
            for option in self.options
            if destination.transport is Transport.DAEMON or not option.startswith(_FOR_DAEMONS)
        ]
        return [*command, b"--", source.rstrip(b"/") + b"/", destination.target]

    def _transport_options(self, destination: Destination) -> list[bytes]:
        if destination.transport is Transport.DAEMON:
            # Without TCP_NODELAY, the small packets of a list wait 40 ms for each other.
            return [b"--sockopts=TCP_NODELAY", b"--contimeout=%d" % _CONNECT]
        if destination.transport is Transport.LOCAL:
            return []
        options = [b"--rsh=" + self.rsh.encode(errors="surrogateescape")]
        if self.version < _QUOTES_ARGUMENTS or any(c in destination.target for c in b"\n`"):
            # rsync then sends its arguments past the remote shell.
            options.append(b"-s")
        return options


def _compare_nanoseconds(transport: Transport) -> bytes:
    """Return the option without which a second change within a second would not be seen.

    Sent verbatim to a remote side, since older ones do not take the short form that rsync makes
    of it; but not locally, where any -M breaks the protocol from a list of 1,000 entries on.
    """
    return b"--modify-window=-1" if transport is Transport.LOCAL else b"-M--modify-window=-1"
