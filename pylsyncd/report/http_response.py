"""What the server at the metrics port sends. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response to a GET request."""

    content: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


Pages: TypeAlias = Mapping[str, Callable[[str], HttpResponse]]
"""By its path, what makes the response from the query of a request."""
