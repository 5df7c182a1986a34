"""Compares destinations with the source, and changes nothing."""

import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pylsyncd import walk
from pylsyncd.commands import HERE, Abilities
from pylsyncd.config import Settings
from pylsyncd.endpoints import Destination
from pylsyncd.logs import counted
from pylsyncd.outcomes import Verdict, gist, interpret
from pylsyncd.rsync import Runner

log = logging.getLogger(__name__)

# "%i %n%L": eleven letters that say what differs, and the name.
_ITEM = re.compile(r"(?P<what>[<>ch.*].)(?P<how>.{9}) (?P<name>.*)", re.DOTALL)


def audit(settings: Settings, *, checksum: bool) -> Iterator[str]:
    """Yield a line for each path that differs, and for each destination that cannot be asked.

    Nothing means that all are equal. Contents are compared by size and time, with ``checksum`` byte
    by byte. A source that changes meanwhile differs.
    """
    with ThreadPoolExecutor(max_workers=len(settings.destinations)) as pool:
        found = [
            pool.submit(_compare, settings, destination, checksum=checksum)
            for destination in settings.destinations
        ]
        for destination, future in zip(settings.destinations, found, strict=True):
            lines = future.result()
            if not lines:
                log.info("[%s] equal", destination.name)
            for line in lines:
                yield f"[{destination.name}] {line}"


def _compare(settings: Settings, destination: Destination, *, checksum: bool) -> list[str]:
    abilities = Abilities(mkpath=False)
    command = settings.rsync.compare(HERE, destination, abilities, checksum=checksum)
    items: list[str] = []
    root = walk.open_root(settings.source.path)
    try:
        run = Runner().run(
            command, b"", items.append, directory=root, silence=1.5 * settings.rsync.timeout
        )
    finally:
        os.close(root)
    lines = [line for item in items if (line := _in_words(item))]
    outcome = interpret(run.code, run.messages, run.stalled)
    if outcome.verdict is not Verdict.DONE:
        message = gist(run.messages)
        lines.append(f"not compared to the end: {outcome.reason} ({message})")
    log.debug("[%s] %s", destination.name, counted(len(lines), "difference"))
    return lines


def _in_words(item: str) -> str:
    """Return what an itemized line of rsync says, in words."""
    found = _ITEM.fullmatch(item)
    if not found:
        return item
    what, how, name = found["what"], found["how"], found["name"]
    if what == "*d":
        return f"only there: {name}"
    if "+" in how:
        return f"missing there: {name}"
    differing = [word for letter, word in _ATTRIBUTES.items() if letter in how]
    if what[0] in "<>c" and not differing:
        differing = ["content"]
    return f"differs in {', '.join(differing)}: {name}" if differing else ""


_ATTRIBUTES = {
    "c": "content",
    "s": "size",
    "t": "time",
    "T": "time",
    "p": "mode",
    "o": "owner",
    "g": "group",
    "u": "access time",
    "a": "ACL",
    "x": "extended attributes",
}
