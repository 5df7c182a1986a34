"""The capabilities of this process, capabilities(7)."""

from collections.abc import Iterable
from typing import Final

DAC_READ_SEARCH: Final = "CAP_DAC_READ_SEARCH"
SYS_ADMIN: Final = "CAP_SYS_ADMIN"

# Of linux/capability.h.
_BITS: Final = {DAC_READ_SEARCH: 2, SYS_ADMIN: 21}


def find_missing(names: Iterable[str]) -> list[str]:
    """Return the names of the capabilities that this process does not have.

    Those that it has may count in its user namespace only.
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return [name for name in names if not effective >> _BITS[name] & 1]
