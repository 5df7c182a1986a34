"""The base exceptions. Their texts are messages for the administrator."""


class PylsyncdError(Exception):
    """An error that is shown without a traceback: what happened, to what, and what to do."""


class UsageError(PylsyncdError):
    """An impossible request on the command line or in the configuration (exit status 2)."""


class WatchError(PylsyncdError):
    """The source cannot be watched."""


class StateError(PylsyncdError):
    """A state or status cannot be used; the text is a reason, to be put into a sentence."""
