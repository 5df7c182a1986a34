"""A source and its copy behind any transport, in which something is moved."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from pylsyncd.model.changes import EVERYTHING, Changeset, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.moves import Move, Moves
from pylsyncd.model.scoped_paths import NO_PATHS, Scope, ScopedPaths
from pylsyncd.rsync.command import RsyncCapabilities, RsyncOptions
from pylsyncd.rsync.outcomes import Verdict
from pylsyncd.rsync.version import rsync_version
from pylsyncd.rules.excludes import Rules
from pylsyncd.watcher.source_guard import SourceGuard
from pylsyncd.worker.destination_guard import DestinationGuard
from pylsyncd.worker.session import RsyncSession
from pylsyncd.worker.transfer import Transfer
from support.faults import FaultyRsync
from support.servers import RsyncDaemon
from support.trees import differences

SIZE = 700_000
"""The size of a file: two of them are worth a run to link them."""

KINDS = {"local": Transport.LOCAL, "ssh": Transport.SHELL, "rsyncd": Transport.DAEMON}


def start_server(kind: str, request: pytest.FixtureRequest) -> None:
    """Start the server of a kind of destination, unless it runs, or skip the test."""
    servers = {"ssh": "ssh_server", "rsyncd": "rsync_daemon"}
    if kind in servers:
        request.getfixturevalue(servers[kind])


def moved_changes(
    source: Path,
    pairs: Mapping[str, str],
    written: ScopedPaths = NO_PATHS,
    *,
    is_new_name: bool = True,
    more: Changeset | None = None,
) -> Changeset:
    """Return the changes of moves, from new to old paths, as events make them."""
    changes = MutableChangeset()
    by_new_path = {}
    for new, old in pairs.items():
        new_path, old_path = os.fsencode(new), os.fsencode(old)
        move = Move(old_path, (source / new).is_dir(), is_new_name)
        changes.add(old_path, Scope.ENTRY)
        changes.add_new_content(new_path, move.scope)
        by_new_path[new_path] = move
    if more is not None:
        changes.add_all(more)
        changes.new_content.add_all(more.new_content)
    return changes.with_moves(Moves(by_new_path, written))


class MovingSetup:
    """A source, its equal copy, and the rsyncs between them, which can be made to fail."""

    def __init__(
        self,
        top: Path,
        kind: str,
        request: pytest.FixtureRequest,
        extra_options: tuple[str, ...] = (),
        *,
        rules: Rules | None = None,
        max_delete: int | None = None,
        server: RsyncDaemon | None = None,
    ) -> None:
        """Create the directories; ``server`` takes the place of the one that all tests share."""
        self.source, self.copy = top / "source", top / "copy"
        self.source.mkdir()
        target, rsh, self.ignore = os.fsencode(self.copy) + b"/", "", frozenset[str]()
        if kind == "ssh":
            rsh = request.getfixturevalue("ssh_server").rsh
            target = b"localhost:" + target
        elif kind == "rsyncd":
            server = server or request.getfixturevalue("rsync_daemon")
            assert server is not None
            self.copy = server.modules["rsyncd"] / top.name
            target, self.ignore = server.url("rsyncd", f"{top.name}/").encode(), server.ignore
        self.copy.mkdir()
        self.faulty = FaultyRsync(top)
        # From the first rule on, runs are recorded.
        self.faulty.add_rule("no such name", "")
        self.destination = Destination("copy", "copy", KINDS[kind], None, target, target[:-1])
        self.options = RsyncOptions(
            str(self.faulty.program), rsync_version("rsync"), extra_options=extra_options,
            max_delete=max_delete, rules=rules or Rules(), share_ssh=False,
            **({"rsh": rsh} if rsh else {}),
        )  # fmt: skip
        self.session = RsyncSession(self.destination, self.options)
        self.guard = SourceGuard(os.fsencode(self.source), Rules())
        self.guard.accept()
        self.transfer = Transfer(
            self.session, self.guard, DestinationGuard(self.destination),
            capabilities=RsyncCapabilities(),
        )  # fmt: skip

    def write(self, *names: str, size: int = SIZE) -> None:
        """Write files of random bytes to the source."""
        for name in names:
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(size))

    def make_equal(self) -> None:
        """Make the copy equal to the source."""
        self.make_equal_except(frozenset())

    def make_equal_except(self, excluded: AbstractSet[str]) -> None:
        """Make the copy equal to the source, without what the rules exclude."""
        assert self.transfer.carry(EVERYTHING).verdict is Verdict.DONE
        lines = self.differences()
        assert {line.partition(":")[0] for line in lines} == {f"b'{name}'" for name in excluded}

    def move(self, old: str, new: str) -> None:
        """Move something in the source."""
        (self.source / new).parent.mkdir(parents=True, exist_ok=True)
        (self.source / old).rename(self.source / new)

    def moved(
        self,
        pairs: Mapping[str, str],
        written: ScopedPaths = NO_PATHS,
        *,
        is_new_name: bool = True,
        more: Changeset | None = None,
    ) -> Changeset:
        """Return the changes of moves, from new to old paths, as events make them."""
        return moved_changes(self.source, pairs, written, is_new_name=is_new_name, more=more)

    @property
    def moved_counts(self) -> tuple[int, int]:
        """How many files were moved at the destination, and their size."""
        counts = self.session.statistics.counts()
        return counts.moved_files, counts.moved_bytes

    @property
    def bytes_sent(self) -> int:
        return self.session.statistics.counts().bytes_sent

    def differences(self) -> list[str]:
        return differences(os.fsencode(self.source), os.fsencode(self.copy), ignore=self.ignore)

    def close(self) -> None:
        self.session.close()
        self.guard.close()


@contextlib.contextmanager
def moving(
    top: Path, kind: str, request: pytest.FixtureRequest, **options: object
) -> Iterator[MovingSetup]:
    """Use a source and its copy for the duration of the context."""
    with contextlib.closing(MovingSetup(top, kind, request, **options)) as place:  # type: ignore[arg-type]
        yield place
