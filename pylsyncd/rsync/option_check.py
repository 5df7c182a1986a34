"""Checks the rsync options that an administrator passes through.

A refused option would break the list of changed paths, hide from pylsyncd what rsync did, or
silently make a replica differ. Unknown options pass: a newer rsync may know them, and otherwise
rsync itself refuses them.
"""

import re
from collections.abc import Sequence

from pylsyncd.model import paths
from pylsyncd.model.errors import UsageError

# Groups of refused options, and the end of the sentence "The rsync option ... is refused because".
_REFUSED_GROUPS = (
    ("--timeout --no-timeout",
     "pylsyncd must know when a run has stalled: use --timeout of pylsyncd"),
    ("--max-delete",
     "pylsyncd checks the limit before anything is deleted: use --max-delete of pylsyncd"),
    ("--files-from --from0 --no-from0 -0",
     "pylsyncd uses it to pass the list of changed paths: leave it out"),
    (("--recursive --no-recursive --no-r -r --archive -a --dirs --no-dirs --no-d -d --old-dirs "
      "--old-d --inc-recursive --i-r --no-inc-recursive --no-i-r"),
     ("the list of changed paths decides what rsync compares: leave it out (links, modes, times, "
      "owners and devices are copied in any case)")),
    ("--relative --no-relative --no-R -R --implied-dirs --i-d --no-implied-dirs --no-i-d",
     "the paths in the list are always relative to the source: leave it out"),
    ("--delete --delete-excluded",
     "pylsyncd decides what is deleted: leave it out, or use --no-delete to keep everything"),
    ("--delete-missing-args --ignore-missing-args",
     "pylsyncd chooses how rsync deletes paths that are gone: leave it out"),
    ("--no-force",
     "a directory could not become a file: leave it out"),
    ("--copy-links -L --copy-unsafe-links --copy-dirlinks -k",
     "the target of a symbolic link is not watched: sync the target as a source of its own"),
    ("--keep-dirlinks -K",
     ("the content of a directory would go to wherever a link at the destination points: replace "
      "the link by a directory")),
    ("--fuzzy -y",
     "rsync fails with it at paths that are to be deleted (exit status 2): leave it out"),
    ("--ignore-errors",
     "an unreadable disk would empty the replica: leave it out"),
    ("--remove-source-files --remove-sent-files",
     "it deletes the files of the source: leave it out"),
    ("--modify-window -@",
     "pylsyncd must know which times count as equal: use --modify-window of pylsyncd"),
    ("--size-only",
     ("a change that keeps size and second would never be copied: leave it out, or use "
      "--checksum or --ignore-times to compare more")),
    ("--append --append-verify",
     "a rewritten file would be copied wrongly: leave it out"),
    ("--exclude --exclude-from --include --include-from --filter -f -F --cvs-exclude -C",
     ("pylsyncd must know the rules as well: use -x PATTERN, --exclude-from FILE, --include "
      "PATTERN or --filter RULE of pylsyncd")),
    ("--rsh -e",
     "pylsyncd starts the remote shell: use -e COMMAND of pylsyncd"),
    ("--daemon --server --sender --config --detach --no-detach --dparam",
     "it makes rsync another program: leave it out"),
    ("--help --version -V --list-only",
     "rsync would copy nothing and report success: leave it out"),
    ("--dry-run -n",
     "pylsyncd would count uncopied changes as copied: use -n of pylsyncd"),
    (("--out-format --log-format --info --debug --stats --human-readable -h --itemize-changes -i "
      "--verbose -v --quiet -q --progress -P --stderr --msgs2stderr --no-msgs2stderr "
      "--8-bit-output -8"),
     "pylsyncd parses the output of rsync: use -v or -d of pylsyncd to see more"),
    ("--one-file-system -x",
     "it does not leave out listed paths: use -x PATTERN of pylsyncd for mount points"),
    ("--mkpath --no-mkpath",
     "pylsyncd creates missing directories itself at the start: leave it out"),
    ("--remote-option -M",
     ("local runs with 1,000 paths or more would fail: configure the remote side, or for a "
      "remote shell use --rsync-option='--rsync-path=rsync OPTION'")),
    (("--existing --ignore-non-existing --ignore-existing --update -u --max-size --min-size "
      "--prune-empty-dirs -m"),
     "replicas would silently differ from the source: use -x PATTERN to leave paths out"),
    ("--compare-dest",
     ("the replica would lack the files of the other directory: use --copy-dest=DIR or "
      "--link-dest=DIR")),
    ("--write-batch --only-write-batch --read-batch",
     "a run that carries a list of changes cannot use a batch file: run rsync by hand"),
    ("--stop-after --stop-at --time-limit",
     ("long runs would be cut off and start again: use --bandwidth-limit of pylsyncd to spare "
      "the network")),
    (("--secluded-args --no-secluded-args --protect-args --no-protect-args --no-s -s --old-args "
      "--no-old-args"),
     "pylsyncd chooses how to quote paths for the remote rsync: leave it out"),
    ("--protocol",
     "older protocols support neither deletion by name nor nanoseconds: leave it out"),
    ("--insecure-links",
     ("rsync would follow symbolic links of other users in the path of the destination, wherever "
      "they lead: leave it out, and name the real path")),
    ("--copy-devices --write-devices",
     "the content of devices would be read or overwritten: leave it out"),
)  # fmt: skip
_REFUSED = {name: reason for names, reason in _REFUSED_GROUPS for name in names.split()}

# They choose when rsync deletes, and switch deletion on if no other option does.
_DELETION_TIMES = frozenset(
    ("--del", "--delete-before", "--delete-during", "--delete-delay", "--delete-after")
)

# The permitted options that take an argument, in the form that has it in the same word.
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

# -H, alone or in a bundle; the text after -B and -T is their argument.
_HARD_LINKS = re.compile(r"--hard-links$|-[^-BT]*H")

# --checksum and --ignore-times, likewise, and what takes them back.
_CONTENTS = re.compile(r"--(?:checksum|ignore-times)$|-[^-BT]*[cI]")
_NO_CONTENTS = re.compile(r"--no-(?:checksum|c|ignore-times|I)$")

_MOVED_FILES = re.compile(
    r"--(?:temp-dir|backup|backup-dir|partial-dir|delay-updates)(?:=|$)|-[^-B]*[Tb]"
)

# With these, a name or a place at the destination may have another meaning than in the source.
_OWN_PLACES = re.compile(
    r"--(?:hard-links|backup|backup-dir|suffix|link-dest|copy-dest|compare-dest|existing"
    r"|ignore-existing|ignore-non-existing|iconv|copy-as)(?:=|$)|-[^-BT]*[bH]"
)

_IN_PLACE = re.compile(r"--(?:inplace|append|append-verify)$")

# Options whose file is on this side; "-" as the file of a password is standard input.
_LOCAL_FILES = frozenset(["--password-file", "--log-file", "--early-input"])


def check_option(text: str, *, is_delete_enabled: bool = True) -> None:
    """Refuse text that is not exactly one rsync option, or one that pylsyncd cannot use.

    ``is_delete_enabled`` is False unless everything may be deleted at any time. Raises UsageError
    with the option, the reason, and what to do instead.
    """
    if not text.startswith("-") or text in {"-", "--"}:
        raise UsageError(
            f"rsync would take {_show(text)} for a file name: --rsync-option takes one option that "
            "begins with a dash, as in --rsync-option=--bwlimit=RATE."
        )
    if "\0" in text:
        raise UsageError(f"The rsync option {_show(text)} holds a NUL byte: remove it.")
    if text.startswith("--"):
        _check_long(text, is_delete_enabled=is_delete_enabled)
    else:
        _check_letters(text)


def compares_contents(options: Sequence[str]) -> bool:
    """Return True if rsync compares the contents of all files with these options."""
    return any(map(_CONTENTS.match, options)) and not any(map(_NO_CONTENTS.match, options))


def preserves_hard_links(options: Sequence[str]) -> bool:
    """Return True if rsync recreates the source's hard links at the destination."""
    return any(_HARD_LINKS.match(option) for option in options)


def moves_files(options: Sequence[str]) -> bool:
    """Return True if rsync writes files elsewhere first, or moves older ones away.

    Its messages may then name those files instead of the listed ones.
    """
    return any(_MOVED_FILES.match(option) for option in options)


def permits_moves(options: Sequence[str]) -> bool:
    """Return True if a copy that is moved at the destination is what rsync would make there."""
    return not any(_OWN_PLACES.match(option) for option in options)


def writes_in_place(options: Sequence[str]) -> bool:
    """Return True if rsync writes into the copies, and so into all hard links to them."""
    return any(_IN_PLACE.match(option) for option in options)


def may_delete(option: str) -> bool:
    """Return True if an option alone lets rsync delete something at the destination."""
    return option in _DELETION_TIMES or option == "--force"


def check_combination(options: Sequence[str]) -> None:
    """Refuse options that are harmful only together. Raises UsageError."""
    if "--inplace" in options and preserves_hard_links(options):
        raise UsageError(
            "The rsync options --hard-links and --inplace cannot be combined: rsync would write "
            "through both names of a file that was hard-linked before. Remove one of them."
        )


def with_absolute_path(text: str, directory: str) -> str:
    """Return an option with its local file below ``directory``: rsync runs in the source."""
    name, separator, value = text.partition("=")
    if name in _LOCAL_FILES and value and not value.startswith(("/", "-")):
        return f"{name}{separator}{directory}/{value}"
    return text


def _check_long(text: str, *, is_delete_enabled: bool) -> None:
    name, separator, _ = re.split(r"([=\s]|\Z)", text, maxsplit=1)
    _check_permitted(name, text)
    if name in _DELETION_TIMES and not is_delete_enabled:
        raise UsageError(
            f"The rsync option {name} is refused because it switches deletion on, but --no-delete "
            "is given, or delete is startup or running: remove one of them."
        )
    if separator.isspace():
        raise UsageError(
            f"{_show(text)} is more than one rsync option: write {_show(name)}=ARGUMENT if the "
            "rest is its argument, or one --rsync-option for each option."
        )
    if not separator:
        _check_argument_optional(name, text)


def _check_letters(text: str) -> None:
    """Check the letters of a bundle such as ``-zH``; the rest may be an argument."""
    for position, letter in enumerate(text[1:], start=1):
        option, rest = f"-{letter}", text[position + 1 :]
        _check_permitted(option, text)
        if option in _WITH_ARGUMENT:
            # rsync would make a space part of the argument.
            if not rest or rest[0].isspace():
                _check_argument_optional(option, text)
            return
        if letter.isspace():
            raise UsageError(
                f"{_show(text)} is more than one rsync option: write one --rsync-option for each."
            )


def _check_permitted(option: str, text: str) -> None:
    if option in _REFUSED:
        bundle = f" in {_show(text)}" if len(option) == len("-x") < len(text) else ""
        raise UsageError(
            f"The rsync option {option}{bundle} is refused because {_REFUSED[option]}."
        )


def _check_argument_optional(option: str, text: str) -> None:
    if option in _WITH_ARGUMENT:
        raise UsageError(
            f"The rsync option {_show(text)} lacks its argument, which must be in the same word: "
            f"write --rsync-option={_WITH_ARGUMENT[option]}."
        )


def _show(text: str) -> str:
    return paths.printable(text.encode("utf-8", "surrogateescape")) if text else "an empty string"
