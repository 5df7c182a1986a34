"""Renames the copies of what was moved in the source, where the destination permits it."""

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.moves import Move
from pylsyncd.rsync import remote_rename
from pylsyncd.rsync.output_capture import CapturedOutput
from pylsyncd.rsync.remote_shell import remote_path
from pylsyncd.rsync.rename_order import RenameStep, find_displaced, order_renames
from pylsyncd.system import walk
from pylsyncd.system.renames import RenameUnsupportedError, rename_below
from pylsyncd.worker.session import RsyncSession

log = logging.getLogger(__name__)

MIN_BYTES_OVER_SSH: Final = 65536
"""The size from which on a rename over ssh takes less time than sending the content again."""

# Seconds for all renames of a window over ssh, and to connect. What is not renamed by then is sent.
_TIMEOUT_OVER_SSH = remote_rename.MAX_SECONDS + 10.0

# The exit status of ssh when it has failed itself.
_SSH_FAILED = 255

# Commands in a row that ssh has failed to run, each after rsync has run by it: then the destination
# refuses them so. A program in Perl that dies, such as an old rrsync, has the exit status of ssh.
_MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class RenameResult:
    """What became of some moves."""

    carried: frozenset[bytes] = frozenset()
    """The new paths whose copies were renamed."""
    is_available: bool = True
    """False once it is known that nothing can be renamed at this destination."""
    is_unreachable: bool = False
    """The connection has failed: the moves that are not carried may be tried again later."""
    displaced: frozenset[bytes] = frozenset()
    """The paths at which something is now that was at other ones."""


class Renames:
    """The renames at one destination. Used by the thread that uses the session."""

    def __init__(self, session: RsyncSession) -> None:
        self._session = session
        self._transport = session.destination.transport
        self._is_available = self._transport is Transport.LOCAL or remote_rename.is_possible(
            session.destination, session.options
        )
        self._failures = 0
        self._runs_at_failure = -1

    def carry(self, pairs: Mapping[bytes, Move], root: int) -> RenameResult:
        """Rename the copies of moved paths; return those that were renamed.

        The keys are the new paths, at which the open source ``root`` has what the moves say. Over
        ssh only the first pairs are taken if there are too many. Whatever the destination does,
        this raises nothing.
        """
        if not self._is_available or self._session.is_stopping:
            return RenameResult(is_available=self._is_available)
        done: AbstractSet[int] = frozenset()
        displaced = frozenset[bytes]()
        is_unreachable = False
        if self._transport is Transport.LOCAL:
            steps = order_renames(pairs)
            done, displaced = self._rename_locally(steps)
        elif steps := order_renames(dict(islice(pairs.items(), remote_rename.MAX_STEPS))):
            done, is_unreachable = self._rename_remotely(steps, root)
        carried = frozenset(steps[index].new for index in done)
        return RenameResult(carried, self._is_available, is_unreachable, displaced)

    def _rename_locally(self, steps: Sequence[RenameStep]) -> tuple[set[int], frozenset[bytes]]:
        """Make the steps; return the indexes of those that succeeded, and what is displaced."""
        done: set[int] = set()
        exchanged: set[int] = set()
        try:
            with walk.opened_root(self._session.destination.target) as top:
                for index, step in enumerate(steps):
                    if self._session.is_stopping:
                        break
                    if step.after is None or step.after in done:
                        self._rename(top, index, step, done, exchanged)
        except RenameUnsupportedError as error:
            self._is_available = False
            self._log(f"the destination permits no renames: {error.strerror}")
        except OSError as error:
            self._log(f"the destination cannot be opened: {error.strerror}")
        return done, find_displaced(steps, done, exchanged)

    def _rename(
        self, top: int, index: int, step: RenameStep, done: set[int], exchanged: set[int]
    ) -> None:
        """Make a step; add its index to those that were made, and to those that exchanged."""
        try:
            if rename_below(top, step.old, step.new, is_directory=step.is_directory):
                exchanged.add(index)
            done.add(index)
        except RenameUnsupportedError:
            raise
        except OSError as error:
            old, new = paths.printable(step.old), paths.printable(step.new)
            self._log(f"{old} is not renamed to {new}: {error.strerror}")

    def _rename_remotely(
        self, steps: Sequence[RenameStep], root: int
    ) -> tuple[frozenset[int], bool]:
        """Make the steps; return the indexes of those that succeeded, and if ssh has failed.

        What is neither the answer of the program nor a failure of ssh is a refusal.
        """
        directory = remote_path(self._session.destination)
        captured = self._session.run_remotely(
            root,
            remote_rename.remote_program(),
            remote_rename.encode_steps(directory, steps),
            max_bytes=remote_rename.max_answer_bytes(len(steps)),
            timeout=_TIMEOUT_OVER_SSH,
        )
        if captured is None:
            return frozenset(), True
        done = remote_rename.parse_answer(captured.output, len(steps))
        is_unreachable = captured.exit_status == _SSH_FAILED or captured.has_timed_out
        if self._session.is_stopping:
            pass
        elif is_unreachable and (done is not None or not captured.output):
            self._count_failure(captured, has_succeeded=bool(done))
        elif done is None:
            self._refuse(captured)
        else:
            self._failures = 0
        self._log(f"renamed {len(done or ())} of {len(steps)} paths over ssh")
        return done or frozenset(), is_unreachable and self._is_available

    def _count_failure(self, captured: CapturedOutput, *, has_succeeded: bool) -> None:
        """Count a command that ssh has failed to run or to end."""
        runs = self._session.successful_runs
        if has_succeeded:
            self._failures = 0
        elif runs > self._runs_at_failure:
            self._failures += 1
            self._runs_at_failure = runs
            if self._failures == _MAX_FAILURES:
                self._refuse(captured)

    def _refuse(self, captured: CapturedOutput) -> None:
        """Try no other rename, and say why."""
        self._is_available = False
        lines = (captured.messages or captured.output).splitlines()
        log.info(
            "[%s] The destination permits no renames (%s): moved files are linked by rsync where "
            "possible, and sent again otherwise.",
            self._session.destination.name, paths.printable(lines[0][:200]) if lines else
            f"exit status {captured.exit_status}",
        )  # fmt: skip

    def _log(self, text: str) -> None:
        log.debug("[%s] %s", self._session.destination.name, text)
