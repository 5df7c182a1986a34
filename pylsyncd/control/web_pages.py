"""The pages at the metrics port that show the status: for people, and for what polls the health."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qs

from pylsyncd.config.quantities import parse_time
from pylsyncd.control.nagios import DEFAULT_MAX_LAG, ServiceState, Thresholds, judge
from pylsyncd.control.page import CONTENT_SECURITY_POLICY, format_page
from pylsyncd.model.formatting import printable
from pylsyncd.model.status import Status
from pylsyncd.report.http_response import HttpResponse, Pages


def make_pages(read: Callable[[], Status], host: str) -> Pages:
    """Return the pages that show the status which ``read()`` returns, on a machine of this name."""
    return {"/": partial(_status_page, read, host), "/healthz": partial(_health_page, read)}


def _status_page(read: Callable[[], Status], host: str, _query: str) -> HttpResponse:
    return HttpResponse(
        format_page(read(), host).encode(),
        "text/html; charset=utf-8",
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
    )


def _health_page(read: Callable[[], Status], query: str) -> HttpResponse:
    """Return the verdict of ``pylsyncctl status --check``: only what is critical is an error."""
    try:
        max_lag = _parse_max_lag(query)
    except ValueError:
        text = "max_lag must be a time, such as 90 (seconds) or 10min"
        return _text_response(HTTPStatus.BAD_REQUEST, text)
    state, text = judge([read()], Thresholds(max_lag))
    is_failing = state >= ServiceState.CRITICAL
    http_status = HTTPStatus.SERVICE_UNAVAILABLE if is_failing else HTTPStatus.OK
    return _text_response(http_status, f"{state.name}: {printable(text)}")


def _parse_max_lag(query: str) -> float:
    """Return the lag in seconds above which a destination is critical; raises ValueError."""
    if not query:
        return DEFAULT_MAX_LAG
    ((key, (value,)),) = parse_qs(query, strict_parsing=True, max_num_fields=1).items()
    if key != "max_lag":
        raise ValueError(query)
    return parse_time(value)


def _text_response(status: HTTPStatus, line: str) -> HttpResponse:
    return HttpResponse(f"{line}\n".encode(), "text/plain; charset=utf-8", status)
