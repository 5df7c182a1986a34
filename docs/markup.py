"""Makes pieces of a page: sections, explained terms, paragraphs in which options stand out."""

import re
from collections.abc import Iterable
from typing import TypeAlias

from docutils import nodes

Row: TypeAlias = tuple[nodes.Node, list[nodes.Node]]
"""A term, and what it means."""


def section(title: str, *children: nodes.Node) -> nodes.Node:
    """Return a subsection."""
    name = nodes.fully_normalize_name(title)
    return nodes.section("", nodes.title(title, title), *children, ids=[nodes.make_id(name)])


def definitions(rows: Iterable[Row]) -> nodes.Node:
    """Return a list of terms, each with what it means."""
    return nodes.definition_list(
        "",
        *(
            nodes.definition_list_item("", term, nodes.definition("", *definition))
            for term, definition in rows
        ),
    )


# What is said by itself, and is neither in a word nor behind an equals sign.
_FLAG = re.compile(r"(?<![\w=-])(-[a-z]\b|--[a-z][a-z-]*)")


def paragraph(text: str) -> nodes.Node:
    """Return a paragraph in which the names of options stand out."""
    pieces = _FLAG.split(text)
    return nodes.paragraph(
        "",
        "",
        *(
            nodes.strong(piece, piece) if position % 2 else nodes.Text(piece)
            for position, piece in enumerate(pieces)
        ),
    )


def flags_of(flags: Iterable[str]) -> nodes.Node:
    """Return the term that flags begin, which all mean the same."""
    term = nodes.term()
    for flag in flags:
        if term.children:
            term += nodes.Text(", ")
        term += nodes.strong(flag, flag)
    return term


def sentence_of(text: str) -> str:
    """Return the words that argparse shows as a sentence."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."
