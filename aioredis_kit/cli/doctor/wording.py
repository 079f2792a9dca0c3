"""Numbers as people read them."""

from __future__ import annotations

import datetime as dt
from typing import Final

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_DAY: Final = 86_400.0


def duration(seconds: float) -> str:
    """Return a duration as people say it: ``0.09 ms``, ``12 ms``, ``3.2 s``, ``5 minutes``, ``12 days``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.2f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 2 * _DAY:
        return f"{seconds / 3600:.0f} hours"
    days = seconds / _DAY
    return f"{days:.0f} days" if days < 1000 else f"{days / 365.25:.0f} years"


def size(count: float) -> str:
    """Return a size in the unit that suits it: ``1.5 GiB``."""
    place = 0
    while count >= 1024 and place < len(_UNITS) - 1:
        count, place = count / 1024, place + 1
    return f"{count:.0f} bytes" if not place else f"{count:.1f} {_UNITS[place]}"


def day(instant: float) -> str:
    """Return the day of an instant, in UTC."""
    return f"{dt.datetime.fromtimestamp(instant, dt.UTC):%Y-%m-%d}"


def minute(instant: float) -> str:
    """Return the day and the minute of an instant, in UTC."""
    return f"{dt.datetime.fromtimestamp(instant, dt.UTC):%Y-%m-%d %H:%M} UTC"


def listed(words: tuple[str, ...], most: int = 5) -> str:
    """Return the first words of a list, and how many more there are."""
    more = [f"{len(words) - most} more"] if len(words) > most else []
    return " and ".join(filter(None, (", ".join(words[:most]), *more)))
