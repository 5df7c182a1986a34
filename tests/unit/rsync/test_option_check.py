"""The rsync options that may be passed through: every option in ``rsync --help``."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.rsync_features import DELETE_OPTIONS, can_delete_by_name, has_option

from pylsyncd.model.errors import UsageError
from pylsyncd.rsync.option_check import (
    check_option,
    moves_files,
    permits_moves,
    writes_in_place,
)

RSYNC = shutil.which("rsync") or "rsync"
TIMEOUT_SECONDS = 60
# With fewer than 1,000 paths some options seem harmless. If deletion by name is possible, each
# number stands for two paths.
FILES = 600 if can_delete_by_name() else 1200

REFUSED = """
--files-from=FILE --from0 -0 --no-from0
--recursive -r --no-recursive --no-r --archive -a
--dirs -d --no-dirs --no-d --old-dirs --old-d
--inc-recursive --i-r --no-inc-recursive --no-i-r
--relative -R --no-relative --no-R
--implied-dirs --i-d --no-implied-dirs --no-i-d
--delete --delete-excluded --delete-missing-args --ignore-missing-args
--no-force --ignore-errors
--copy-links -L --copy-unsafe-links --copy-dirlinks -k --keep-dirlinks -K
--fuzzy -y
--remove-source-files --remove-sent-files
--modify-window=1 -@1 --size-only
--append --append-verify
--exclude=x --exclude-from=FILE --include=x --include-from=FILE
--filter=RULE -f. -F --cvs-exclude -C
--rsh=ssh -essh
--daemon --server --sender --config=FILE --detach --no-detach --dparam=x=y
--help --version -V --list-only
--dry-run -n
--out-format=FORMAT --log-format=FORMAT --info=FLAGS --debug=FLAGS --stats --human-readable -h
--itemize-changes -i --verbose -v --quiet -q --progress -P
--stderr=all --msgs2stderr --no-msgs2stderr --8-bit-output -8
--one-file-system -x
--mkpath --no-mkpath
--remote-option=-v -M-v
--existing --ignore-non-existing --ignore-existing --update -u
--max-size=1 --min-size=1 --compare-dest=DIR --prune-empty-dirs -m
--timeout=60 --no-timeout --max-delete=5
--write-batch=FILE --only-write-batch=FILE --read-batch=FILE
--stop-after=1 --stop-at=2030-01-01T00:00 --time-limit=1
--secluded-args -s --no-secluded-args --no-s --protect-args --no-protect-args
--old-args --no-old-args
--protocol=29
--copy-devices --write-devices --insecure-links
""".split()  # noqa: SIM905 - a table is easier to read than a list of quoted words

# Options tried together in one run: with each row, a local replica gets the same content.
COMBINATIONS = """
-zHAXS --numeric-ids --bwlimit=1g --partial-dir=.part --delete-delay
--acls --xattrs --atimes -U --hard-links -H --sparse -S --confine-root=/ --delete-before
--links -l --perms -p --owner -o --group -g --times -t --devices --specials -D --delay-updates
--no-perms --no-p --no-owner --no-o --no-group --no-g --no-times --no-t --no-D --no-devices --del
--no-acls --no-xattrs --no-specials --no-links --no-l --no-hard-links --drop-D --executability -E
--chmod=go-w --usermap=0:0 --groupmap=*:0 --super --delete-after --temp-dir=/tmp --checksum -c
--omit-dir-times -O --omit-link-times -J --safe-links --inplace
--ignore-times -I --no-whole-file --no-W --block-size=700 -B700 --checksum-choice=md5 --fsync
--whole-file -W --cc=md5 --checksum-seed=1 --no-inplace --partial --preallocate -T/tmp --no-partial
--chown=0:0 --munge-links --link-dest=/tmp --no-append --no-fuzzy --no-y --force --no-ignore-errors
--copy-dest=/tmp --delete-during --compress --compress-choice=zlib --compress-level=1
-z -zHAX --zc=zlib --zl=1 --skip-compress=gz --rsync-path=rsync --port=8730 --suffix=~
--no-compress --no-z --no-bwlimit --max-alloc=1g --trust-sender --no-motd --outbuf=L
--no-progress --no-verbose --no-v --no-i --no-h --no-x --no-8 --blocking-io --ipv4 -4 --no-backup
--compress-threads=1 --zt=1 --sockopts=TCP_NODELAY --no-blocking-io --ipv6 -6
--early-input=FILE --address=127.0.0.1 -A -X --open-noatime
""".strip().splitlines()

# They keep more than the source has, or need a daemon or a special file system.
NOT_TRIED = """
--backup -b --backup-dir=DIR --fake-super --password-file=FILE --contimeout=9 --no-contimeout
--crtimes -N --iconv=utf8 --no-iconv --copy-as=USER --log-file=FILE --log-file-format=FORMAT
--qsort --some-option-of-the-future -j
""".split()  # noqa: SIM905 - a table is easier to read than a list of quoted words
PERMITTED = [*" ".join(COMBINATIONS).split(), *NOT_TRIED]


@pytest.mark.parametrize("text", REFUSED)
def test_an_option_that_pylsyncd_cannot_use_is_refused_with_the_reason(text: str) -> None:
    option = text[:2] if not text.startswith("--") else text.partition("=")[0]
    with pytest.raises(UsageError) as refusal:
        check_option(text)
    sentence = rf"The rsync option {re.escape(option)}( in .+)? is refused because [^:]+: .+\."
    assert re.fullmatch(sentence, str(refusal.value))


@pytest.mark.parametrize(
    "text", ["--exclude=x", "--include-from=x", "--filter=x", "-f-", "-F", "-C"]
)
def test_the_refusal_of_a_rule_option_names_those_of_pylsyncd(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check_option(text)
    for option in ("-x PATTERN", "--exclude-from FILE", "--include PATTERN", "--filter RULE"):
        assert option in str(refusal.value)


@pytest.mark.parametrize("text", PERMITTED)
def test_every_other_option_is_accepted(text: str) -> None:
    check_option(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("-zr", "The rsync option -r in -zr is refused because the list of changed paths decides"),
        (
            "-avz",
            "The rsync option -a in -avz is refused because the list of changed paths",
        ),
        ("-zHn", "The rsync option -n in -zHn is refused"),
        ("-e ssh", "The rsync option -e in -e ssh is refused because pylsyncd starts"),
        ("-zM-v", "The rsync option -M in -zM-v is refused"),
        ("-delete", "The rsync option -d in -delete is refused"),
        ("--rsh", "The rsync option --rsh is refused"),
        ("--files-from -", "The rsync option --files-from is refused"),
        ("--delete=x", "The rsync option --delete is refused"),
        ("", "rsync would take an empty string for a file name"),
        ("files", "rsync would take files for a file name"),
        (" --delete", "rsync would take  --delete for a file name"),
        ("host:/x", "rsync would take host:/x for a file name"),
        ("-", "rsync would take - for a file name"),
        ("--", "rsync would take -- for a file name"),
        ("--suffix=\0", "holds a NUL byte"),
        ("--bwlimit", "The rsync option --bwlimit lacks its argument.* write .*--bwlimit=RATE"),
        ("--temp-dir", "write --rsync-option=--temp-dir=DIR"),
        ("--bwlimit 100", "more than one rsync option: write --bwlimit=ARGUMENT"),
        ("--checksum --compress", "more than one rsync option"),
        ("--checksum\n", "more than one rsync option"),
        ("-z -c", "-z -c is more than one rsync option"),
        ("-T", "write --rsync-option=--temp-dir=DIR"),
        ("-T /tmp", "write --rsync-option=--temp-dir=DIR"),
        ("-zB", "write --rsync-option=--block-size=SIZE"),
    ],
)
def test_text_that_is_not_one_permitted_option_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as refusal:
        check_option(text)
    assert str(refusal.value).isprintable()
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("text", ["-T/no.such", "-zTrun", "-B=700", "--suffix=", "--chmod=a b"])
def test_the_argument_of_an_option_is_not_checked(text: str) -> None:
    check_option(text)


@pytest.mark.parametrize(
    "text", ["--del", "--delete-before", "--delete-during", "--delete-delay", "--delete-after"]
)
def test_the_time_of_deletion_cannot_be_chosen_with_no_delete(text: str) -> None:
    check_option(text, is_delete_enabled=True)
    with pytest.raises(UsageError, match=f"{text} is refused because it switches deletion on"):
        check_option(text, is_delete_enabled=False)


def bare(text: str) -> str:
    """Return an option without its argument."""
    return text.partition("=")[0] if text.startswith("--") else text[:2]


def options_in_help() -> list[str]:
    """Return all options in the help of the installed rsync, as in ``--rsh=COMMAND, -e``."""
    run = subprocess.run([RSYNC, "--help"], capture_output=True, check=True, text=True)
    lines = [line for line in run.stdout.splitlines() if line.startswith("-")]
    found = [
        option
        for line in lines
        for option in re.findall(r"(?:^|, )(--?[\w@-]+)", line.partition("  ")[0])
    ]
    assert len(lines) > 120, "rsync --help looks otherwise than this test knows"
    return [option for option in found if option != "--no-OPTION"]


def test_every_option_in_the_help_is_refused_or_permitted_on_purpose() -> None:
    refused, permitted = set(map(bare, REFUSED)), set(map(bare, PERMITTED))
    assert not refused & permitted
    assert sorted(set(options_in_help()) - refused - permitted) == []


OTHER_PROGRAMS = {"--daemon", "--server", "--sender", "--config", "--detach", "--no-detach"}


@pytest.mark.parametrize(
    "text", [text for text in REFUSED if bare(text) not in OTHER_PROGRAMS | {"--dparam"}]
)
def test_rsync_knows_every_option_that_is_refused(tmp_path: Path, text: str) -> None:
    if not has_option(text):
        pytest.skip(f"the rsync here is older than {text}")
    run = subprocess.run(
        [RSYNC, text, "--version"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert "unknown option" not in run.stderr


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a source and a replica in which every file is out of date."""
    top = tmp_path_factory.mktemp("trees")
    source, stale = top / "source", top / "stale"
    for directory in (source, stale):
        (directory / "sub").mkdir(parents=True)
    for number in range(FILES):
        (source / f"{number}").write_text(f"new {number}")
        (stale / f"gone{number}").write_text("old")
    (source / "sub" / "file").write_text("new")
    (stale / "sub" / "file").write_text("old")
    return source, stale


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def run_with_list(source: Path, replica: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run rsync as pylsyncd does, with every path to send and every path to delete."""
    names = [f"./{number}\0./gone{number}\0" for number in range(FILES)]
    # Without deletion by name, rsync has to list the parent.
    listed = [] if can_delete_by_name() else ["./\0"]
    command = [RSYNC, "-lptgoD", "--dirs", "--modify-window=-1", *DELETE_OPTIONS, "--from0"]
    command += ["--files-from=-", *options, "--", f"{source}/"]
    return subprocess.run(
        [*command, f"{replica}/"],
        input="".join(["./sub/file\0", *listed, *names]).encode(),
        capture_output=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_permitted_options_leave_the_list_protocol_intact(
    tmp_path: Path, trees: tuple[Path, Path], combination: str
) -> None:
    source, stale = trees
    replica = tmp_path / "replica"
    shutil.copytree(stale, replica)
    options = [*filter(has_option, combination.split())]
    if os.geteuid() != 0 and "--super" in options:
        # Then rsync fails to change owners and groups, instead of leaving them alone.
        options.remove("--super")
    run = run_with_list(source, replica, *options)
    assert run.returncode == 0, run.stderr.decode(errors="replace")
    assert contents(replica) == contents(source)
    assert os.listdir(replica / "sub") == ["file"]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        *((option, True) for option in ("--temp-dir=/tmp", "-T/tmp", "-b", "-zb", "--backup")),
        *((option, True) for option in ("--backup-dir=x", "--partial-dir=x", "--delay-updates")),
        *((option, False) for option in ("--bwlimit=1", "-z", "-B512", "--partial", "--checksum")),
    ],
)
def test_options_that_move_files_are_known(option: str, expected: bool) -> None:
    assert moves_files(["-z", option]) is expected


@pytest.mark.parametrize(
    ("options", "is_permitted"),
    [
        ((), True), (("-z", "--numeric-ids"), True), (("-Tb",), True), (("-BH",), True),
        (("-b",), False), (("-zb",), False), (("--backup",), False), (("--suffix=~",), False),
        (("-H",), False), (("--hard-links",), False), (("--link-dest=/x",), False),
        (("--copy-dest=x",), False), (("--iconv=a,b",), False), (("--copy-as=u",), False),
        (("--inplace",), True),
    ],
    ids=str,
)  # fmt: skip
def test_copies_are_moved_unless_names_mean_something_else(
    options: tuple[str, ...], *, is_permitted: bool
) -> None:
    assert permits_moves(options) is is_permitted


@pytest.mark.parametrize(
    ("option", "is_in_place"),
    [("--inplace", True), ("--append-verify", True), ("--append", True), ("--in", False)],
)
def test_files_may_be_written_in_place(option: str, *, is_in_place: bool) -> None:
    assert writes_in_place(["-z", option]) is is_in_place
