"""Options as they were written, on the command line or in a file, and their conversion. Pure.

A layer holds the options of one section. Of the layers that apply to a sync or destination, the
most specific one that sets an option wins.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from pylsyncd.config.option import Option
from pylsyncd.model.errors import UsageError

_Value = TypeVar("_Value")
_Checked = TypeVar("_Checked")


class ConfigurationError(UsageError):
    """All errors of a configuration, one message per line."""

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages = tuple(messages)
        super().__init__("\n".join(self.messages))


@dataclass(frozen=True, slots=True)
class Origin:
    """The place where an option or section was written."""

    text: str = ""
    """The prefix of error messages: ``--window``, or ``FILE:LINE: [sync NAME] window``."""
    line: int = 0
    """The line in the file; 0 for the command line."""


class ErrorCollector:
    """Errors found so far, so that all of them are reported together."""

    def __init__(self) -> None:
        # Whether each is fatal.
        self._found: dict[tuple[int, str], bool] = {}

    def add(self, message: str, origin: Origin | None = None, *, is_fatal: bool = True) -> None:
        """Add an error; a repeated one is ignored.

        One that is not fatal is only reported together with others.
        """
        line, text = (origin.line, origin.text) if origin else (0, "")
        self._found[line, f"{text}: {message}" if text else message] = is_fatal

    @property
    def messages(self) -> tuple[str, ...]:
        """All errors, sorted by line."""
        return tuple(message for _, message in sorted(self._found, key=lambda found: found[0]))

    def raise_if_any(self) -> None:
        """Raise ConfigurationError with all errors if any of them is fatal."""
        if any(self._found.values()):
            raise ConfigurationError(self.messages)


@dataclass(frozen=True, slots=True)
class RawOption:
    """An option as it was written in one place."""

    option: Option[Any]
    texts: tuple[str, ...]
    """Its values. Empty if it is explicitly unset."""
    origin: Origin = Origin()
    directory: str = "/"
    """The absolute path that relative paths in it start from."""


Layer: TypeAlias = tuple[RawOption, ...]
"""The options of one section, or of the command line, in their order."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the file about one sync or one destination."""

    name: str
    """Empty for the one sync of a command line."""
    options: Layer
    origin: Origin = Origin()


@dataclass(frozen=True, slots=True)
class RawConfiguration:
    """All options of a command line and its configuration file, by section."""

    defaults: Layer
    syncs: tuple[Section, ...]
    destinations: tuple[Section, ...] = ()
    overrides: Layer = ()
    """Options of the process on the command line, which take precedence over the file."""

    @property
    def process_layers(self) -> tuple[Layer, ...]:
        """The layers that apply to the process, the most specific first."""
        return self.overrides, self.defaults

    def sync_layers(self, sync: Section) -> tuple[Layer, ...]:
        """Return the layers that apply to a sync, the most specific first."""
        return sync.options, self.defaults

    def destination_layers(self, sync: Section, *names: str) -> tuple[Layer, ...]:
        """Return the layers that apply to a destination of a sync, the most specific first.

        ``names`` has its name, and others that stand for it.
        """
        titles = [destination_label(sync.name, name) for name in names]
        sections = [
            section.options
            for title in (*titles, *names)
            for section in self.destinations
            if section.name == title
        ]
        # The sync of a command line has no name, so both titles are the same.
        return *dict.fromkeys(sections), *self.sync_layers(sync)

    def unknown_destinations(self, known: Iterable[tuple[str, str]]) -> list[Section]:
        """Return the destination sections that match none of these (sync, destination) names."""
        titles = {title for sync, name in known for title in (destination_label(sync, name), name)}
        return [section for section in self.destinations if section.name not in titles]


def destination_label(sync: str, name: str) -> str:
    """Return the name of a destination that is unique in the process."""
    return f"{sync}/{name}" if sync else name


class OptionReader:
    """Converts the options of some layers to values.

    A value that cannot be converted is added to ``errors``; the default takes its place, so that
    the rest can still be read.
    """

    def __init__(self, layers: Iterable[Layer], errors: ErrorCollector) -> None:
        self._layers = tuple(layers)
        self.errors = errors

    def raw_options(self, *options: Option[Any]) -> Layer:
        """Return some options from the most specific layer that sets any of them."""
        for layer in self._layers:
            if found := tuple(raw for raw in layer if raw.option in options):
                return found
        return ()

    def value(self, option: Option[_Value]) -> _Value:
        """Return the value of an option that has a default."""
        value = self.optional(option)
        return option.convert(option.default) if value is None else value

    def optional(self, option: Option[_Value]) -> _Value | None:
        """Return the value of an option, or None if it is not set."""
        return self.checked(option, lambda _, value: value)

    def checked(
        self, option: Option[_Value], check: Callable[[str, _Value], _Checked]
    ) -> _Checked | None:
        """Return what ``check`` makes of a value and the directory that it may be relative to."""
        if not (found := self.raw_options(option)):
            return None
        raw = found[-1]
        if raw.texts and raw.texts[0]:
            return self._convert(
                raw, lambda text: check(raw.directory, option.convert(text)), raw.texts[0]
            )
        if option.default:
            message = f"The value is empty: remove the option to use the default, {option.default}."
            self.errors.add(message, raw.origin)
        return None

    def values(
        self, *options: Option[str], convert: Callable[[RawOption, str], _Value]
    ) -> list[_Value]:
        """Return all values of some options from the most specific layer that sets any of them."""
        values = [
            self._convert(raw, partial(convert, raw), text)
            for raw in self.raw_options(*options)
            for text in raw.texts
        ]
        return [value for value in values if value is not None]

    def add_error(
        self,
        option: Option[Any],
        message: str,
        unset: Origin | None = None,
        *,
        is_fatal: bool = True,
    ) -> None:
        """Add an error about an option, which may come from the default of an unset one."""
        origins = [raw.origin for raw in self.raw_options(option)]
        self.errors.add(message, origins[-1] if origins else unset, is_fatal=is_fatal)

    def _convert(
        self, raw: RawOption, convert: Callable[[str], _Value], text: str
    ) -> _Value | None:
        try:
            return convert(text)
        except UsageError as error:
            self.errors.add(str(error), raw.origin)
            return None
