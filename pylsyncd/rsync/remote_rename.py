r"""Renames at the other end of a remote shell: the program, its input and its answer. Pure.

The program is a fixed text, for any POSIX shell on Linux with the mv of GNU or BusyBox. The login
shell there, which may be another one, only has to know single quotes: so the text has no backslash,
no exclamation mark and no newline.

Names come by its standard input. Each is a field of a line: ``=`` and the name, or ``%`` and the
name with the bytes that ``read`` or the shell might change as ``\0ooo``, which printf(1) decodes.
xargs would pass them as arguments, but would run the program once more for those that do not fit.
"""

import re
from collections.abc import Sequence
from typing import Final

from pylsyncd.model import paths
from pylsyncd.model.destination_notation import Transport
from pylsyncd.model.endpoints import Destination
from pylsyncd.rsync import quoting
from pylsyncd.rsync.command import RsyncOptions
from pylsyncd.rsync.remote_shell import remote_path
from pylsyncd.rsync.rename_order import RenameStep

MAX_STEPS: Final = 1_000
"""How many renames one command makes."""

MAX_SECONDS: Final = 50
"""The seconds after which the program begins no other rename: its user may have given up."""

_HEADER: Final = b"pylsyncd-renames"

# The functions of the program. The working directory goes down name by name, and each directory
# must be a child of the one before it: so no link leads away, even one made at that moment. Each
# rename runs in a process of its own, whose failure ends nothing else.
_DECODE = """
case $1 in
=*) v=${1#=} ;;
*) v=$(printf %b. "${1#%}"); v=${v%.} ;;
esac
"""
# Arguments: a path; a word if missing directories are to be created.
_ENTER = """
cd -P /proc/self/fd/9 || return;
IFS=/;
for c in $1; do
exec 3<.;
[ -d "./$c" ] || { [ "$2" ] && mkdir -m 700 "./$c"; } || return;
cd -P "./$c" || return;
if [ -L "/proc/self/fd/3/$c" ]; then return 1; fi;
[ .. -ef /proc/self/fd/3/. ] || return;
done
"""
# Arguments: f or d; the old parent and name; the new parent and name. mv would copy what cannot be
# renamed, such as to another file system: no file can be written, and signal 25 (SIGXFSZ), which
# the attempt sends, is ignored. A file replaces a file, and a directory an empty directory.
_RENAME = """
decode "$2"; enter "$v" "" || return;
decode "$3"; o=/proc/self/fd/4/$v;
exec 4<.;
if [ -L "$o" ]; then return 1; fi;
[ "-$1" "$o" ] || return;
decode "$4"; enter "$v" create || return;
decode "$5"; n=./$v;
if [ -L "$n" ]; then return 1; fi;
if [ -e "$n" ]; then [ "-$1" "$n" ] || return; fi;
if [ "$2" = "$4" ]; then :; else
d=$(stat -c %d= . /proc/self/fd/4/. 4<&4); d=${d%%=*}=;
case $(stat -c %d= . /proc/self/fd/4/. 4<&4) in "$d"?"$d") ;; *) return 1 ;; esac;
fi;
trap "" 25; ulimit -f 0 || return;
mv -fT $no_copy "$o" "$n" </dev/null 4<&4 || return;
if [ -e "$o" ] || [ -L "$o" ]; then return 1; fi
"""
# A dot before each rename, and a 1 or a 0 after it, at once: what was printed before a connection
# breaks is true, and no rename begins after it.
_MAIN = f"""
LC_ALL=C; export LC_ALL; unset CDPATH; umask 077; set -f;
decode() {{ {_DECODE} }};
enter() {{ {_ENTER} }};
rename() {{ {_RENAME} }};
exec 2>/dev/null 9</;
[ / -ef /proc/self/fd/9 ] || exit 1;
no_copy=;
case $(mv --help 2>&1) in
*--no-copy*) no_copy=--no-copy ;;
*-T,*|*T"] SOURCE DEST"*) ;;
*) exit 1 ;;
esac;
echo {_HEADER.decode()};
end=$(($(date +%s)+{MAX_SECONDS}));
read -r directory; decode "$directory";
cd -P -- "$v" && exec 9<. || exit 0;
failed=,; i=0;
while read -r kind after op on np nn; do
[ "$(date +%s)" -lt $end ] || break;
printf . || break;
r=0;
case $failed in
*,$after,*) ;;
*) if (rename "$kind" "$op" "$on" "$np" "$nn"); then r=1; fi ;;
esac;
if [ $r = 0 ]; then failed=$failed$i,; fi;
printf $r; i=$((i+1));
done;
echo
"""

PROGRAM: Final = " ".join(_MAIN.split())
"""The text of the program, on one line, without a single quote."""

# Names of other bytes are decoded there.
_PLAIN = re.compile(rb"[A-Za-z0-9._/+,:@=-]*\Z")

# The last one may have been interrupted.
_RESULTS = re.compile(rb"(?:\.[01])*(?:\.?|\n)")


def is_possible(destination: Destination, options: RsyncOptions) -> bool:
    """Return True if the program finds a destination where the rsync there does.

    Another program in the place of rsync may run as another user, or on another machine. A tilde
    and wildcards are expanded by the remote shell or rsync, each version in its own way.
    """
    if destination.transport is not Transport.SHELL:
        return False
    has_program = any(option.startswith("--rsync-path") for option in options.extra_options)
    is_expanded = quoting.expands_wildcards(destination, options.version)
    return not (has_program or is_expanded or remote_path(destination).startswith(b"~"))


def remote_program() -> bytes:
    """Return the text for the login shell that runs the program."""
    return f"exec sh -c '{PROGRAM}'".encode()


def encode_steps(directory: bytes, steps: Sequence[RenameStep]) -> bytes:
    """Return the standard input of the program, for renames in a directory."""
    # A name of its own for cd is "-".
    path = directory if directory.startswith(b"/") else b"./" + directory
    lines = [_field(path), *map(_line, steps)]
    return b"".join([line + b"\n" for line in lines])


def _line(step: RenameStep) -> bytes:
    kind = b"d" if step.is_directory else b"f"
    after = b"-" if step.after is None else b"%d" % step.after
    fields = (*paths.split(step.old), *paths.split(step.new))
    return b" ".join([kind, after, *map(_field, fields)])


def _field(name: bytes) -> bytes:
    if _PLAIN.match(name):
        return b"=" + name
    return b"%" + b"".join([b"\\0%03o" % byte for byte in name])


def max_answer_bytes(count: int) -> int:
    """Return the length of the answer to a number of renames."""
    return len(_HEADER) + 2 * count + 2


def parse_answer(answer: bytes, count: int) -> frozenset[int] | None:
    """Return the indexes of the steps that were made; None if it is no answer of the program.

    It may break off.
    """
    header, newline, results = answer.partition(b"\n")
    if header != _HEADER or not newline or not _RESULTS.fullmatch(results):
        return None
    results = results.replace(b".", b"").rstrip(b"\n")
    if len(results) > count:
        return None
    return frozenset(index for index, result in enumerate(results) if result == ord("1"))
