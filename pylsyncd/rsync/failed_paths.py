r"""Finds the paths that failed in the messages of a partial transfer (exit 23 and 24). Pure.

rsync 3.5.0 prints all these forms when it sends to a directory, through a remote shell or to a
daemon. It escapes odd bytes as ``\#ooo``, so a message is one line, and a quote in a name cannot
be mistaken for the closing one. The processes of one rsync share a pipe: a line that another
process has broken into counts as unknown.
"""

import posixpath
import re
import stat
from collections.abc import Callable
from typing import NamedTuple

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.paths import PathError, RelativePath
from pylsyncd.model.scoped_paths import Scope
from pylsyncd.pipeline.backlog import MAX_PENDING_CHANGES, Backlog
from pylsyncd.pipeline.optimizer import optimize, without_covered
from pylsyncd.rsync.carried_paths import CarriedPaths
from pylsyncd.rsync.message_lines import is_noise


class FailedPaths:
    """The paths that one rsync failed to carry, collected while it prints its messages.

    They take bounded memory: of very many paths, directories stand in for what they contain.
    """

    def __init__(
        self,
        source: bytes,
        target: bytes,
        carried: CarriedPaths,
        mode: Callable[[bytes], int] = lambda _: 0,
        limit: int = MAX_PENDING_CHANGES,
    ) -> None:
        """Create an empty collection of at most ``limit`` changes of each kind.

        ``source`` and ``target`` are the directories of the source and of the destination as rsync
        names them (see `target_in_messages`), empty if unknown. A path that was
        not ``carried`` is ignored, and so is text of other programs: no message makes a run look at
        anything else. ``mode`` returns the mode of a path of the source, 0 if there is none; it
        helps to tell which name a temporary one stands for.
        """
        self._source = source
        self._target = target
        self._carried = carried
        self._mode = mode
        self._content = Backlog(limit)
        self._attributes = Backlog(limit)
        # The directories whose messages have named several changes: naming them takes time.
        self._named_directories: set[tuple[bytes, Scope]] = set()
        self._is_every_line_known = True
        self.has_skipped_deletions = False
        """True if rsync deleted nothing in the directories that it listed itself.

        An error while reading the source has this effect on every listed directory; in a full sync,
        on the directories after it. Missing paths that were listed by name are deleted all the
        same.
        """

    def add(self, line: str, *, is_cut: bool = False) -> None:
        """Add a line that rsync printed; one that was cut names no path."""
        if line.startswith(_DELETION_SKIPPED):
            self.has_skipped_deletions = True
        if not self._is_every_line_known or _HARMLESS.match(line):
            return
        failure = None if is_cut else self._failure_in(line)
        if failure is not None:
            (self._attributes if failure.is_of_attributes else self._content).add(failure.changes)
        elif is_cut or not is_noise(line):
            self._is_every_line_known = False

    @property
    def are_known(self) -> bool:
        """True if these are all failed paths, and at least one.

        Else a message has an unknown form or a path outside both directories, or none names a path
        that was carried.
        """
        return self._is_every_line_known and bool(self._content or self._attributes)

    @property
    def content(self) -> Changeset:
        """Changes that cover every path that was not carried."""
        return optimize(self._content.changes)

    @property
    def attributes(self) -> Changeset:
        """The entries that were carried without some attributes: owner, times, mode and others."""
        return without_covered(optimize(self._attributes.changes), self._content.changes)

    def _failure_in(self, line: str) -> "_Failure | None":
        """Return what failed according to one message; None if that is ambiguous."""
        is_damaged = line.endswith(_CUT) or _UNDECODED.search(line)
        if is_damaged or any(line.count(mark) > 1 for mark in _SEPARATORS):
            return None
        for form, scope in _FORMS:
            if found := form.fullmatch(line):
                ((kind, text),) = found.groupdict().items()
                start, end = found.span(kind)
                if _is_interrupted(line[1:start] + line[end:], text):
                    return None
                located = _locate(_unescape(text), kind, self._source, self._target)
                if located is None:
                    return None
                is_of_attributes = kind in _OF_ATTRIBUTES and bool(_UNSETTABLE.search(line, end))
                named = self._named(located, kind, scope)
                return self._failing(named, is_of_attributes=is_of_attributes)
        return None

    def _named(self, located: bytes, kind: str, scope: Scope) -> list[tuple[bytes, Scope]]:
        """Return the final paths that a path in a message may stand for."""
        # Only at the destination, the path may be a temporary name.
        final = [] if kind == "source" else _final_of_temporary(located)
        final = [each for each in final if self._mode(each[0])] or final
        if kind in _OF_ATTRIBUTES:
            final = [(path, scope) for path, _ in final]
        is_temporary = kind == "temporary" or (
            kind in _OF_PRESENT
            and not self._mode(located)
            and any(self._mode(path) for path, _ in final)
        )
        return final if is_temporary else [(located, scope), *final]

    def _failing(
        self, named: list[tuple[bytes, Scope]], *, is_of_attributes: bool
    ) -> "_Failure | None":
        """Return the carried changes that fail with paths; None if too much may have failed."""
        changes = MutableChangeset()
        for path, scope in named:
            if (path, scope) in self._named_directories:
                continue
            try:
                failing = self._carried.failing_with(RelativePath(path), scope)
            except PathError:
                continue
            if failing is None:
                return None
            if len(failing) > 1:
                self._named_directories.add((path, scope))
            for change in failing:
                is_directory = stat.S_ISDIR(self._mode(change.path))
                if not (
                    is_of_attributes
                    and self._carried.excludes(change.path, is_directory=is_directory)
                ):
                    changes.add(*change)
        return _Failure(changes, is_of_attributes)


class _Failure(NamedTuple):
    """What one message names."""

    changes: Changeset
    is_of_attributes: bool


def target_in_messages(destination: Destination) -> bytes:
    """Return the destination's directory as rsync's messages name it, empty if unknown.

    rsync derives it from the text of the path alone and follows no symlinks. In a module, paths
    begin at the module's root.
    """
    path = destination.target
    if destination.transport is Transport.DAEMON:
        path = b"/" + _HOST.sub(b"", path).partition(b"/")[2]
    elif destination.transport is Transport.SHELL:
        path = _HOST.sub(b"", path)
    return b"/" + posixpath.normpath(path).strip(b"/") if path.startswith(b"/") else b""


# The forms of messages, in the order in which they are tried. The group says what kind of path it
# is. "source" is absolute; so are "target", "made" and "unset" at the destination, where rsync
# failed to write, to make an entry and to set an attribute of one; "temporary" is one of rsync's
# temporary files there. "path" is relative, and so is "acl", where rsync failed to set that. rsync
# before 3.2 (at the destination only) omits its role. A hostile line must not take quadratic time:
# so no part of a form can end at many places.
_WHO = r"rsync: (?:\[(?:generator|receiver|Receiver)\] )?"
_MODULE = r"(?: \(in [^()\"]*\))?"
_THERE = rf'"(?P<target>.*)"{_MODULE}'
_MADE = rf'"(?P<made>.*)"{_MODULE}'
_UNSET = rf'"(?P<unset>.*)"{_MODULE}'
_WHY = r"(?: failed)?: [^\":]{1,100} \(\d{1,6}\)"
_FORMS = tuple(
    (re.compile(form), scope)
    for form, scope in (
        (r'[a-z ]+ has vanished: "(?P<source>.*)"', Scope.TREE),
        (r"WARNING: parent dir is absent in the file list: (?P<path>.*)", Scope.TREE),
        (
            # With such a directory, the sender leaves out what is below it.
            rf'rsync: \[sender\] \w*: ?\w+xattr\("(?P<source>.*)","[^"]*"(?:,\w+)?\){_WHY}',
            Scope.TREE,
        ),
        (rf'rsync: \[sender\] \w*: ?\w+xattr\("(?P<source>.*)"(?:,\w+)?\){_WHY}', Scope.TREE),
        (rf'rsync: \[sender\] [\w ]+\(?"(?P<source>.*)"\)?{_WHY}', Scope.TREE),
        (rf"{_WHO}(?:failed to \w+ \w+ on|chown|chgrp) {_UNSET}{_WHY}", Scope.ENTRY),
        (rf"{_WHO}failed to write xattr [^\" ]{{1,300}} for {_UNSET}{_WHY}", Scope.ENTRY),
        (rf'{_WHO}\w+: \w+xattr\("(?P<unset>.*)","[^"]*"(?:,\d+)?\){_WHY}', Scope.ENTRY),
        (rf"{_WHO}set_acl: \w+\((?P<acl>.*), \w+\){_WHY}", Scope.ENTRY),
        (rf"{_WHO}delete_file: \w+\((?P<path>.*)\){_WHY}", Scope.TREE),
        (rf'{_WHO}mkstemp "(?P<temporary>.*)"{_MODULE}{_WHY}', Scope.TREE),
        (rf'{_WHO}(?:rename|copy) ".*"{_MODULE} -> "(?P<path>.*)"{_WHY}', Scope.TREE),
        (rf'{_WHO}symlink {_MADE} -> ".*"{_WHY}', Scope.TREE),
        (rf"{_WHO}link {_MADE} => .*{_WHY}", Scope.TREE),
        (rf"{_WHO}mknod {_MADE}{_WHY}", Scope.TREE),
        (rf"{_WHO}rename failed for {_THERE} \(from .*\){_WHY}", Scope.TREE),
        (rf"{_WHO}[\w: ]+ {_THERE}{_WHY}", Scope.TREE),
        (r"(?:ERROR|WARNING): (?P<path>.*) failed verification -- update .*", Scope.TREE),
        (r"could not make way for [a-z ]+: (?P<path>.*)", Scope.TREE),
        (r"cannot delete (?:non-empty directory|mount point): (?P<path>.*)", Scope.TREE),
        (r'ERROR: daemon refused to receive [a-z ]+ "(?P<path>.*)"', Scope.TREE),
        (rf"skipping socket \(creation unsupported here\): {_THERE}", Scope.TREE),
        (r"filename overflows max-path len by \d+: (?P<path>.*)", Scope.TREE),
        (r"\[sender\] cannot convert filename: (?P<path>.*) \([^()]*\)", Scope.TREE),
    )
)

# Separators of two names in a message. One that occurs twice may be part of a name.
_SEPARATORS = ('" -> ', '" => ', '","', '" (in ', " (from ", " failed verification -- update ")
# The begin of a message within another one; within a name only if it has more of a message.
_INTERRUPTION = re.compile(r"rsync: \[(?:sender|generator|[Rr]eceiver)\] ")
_INTERRUPTION_IN_NAME = re.compile(_INTERRUPTION.pattern + r'[^"(]{0,100}["(]')
_CUT = "[...]"
_UNDECODED = re.compile(r"\\x[0-9a-f]{2}")

_DELETION_SKIPPED = "IO error encountered -- skipping file deletion"
_HARMLESS = re.compile(
    r"rsync error: |rsync warning: "
    # Only after a message that says why the other process has ended.
    r"|rsync: \[\w+\] (?:read|write) error: [^\"(]{1,100} \(\d{1,6}\)\Z"
    r"|rsync: connection unexpectedly closed \("
    rf"|{_DELETION_SKIPPED}|\*\*\* Skipping any contents from this failed directory \*\*\*"
    # No failures: with these alone, rsync exits with 0.
    r"|skipping non-regular file |ignoring unsafe symlink "
)
# These errors do not mean that the file itself is missing, or that nothing can be written.
_UNSETTABLE = re.compile(
    r"(?i): (?:operation not permitted|permission denied|invalid argument|no space left on device|"
    r"(?:dis[ck] )?quota exceeded|(?:operation )?not supported|function not implemented|"
    r"argument list too long|numerical result out of range|value too large[^(]*|"
    r"no data available) \(\d{1,6}\)\Z"
)
_RELATIVE = frozenset(["path", "acl"])
_OF_ATTRIBUTES = frozenset(["unset", "acl"])
# A message of this kind is about an entry that the source has.
_OF_PRESENT = _OF_ATTRIBUTES | {"made"}
_HOST = re.compile(rb"\A(?:rsync://[^/]*/|(?:[^/@]*@)?(?:\[[^\]]*\]|[^:\[]*)::?)")

# A temporary name is `.NAME.XXXXXX` for a file and `.NAME.NUMBER` for anything else. A leading dot
# of NAME is not doubled. rsync cuts NAME so that all fits in 254 bytes, at a UTF-8 boundary.
_TEMPORARY = re.compile(rb"\.(.+)\.(?:[A-Za-z0-9]{6}|[0-9]{1,6})", re.DOTALL)
_MIN_CUT_NAME = 250
_MAX_PATH = 4000

_NO_NAMES = frozenset([b"", b"."])
_NO_PATH = b".."


def _is_interrupted(words: str, name: str) -> bool:
    """Return True if another message may have broken into one with these words and this name."""
    return bool(_INTERRUPTION.search(words) or _INTERRUPTION_IN_NAME.search(name))


def _unescape(text: str) -> bytes:
    escaped = text.encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), escaped)


_ESCAPED = re.compile(rb"\\#([0-3][0-7]{2})")


def _locate(path: bytes, kind: str, source: bytes, target: bytes) -> bytes | None:
    """Return a path of a message relative to the source, None if it is outside.

    The result is not checked. For what is not a path, it is one that no run carries.
    """
    below = _without_dots(path)
    if kind in _RELATIVE:
        is_root = path == b"."
        return _NO_PATH if path.startswith(b"/") or not (below or is_root) else below
    directory = source if kind == "source" else target
    return paths.relative_to(below, _without_dots(directory)) if directory else None


def _without_dots(path: bytes) -> bytes:
    """Return a path without the components that mean nothing, and without the outer slashes.

    A module without chroot prints paths at its root without the leading slash.
    """
    return b"/".join(part for part in path.split(b"/") if part not in _NO_NAMES)


def _final_of_temporary(temporary: bytes) -> list[tuple[bytes, Scope]]:
    """Return changes that cover the final path of a temporary one; empty if it is not one."""
    directory, name = paths.split(temporary)
    found = _TEMPORARY.fullmatch(name)
    if found is None or len(temporary) > _MAX_PATH:
        return []
    if len(name) >= _MIN_CUT_NAME:
        return [(directory, Scope.LISTING)]
    # Either name may be meant. The other one costs rsync one comparison.
    return [(paths.join(directory, dot + found[1]), Scope.TREE) for dot in (b"", b".")]
