"""The exceptions. Each carries a sentence for the person who must act."""


class PylsyncdError(Exception):
    """What happened, to what, and what to do: shown as it is, without a traceback."""


class UsageError(PylsyncdError):
    """The command line or the configuration asks for what cannot be (exit status 2)."""


class WatchError(PylsyncdError):
    """The source cannot be watched."""


class StateError(PylsyncdError):
    """What was kept from an earlier run cannot be used."""
