"""Which setting came from where, as it may be shown: secrets are masked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from aioredis_kit.cache.options import CacheOptions
from aioredis_kit.options import TLSOptions
from aioredis_kit.policy.secrets import MASK

__all__ = ["Explanation", "Setting", "shown"]

_PLAIN: Final = (str, bytes, bool, int, float)


@dataclass(frozen=True, slots=True)
class Setting:
    """One option.

    Attributes:
        name: Its name.
        value: Its value as it may be shown, as in Python: a secret is ``***``, an object is named by its type.
        source: Where it came from, such as ``CACHE_URI``; empty: it has its default.
    """

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All options of a client. Its text has a line for each that does not have its default, and one for each note.

    Attributes:
        settings: The options, in the order of the documentation.
        notes: What was found and has no effect, or was not read, and why.
    """

    settings: tuple[Setting, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        said = [each for each in self.settings if each.source]
        names = max((len(each.name) for each in said), default=0)
        values = max((len(each.value) for each in said), default=0)
        lines = [f"{each.name:{names}}  {each.value:{values}}  from {each.source}" for each in said]
        return "\n".join([*lines, "all others have their defaults", *(f"note: {each}" for each in self.notes)])


def shown(value: object, *, is_secret: bool) -> str:
    """Return an option's value as it may be shown."""
    if value is None:
        return "None"
    if isinstance(value, TLSOptions | CacheOptions):
        parts = (
            f"{each.name}={shown(getattr(value, each.name), is_secret=each.metadata['kind'].is_secret)}"
            for each in fields(value)
            if getattr(value, each.name) != each.default
        )
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        return f"({', '.join(shown(each, is_secret=is_secret) for each in value)})"
    if isinstance(value, _PLAIN):
        return MASK if is_secret else repr(value)
    return f"<{type(value).__name__}>"
