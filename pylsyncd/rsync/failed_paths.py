r"""Finds the paths that failed in the messages of a partial transfer (exit 23 and 24). Pure.

rsync 3.5.0 prints all these forms when it sends to a directory, through a remote shell or to a
daemon. It escapes odd bytes as ``\#ooo``, so a message is one line, and a quote in a name cannot
be mistaken for the closing one. The processes of one rsync share a pipe: a line that another
process has broken into counts as unknown.
"""

import posixpath
import re
from collections.abc import Iterable

from pylsyncd.model import paths
from pylsyncd.model.changes import Change, Changeset, MutableChangeset, Scope
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.paths import PathError, RelativePath
from pylsyncd.rsync.carried_paths import CarriedPaths
from pylsyncd.rsync.message_lines import is_noise
from pylsyncd.rsync.output import RsyncMessages


def failed_changes(
    messages: RsyncMessages, source: bytes, target: bytes, carried: CarriedPaths
) -> Changeset | None:
    """Return changes that cover every path that rsync failed to carry.

    ``source`` is the directory that rsync ran in, without symlinks, and ``target`` the destination
    as rsync names it (see `target_in_messages`), empty if unknown. A path that was not ``carried``
    is ignored, and so is text of other programs: no message makes a run look at anything else.

    Return None if the failed paths are not all known: a message has an unknown form or a path
    outside both directories, messages were dropped, or none names a path that was carried.
    Deletions may be missing as well: see `has_skipped_deletions`.
    """
    if not messages.is_complete:
        return None
    found = MutableChangeset()
    for line in messages:
        if _HARMLESS.match(line):
            continue
        changes = _changes_named_in(line, source, target, carried)
        if changes is None:
            if is_noise(line):
                continue
            return None
        for path, scope in changes:
            found.add(path, scope)
    return found or None


def has_skipped_deletions(messages: Iterable[str]) -> bool:
    """Return True if rsync deleted nothing in the directories that it listed itself.

    An error while reading the source has this effect on every listed directory; in a full sync, on
    the directories after it. Missing paths that were listed by name are deleted all the same.
    """
    return any(line.startswith(_DELETION_SKIPPED) for line in messages)


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
# is: "source" and "target" are absolute, "temporary" is one of rsync's temporary files at the
# destination, "path" is relative. rsync before 3.2 (at the destination only) omits its role. A
# hostile line must not take quadratic time: so no part of a form can end at many places.
_WHO = r"rsync: (?:\[(?:generator|receiver|Receiver)\] )?"
_MODULE = r"(?: \(in [^()\"]*\))?"
_THERE = rf'"(?P<target>.*)"{_MODULE}'
_WHY = r"(?: failed)?: [^\":]{1,100} \(\d{1,6}\)"
_FORMS = tuple(
    (re.compile(form), scope)
    for form, scope in (
        (r'[a-z ]+ has vanished: "(?P<source>.*)"', Scope.TREE),
        (r"WARNING: parent dir is absent in the file list: (?P<path>.*)", Scope.TREE),
        (
            rf'rsync: \[sender\] \w*: ?\w+xattr\("(?P<source>.*)"(?:,"[^"]*")?(?:,\w+)?\){_WHY}',
            Scope.ENTRY,
        ),
        (rf'rsync: \[sender\] [\w ]+\(?"(?P<source>.*)"\)?{_WHY}', Scope.TREE),
        (rf"{_WHO}(?:failed to \w+ \w+ on|chown) {_THERE}{_WHY}", Scope.ENTRY),
        (rf'{_WHO}\w+: \w+xattr\("(?P<target>.*)","[^"]*"(?:,\d+)?\){_WHY}', Scope.ENTRY),
        (rf"{_WHO}set_acl: \w+\((?P<path>.*), \w+\){_WHY}", Scope.ENTRY),
        (rf"{_WHO}delete_file: \w+\((?P<path>.*)\){_WHY}", Scope.TREE),
        (rf'{_WHO}mkstemp "(?P<temporary>.*)"{_MODULE}{_WHY}', Scope.TREE),
        (rf'{_WHO}(?:rename|copy) ".*"{_MODULE} -> "(?P<path>.*)"{_WHY}', Scope.TREE),
        (rf'{_WHO}symlink {_THERE} -> ".*"{_WHY}', Scope.TREE),
        (rf"{_WHO}link {_THERE} => .*{_WHY}", Scope.TREE),
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
    rf"|{_DELETION_SKIPPED}|\*\*\* Skipping any contents from this failed directory \*\*\*"
    # No failures: with these alone, rsync exits with 0.
    r"|skipping non-regular file |ignoring unsafe symlink "
)
_HOST = re.compile(rb"\A(?:rsync://[^/]*/|(?:[^/@]*@)?(?:\[[^\]]*\]|[^:\[]*)::?)")

# A temporary name is `.NAME.XXXXXX` for a file and `.NAME.NUMBER` for anything else. A leading dot
# of NAME is not doubled. rsync cuts NAME so that all fits in 254 bytes, at a UTF-8 boundary.
_TEMPORARY = re.compile(rb"\.(.+)\.(?:[A-Za-z0-9]{6}|[0-9]{1,6})", re.DOTALL)
_MIN_CUT_NAME = 250
_MAX_PATH = 4000

_NO_NAMES = frozenset([b"", b"."])
_NO_PATH = b".."


def _changes_named_in(
    line: str, source: bytes, target: bytes, carried: CarriedPaths
) -> list[Change] | None:
    """Return changes that cover the path in one message; None if the path is ambiguous."""
    is_damaged = line.endswith(_CUT) or _UNDECODED.search(line)
    if is_damaged or any(line.count(mark) > 1 for mark in _SEPARATORS):
        return None
    for form, scope in _FORMS:
        if found := form.fullmatch(line):
            ((kind, text),) = found.groupdict().items()
            start, end = found.span(kind)
            if _is_interrupted(line[1:start] + line[end:], text):
                return None
            located = _locate(_unescape(text), kind, source, target)
            return None if located is None else _failing(located, kind, scope, carried)
    return None


def _is_interrupted(words: str, name: str) -> bool:
    """Return True if another message may have broken into one with these words and this name."""
    return bool(_INTERRUPTION.search(words) or _INTERRUPTION_IN_NAME.search(name))


def _failing(located: bytes, kind: str, scope: Scope, carried: CarriedPaths) -> list[Change] | None:
    """Return the carried changes that fail with a path; None if too much may have failed."""
    named = [] if kind == "temporary" else [(located, scope)]
    if kind != "source":
        # At the destination, the path may be a temporary name.
        named += _final_of_temporary(located)
    changes: list[Change] = []
    for path, reach in named:
        try:
            failing = carried.failing_with(RelativePath(path), reach)
        except PathError:
            continue
        if failing is None:
            return None
        changes += failing
    return changes


def _unescape(text: str) -> bytes:
    escaped = text.encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), escaped)


_ESCAPED = re.compile(rb"\\#([0-3][0-7]{2})")


def _locate(path: bytes, kind: str, source: bytes, target: bytes) -> bytes | None:
    """Return a path of a message relative to the source, None if it is outside.

    The result is not checked. For what is not a path, it is one that no run carries.
    """
    below = _without_dots(path)
    if kind == "path":
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
