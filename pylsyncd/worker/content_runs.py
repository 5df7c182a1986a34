"""Finds the files whose content size and time do not tell, and how a run compares them."""

from dataclasses import replace

from pylsyncd.model.changes import Changeset
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.scoped_paths import NO_PATHS
from pylsyncd.pipeline.optimizer import split_below
from pylsyncd.rsync.command import ContentComparison, RsyncOptions
from pylsyncd.rsync.content_check import (
    CarriedTimes,
    ContentCheck,
    carried_times,
    check_contents,
    left_out_test,
)
from pylsyncd.rsync.file_list import FileList
from pylsyncd.worker.statistics import Statistics
from pylsyncd.worker.transfer_commands import TransferCommands
from pylsyncd.worker.transfer_result import TransferRequest

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


def times_carried(statistics: Statistics, options: RsyncOptions) -> CarriedTimes:
    """Return the times of files that a destination's earlier runs may have carried."""
    if options.has_exact_times:
        return carried_times(statistics.latest_listed_ns)
    return carried_times(statistics.latest_carried_ns, options.time_tolerance_ns)


def check_request(
    request: TransferRequest, files: FileList, commands: TransferCommands, statistics: Statistics
) -> ContentCheck:
    """Find out which files of a list, or of a full sync, have to be compared by content."""
    hints = request.changeset.new_content
    is_full = request.is_full_sync
    if request.options.compares_contents or request.only_deletes:
        hints = NO_PATHS
    elif is_full and hints:
        hinted = Changeset(hints.entries, hints.listings, hints.trees)
        _, carried = split_below(hinted, request.left_out)
        files = commands.build_list(replace(request, changeset=carried, is_part=True))
    check = check_contents(
        request.root, files, hints, times_carried(statistics, request.options),
        left_out_test(request.options.rules, request.left_out, files),
    )  # fmt: skip
    statistics.record_carried(check.latest_ns)
    return replace(check, can_join=check.can_join and (hints.is_everything or not is_full))
