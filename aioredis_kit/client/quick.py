"""The commands that redis-py's own methods slow down, made quick, with the same parameters and responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import Callable

_set_unchecked: Final = Redis.set.__wrapped__  # type: ignore[attr-defined]  # beneath the check for experimental arguments


class Quick:
    """``get``, ``set`` and ``hgetall``."""

    _command: Callable[..., Any]
    """Issues a command, its name and arguments as a tuple."""

    if not TYPE_CHECKING:  # a type checker sees redis-py's own

        def get(self, name: Any) -> Any:
            """See redis-py. Only the list of keys is left out, which is for a cache of redis-py's."""
            return self._command(("GET", name))

        def hgetall(self, name: Any) -> Any:
            """See redis-py. As ``get``."""
            return self._command(("HGETALL", name))

        def set(  # noqa: PLR0913, PLR0917  # redis-py's parameters; gathering them in a dict costs 0.1 µs
            self,
            name: Any,
            value: Any,
            ex: Any = None,
            px: Any = None,
            nx: Any = False,  # noqa: FBT002  # redis-py's
            xx: Any = False,  # noqa: FBT002  # redis-py's
            keepttl: Any = False,  # noqa: FBT002  # redis-py's
            get: Any = False,  # noqa: FBT002  # redis-py's
            exat: Any = None,
            pxat: Any = None,
            ifeq: Any = None,
            ifne: Any = None,
            ifdeq: Any = None,
            ifdne: Any = None,
        ) -> Any:
            """See redis-py. Its check for experimental arguments takes 3 µs; it is left out where there are none."""
            if ifeq is ifne is ifdeq is ifdne is None:
                if ex is px is exat is pxat is None and not (nx or xx or keepttl or get):
                    return self._command(("SET", name, value))
                return _set_unchecked(self, name, value, ex, px, nx, xx, keepttl, get, exat, pxat)
            return Redis.set(self, name, value, ex, px, nx, xx, keepttl, get, exat, pxat, ifeq, ifne, ifdeq, ifdne)
