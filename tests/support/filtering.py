"""The effect of filter rules in rsync itself on a tree of odd names, and random rules."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from pylsyncd.rules.excludes import Rules

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
RSYNC = shutil.which("rsync") or "rsync"
PARALLEL_RUNS = 12


def rsync(*arguments: bytes | str, names: bytes = b"") -> int:
    """Run rsync with a list of names on standard input and return its exit status."""
    return subprocess.run(
        (RSYNC, *arguments), env=ENVIRONMENT, input=names, check=False, capture_output=True
    ).returncode


def make_tree(root: Path, *entries: bytes) -> Path:
    """Create directories (names that end with a slash) and files, with their parents."""
    for entry in (b"", *entries):
        path = os.path.join(os.fsencode(root), entry)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not path.endswith(b"/"):
            with open(path, "wb"):
                pass
    return root


def entries_of(root: Path) -> set[bytes]:
    """Return the entries below ``root``; names of directories end with a slash."""
    top = os.fsencode(root)
    found = set()
    for directory, names, files in os.walk(top):
        place = os.path.relpath(directory, top) if directory != top else b""
        found.update(os.path.join(place, name) + b"/" for name in names)
        found.update(os.path.join(place, name) for name in files)
    return found


def included_entries(rules: Rules, entries: Iterable[bytes]) -> set[bytes]:
    """Return the entries of a source that our rules include."""
    return {
        entry
        for entry in entries
        if not rules.excludes(entry.removesuffix(b"/"), is_directory=entry.endswith(b"/"))
    }


def entries_sent_by_rsync(arguments: Iterable[Sequence[bytes]], source: Path) -> list[set[bytes]]:
    """Return the entries that rsync would copy, for each list of arguments."""
    return entries_sent_from((some, source) for some in arguments)


def entries_sent_from(runs: Iterable[tuple[Sequence[bytes], Path]]) -> list[set[bytes]]:
    """Return the entries that rsync would copy, for each pair of arguments and source."""
    dry = ("-r", "--dry-run", "--out-format=%o %n")
    whole = [(*dry, *some, f"{source}/", f"{source.parent}/nowhere/") for some, source in runs]
    return [_sent(output) for output in _run(whole)]


def entries_deleted_by_rsync(
    arguments: Iterable[Sequence[bytes]], destination: Path
) -> list[set[bytes]]:
    """Return the entries that rsync deletes for an empty source, for each list of arguments.

    It runs on copies, because a dry run also lists directories that would not become empty.
    """
    with TemporaryDirectory(dir=destination.parent) as scratch:
        empty = make_tree(Path(scratch, "empty"))
        copies, runs = [], []
        for number, some in enumerate(arguments):
            copies.append(Path(scratch, str(number)))
            shutil.copytree(destination, copies[-1], copy_function=os.link)
            runs.append(("-r", "--delete", *some, f"{empty}/", f"{copies[-1]}/"))
        _run(runs)
        before = entries_of(destination)
        return [before - entries_of(copy) for copy in copies]


def _run(runs: Sequence[Sequence[bytes | str]]) -> list[bytes]:
    """Run rsync for each list of arguments, several in parallel, and return the outputs."""
    outputs = []
    for start in range(0, len(runs), PARALLEL_RUNS):
        started = [_start(arguments) for arguments in runs[start : start + PARALLEL_RUNS]]
        outputs += [one.communicate()[0] for one in started]
        assert [one.returncode for one in started] == [0] * len(started), outputs
    return outputs


def _start(arguments: Sequence[bytes | str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        (RSYNC, *arguments),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _sent(output: bytes) -> set[bytes]:
    """Return the names of the sent entries, with rsync's escapes undone."""
    names = set(re.findall(rb"^send (.*)$", output, re.MULTILINE)) - {b"./"}
    return {re.sub(rb"\\#([0-7]{3})", lambda m: bytes([int(m[1], 8)]), name) for name in names}


# A fixed tree of short names, half of them wildcards.

TOP = [
    *(b"a", b"b", b"ab", b"a.b", b"[", b"*", b"\\", b"a\nb", b"x y", b"\xff", b"-", b"1", b"a]"),
    b"?",
]
DEEP = [b"a", b"b", b"ab", b"[a]", b"*b", b"a\\b"]
TREE = {
    *(name for name in TOP[4:]),
    *(b"%b/" % parent for parent in TOP[:4]),
    *(b"%b/%b" % (parent, name) for parent in TOP[:4] for name in DEEP[2:]),
    *(b"%b/%b/" % (parent, name) for parent in TOP[:4] for name in DEEP[:2]),
    *(b"%b/%b/%b" % (a, b, c) for a in TOP[:2] for b in DEEP[:2] for c in [*DEEP, b"\xff"]),
}
_PIECES = [
    *(b"a", b"b", b"ab", b".", b"/", b"/", b"*", b"**", b"***", b"?", b"[", b"]", b"!", b"^", b"-"),
    *(b"\\", b"x", b" ", b"\xff", b"1", b"#", b";", b"[ab]", b"[!a]", b"[^*]", b"[a-b]", b"[]a]"),
    *(b"[[:alpha:]]", b"[[:punct:]]", b"[[:foo:]]", b"[[:", b":]", b"[\\]]", b"[/a]", b"[--z]"),
]


@st.composite
def _near_a_path(draw: st.DrawFn) -> bytes:
    """Draw a path of the tree, or its end, with some bytes replaced, escaped or preceded."""
    names = draw(st.sampled_from(sorted(TREE))).split(b"/")
    path = b"/".join(names[draw(st.integers(0, len(names) - 1)) :])
    change = st.sampled_from([b"%b"] * 8 + [b"?", b"*", b"**", b"\\%b", b"[%b]", b"[!%b]", b"*%b"])
    changed = [draw(change).replace(b"%b", path[i : i + 1]) for i in range(len(path))]
    front = draw(st.sampled_from([b"", b"", b"/", b"*/", b"**/", b"/**", b"***"]))
    return front + b"".join(changed) + draw(st.sampled_from([b"", b"", b"/", b"/*", b"/***"]))


def patterns() -> st.SearchStrategy[bytes]:
    """Draw a pattern, often one that matches something in the tree."""
    pieces = st.lists(st.sampled_from(_PIECES), max_size=6).map(b"".join)
    return st.one_of(_near_a_path(), pieces).filter(bool)


def prefixed_patterns() -> st.SearchStrategy[bytes]:
    """Draw an argument of ``--exclude`` or ``--include``."""
    prefixed = st.builds(bytes.__add__, st.sampled_from([b"", b"", b"", b"+ ", b"- "]), patterns())
    return st.one_of(prefixed, prefixed, prefixed, prefixed, st.just(b"!")).filter(
        lambda text: text not in {b"+ ", b"- "}
    )
