r"""Which paths an rsync that went wrong in part has complained of (exit 23 and 24). Pure.

All forms of complaints here were seen of rsync 3.5.0, sending to a directory, through a remote
shell and to a daemon. It shows odd bytes as ``\#ooo``, so a complaint is one line and a quote at
the end of a name cannot be taken for another. The processes of one rsync write to the same pipe: a
line that another one has broken into is one that is not understood.
"""

import posixpath
import re
from collections.abc import Iterable

from pylsyncd.model import paths
from pylsyncd.model.changes import Changeset, MutableChangeset, Scope
from pylsyncd.model.endpoints import Destination
from pylsyncd.model.notation import Transport
from pylsyncd.rsync.output import RsyncMessages


def failed_changes(messages: RsyncMessages, source: bytes, target: bytes) -> Changeset | None:
    """Return the changes that were not carried, those that cover them included.

    ``source`` is the directory that rsync ran in, without symlinks, and ``target`` the destination
    as rsync names it (see `target_shown`), empty if that is not known.

    None if that is not sure: there is a complaint that is not understood, or not all were kept, or
    none names a path. Deletions may be missing besides: see `skips_deletions`.
    """
    if not messages.is_complete:
        return None
    found = MutableChangeset()
    for line in messages:
        if _EMPTY_WORDS.match(line):
            continue
        named = _named(line, source, target)
        if not named:
            return None
        for path, scope in named:
            found.add(path, scope)
    return found or None


def has_skipped_deletions(messages: Iterable[str]) -> bool:
    """Tell whether nothing was deleted in directories that rsync listed itself.

    An error when the source was read has that effect on every listed directory, and in a full sync
    on those that came after it. What was listed by name and is missing is deleted all the same.
    """
    return any(line.startswith(_NO_DELETION) for line in messages)


def target_in_messages(destination: Destination) -> bytes:
    """Return how rsync names the destination's directory, empty if that is not known.

    It works on the text of the path alone, and follows no symlinks. In a module, paths begin at the
    module's root.
    """
    path = destination.target
    if destination.transport is Transport.DAEMON:
        path = b"/" + _HOST.sub(b"", path).partition(b"/")[2]
    elif destination.transport is Transport.SHELL:
        path = _HOST.sub(b"", path)
    return b"/" + _plain(path) if path.startswith(b"/") else b""


# In the order in which they are tried. What a name is relative to: "source" and "target" stand for
# whole paths, "temporary" for one of rsync's own files at the destination, and "path" for a
# relative one. An rsync before 3.2, which can only be at the destination, does not say who it is.
_WHO = r"rsync: (?:\[(?:generator|receiver|Receiver)\] )?"
_THERE = r'"(?P<target>.*)"(?: \(in .*\))?'
_WHY = r"(?: failed)?: [^\"]* \(\d+\)"
_FORMS = tuple(
    (re.compile(form), scope)
    for form, scope in (
        (r'[a-z ]+ has vanished: "(?P<source>.*)"', Scope.TREE),
        (r"WARNING: parent dir is absent in the file list: (?P<path>.*)", Scope.TREE),
        (rf'rsync: \[sender\] \w*: ?\w+xattr\("(?P<source>.*)"(?:,.*)?\){_WHY}', Scope.ENTRY),
        (rf'rsync: \[sender\] [\w ]+\(?"(?P<source>.*)"\)?{_WHY}', Scope.TREE),
        (rf"{_WHO}(?:failed to \w+ \w+ on|chown) {_THERE}{_WHY}", Scope.ENTRY),
        (rf'{_WHO}\w+: \w+xattr\("(?P<target>.*)","[^"]*"(?:,\d+)?\){_WHY}', Scope.ENTRY),
        (rf"{_WHO}set_acl: \w+\((?P<path>.*), \w+\){_WHY}", Scope.ENTRY),
        (rf"{_WHO}delete_file: \w+\((?P<path>.*)\){_WHY}", Scope.TREE),
        (rf'{_WHO}mkstemp "(?P<temporary>.*)"(?: \(in .*\))?{_WHY}', Scope.TREE),
        (rf'{_WHO}(?:rename|copy) ".*"(?: \(in .*\))? -> "(?P<path>.*)"{_WHY}', Scope.TREE),
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

# What stands between two names in a complaint. In a name of its own it would mislead.
_BETWEEN = ('" -> ', '" => ', '","', '" (in ', " (from ", " failed verification -- update ")
_INTERRUPTION = "rsync: ["
_CUT = "[...]"
_UNDECODED = re.compile(r"\\x[0-9a-f]{2}")

_NO_DELETION = "IO error encountered -- skipping file deletion"
_EMPTY_WORDS = re.compile(
    r"rsync error: |rsync warning: "
    rf"|{_NO_DELETION}|\*\*\* Skipping any contents from this failed directory \*\*\*"
    # Not complaints: rsync ends with 0 when there are no others.
    r"|skipping non-regular file |ignoring unsafe symlink "
)
_HOST = re.compile(rb"\A(?:rsync://[^/]*/|(?:[^/@]*@)?(?:\[[^\]]*\]|[^:\[]*)::?)")

# A temporary name is `.NAME.XXXXXX`, and `.NAME.NUMBER` of what is no file. Neither has a second
# dot before a name that begins with a dot; they are cut to 254 bytes, a broken UTF-8 character at
# the cut being left out.
_TEMPORARY = re.compile(rb"\.(.+)\.(?:[A-Za-z0-9]{6}|[0-9]{1,6})", re.DOTALL)
_SHORTEST_CUT = 250
_LONGEST_PATH = 4000


def _named(line: str, source: bytes, target: bytes) -> list[tuple[bytes, Scope]]:
    """Return the changes that cover what one complaint is about, none if that is not clear."""
    is_damaged = _INTERRUPTION in line[1:] or line.endswith(_CUT) or _UNDECODED.search(line)
    if is_damaged or any(line.count(mark) > 1 for mark in _BETWEEN):
        return []
    for form, scope in _FORMS:
        if found := form.fullmatch(line):
            ((kind, text),) = found.groupdict().items()
            path = _relative(_unescaped(text), kind, source, target)
            if path is None:
                return []
            if kind == "temporary":
                return _unmade(path)
            # What is made there may be named as it is called until it is complete.
            return [(path, scope), *(_unmade(path) if kind != "source" else ())]
    return []


def _unescaped(text: str) -> bytes:
    escaped = text.encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), escaped)


_ESCAPED = re.compile(rb"\\#([0-3][0-7]{2})")


def _relative(path: bytes, kind: str, source: bytes, target: bytes) -> bytes | None:
    """Return a shown path as one relative to the source, None if it is not at or below it."""
    below = _plain(path)
    if kind == "path":
        return below
    directory = source if kind == "source" else target
    return paths.relative_to(below, _plain(directory)) if directory else None


def _plain(path: bytes) -> bytes:
    """Return a path without needless dots and slashes, the outer ones included.

    A module without chroot shows what is at its root without the leading slash.
    """
    return posixpath.normpath(b"/" + path).strip(b"/")


def _unmade(temporary: bytes) -> list[tuple[bytes, Scope]]:
    """Return the changes that cover what a temporary one was to become, none if it is not one."""
    directory, name = paths.split(temporary)
    found = _TEMPORARY.fullmatch(name)
    if found is None or len(temporary) > _LONGEST_PATH:
        return []
    if len(name) >= _SHORTEST_CUT:
        return [(directory, Scope.LISTING)]
    # Of two files with such names, the one that is not meant costs a look.
    return [(paths.join(directory, dot + found[1]), Scope.TREE) for dot in (b"", b".")]
