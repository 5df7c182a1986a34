"""Total CPU of a daemon and its rsyncs: kinds of work, beside bare rsync and lsyncd."""

import workloads
from totals import Total

TREES = 16
TREE_TURNS = 4

_mixed: dict[str, workloads.Mixed] = {}


def _mix(root: str, turn: int, scale: float) -> None:
    if turn == 0:
        _mixed[root] = workloads.Mixed(root, seed=1)
    _mixed[root].run(int(5000 * scale))


def _thousand(root: str, scale: float) -> None:
    workloads.make_tree(root, int(1000 * scale), 10, b"x" * 1000)


def _few(root: str, scale: float) -> None:
    workloads.make_tree(root, 10, max(1, int(10 * scale)), b"x" * 1000)


def _doomed(root: str, scale: float) -> None:
    workloads.make_tree(root, 10, 10, b"x" * 1000)
    for number in range(TREES * TREE_TURNS):
        workloads.make_tree(f"{root}/t{number}", 5, int(100 * scale), b"x" * 100)


_CHANGED = (
    _thousand,
    lambda root, turn, scale: workloads.change_one_each(root, int(1000 * scale), turn),
)
_NEW = (_few, lambda root, turn, scale: workloads.new_tree(root, turn, 200, int(100 * scale)))

CASES = (
    Total(
        *("changed-1000", 4, 2, 1, 2.0),
        *_CHANGED,
        "1,000 files of 10,000 overwritten, one in each of 1,000 directories",
    ),
    Total(*("new-tree", 2, 1, 1, 2.0), *_NEW, "a new tree: 20,000 files in 200 directories"),
    Total(
        *("old-tree", 2, 1, 1, 2.0),
        _few,
        lambda root, turn, scale: workloads.extract_old_tree(root, turn, 200, int(100 * scale)),
        "the same with a time long ago, as tar extracts them",
        content_bytes=20_000_000,
    ),
    Total(
        *("chown", 2, 1, 1, 2.0),
        lambda root, scale: workloads.make_tree(root, 1000, int(100 * scale), b"x" * 2000),
        lambda root, turn, _scale: workloads.change_owners(root, turn),
        "chown -R of 100,000 files of 2 kB in 1,000 directories; as root",
        content_bytes=200_000_000,
    ),
    Total(
        *("deleted-trees", TREE_TURNS, 2, 1, 2.0),
        _doomed,
        lambda root, turn, _scale: workloads.delete_trees(root, turn, TREES),
        "16 trees of 500 files in 5 directories deleted",
    ),
    Total(
        *("write-delete", 1, 1, 1, 8.0),
        lambda root, _scale: workloads.make_tree(root, 1000, 0),
        lambda root, _turn, scale: workloads.write_and_delete(root, 1000, int(200_000 * scale)),
        "200,000 files written and deleted at once, over 1,000 directories; window 8 s",
        floor=True,
    ),
    Total(
        *("mixed", 4, 4, 1, 2.0),
        lambda root, _scale: workloads.make_tree(root, 100, 20, b"x" * 1000),
        _mix,
        "5,000 operations of 12 kinds, seeded, on 2,000 files",
        floor=True,
    ),
    Total(*("changed-1000-x8", 2, 1, 8, 2.0), *_CHANGED, "the first with 8 destinations"),
    Total(*("new-tree-x8", 1, 1, 8, 2.0), *_NEW, "the second with 8 destinations"),
)
