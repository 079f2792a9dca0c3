"""How a client-side cache is to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.kinds import FLAG, Kind, count, one_of, optional, read_fields, reads, seconds

if TYPE_CHECKING:
    from collections.abc import Callable


def _read_prefixes(given: object) -> tuple[bytes, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, tuple | list | set | frozenset):
        raise TypeError
    prefixes = tuple(dict.fromkeys(each.encode() if isinstance(each, str) else each for each in given))
    if not all(isinstance(each, bytes) and each for each in prefixes):
        raise TypeError
    return prefixes


def _read_judge(given: object) -> object:
    if not callable(given):
        raise TypeError
    return given


_PREFIXES: Final = Kind("several prefixes of keys, as text or bytes, none of them empty", _read_prefixes)
_JUDGE: Final = Kind("a function that takes a command", _read_judge)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """What a client-side cache keeps.

    Attributes:
        mode: ``"default"``: the server remembers what each connection has read, and announces changes of that.
            ``"optin"``: only of what is read through a view, ``client.with_options(cache=True)``. ``"broadcast"``: it
            remembers nothing, and announces every change of a key with one of ``prefixes``.
        prefixes: Of the keys that are cached in the mode ``"broadcast"``; none are all keys. Text is encoded as
            UTF-8. None may begin with another one.
        max_entries: How many replies are kept.
        max_bytes: How much memory they and their commands may take, in bytes.
        ttl: How long a reply is kept at most, in seconds or as a ``timedelta``; ``None``: until something else ends it.
        eviction: Which reply has to go for a newer one: ``"lru"``: that which was not read for the longest time;
            ``"fifo"``: the oldest.
        key_expiry: Whether the server is asked with each read when its keys end, so that the reply ends with them:
            servers announce that late. ``False`` where no key expires, or where being late is fine.
        cacheable: Called with a command (a tuple, its name first); whether it may be cached. Only those are asked about
            that could be: they read keys, and their replies depend on nothing else. What it raises is raised to who
            has issued the command, which is not sent. ``None``: all of them.

    Raises:
        ConfigurationError: A value is of another type or out of range, or two exclude each other.
    """

    mode: Literal["default", "optin", "broadcast"] = field(
        default="default", metadata=reads(one_of("default", "optin", "broadcast"))
    )
    prefixes: tuple[str | bytes, ...] = field(default=(), metadata=reads(_PREFIXES))
    max_entries: int = field(default=100_000, metadata=reads(count(1)))
    max_bytes: int = field(default=64 * 2**20, metadata=reads(count(1)))
    ttl: float | None = field(default=None, metadata=reads(optional(seconds(least=0.001))))
    eviction: Literal["lru", "fifo"] = field(default="lru", metadata=reads(one_of("lru", "fifo")))
    key_expiry: bool = field(default=True, metadata=reads(FLAG))
    cacheable: Callable[[tuple[Any, ...]], bool] | None = field(default=None, metadata=reads(optional(_JUDGE)))

    def __post_init__(self) -> None:
        read_fields(self, "CacheOptions.")
        if self.prefixes and self.mode != "broadcast":
            raise ConfigurationError(
                f"CacheOptions.prefixes is of use with mode='broadcast' alone, and mode is {self.mode!r}"
            )
        ordered = sorted(self.prefixes)  # so that one that begins with another one comes right behind such a one
        for prefix, following in pairwise(ordered):
            if following.startswith(prefix):  # type: ignore[arg-type]  # both are bytes by now
                raise ConfigurationError(
                    f"CacheOptions.prefixes must not overlap, which no server takes: {following!r} begins with "
                    f"{prefix!r}, so leave it out"
                )

    @property
    def tracking(self) -> tuple[str | bytes, ...]:
        """What follows ``CLIENT TRACKING ON``."""
        match self.mode:
            case "optin":
                return ("OPTIN",)
            case "broadcast":
                return ("BCAST", *(word for prefix in self.prefixes for word in ("PREFIX", prefix)))
        return ()

    def covers(self, key: bytes) -> bool:
        """Return whether the server announces changes of a key."""
        prefixes: Any = self.prefixes
        return not prefixes or key.startswith(prefixes)
