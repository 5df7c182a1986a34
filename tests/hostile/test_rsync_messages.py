"""What rsync writes is a claim: its paths, its numbers and its reasons are checked."""

import signal
from pathlib import Path

import pytest
from hostile.scripted_rsync import Act
from hostile.targets import SECONDS, Targets
from support.waiting import wait_until

REASON = "Permission denied (13)"
DENIED = f"failed: {REASON}"
SKIPPED = "IO error encountered -- skipping file deletion"
DIGITS = "9" * 5000
FLOOD = 200_000  # lines


def says(*lines: str) -> list[Act]:
    return [Act("\n".join(lines))]


def mkstemp(path: str, who: str = "[receiver] ") -> list[Act]:
    """Return the complaint about a temporary file of this path at the destination."""
    return [Act(f'rsync: {who}mkstemp "{{dst}}/{path}" {DENIED}')]


def cannot_delete(path: str) -> list[Act]:
    return [Act(f"cannot delete non-empty directory: {path}")]


def vanished(path: str) -> list[Act]:
    return [Act(f'file has vanished: "/proc/self/cwd/{path}"', exit_status=24)]


def unreadable(name: str) -> list[Act]:
    return [Act(f'rsync: [sender] open "/proc/self/cwd/{name}": Permission denied (13)')]


def succeeds(stdout: str = "", stderr: str = "") -> list[Act]:
    """Return what the real rsync does, with more text on its outputs."""
    return [Act(stdout=stdout, stderr=stderr, exit_status=0, runs=1, carries=True)]


SHAPES: dict[str, list[Act]] = {
    # Paths that were not sent.
    "the temporary of a name of dots": mkstemp("....abcdef"),
    "the temporary of dots and letters": mkstemp("...abcdef.ABCDEF"),
    "a temporary that would be an excluded directory": mkstemp(".secret.abcdef"),
    "an excluded file": mkstemp("secret/.key.abcDEF"),
    "an excluded file, by an old rsync": mkstemp("secret/.key.abcDEF", who=""),
    "the parent of the destination": mkstemp("../.outside.abcdef"),
    "an excluded directory": cannot_delete("secret"),
    "an excluded directory below": cannot_delete("secret/deep"),
    "a mount point that is excluded": [Act("cannot delete mount point: secret")],
    "an excluded symlink": [Act(f'rsync: [generator] symlink "{{dst}}/secret" -> "x" {DENIED}')],
    "an excluded file that vanished": vanished("secret/key"),
    "the parent of the source": vanished(".."),
    "a sibling of the source": vanished("../outside"),
    "dots in the middle": [Act("could not make way for new regular file: d/../../outside")],
    "an absolute path": [Act("could not make way for new regular file: /etc/passwd")],
    "the root": cannot_delete("."),
    "no path": cannot_delete(""),
    "a path of slashes": cannot_delete("////"),
    "a path with zero bytes": cannot_delete("d\\#000b"),
    "an escaped slash": cannot_delete("secret\\#057deep"),
    "escaped dots": cannot_delete("\\#056\\#056"),
    "octal numbers over 255": cannot_delete("\\#999\\#400"),
    "a path longer than any": cannot_delete("x/" * 10_000),
    "a name longer than any": cannot_delete("x" * 20_000),
    "a path that was not sent": cannot_delete("not/sent/at/all"),
    "a thousand paths": [
        Act("\n".join(f"cannot delete non-empty directory: d/{n}" for n in range(1000)))
    ],
    "a thousand excluded paths": [
        Act("\n".join(f"cannot delete non-empty directory: secret/{n}" for n in range(1000)))
    ],
    "a temporary symlink of an excluded directory": says(
        f'rsync: [generator] symlink "{{dst}}/.secret.717" -> "x" failed: {REASON}'
    ),
    "a hard link in an excluded directory": says(
        f'rsync: [generator] link "{{dst}}/secret/key" => a {DENIED}'
    ),
    "the mode of an excluded directory": says(
        f'rsync: [generator] failed to set permissions on "{{dst}}/secret": {REASON}'
    ),
    "the owner of an excluded file": says(f'rsync: [receiver] chown "{{dst}}/secret/key" {DENIED}'),
    "the access list of an excluded file": says(
        f"rsync: [receiver] set_acl: sys_acl_set_file(secret/key, ACL_TYPE_ACCESS): {REASON}"
    ),
    "an attribute of an excluded file": says(
        f'rsync: [receiver] rsync_xal_set: lsetxattr("{{dst}}/secret/key","user.x") {DENIED}'
    ),
    "a removal in an excluded directory": says(
        f"rsync: [generator] delete_file: unlink(secret/only-there) {DENIED}"
    ),
    "an excluded file that a daemon refuses": says(
        'ERROR: daemon refused to receive file "secret/key"'
    ),
    "an excluded file that changed": says(
        "WARNING: secret/key failed verification -- update discarded (will try again)."
    ),
    "a rename into an excluded directory": says(
        f'rsync: [receiver] rename "{{dst}}/.a.abcdef" -> "secret/key": {REASON}'
    ),
    "an excluded path that is too long": says("filename overflows max-path len by 9: secret/key"),
    "an excluded name in another alphabet": says(
        "[sender] cannot convert filename: secret/key (Invalid or incomplete character)"
    ),
    "an excluded parent": says("WARNING: parent dir is absent in the file list: secret/deep"),
    "an excluded path and skipped deletions": says(
        f"{SKIPPED}\ncannot delete non-empty directory: secret/deep"
    ),
    "the root and skipped deletions": says(
        f'{SKIPPED}\nrsync: [generator] failed to set times on "{{dst}}/.": {REASON}'
    ),
    "the root that cannot be made": says(
        f'rsync: [generator] recv_generator: mkdir "{{dst}}/." {DENIED}'
    ),
    "an honest message and a hostile one": says(
        f'rsync: [receiver] mkstemp "{{dst}}/.a.abcdef" {DENIED}\n'
        "cannot delete non-empty directory: secret"
    ),
    "a slash at the end": cannot_delete("secret/"),
    "dots that mean nothing": cannot_delete("././secret/./deep/."),
    "slashes that mean nothing": cannot_delete("d//..//..//outside"),
    "an escaped newline": cannot_delete("d\\#012/../../outside"),
    "the destination above the destination": says(
        f'rsync: [receiver] open "{{dst}}/../outside" {DENIED}'
    ),
    "the source as a path of the destination": says(
        f'rsync: [receiver] open "{{src}}/secret/key" {DENIED}'
    ),
    "a name that begins like the destination": says(
        f'rsync: [receiver] open "{{dst}}-secret/key" {DENIED}'
    ),
    # Items.
    "items outside the source": succeeds(">f+++++++++ ../../outside\ncd+++++++++ ../"),
    "a million deletions": [
        Act(stdout="*deleting   ../outside", exit_status=0, runs=1, carries=True, times=1_000_000)
    ],
    "items without names": succeeds(">f+++++++++ \n*deleting   \ndeleting "),
    # Numbers.
    "numbers with commas": succeeds("Number of deleted files: 1,000\nTotal bytes sent: 1,000,000"),
    "numbers with exponents": succeeds("Number of deleted files: 1e999\nTotal bytes sent: NaN"),
    "counters that grow": [
        Act(
            stdout="Number of regular files transferred: 9999999999999999999\n",
            exit_status=0,
            runs=1,
            carries=True,
            times=10_000,
        )
    ],
    "deleted files of 5,000 digits": succeeds("Number of deleted files: " + DIGITS),
    "sent files of 5,000 digits": succeeds("Number of regular files transferred: " + DIGITS),
    "bytes of 5,000 digits": succeeds("Total bytes sent: " + DIGITS),
    "created files of 5,000 digits": succeeds(f"Number of created files: {DIGITS} (reg: {DIGITS})"),
    "progress of 5,000 digits": succeeds(
        f"\r {DIGITS} {DIGITS}%  9.99GB/s 0:00:01 (xfr#{DIGITS}, to-chk={DIGITS}/{DIGITS})"
    ),
    "a negative number": succeeds("Number of deleted files: -1"),
    # Floods.
    "a flood of one complaint": [
        Act(f'rsync: [receiver] mkstemp "{{dst}}/.a.abcdef" {DENIED}', times=FLOOD)
    ],
    "a flood of long lines": [Act("rsync: " + "read errors mapping " * 500, times=1000)],
    "a flood of mkdirs": [Act("mkdir " * 3000, exit_status=11, times=600)],
    "a flood of senders": [Act("[sender] " * 2000, times=600)],
    "a line that never ends": [Act("x" * 5_000_000)],
    "a flood without lines": [Act("\r" * 5_000_000)],
    "zero bytes": [Act("\0" * 100_000)],
    "a terminal's commands": [Act("\x1b[2J\x1b]0;title\x07rsync: \x9b31m failed")],
    "invalid characters": [Act("rsync: \xff\xfe\x80 failed: Permission denied (13)")],
    # Reasons.
    "a motd that speaks of quota": succeeds("Quota for all: 20 GB. No space left? Call us."),
    "a banner that denies": succeeds(stderr="Permission denied to all but members of the club."),
    "a file that is called quota": unreadable("quota.txt"),
    "a file named like the limit of deletions": unreadable("Deletions stopped due to --max-delete"),
    "a file named like rsync": unreadable("rsync: [x"),
    "a probe that lies": [Act("invalid file mode 00", exit_status=2, answers_probes=True)],
    "all options are unknown": [
        Act("rsync: --mkpath: unknown option", exit_status=1, answers_probes=True)
    ],
    # Ends.
    "it is killed": [Act(signal=signal.SIGKILL)],
    "it ends with 255": [Act(exit_status=255)],
    "it ends with an unknown status": [Act(exit_status=199)],
    "it says that it has done all": [Act(exit_status=0, runs=1)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_rsync_writes_leads_nowhere(tmp_path: Path, shape: str) -> None:
    targets = Targets(tmp_path)
    with targets.daemon() as daemon:
        daemon.wait_for(r"\[hostile\] initial sync complete")
        targets.rsync.play([targets.localized(act) for act in SHAPES[shape]])
        targets.change()
        targets.wait_for_equal(targets.good, daemon)
        wait_until(
            lambda: targets.status_is_answered() and targets.rsync.has_finished, SECONDS,
            message=lambda: daemon.log_tail,
        )  # fmt: skip
        # It is honest again: whatever it said, its copy becomes equal.
        daemon.full_sync()
        targets.wait_for_equal(targets.hostile, daemon)
        targets.check_lists()
        targets.check_nothing_lost()
