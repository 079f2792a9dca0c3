"""How long commands take, counted by name in plain lists: a hook for each call would cost twenty times as much.

All that one read answers was answered at the same moment, and what one write sent was sent at the same moment. So a
command costs one look-up and two additions.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.statistics import DURATION_BOUNDS, Durations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOST_NAMES: Final = 1024


class Timings:
    """Counts the commands of one endpoint by name and time: from the write to the read of the reply.

    It may be read in any thread.
    """

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[Any, list[float]] = {}  # by the first word: how many per bucket, and the sum of their times

    def note(self, answered: Iterable[Any], now: float) -> None:
        """Count commands that were answered now, on the client's clock. The client's own have no name."""
        rows = self._rows
        moment: Any = None
        place, elapsed = 0, 0.0
        for slot in answered:
            if slot.written is not moment:
                moment = slot.written
                elapsed = max(now - moment[0], 0.0)
                place = bisect_left(DURATION_BOUNDS, elapsed)
            try:
                row = rows[slot.args[0]]
            except KeyError:
                row = self._add(slot.args[0])
            except AttributeError:
                continue
            row[place] += 1
            row[-1] += elapsed

    def durations(self, name_of: Callable[[Any], str]) -> dict[str, Durations]:
        """Return what was counted.

        Args:
            name_of: Makes of the first word of commands what they are to be called.
        """
        found: dict[str, Durations] = {}
        for word, row in list(self._rows.items()):
            *counts, total = tuple(row)
            durations = Durations(tuple(map(int, counts)), total)
            name = name_of(word)
            found[name] = found[name].plus(durations) if name in found else durations
        return found

    def _add(self, word: Any) -> list[float]:
        """Return the row of a new name; where there are too many, of all others."""
        if len(self._rows) >= _MOST_NAMES:
            word = ""
        return self._rows.setdefault(word, [0.0] * (len(DURATION_BOUNDS) + 2))
