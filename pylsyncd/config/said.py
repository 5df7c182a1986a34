"""What somebody has said about the options, wherever it was said, and how it becomes values."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pylsyncd.config.options import OPTIONS_BY_KEY, Option
from pylsyncd.model.errors import UsageError

_Value = TypeVar("_Value")


class ConfigurationError(UsageError):
    """All that is wrong, a line for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.messages = tuple(faults)
        super().__init__("\n".join(self.messages))


class ErrorCollector:
    """Collects what is wrong, so that all of it is told at once."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, sentence: str, origin: str = "", line: int = 0) -> None:
        """Add one; the same one only once."""
        self._found[line, f"{origin}: {sentence}" if origin else sentence] = None

    def raise_if_any(self) -> None:
        """Raise ConfigurationError if anything is wrong."""
        if self._found:
            raise ConfigurationError(
                sentence for _, sentence in sorted(self._found, key=lambda each: each[0])
            )


@dataclass(frozen=True, slots=True)
class RawOption:
    """What was said about one option at one place."""

    option: Option
    texts: tuple[str, ...]
    """None: that there is to be none, whatever else is said farther away."""
    origin: str = ""
    """What a fault begins with: ``--window``, or ``FILE:LINE: [sync NAME] window``."""
    line: int = 0
    directory: str = "/"
    """What a relative path in it is relative to; itself absolute."""


Layer = tuple[RawOption, ...]
"""What was said in one section, or on the command line, in its order."""


class OptionReader:
    """Reads values from layers, of which the nearest that says anything about an option counts.

    What cannot be read is a fault, and the default stands in for it, so that all else can be read.
    """

    def __init__(self, layers: Iterable[Layer], faults: ErrorCollector) -> None:
        self._layers = tuple(layers)
        self.errors = faults

    def raw_options(self, *keys: str) -> Layer:
        """Return what the nearest layer that says anything about these options says about them."""
        for layer in self._layers:
            if found := tuple(said for said in layer if said.option.key in keys):
                return found
        return ()

    def value(self, key: str, convert: Callable[[str], _Value]) -> _Value:
        """Return the value of an option that has a default."""
        value = self.value_or_none(key, convert)
        return convert(OPTIONS_BY_KEY[key].default) if value is None else value

    def value_or_none(self, key: str, convert: Callable[[str], _Value]) -> _Value | None:
        """Return the value of an option; None where none is said, or that there is to be none."""
        return self.path_or_none(key, lambda _, text: convert(text))

    def path_or_none(self, key: str, convert: Callable[[str, str], _Value]) -> _Value | None:
        """Return the same of a path; ``convert`` gets the directory that it may be relative to."""
        for said in self.raw_options(key)[-1:]:
            if said.texts and said.texts[0]:
                return self._try(said, partial(convert, said.directory), said.texts[0])
            if default := OPTIONS_BY_KEY[key].default:
                self.add_error(said, f"It is empty: leave it out for the default, {default}.")
        return None

    def values(self, *keys: str, convert: Callable[[RawOption, str], _Value]) -> list[_Value]:
        """Return all values that the nearest layer says of these options, in its order."""
        found = [
            self._try(said, partial(convert, said), text)
            for said in self.raw_options(*keys)
            for text in said.texts
        ]
        return [value for value in found if value is not None]

    def add_error(self, said: RawOption, sentence: str) -> None:
        """Add a fault of something that was said."""
        self.errors.add(sentence, said.origin, said.line)

    def _try(self, said: RawOption, convert: Callable[[str], _Value], text: str) -> _Value | None:
        try:
            return convert(text)
        except UsageError as error:
            self.add_error(said, str(error))
            return None
