"""Hard links: a change through one name of a file is a change of all of its names.

inotify reports the name that was used. rsync replaces the copy of a listed name, so the copies of
the others stay as they were; with --hard-links, too, which looks at listed names alone (measured
with rsync 3.5.0). So whoever has changes adds the other names to them, whatever rsync's options.

The name itself may be gone, or stand for another file, when that is looked at. So the names of all
files that have several are known, from a survey in the first window, which finds by their ctimes
those that have changed before it (and may have lost all names but one), from scans, and from what
was looked at; what a change touches brings in the other names that it was known with. Beyond that,
what tells where the other names are, in this order:

* the changes themselves, when they hold as many names as the file has links;
* the names known from before, each looked at again: all, when they are as many, and also when a
  search has found no more while the file had as many links: the others are elsewhere;
* a search of the whole source, one for all files in question.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from pylsyncd.model import paths
from pylsyncd.model.changes import MutableChangeset, Scope
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES
from pylsyncd.pipeline.optimizer import optimize
from pylsyncd.rules.excludes import Rules
from pylsyncd.system import walk
from pylsyncd.watcher.hard_link_search import (
    HardLinkScan,
    LinkedFileFinder,
    SearchArea,
    SourceSearch,
    TooManyNamesError,
    stat_existing,
)
from pylsyncd.watcher.linknames import MAX_HARD_LINK_NAMES, FileId, LinkedFile, LinkedFiles, file_id

log = logging.getLogger(__name__)

# So many names are remembered.
_NAMES_KEPT = MAX_HARD_LINK_NAMES


class HardLinks:
    """Completes changes by the other names of the files in them. Used by one thread at a time."""

    def __init__(
        self, source: bytes, rules: Rules, progressed: Callable[[], None] = lambda: None
    ) -> None:
        """Make one; ``progressed()`` is called now and then while it looks through the source."""
        self._progressed = progressed
        self._source = source
        self._rules = rules
        # What was found to be complete, the least recently used first.
        self._remembered: OrderedDict[FileId, LinkedFile] = OrderedDict()
        self._kept = 0
        # The directories that known names are in: with how many, by file.
        self._places: dict[bytes, dict[bytes, FileId]] = {}
        self.search_count = 0
        """How often the whole source was searched."""

    def add_other_names(self, changes: MutableChangeset) -> None:
        """Add an ENTRY for each name of a changed file that ``changes`` do not name.

        What is not there (any more) is passed over: an event has told, or will tell. Costs one
        system call for a changed path, unless there are hard links.
        """
        if changes.is_everything:
            return
        try:
            with walk.opened_root(self._source) as root:
                found, named = self._found(root, changes)
        except OSError:
            # Nothing can be carried now, and what follows is larger than any name.
            return
        except TooManyNamesError:
            log.info(
                "More than %d names of files that have several: everything is compared.",
                MAX_PENDING_CHANGES,
            )
            changes.add(paths.ROOT, Scope.TREE)
            return
        for file, names in found.items():
            self._remember(file, names)
            for path in names.known_paths - named[file]:
                changes.add(path, Scope.ENTRY)

    def _found(
        self, root: int, changes: MutableChangeset
    ) -> tuple[LinkedFiles, dict[FileId, set[bytes]]]:
        """Return all names of the files with several in the changes, and those that they name."""
        ground = SearchArea(root, self._rules, self._progressed)
        self._add_known(root, changes)
        # Trees in trees would be looked through again and again.
        found = LinkedFileFinder(ground).find(optimize(changes))
        named = {file: set(names.known_paths) for file, names in found.items()}
        self._find_others(ground, found)
        return found, named

    def scan_source(self, since: int) -> MutableChangeset:
        """Learn the names of all files that have several.

        Returns the names of all files that have changed since a ctime in nanoseconds: perhaps
        through a name that is gone. Raises OSError when the source cannot be opened or listed.
        """
        changes = MutableChangeset()
        with walk.opened_root(self._source) as root:
            survey = HardLinkScan(SearchArea(root, self._rules, self._progressed), since)
            survey.run()
        self.remember(survey.hard_links.paths_by_file)
        if survey.is_over_limit:
            changes.add(paths.ROOT, Scope.TREE)
            return changes
        for path in survey.changed_paths:
            changes.add(path, Scope.ENTRY)
        return changes

    def remember(self, linked: Mapping[FileId, set[bytes]]) -> None:
        """Take note of names that a scan has found."""
        for file, known in linked.items():
            if len(known) > 1:
                # How many there are elsewhere is not known.
                self._remember(file, LinkedFile(0, set(known)))

    def _add_known(self, root: int, changes: MutableChangeset) -> None:
        """Add the other names that what the changes touch was known with, as far as they hold."""
        touched: dict[FileId, set[bytes]] = {}
        for place, name in self._touched(changes):
            touched.setdefault(self._places[place][name], set()).add(paths.join(place, name))
        for file, named in touched.items():
            known = self._remembered[file].known_paths - named
            holding = {
                path for path, status in stat_existing(root, known) if file_id(status) == file
            }
            for path in holding:
                changes.add(path, Scope.ENTRY)

    def _touched(self, changes: MutableChangeset) -> Iterator[tuple[bytes, bytes]]:
        """Yield the known names, as directory and name, at or below what has changed."""
        for place, names in self._places.items():
            is_below = any(
                above in changes.trees or _is_entry(changes, above)
                for above in (place, *paths.ancestors(place))
                if above
            )
            if is_below or place in changes.listings:
                touched: AbstractSet[bytes] = names.keys()
            else:
                touched = names.keys() & changes.entries.get(place, frozenset())
            for name in touched:
                yield place, name

    def _find_others(self, ground: SearchArea, found: LinkedFiles) -> None:
        unknown = {
            file: names
            for file, names in found.items()
            if not (names.has_all_names or self._recall(ground.root, file, names))
        }
        if unknown:
            self.search_count += 1
            SourceSearch(ground, unknown).run()

    def _recall(self, root: int, file: FileId, names: LinkedFile) -> bool:
        """Add the names known from before that still hold; tell whether these are all."""
        remembered = self._remembered.get(file)
        if remembered is None:
            return False
        others = remembered.known_paths - names.known_paths
        holding = {path for path, status in stat_existing(root, others) if file_id(status) == file}
        names.known_paths |= holding
        return names.has_all_names or (
            holding == others and remembered.link_count == names.link_count
        )

    def _remember(self, file: FileId, names: LinkedFile) -> None:
        self._forget(file)
        self._remembered[file] = names
        self._kept += names.weight
        for path in names.known_paths:
            place, name = paths.split(path)
            self._places.setdefault(place, {})[name] = file
        while self._kept > _NAMES_KEPT:
            self._forget(next(iter(self._remembered)))

    def _forget(self, file: FileId) -> None:
        names = self._remembered.pop(file, None)
        if names is None:
            return
        self._kept -= names.weight
        for path in names.known_paths:
            place, name = paths.split(path)
            there = self._places.get(place, {})
            if there.get(name) == file:
                del there[name]
                if not there:
                    del self._places[place]


def _is_entry(changes: MutableChangeset, path: bytes) -> bool:
    directory, name = paths.split(path)
    return name in changes.entries.get(directory, frozenset())
