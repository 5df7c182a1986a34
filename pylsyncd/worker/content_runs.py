"""Chooses how a run compares the files whose content size and time do not tell."""

from pylsyncd.model.destination_notation import Transport
from pylsyncd.rsync.command import ContentComparison
from pylsyncd.rsync.content_check import ContentCheck

# How much may be read in the source before the first byte is sent, at most and for each second of
# the timeout, in half of which a slow disk reads so much.
_MAX_CHECKSUM_BYTES = 4 << 30
_CHECKSUM_BYTES_PER_SECOND = 20 << 20

# Up to this size, directories that appeared are taken for new at the destination, too: then it is
# cheaper to send their files than to read them twice. If it has equal ones, they are written again.
_MAX_NEW_TREE_BYTES = 64 << 20


def choose_comparison(
    check: ContentCheck, transport: Transport, timeout: float
) -> ContentComparison:
    """Return how to compare files; ``timeout`` is rsync's, in seconds."""
    most = min(_MAX_CHECKSUM_BYTES, _CHECKSUM_BYTES_PER_SECOND * timeout)
    if check.size > most or transport is Transport.DAEMON:
        # A daemon may refuse --checksum.
        return ContentComparison.CONTENTS
    if check.size <= _MAX_NEW_TREE_BYTES and check.compares_directories_alone:
        return ContentComparison.CONTENTS
    return ContentComparison.CHECKSUMS
