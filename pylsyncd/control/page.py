"""The status as a page for a browser: the same texts as the table's. Pure.

It needs no script and loads nothing. Names and messages may come from strangers: they are escaped,
and the policy in the header keeps the browser from running or loading anything all the same.
"""

import base64
import hashlib
from collections.abc import Iterator
from datetime import datetime, timezone
from html import escape

from pylsyncd.control.table import (
    HEADINGS,
    TableRow,
    describe_daemon,
    status_remarks,
    summary,
    table_rows,
)
from pylsyncd.model.formatting import printable
from pylsyncd.model.status import UNVERIFIED, Condition, Status

REFRESH_INTERVAL = 10
"""Seconds after which a browser loads the page again."""

# The colour of a state; one that is not named here is a problem.
_KINDS = {
    Condition.IN_SYNC.value: "good",
    Condition.STARTING.value: "busy",
    Condition.WAITING.value: "busy",
    Condition.SYNCING.value: "busy",
    Condition.RETRYING.value: "problem",
    Condition.PAUSED.value: "problem",
    UNVERIFIED: "problem",
    Condition.HELD.value: "held",
    Condition.FAILED.value: "held",
}

# On a narrow screen each destination is a card instead of a row.
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --faint: #59636e; --line: #d1d9e0;
  --back: #ffffff; --card: #f6f8fa; --good: #116329; --busy: #0550ae; --problem: #7d4e00;
  --held: #b3091c; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --faint: #9da7b1; --line: #3d444d;
  --back: #0d1117; --card: #161b22; --good: #56d364; --busy: #79c0ff; --problem: #e3b341;
  --held: #ff8e86; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; color: var(--text);
  background: var(--back); font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.35rem; }
header p { margin: 0.2rem 0; }
.faint, footer, th { color: var(--faint); font-size: 0.875rem; }
.summary { font-size: 1.1rem; }
table { width: 100%; margin: 1rem 0; border-collapse: collapse; }
th, td { padding: 0.4rem 0.75rem 0.4rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
tbody { border-top: 1px solid var(--line); }
tbody tr:first-child td { font-variant-numeric: tabular-nums; }
td[data-heading="Last run"] { overflow-wrap: break-word; }
td[data-heading="Behind"], td[data-heading="Waiting"], td[data-heading="Next attempt"], time {
  white-space: nowrap; }
td[data-heading="Destination"] { font-weight: 600; }
.remark td { padding: 0 0 0.4rem 1.5rem; }
.state { font-weight: 600; white-space: nowrap; }
.state::before { content: ""; display: inline-block; width: 0.6em; height: 0.6em;
  margin-right: 0.45em; border-radius: 50%; background: currentColor; }
.good { color: var(--good); } .busy { color: var(--busy); }
.problem { color: var(--problem); } .held { color: var(--held); }
ul { margin: 1rem 0; padding-left: 1.2rem; }
a { color: inherit; }
@media (max-width: 48rem) {
  table, tbody, tr, td { display: block; }
  thead, .none { display: none; }
  tbody { margin: 0.75rem 0; padding: 0.6rem 0.75rem; border: 1px solid var(--line);
    border-radius: 0.5rem; background: var(--card); }
  td { display: grid; grid-template-columns: 7rem 1fr; padding: 0.1rem 0; }
  td::before { content: attr(data-heading); color: var(--faint); font: 0.875rem/1.6 system-ui; }
  .remark td { display: block; padding: 0.3rem 0 0; }
  .remark td::before { content: none; }
}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The browser applies the one style sheet, and loads, runs and embeds nothing else."""


def format_page(status: Status, host: str) -> str:
    """Return the page that shows a status; ``host`` names this machine."""
    return "\n".join(_lines(status, escape(printable(host)))) + "\n"


def _lines(status: Status, host: str) -> Iterator[str]:
    described = escape(summary(status))
    local_time = datetime.fromtimestamp(status.time, timezone.utc).astimezone()
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="refresh" content="{REFRESH_INTERVAL}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{described} - pylsyncd on {host}</title>"
    yield f"<style>{_STYLE}</style>"
    yield "</head>"
    yield "<body>"
    yield "<header>"
    yield f"<h1>pylsyncd on {host}</h1>"
    yield f'<p class="summary">{described}</p>'
    daemon = escape(describe_daemon(status))
    yield f'<p class="faint">{daemon}; <time>{local_time:%Y-%m-%d %H:%M:%S %Z}</time></p>'
    yield "</header>"
    yield "<main>"
    yield from _table_lines(table_rows(status))
    if remarks := status_remarks(status):
        yield "<ul>"
        yield from (f"<li>{escape(remark)}</li>" for remark in remarks)
        yield "</ul>"
    yield "</main>"
    yield (
        f"<footer>Loaded again every {REFRESH_INTERVAL} seconds. "
        'See also: <a href="metrics">metrics</a>, <a href="healthz">health</a>.</footer>'
    )
    yield "</body>"
    yield "</html>"


def _table_lines(rows: list[TableRow]) -> Iterator[str]:
    if not rows:
        return
    headings = [heading.capitalize() for heading in HEADINGS]
    yield "<table>"
    yield "<thead>"
    yield "<tr>" + "".join(f'<th scope="col">{heading}</th>' for heading in headings) + "</tr>"
    yield "</thead>"
    for row in rows:
        yield "<tbody>"
        yield "<tr>" + "".join(map(_cell, headings, row.cells)) + "</tr>"
        for remark in row.remarks:
            yield f'<tr class="remark"><td colspan="{len(headings)}">{escape(remark)}</td></tr>'
        yield "</tbody>"
    yield "</table>"


def _cell(heading: str, text: str) -> str:
    content = escape(text)
    if heading == "State":
        content = f'<span class="state {_KINDS.get(text, "problem")}">{content}</span>'
    attribute = ' class="none"' if text == "-" else ""
    return f'<td data-heading="{heading}"{attribute}>{content}</td>'
