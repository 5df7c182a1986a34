"""The rules of a sync: whether rsync would leave a path out, decided without asking rsync.

rsync filters what it finds while it walks, but not the parents that a list of names implies: with
``--files-from``, a listed ``d/f`` is sent although ``/d/`` is excluded. Nor need an excluded
directory be watched. So we decide ourselves, and rsync gets the same rules for what it scans and
deletes by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from pylsyncd.model import paths
from pylsyncd.rules.filters import (
    MAX_PATTERN_BYTES,
    ClearRules,
    RuleStep,
    parse_exclude,
    parse_exclude_lines,
    parse_filter,
    parse_include,
    parse_include_lines,
)
from pylsyncd.rules.patterns import Comparison, FilterRule, compile_comparisons

__all__ = [
    "MAX_PATTERN_BYTES",
    "ClearRules",
    "FilterRule",
    "RuleStep",
    "Rules",
    "build_rules",
    "parse_exclude",
    "parse_exclude_lines",
    "parse_filter",
    "parse_include",
    "parse_include_lines",
]


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in their order: the first that matches decides; what none matches is not excluded."""

    ordered: tuple[FilterRule, ...] = ()
    depends_on_directory: bool = field(init=False, repr=False, compare=False)
    """Whether a rename of a directory can change what is excluded below it.

    False means that an entry's last name and kind alone decide whether it matches.
    """
    _file_tests: tuple[Comparison, ...] = field(init=False, repr=False, compare=False)
    _directory_tests: tuple[Comparison, ...] = field(init=False, repr=False, compare=False)
    _deletion: "Rules | None" = field(init=False, repr=False, compare=False)
    """What decides about deletion, where that is not the same."""

    def __post_init__(self) -> None:
        sending = [pattern for pattern in self.ordered if pattern.affects_sending]
        deletion = [pattern for pattern in self.ordered if pattern.affects_deletion]
        derived = {
            "depends_on_directory": any(pattern.matches_full_path for pattern in sending),
            "_file_tests": tuple(compile_comparisons(sending, is_directory=False)),
            "_directory_tests": tuple(compile_comparisons(sending, is_directory=True)),
            "_deletion": None if deletion == sending else _unsided(deletion),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __bool__(self) -> bool:
        return bool(self.ordered)

    def excludes(self, path: bytes, *, is_directory: bool) -> bool:
        """Tell whether rsync, walking down from the root, would leave ``path`` out.

        It does so, too, when a directory above is excluded. The root never is. ``is_directory`` is
        for a directory itself, not for a symlink to one.
        """
        return self.matches(path, is_directory=is_directory) or any(
            self.matches(directory, is_directory=True) for directory in paths.ancestors(path)
        )

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        """Tell the same of a path in a directory that is known not to be excluded."""
        if not path:
            return False
        name = path[path.rfind(b"/") + 1 :]
        if is_directory:
            tests, whole = self._directory_tests, b"/" + path + b"/"
        else:
            tests, whole = self._file_tests, b"/" + path
        for is_about_path, verdict, match in tests:
            if match(whole if is_about_path else name):
                return verdict
        return False

    def protects(self, path: bytes, *, is_directory: bool) -> bool:
        """Tell whether rsync would keep what a destination has at a path and the source has not.

        It is about that path alone, in a directory that both have. rsync asks the same rules about
        what is in a directory that it deletes, except for those with the modifier ``p``.
        """
        rules = self if self._deletion is None else self._deletion
        return rules.matches(path, is_directory=is_directory)

    def arguments(self) -> list[bytes]:
        """Return the arguments that give rsync these rules in this order."""
        return [pattern.argument() for pattern in self.ordered]


def build_rules(values: Iterable[Iterable[RuleStep]]) -> Rules:
    """Return the rules that the options given in this order make, each one parsed."""
    patterns: list[FilterRule] = []
    for step in chain.from_iterable(values):
        if isinstance(step, ClearRules):
            patterns.clear()
        else:
            patterns.append(step)
    return Rules(tuple(patterns))


def _unsided(patterns: Iterable[FilterRule]) -> Rules:
    """Return rules for the receiving side as if they were for both."""
    return Rules(
        tuple(replace(one, modifiers=one.modifiers.replace(b"r", b"")) for one in patterns)
    )
