"""Which rsync options may be passed through, and why the others may not.

A refused option would break the list of changed paths, hide from us what rsync did, or make a
replica differ without a word. Unknown options pass: a newer rsync may know them, and rsync itself
refuses those that nobody knows.
"""

import re
from collections.abc import Sequence

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError

_LIST = "pylsyncd hands rsync the list of changed paths with it: leave it out"
_REACH = (
    "how far rsync looks is decided by the list of changed paths: leave it out (links, modes, "
    "times, owners and devices are copied in any case)"
)
_PATHS = "the paths in the list are always relative to the source: leave it out"
_DELETION = "pylsyncd decides what is deleted: leave it out, or use --no-delete to keep everything"
_MISSING = "pylsyncd itself chooses how vanished paths are told to rsync: leave it out"
_REFERENTS = "what a symbolic link points to is not watched: have the referent synced by itself"
_DIRECTORY_LINKS = (
    "a directory's content would go to wherever a link at the destination points: put a directory "
    "in the link's place"
)
_FUZZY = "rsync breaks off when it meets paths that are to be deleted (exit status 2): leave it out"
_ERRORS = "a disk that cannot be read would empty the replica: leave it out"
_SOURCE = "it deletes the source's files: leave it out"
_COMPARE = (
    "a change that keeps size and second would never be copied: leave it out, or use --checksum or "
    "--ignore-times to compare more"
)
_APPEND = "a file that was rewritten would be copied wrongly: leave it out"
_RULES = (
    "pylsyncd must know the rules, too: use -x PATTERN, --exclude-from FILE, --include PATTERN or "
    "--filter RULE of pylsyncd"
)
_SHELL = "pylsyncd itself starts the remote shell: use -e COMMAND of pylsyncd"
_MODE = "it makes rsync another program: leave it out"
_NOTHING = "rsync would copy nothing and report success: leave it out"
_DRY_RUN = "pylsyncd would take what was not copied for copied: use -n of pylsyncd"
_OUTPUT = "pylsyncd reads from rsync's output what was done: use -v or -d of pylsyncd to see more"
_FILE_SYSTEM = "it does not keep out listed paths: use -x PATTERN of pylsyncd for mount points"
_MKPATH = "pylsyncd creates missing directories by itself at the start: leave it out"
_REMOTE = (
    "with 1,000 paths or more it makes a local run fail: configure the remote side, or for a "
    "remote shell use --rsync-option='--rsync-path=rsync OPTION'"
)
_DIFFER = "replicas would differ from the source without a word: use -x PATTERN to leave paths out"
_INCOMPLETE = (
    "the replica would lack what stands in the other directory: use --copy-dest=DIR or "
    "--link-dest=DIR"
)
_BATCH = "a batch file has no place in a run that carries a list of changes: run rsync by hand"
_STOP = (
    "every long run would be cut off and begun again: use --bandwidth-limit of pylsyncd to go easy "
    "on the line"
)
_QUOTING = "pylsyncd chooses how paths reach the remote rsync unharmed: leave it out"
_FORCE = "a directory could not become a file: leave it out"
_PROTOCOL = "older protocols know neither vanished paths nor nanoseconds: leave it out"
_DEVICE = "the content of devices would be read or overwritten: leave it out"

_TIMEOUT = "pylsyncd ends runs that are stuck, and must know when: use --timeout of pylsyncd"
_LIMIT = "pylsyncd asks before anything is deleted: use --max-delete of pylsyncd"

_REFUSED_GROUPS = (
    ("--timeout --no-timeout", _TIMEOUT),
    ("--max-delete", _LIMIT),
    ("--files-from --from0 --no-from0 -0", _LIST),
    ("--recursive --no-recursive --no-r -r --archive -a", _REACH),
    ("--dirs --no-dirs --no-d -d --old-dirs --old-d", _REACH),
    ("--inc-recursive --i-r --no-inc-recursive --no-i-r", _REACH),
    ("--relative --no-relative --no-R -R", _PATHS),
    ("--implied-dirs --i-d --no-implied-dirs --no-i-d", _PATHS),
    ("--delete --delete-excluded", _DELETION),
    ("--delete-missing-args --ignore-missing-args", _MISSING),
    ("--no-force", _FORCE),
    ("--copy-links -L --copy-unsafe-links --copy-dirlinks -k", _REFERENTS),
    ("--keep-dirlinks -K", _DIRECTORY_LINKS),
    ("--fuzzy -y", _FUZZY),
    ("--ignore-errors", _ERRORS),
    ("--remove-source-files --remove-sent-files", _SOURCE),
    ("--modify-window -@ --size-only", _COMPARE),
    ("--append --append-verify", _APPEND),
    ("--exclude --exclude-from --include --include-from", _RULES),
    ("--filter -f -F --cvs-exclude -C", _RULES),
    ("--rsh -e", _SHELL),
    ("--daemon --server --sender --config --detach --no-detach --dparam", _MODE),
    ("--help --version -V --list-only", _NOTHING),
    ("--dry-run -n", _DRY_RUN),
    ("--out-format --log-format --info --debug --stats --human-readable -h", _OUTPUT),
    ("--itemize-changes -i --verbose -v --quiet -q --progress -P", _OUTPUT),
    ("--stderr --msgs2stderr --no-msgs2stderr --8-bit-output -8", _OUTPUT),
    ("--one-file-system -x", _FILE_SYSTEM),
    ("--mkpath --no-mkpath", _MKPATH),
    ("--remote-option -M", _REMOTE),
    ("--existing --ignore-non-existing --ignore-existing --update -u", _DIFFER),
    ("--max-size --min-size --prune-empty-dirs -m", _DIFFER),
    ("--compare-dest", _INCOMPLETE),
    ("--write-batch --only-write-batch --read-batch", _BATCH),
    ("--stop-after --stop-at --time-limit", _STOP),
    ("--secluded-args --no-secluded-args --protect-args --no-protect-args --no-s -s", _QUOTING),
    ("--old-args --no-old-args", _QUOTING),
    ("--protocol", _PROTOCOL),
    ("--copy-devices --write-devices", _DEVICE),
)
_REFUSED = {name: reason for names, reason in _REFUSED_GROUPS for name in names.split()}

# They choose the moment of deletion, and switch deletion on if nothing else does.
_DELETION_MOMENTS = frozenset(
    ("--del", "--delete-before", "--delete-during", "--delete-delay", "--delete-after")
)

# The permitted options that take an argument, and how it is written in one piece with them.
_FORMS = (
    "--address=ADDRESS --backup-dir=DIR --block-size=SIZE --bwlimit=RATE --cc=STR "
    "--checksum-choice=STR --checksum-seed=NUM --chmod=CHMOD --chown=USER:GROUP "
    "--compress-choice=STR --compress-level=NUM --compress-threads=NUM --confine-root=DIR "
    "--contimeout=SECONDS --copy-as=USER --copy-dest=DIR --early-input=FILE --groupmap=STRING "
    "--iconv=CONVERT_SPEC --link-dest=DIR --log-file=FILE --log-file-format=FMT "
    "--max-alloc=SIZE --outbuf=N|L|B --partial-dir=DIR --password-file=FILE "
    "--port=PORT --rsync-path=PROGRAM --skip-compress=LIST --sockopts=OPTIONS --suffix=SUFFIX "
    "--temp-dir=DIR --usermap=STRING --zc=STR --zl=NUM --zt=NUM"
)
_WITH_ARGUMENT = {form.partition("=")[0]: form for form in _FORMS.split()} | {
    "-B": "--block-size=SIZE",
    "-T": "--temp-dir=DIR",
}


def check_option(text: str, *, is_delete_enabled: bool = True) -> None:
    """Refuse an rsync option that pylsyncd's runs cannot bear, and what is not one option.

    ``deletes`` tells whether vanished paths are deleted at the destinations. Raises UsageError
    with the option, the reason, and what to do instead.
    """
    if not text.startswith("-") or text in {"-", "--"}:
        raise UsageError(
            f"rsync would take {_show(text)} for the name of a file: --rsync-option takes one "
            "option that begins with a dash, as in --rsync-option=--bwlimit=RATE."
        )
    if "\0" in text:
        raise UsageError(f"The rsync option {_show(text)} holds a NUL: remove it.")
    if text.startswith("--"):
        _check_long(text, deletes=is_delete_enabled)
    else:
        _check_letters(text)


# -H, alone or among other letters; what follows -B and -T is their value.
_KEEPS_LINKS = re.compile(r"--hard-links$|-[^-BT]*H")


def preserves_hard_links(options: Sequence[str]) -> bool:
    """Tell whether rsync makes hard links at the destination of those at the source."""
    return any(_KEEPS_LINKS.match(option) for option in options)


def may_delete(option: str) -> bool:
    """Tell whether an option lets rsync remove what is in the way, even if no other one does."""
    return option in _DELETION_MOMENTS or option == "--force"


def check_combination(options: Sequence[str]) -> None:
    """Refuse options that harm only together. Raises UsageError."""
    if "--inplace" in options and preserves_hard_links(options):
        raise UsageError(
            "The rsync options --hard-links and --inplace do not go together: a file that was "
            "linked to another one before would be written through both names. Leave one out."
        )


def with_absolute_path(text: str, directory: str) -> str:
    """Return an option whose file is found from any directory: rsync runs in the source."""
    name, separator, value = text.partition("=")
    if name in _LOCAL_FILES and value and not value.startswith(("/", "-")):
        return f"{name}{separator}{directory}/{value}"
    return text


# Options of which this side reads or writes the file; a password may come from "-", standard input.
_LOCAL_FILES = frozenset(["--password-file", "--log-file", "--early-input"])


def _check_long(text: str, *, deletes: bool) -> None:
    name, separator, _ = re.split(r"([=\s]|\Z)", text, maxsplit=1)
    _refuse(name, text)
    if name in _DELETION_MOMENTS and not deletes:
        raise UsageError(
            f"The rsync option {name} is refused because it switches deletion on, and --no-delete "
            "is given: leave one of them out."
        )
    if separator.isspace():
        raise UsageError(
            f"{_show(text)} is more than one rsync option: write {_show(name)}=ARGUMENT if the "
            "rest is its argument, or a --rsync-option for each option."
        )
    if not separator:
        _refuse_without_argument(name, text)


def _check_letters(text: str) -> None:
    """Check the letters of a bundle such as ``-zH``; the rest of one may be an argument."""
    for position, letter in enumerate(text[1:], start=1):
        option, rest = f"-{letter}", text[position + 1 :]
        _refuse(option, text)
        if option in _WITH_ARGUMENT:
            # rsync would take a space for a part of the argument.
            if not rest or rest[0].isspace():
                _refuse_without_argument(option, text)
            return
        if letter.isspace():
            raise UsageError(
                f"{_show(text)} is more than one rsync option: write a --rsync-option for each."
            )


def _refuse(option: str, text: str) -> None:
    if option in _REFUSED:
        bundle = f" in {_show(text)}" if len(option) == len("-x") < len(text) else ""
        raise UsageError(
            f"The rsync option {option}{bundle} is refused because {_REFUSED[option]}."
        )


def _refuse_without_argument(option: str, text: str) -> None:
    if option in _WITH_ARGUMENT:
        raise UsageError(
            f"The rsync option {_show(text)} lacks its argument, which has to be in one piece with "
            f"it: write --rsync-option={_WITH_ARGUMENT[option]}."
        )


def _show(text: str) -> str:
    return paths.printable(text.encode("utf-8", "surrogateescape")) if text else "an empty string"
