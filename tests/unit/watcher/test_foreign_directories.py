"""Which directories outside the source are known, and which the kernel ignores."""

import pytest

from pylsyncd.watcher import foreign_directories
from pylsyncd.watcher.foreign_directories import ForeignDirectories

LOUD = 1000


class Group:
    """The part of a fanotify group that ignores directories, given by number."""

    def __init__(self) -> None:
        self.ignored: list[int] = []
        self.flush_count = 0
        self.can_ignore = True

    def ignore_files_in(self, directory: int) -> None:
        if not self.can_ignore:
            raise OSError
        self.ignored.append(directory)

    def ignore_nothing(self) -> None:
        self.ignored.clear()
        self.flush_count += 1


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def foreign(group: Group) -> ForeignDirectories:
    return ForeignDirectories(group)  # type: ignore[arg-type]


def test_the_number_of_known_directories_is_bounded(
    foreign: ForeignDirectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_directories, "_MAX_FOREIGN", 2)
    sizes = []
    for key in (b"a", b"b", b"c", b"d", b"e"):
        foreign.add(key)
        assert key in foreign.keys
        sizes.append(len(foreign.keys))
    assert sizes == [1, 2, 1, 2, 1]


def test_a_directory_is_loud_after_so_many_events_since_it_was_last(
    foreign: ForeignDirectories,
) -> None:
    foreign.count_dropped([b"a"] * (LOUD - 1))
    assert not foreign.may_be_loud
    assert foreign.take_loud() == []
    foreign.count_dropped([b"b"] * 2)
    assert foreign.may_be_loud
    assert foreign.take_loud() == []
    # Those of each directory are still counted.
    foreign.count_dropped([b"a"] + [b"c"] * LOUD)
    assert sorted(foreign.take_loud()) == [b"a", b"c"]
    assert not foreign.may_be_loud
    foreign.count_dropped([b"a"] * LOUD)
    foreign.count_dropped([b"b"] * (LOUD - 3))
    assert foreign.take_loud() == [b"a"]


def test_the_number_of_counts_is_bounded(
    foreign: ForeignDirectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_directories, "_MAX_COUNTED", 2)
    for others, is_loud in (([b"b", b"c"], False), ([b"b"], True)):
        foreign.forget()
        foreign.count_dropped([b"a"] * (LOUD - 1) + others)
        assert foreign.take_loud() == []
        # The counts of three have started again, those of two have not.
        foreign.count_dropped([b"a"] + [b"d"] * LOUD)
        assert (b"a" in foreign.take_loud()) is is_loud


def test_what_is_forgotten_is_counted_and_reported_again(
    foreign: ForeignDirectories, group: Group
) -> None:
    foreign.add(b"a")
    foreign.count_dropped([b"a"] * (LOUD - 1))
    foreign.forget()
    assert not foreign.keys
    # Nothing was ignored.
    assert group.flush_count == 0
    foreign.count_dropped([b"a"] * (LOUD - 1))
    assert foreign.take_loud() == []
    foreign.ignore_files_in(7)
    foreign.forget()
    foreign.forget()
    assert (group.ignored, group.flush_count) == ([], 1)


def test_beyond_a_limit_all_are_reported_again(
    foreign: ForeignDirectories, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_directories, "_MAX_IGNORED", 2)
    ignored = []
    for directory in range(5):
        foreign.ignore_files_in(directory)
        ignored.append([*group.ignored])
    assert ignored == [[0], [0, 1], [2], [2, 3], [4]]
    foreign.forget()
    assert group.ignored == []


def test_no_directory_is_loud_where_the_kernel_cannot_ignore_it(
    foreign: ForeignDirectories, group: Group
) -> None:
    group.can_ignore = False
    foreign.count_dropped([b"a"] * LOUD)
    assert foreign.take_loud() == [b"a"]
    foreign.ignore_files_in(7)
    foreign.count_dropped([b"a"] * LOUD)
    assert not foreign.may_be_loud
    assert foreign.take_loud() == []
    # Nothing was ignored.
    foreign.forget()
    assert group.flush_count == 0
