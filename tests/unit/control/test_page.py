"""The page shows what the table shows, whatever the names in it are."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from support.commands import MIXED_STATUS, NOW, destination, status

from pylsyncd.control.page import CONTENT_SECURITY_POLICY, REFRESH_INTERVAL, format_page
from pylsyncd.control.table import HEADINGS, describe_daemon, status_remarks, summary, table_rows
from pylsyncd.model.formatting import printable
from pylsyncd.model.status import UNVERIFIED, Condition, Status

HOST = "web1"

STATUS = replace(
    status(*MIXED_STATUS.syncs[0].destinations, unwatched=3, oldest_look=125.0),
    last_reload=NOW - 60.0, reload_error="line 3: there is no option windw",
)  # fmt: skip

EVIL = (
    "</style></title><script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>"
    "\"'><meta http-equiv=refresh content='0;url=//evil.example'>&lt;b&gt;\x1b]0;t\x07\u202e\udcff"
)


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts = [""]
        self._is_open = {"style": False, "title": False}
        self.style = self.title = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag in self._is_open:
            self._is_open[tag] = True
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._is_open:
            self._is_open[tag] = False
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self._is_open["style"]:
            self.style += data
        elif self._is_open["title"]:
            self.title += data
        else:
            self.texts[-1] += data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def page(shown: Status = STATUS, host: str = HOST) -> Page:
    return Page(format_page(shown, host))


def test_the_page_has_every_text_of_the_table() -> None:
    texts = page().texts
    for row in table_rows(STATUS):
        assert {*row.cells, *row.remarks} <= set(texts)
    assert {heading.capitalize() for heading in HEADINGS} <= set(texts)
    assert len(status_remarks(STATUS)) == 3
    assert {*status_remarks(STATUS), summary(STATUS), f"pylsyncd on {HOST}"} <= set(texts)
    assert f"{describe_daemon(STATUS)}; " in texts
    assert any(re.fullmatch(r"2023-11-1\d \d\d:\d3:20 \S+", text) for text in texts)


def test_the_title_tells_the_conditions_of_the_destinations() -> None:
    assert page().title == f"{summary(STATUS)} - pylsyncd on {HOST}"


def test_a_name_is_a_text_whatever_is_in_it() -> None:
    plain = status(destination("web/name", error="no"), unwatched=1, held="no")
    each = status(destination(EVIL, error=EVIL), unwatched=1, held=EVIL, name=EVIL, source=EVIL)
    found = page(replace(each, version=EVIL, reload_error=EVIL), EVIL)
    expected = page(replace(plain, reload_error="no"))
    assert found.tags == expected.tags
    assert [each for _, each in found.elements] == [each for _, each in expected.elements]
    assert found.style == expected.style
    assert found.title.endswith(f" - pylsyncd on {printable(EVIL)}")
    assert all(text.isprintable() for text in found.texts if text.strip())
    format_page(each, EVIL).encode()


def test_the_page_runs_and_loads_nothing() -> None:
    found = page()
    assert not {"script", "link", "img", "iframe", "form", "input", "base"} & set(found.tags)
    attributes = [attribute for _, each in found.elements for attribute in each.items()]
    links = {value for name, value in attributes if name in {"href", "src", "action"}}
    assert links == {"metrics", "healthz"}
    assert not [name for name, _ in attributes if name == "style" or name.startswith("on")]
    assert not re.search(r"url\(|@import|expression", found.style)


def test_the_policy_permits_the_style_sheet_and_nothing_else() -> None:
    digest = base64.b64encode(hashlib.sha256(page().style.encode()).digest()).decode()
    directives = dict(each.split(" ", 1) for each in CONTENT_SECURITY_POLICY.split("; "))
    assert directives.pop("style-src") == f"'sha256-{digest}'"
    assert set(directives) == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert set(directives.values()) == {"'none'"}


def test_the_page_reloads_itself_and_fits_a_narrow_screen() -> None:
    metas = [attributes for tag, attributes in page().elements if tag == "meta"]
    assert {"http-equiv": "refresh", "content": str(REFRESH_INTERVAL)} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        (Condition.IN_SYNC, "good"),
        (Condition.SYNCING, "busy"),
        (Condition.RETRYING, "problem"),
        (Condition.HELD, "held"),
        (Condition.FAILED, "held"),
    ],
)
def test_a_state_has_its_word_and_its_colour(condition: Condition, kind: str) -> None:
    assert f'<span class="state {kind}">{condition.value}</span>' in format_page(
        status(destination("a", condition)), HOST
    )


def test_an_unverified_destination_is_not_shown_as_good() -> None:
    each = destination("a", unverified="never compared")
    assert f'<span class="state problem">{UNVERIFIED}</span>' in format_page(status(each), HOST)


def test_every_state_has_a_colour_in_the_style_sheet() -> None:
    style = page().style
    for condition in Condition:
        (kind,) = re.findall(
            r'class="state (\w+)"', format_page(status(destination("a", condition)), HOST)
        )
        assert f".{kind} {{ color: var(--{kind}); }}" in style


def test_a_status_without_syncs_has_a_page() -> None:
    found = page(replace(STATUS, syncs=(), reload_error=""))
    assert "0 destinations, all in sync" in found.texts
    assert not {"table", "ul"} & set(found.tags)
