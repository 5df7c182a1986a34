"""Whether a destination was ever compared with the source as a whole."""

import shlex


class Verification:
    """What is known of a destination's differences from the time before pylsyncd served it.

    Changes are carried as they are seen. A copy that was never carried or compared as a whole may
    differ elsewhere, although no change waits for it: it is unverified. Set by the worker's thread;
    any thread may ask.
    """

    def __init__(self, *, is_verified: bool = False, is_dry_run: bool = False) -> None:
        self._is_verified = is_verified
        self._is_dry_run = is_dry_run

    @property
    def is_verified(self) -> bool:
        """True if a run has carried everything, or compared it and found it there."""
        return self._is_verified and not self._is_dry_run

    def record_complete(self) -> None:
        """Record that everything was carried or compared; what has failed is pending apart."""
        self._is_verified = True

    def describe(self, name: str, *, owes_everything: bool) -> str:
        """Return why the destination of a name is unverified, and what to do; "" if it is not."""
        if self.is_verified:
            return ""
        if self._is_dry_run:
            return "a dry run changes nothing: start pylsyncd without --dry-run"
        if owes_everything:
            return "its full sync is not complete"
        return (
            "it was never compared with the source as a whole: run "
            f"pylsyncctl sync {shlex.quote(name)}"
        )
