"""The exceptions."""

import pytest

from pylsyncd.model.errors import PylsyncdError, StateError, UsageError, WatchError


@pytest.mark.parametrize("kind", [StateError, UsageError, WatchError])
def test_every_error_is_caught_as_an_error_for_the_administrator(kind: type[Exception]) -> None:
    with pytest.raises(PylsyncdError, match=r"^what happened$"):
        raise kind("what happened")
