"""How a name in a setting becomes an object.

A part registers itself under a name; a setting names it; nobody keeps a second list."""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

Part = TypeVar("Part")


class UnknownName(KeyError):
    """A name that no part of this kind carries."""

    def __str__(self) -> str:
        return str(self.args[0])


class SettingError(ValueError):
    """A setting that does not fit the config it was written for."""


class Registry(Generic[Part]):
    """Parts of one kind by name, each with the frozen dataclass that configures it.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class CupConfig:
        ...     size_ml: int = 200
        >>> cups = Registry("cup")
        >>> @cups.register("mug", CupConfig)
        ... class Mug:
        ...     def __init__(self, config: CupConfig) -> None:
        ...         self.config = config
        >>> cups.build("mug", {"size_ml": 300}).config.size_ml
        300
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, tuple[Any, type | None]] = {}

    def register(self, name: str, config: type | None = None) -> Callable[[Part], Part]:
        """Decorator that enters a class or function under ``name``; a name can be taken once."""

        def enter(part: Part) -> Part:
            if name in self._parts:
                raise SettingError(f"two {self.kind}s are called {name!r}: rename one of them")
            self._parts[name] = (part, config)
            return part

        return enter

    def __getitem__(self, name: str) -> Part:
        return self._entry(name)[0]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))

    def config_of(self, name: str) -> type | None:
        """The dataclass that configures ``name``, or None where the part needs no settings."""
        return self._entry(name)[1]

    def build(self, name: str, settings: Mapping[str, Any] | None = None) -> Any:
        """Makes the part called ``name`` from plain settings; a key its config does not have is an error."""
        part, config = self._entry(name)
        if config is None:
            if settings:
                raise SettingError(
                    f"{self.kind} {name!r} takes no settings, got {sorted(settings)}: remove them"
                )
            return part()
        return part(fill(config, settings or {}, f"{self.kind} {name!r}"))

    def _entry(self, name: str) -> tuple[Any, type | None]:
        if name not in self._parts:
            near = difflib.get_close_matches(str(name), self._parts, n=3, cutoff=0.3) or sorted(self._parts)
            raise UnknownName(f"no {self.kind} is called {name!r}; nearest: {', '.join(near)}")
        return self._parts[name]


def fill(config: type, settings: Mapping[str, Any], where: str = "") -> Any:
    """An instance of the dataclass ``config`` from plain settings; lists become tuples.

    Raises:
        SettingError: a key that is no field, a missing field, or a value that the dataclass refuses.
    """
    where = where or config.__name__
    fields = {field.name: field for field in dataclasses.fields(config)}
    for key in settings:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=2) or sorted(fields)
            raise SettingError(
                f"{where} has no setting {key!r}; nearest: {', '.join(near) or 'it takes none'}"
            )
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    try:
        return config(**values)
    except TypeError as error:
        raise SettingError(f"{where} cannot be made from {dict(settings)}: {error}") from error


def import_parts(package: str) -> None:
    """Imports every module of ``package``, so that its parts enter their registry."""
    root = importlib.import_module(package)
    for module in pkgutil.iter_modules(root.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package}.{module.name}")
