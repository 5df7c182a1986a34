"""Decides whether the rules of a sync exclude a path, without asking rsync.

rsync filters the paths that it finds itself, but not the parents that a list implies: with
``--files-from``, a listed ``d/f`` is sent although ``/d/`` is excluded. Nor need an excluded
directory be watched. So pylsyncd decides for itself, and gives rsync the same rules for whatever
rsync scans and deletes.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from pylsyncd.model import paths
from pylsyncd.rules.filters import ClearRules, RuleStep
from pylsyncd.rules.patterns import Comparison, FilterRule, compile_comparisons


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in their order: the first that matches decides; a path without a match is included."""

    ordered: tuple[FilterRule, ...] = ()
    depends_on_directory: bool = field(init=False, repr=False, compare=False)
    """True if a rename of a directory can change what is excluded below it.

    If False, an entry's last name and kind alone decide whether it matches.
    """
    _file_tests: tuple[Comparison, ...] = field(init=False, repr=False, compare=False)
    _directory_tests: tuple[Comparison, ...] = field(init=False, repr=False, compare=False)
    _deletion: "Rules | None" = field(init=False, repr=False, compare=False)
    """The rules for deletion, if they differ from those for sending."""

    def __post_init__(self) -> None:
        sending = [rule for rule in self.ordered if rule.affects_sending]
        deletion = [rule for rule in self.ordered if rule.affects_deletion]
        derived = {
            "depends_on_directory": any(rule.matches_full_path for rule in sending),
            "_file_tests": tuple(compile_comparisons(sending, is_directory=False)),
            "_directory_tests": tuple(compile_comparisons(sending, is_directory=True)),
            "_deletion": None if deletion == sending else _as_two_sided(deletion),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __bool__(self) -> bool:
        return bool(self.ordered)

    def included_files(self, directory: bytes, names: Collection[bytes]) -> set[bytes]:
        """Return the names of files in a directory that are not excluded by their own names."""
        if not self:
            return set(names)
        matches = self.matches
        return {
            name for name in names if not matches(paths.join(directory, name), is_directory=False)
        }

    def excludes(self, path: bytes, *, is_directory: bool) -> bool:
        """Return True if rsync, walking down from the root, would leave ``path`` out.

        It does so also if a directory above is excluded. The root never is. ``is_directory`` is
        False for a symlink to a directory.
        """
        return self.matches(path, is_directory=is_directory) or any(
            self.matches(directory, is_directory=True) for directory in paths.ancestors(path)
        )

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        """Return the same for a path whose parent directories are known not to be excluded."""
        tests = self._directory_tests if is_directory else self._file_tests
        if not (path and tests):
            return False
        name = path[path.rfind(b"/") + 1 :]
        whole = b"/" + path + b"/" if is_directory else b"/" + path
        for needs_full_path, is_excluding, match in tests:
            if match(whole if needs_full_path else name):
                return is_excluding
        return False

    def protects(self, path: bytes, *, is_directory: bool) -> bool:
        """Return True if rsync would keep a copy at ``path`` that the source does not have.

        This is about that path alone, in a directory that both sides have. Within a directory that
        it deletes, rsync applies the same rules, except for those with the modifier ``p``.
        """
        rules = self if self._deletion is None else self._deletion
        return rules.matches(path, is_directory=is_directory)

    def may_exclude_below(self, directory: bytes) -> bool:
        """Return False if rsync certainly sends and deletes everything below a directory.

        This is about the entries below it alone, whether they exist or not.
        """
        return any(
            (rule.affects_sending or rule.affects_deletion) and rule.may_match_below(directory)
            for rule in self.ordered
            if not rule.is_include
        )

    def arguments(self) -> list[bytes]:
        """Return the arguments that give rsync these rules in this order."""
        return [rule.argument() for rule in self.ordered]


def build_rules(options: Iterable[Iterable[RuleStep]]) -> Rules:
    """Return the rules of the parsed options, in the order in which they were given."""
    rules: list[FilterRule] = []
    for step in chain.from_iterable(options):
        if isinstance(step, ClearRules):
            rules.clear()
        else:
            rules.append(step)
    return Rules(tuple(rules))


def _as_two_sided(rules: Iterable[FilterRule]) -> Rules:
    """Return rules for the receiving side as rules for both sides."""
    return Rules(tuple(replace(one, modifiers=one.modifiers.replace(b"r", b"")) for one in rules))
