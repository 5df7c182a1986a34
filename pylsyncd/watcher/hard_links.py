"""Hard links: a change through one name of a file is a change of all its names.

inotify reports only the name that was used. rsync replaces the copy of a listed name and leaves the
copies of the others unchanged, also with --hard-links, which considers listed names alone (measured
with rsync 3.5.0). So the other names are added to the changes, whatever rsync's options are.

By then the changed name may be gone, or belong to another file. So the names of all hard-linked
files are kept: from a look at all files that begins with the first change, and finds by their
ctimes those that have changed before it ends (and may have lost all names but one), from scans, and
from earlier changes. A change also brings in the other names that its path was known with. Beyond
that the other names come from, in this order:

* the changes themselves, if they contain as many names as the file has links;
* the names known from before, each checked again: sufficient if they are as many as the links, or
  if a search found no more while the file had as many links (the others are outside the source);
* one search of the whole source for all files in question.

No window waits for the look: until it ends, a changed file whose other names are not all known is
carried under the known ones, and is *deferred*, that is, it becomes a change again afterwards.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import chain

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.moments import Moment, earliest_ctime_ns
from pylsyncd.model.moves import NO_MOVES, Moves
from pylsyncd.model.scoped_paths import NO_PATHS, MutableScopedPaths, Scope, is_at_or_below
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.pipeline.optimizer import optimize_without_hints
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import clock, walk
from pylsyncd.watcher.hard_link_search import (
    MAX_HARD_LINK_NAMES,
    FileId,
    HardLinkScanResult,
    LinkedFile,
    LinkedFileFinder,
    LinkedFiles,
    SearchArea,
    TooManyNamesError,
    file_id,
    search_source,
    stat_existing,
)

log = logging.getLogger(__name__)

_MAX_KEPT_NAMES = MAX_HARD_LINK_NAMES


class HardLinks:
    """The known hard links of one source, to complete changes with. Used by one thread."""

    def __init__(
        self, source: bytes, rules: Rules, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """Create it; ``on_progress()`` is called for each directory of a walk."""
        self._on_progress = on_progress
        self._source = source
        self._rules = rules
        # Those with the oldest check first.
        self._kept: OrderedDict[FileId, LinkedFile] = OrderedDict()
        self._kept_weight = 0
        # Directory and name of each known path, with its file.
        self._files_by_name: dict[bytes, dict[bytes, FileId]] = {}
        # Those whose other names are not all known, and their names with what is known of them.
        self._deferred_files: dict[FileId, set[bytes]] = {}
        self._deferred = MutableChangeset()
        self.deferred_count = 0
        """The number of names of deferred files."""
        # The changes since the look began, with the moments before rsync reads the files.
        self._taken: list[tuple[Moment, Changeset]] = []
        self.defers_searches = False
        """Whether files become changes again after the look, instead of a search in the window."""
        self.search_count = 0
        """How many times the whole source was searched."""

    def add_other_names(self, changes: MutableChangeset) -> None:
        """Add an ENTRY for each other name of a changed file.

        A path that does not exist is skipped: its deletion is another event. Costs one system call
        for a changed path, unless there are hard links.
        """
        if self.defers_searches:
            self._taken.append((clock.now(), changes))
            if sum(len(taken) for _, taken in self._taken) > MAX_PENDING_CHANGES:
                self._taken.clear()
        if changes.is_everything:
            return
        other_names = _OtherNames(changes)
        try:
            with walk.opened_root(self._source) as root:
                self._add_kept_names(root, changes, other_names)
                found, named = self._find_all_names(root, changes)
        except OSError:
            # Nothing can be synced now, and what follows is a full sync.
            return
        except TooManyNamesError:
            log.info(
                "More than %d hard-link names: falling back to a full sync.", MAX_PENDING_CHANGES
            )
            changes.add(paths.ROOT, Scope.TREE)
            return
        for file, linked in found.items():
            self._keep(file, linked)
            other_names.add(linked.known_paths, named[file])
        if self._deferred_files:
            self._defer(changes, found)

    def _defer(self, changes: MutableChangeset, found: LinkedFiles) -> None:
        """Have changed files become changes again, with what is known of their contents."""
        if len(self._deferred) > MAX_PENDING_CHANGES:
            self._deferred.add(paths.ROOT, Scope.TREE)
        for file in found.keys() & self._deferred_files.keys():
            for path in found[file].known_paths:
                self._deferred.add(path, Scope.ENTRY)
                if changes.new_content.includes_entry(path):
                    self._deferred.new_content.add(path, Scope.ENTRY)
        self.deferred_count = len(self._deferred)

    def _find_all_names(
        self, root: int, changes: MutableChangeset
    ) -> tuple[LinkedFiles, dict[FileId, set[bytes]]]:
        """Return the hard-linked files in the changes, and the names that the changes contain."""
        area = SearchArea(root, self._rules, self._on_progress)
        # Optimized, so that no tree is walked as a part of another one again.
        found = LinkedFileFinder(area).find(optimize_without_hints(changes))
        named = {file: set(linked.known_paths) for file, linked in found.items()}
        self._search_other_names(area, found)
        return found, named

    def complete(self, found: HardLinkScanResult | None = None) -> MutableChangeset:
        """Keep what the look has found; return what has changed under names that are new by it.

        These are the files that have changed since the ctime of the look, perhaps through names
        that are gone, and the deferred ones. Without a result another scan has found all links.
        """
        changes, self._deferred = self._deferred, MutableChangeset()
        deferred_files, self._deferred_files = self._deferred_files, {}
        taken, self._taken = self._taken, []
        self.deferred_count, self.defers_searches = 0, False
        if found is not None:
            for file, known_paths in found.paths_by_file.items():
                # What was moved during the look has another name since.
                known_paths.update(self._known_paths(file))
            self.remember(found.paths_by_file)
            _add_found(changes, found, taken)
        self._add_lost_names(changes, deferred_files)
        if not changes.new_content:
            # Attributes at most. With a new content, a move since the last event would be unknown.
            changes.moves = NO_MOVES
        return changes

    def _add_lost_names(
        self, changes: MutableChangeset, deferred: Mapping[FileId, set[bytes]]
    ) -> None:
        """Add the names of files that were changed through names of which none is left."""
        with suppress(OSError), walk.opened_root(self._source) as root:
            lost = {
                file: LinkedFile(0)
                for file, names in deferred.items()
                if not _paths_of(root, file, names | self._known_paths(file))
            }
            try:
                if lost:
                    self.search_count += 1
                    search_source(SearchArea(root, self._rules, self._on_progress), lost)
            except TooManyNamesError:
                changes.add(paths.ROOT, Scope.TREE)
            for path in chain.from_iterable(linked.known_paths for linked in lost.values()):
                changes.add_new_content(path, Scope.ENTRY)

    def _known_paths(self, file: FileId) -> set[bytes]:
        kept = self._kept.get(file)
        return kept.known_paths if kept else set()

    def remember(self, paths_by_file: Mapping[FileId, set[bytes]]) -> None:
        """Keep the names that a scan has found."""
        for file, known_paths in paths_by_file.items():
            if len(known_paths) > 1:
                # The scan does not know how many names there are outside the source.
                self._keep(file, LinkedFile(0, set(known_paths)))

    def _add_kept_names(
        self, root: int, changes: MutableChangeset, other_names: "_OtherNames"
    ) -> None:
        """Add the other names of files that a changed path was known to belong to."""
        changed: dict[FileId, set[bytes]] = {}
        for directory, name in self._changed_names(changes):
            file = self._files_by_name[directory][name]
            changed.setdefault(file, set()).add(paths.join(directory, name))
        for file, named in changed.items():
            others = _paths_of(root, file, self._kept[file].known_paths - named)
            other_names.add(others, named)

    def _changed_names(self, changes: MutableChangeset) -> Iterator[tuple[bytes, bytes]]:
        """Yield the kept names, as directory and name, at or below a change."""
        for directory, names in self._files_by_name.items():
            is_below = any(
                above in changes.trees or _is_entry(changes, above)
                for above in (directory, *paths.ancestors(directory))
                if above
            )
            if is_below or directory in changes.listings:
                changed: AbstractSet[bytes] = names.keys()
            else:
                changed = names.keys() & changes.entries.get(directory, frozenset())
            for name in changed:
                yield directory, name

    def _search_other_names(self, area: SearchArea, found: LinkedFiles) -> None:
        incomplete = {
            file: linked
            for file, linked in found.items()
            if not (linked.has_all_names or self._complete_from_kept(area.root, file, linked))
        }
        if not incomplete:
            return
        if self.defers_searches:
            for file, linked in incomplete.items():
                # Unknown: not all of its names are known.
                linked.link_count = 0
                self._deferred_files.setdefault(file, set()).update(linked.known_paths)
            return
        self.search_count += 1
        search_source(area, incomplete)

    def _complete_from_kept(self, root: int, file: FileId, linked: LinkedFile) -> bool:
        """Add the kept names that are still valid; return True if these are all."""
        kept = self._kept.get(file)
        if kept is None:
            return False
        others = kept.known_paths - linked.known_paths
        valid = _paths_of(root, file, others)
        linked.known_paths |= valid
        return linked.has_all_names or (valid == others and kept.link_count == linked.link_count)

    def _keep(self, file: FileId, linked: LinkedFile) -> None:
        self._forget(file)
        self._kept[file] = linked
        self._kept_weight += linked.weight
        for path in linked.known_paths:
            directory, name = paths.split(path)
            self._files_by_name.setdefault(directory, {})[name] = file
        while self._kept_weight > _MAX_KEPT_NAMES:
            self._forget(next(iter(self._kept)))

    def _forget(self, file: FileId) -> None:
        linked = self._kept.pop(file, None)
        if linked is None:
            return
        self._kept_weight -= linked.weight
        for path in linked.known_paths:
            directory, name = paths.split(path)
            names = self._files_by_name.get(directory, {})
            if names.get(name) == file:
                del names[name]
                if not names:
                    del self._files_by_name[directory]


class _OtherNames:
    """What adds the other names of files to changes."""

    def __init__(self, changes: MutableChangeset) -> None:
        self._changes = changes
        moves = changes.moves or NO_MOVES
        self._new_paths = moves.by_new_path.keys()
        # The contents that are new for another reason than a move, at first and with other names.
        self._written = changes.after_moves(self._new_paths).new_content if moves else NO_PATHS
        self._written_below = MutableScopedPaths()
        if moves:
            self._written_below.add_all(moves.written)
            changes.moves = Moves(moves.by_new_path, self._written_below)

    def add(self, names: AbstractSet[bytes], named: set[bytes]) -> None:
        """Add all names of a file to the changes, which contain those ``named``.

        If one of these has a new content, all have it.
        """
        changes = self._changes
        for path in names - named:
            changes.add(path, Scope.ENTRY)
        if any(changes.new_content.includes_entry(path) for path in named):
            for path in names:
                changes.new_content.add(path, Scope.ENTRY)
        if self._new_paths and any(self._written.includes_entry(path) for path in named):
            for path in names | named:
                if is_at_or_below(path, self._new_paths):
                    self._written_below.add(path, Scope.ENTRY)


def _add_found(
    changes: MutableChangeset,
    found: HardLinkScanResult,
    taken: Sequence[tuple[Moment, Changeset]],
) -> None:
    """Add the files that a look has found to be changed, without what was taken since."""
    if found.is_over_limit:
        changes.add(paths.ROOT, Scope.TREE)
        return
    present = clock.now()
    covered = [(earliest_ctime_ns(moment, present), each) for moment, each in taken]
    linked = set(chain.from_iterable(found.paths_by_file.values()))
    for path, ctime in found.changed_paths.items():
        if path in linked:
            # Its content may have changed through a name that is gone. A file with one name may
            # have had others, too; but most have had an event that tells what it was.
            changes.add_new_content(path, Scope.ENTRY)
        elif not any(ctime < until and each.includes_entry(path) for until, each in covered):
            changes.add(path, Scope.ENTRY)


def _paths_of(root: int, file: FileId, some: set[bytes]) -> set[bytes]:
    """Return the paths that are names of the file now."""
    return {path for path, status in stat_existing(root, some) if file_id(status) == file}


def _is_entry(changes: MutableChangeset, path: bytes) -> bool:
    directory, name = paths.split(path)
    return name in changes.entries.get(directory, frozenset())
