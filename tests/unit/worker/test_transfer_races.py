"""What a run leaves, with what the watcher reports meanwhile, covers every difference."""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
from support.trees import differences
from support.watching import WatchedSource
from support.worker_setup import WorkerSetup, entries

from pylsyncd.model.changes import EVERYTHING, Changeset, union
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.optimizer import optimize
from pylsyncd.watcher.inotify import Inotify

# Above entries, below a listed directory, at the top of a tree, in it.
VANISHING = "implied", "listed", "tree/sub"
REPLACED = "tree", "tree/sub/f", "other/d"
MAX_RUNS = 5


@contextmanager
def watched(source: os.PathLike[str]) -> Iterator[WatchedSource]:
    inotify = Inotify()
    try:
        yield WatchedSource(os.fsencode(source), inotify)
    finally:
        inotify.close()


def make_differences(place: WorkerSetup) -> Changeset:
    """Give both sides different trees, and return the changes that cover the differences."""
    place.write(
        "top/tree/f", "top/tree/sub/f", "top/tree/sub/new/f", "top/implied/f", "top/implied/d/f",
        "top/listed/f", "top/listed/d/f", "top/other/d/f",
    )  # fmt: skip
    shutil.copytree(place.source, place.copy, dirs_exist_ok=True)
    (place.copy / "top").chmod(0o700)
    shutil.rmtree(place.copy / "top/tree/sub/new")
    shutil.rmtree(place.copy / "top/implied/d")
    for name in ("tree/old", "tree/sub/old/in", "listed/old", "other/d/gone/in"):
        path = place.copy / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    place.write("top/implied/f", "top/other/d/f")
    changes = entries(
        b"top", b"top/implied/f", b"top/implied/d", b"top/implied/d/f", b"top/other/d/f",
        b"top/other/d/gone",
    )  # fmt: skip
    changes.add(b"top/tree", Scope.TREE)
    changes.add(b"top/listed", Scope.LISTING)
    return changes


@pytest.mark.parametrize("is_full", [False, True], ids=["list", "full sync"])
@pytest.mark.parametrize(("vanishing", "replaced"), [*product(VANISHING, REPLACED)])
def test_what_changes_while_a_run_begins_is_carried_later(
    place: WorkerSetup, vanishing: str, replaced: str, *, is_full: bool
) -> None:
    changes = make_differences(place)
    source = shlex.quote(str(place.source / "top"))
    with watched(place.source) as events:
        # rsync reports what has vanished below a path, or what is no directory any more, and then
        # deletes nothing.
        place.faulty.add_fault(
            f"(cd {source} && rm -r {replaced} && touch {replaced} && rm -rf {vanishing})"
        )
        transfer = place.transfer(place.session())
        left = EVERYTHING if is_full else changes
        for _ in range(MAX_RUNS):
            result = transfer.carry(left)
            events.process_events()
            reported = events.processor.take_changes(includes_open_files=True)
            left = optimize(union(result.pending, result.failed, result.aborting, reported))
            if not left:
                break
    assert not left
    assert differences(bytes(place.source), bytes(place.copy)) == []
