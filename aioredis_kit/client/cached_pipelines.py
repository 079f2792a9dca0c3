"""The reads of a pipeline that are answered from the cache, or kept in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aioredis_kit.cache.replies import copied
from aioredis_kit.client.lenses import NOTHING, tell
from aioredis_kit.client.plans import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioredis_kit.cache.store import Load
    from aioredis_kit.client.caching import CachedCommands
    from aioredis_kit.client.lenses import Lens
    from aioredis_kit.client.plans import Plan
    from aioredis_kit.policy.commands import Arguments


class Piped(Protocol):
    """A command of a pipeline: see there."""

    plan: Plan
    words: Arguments
    decode: bool


class PipedReads:
    """What one pipeline has to do with a cache.

    Lifecycle: ``look_up`` when it is about to be sent; then ``results``; or ``fail``, whatever it was that failed.

    Args:
        commands: The stage that has the cache.
        make: Makes one more of the pipeline's commands.
        began: The time, on the client's clock.

    Attributes:
        sent: What is left to be sent: its commands without those that were found, and what accompanies reads.
    """

    def __init__(
        self,
        commands: CachedCommands,
        make: Callable[[Arguments], Piped],
        began: float,
    ) -> None:
        self.sent: list[Piped] = []
        self._commands = commands
        self._make = make
        self._began = began
        self._source: object = None
        self._loads: list[tuple[Load, Lens, int, int]] = []  # each with the places of its first and its last command
        self._results: list[tuple[Any] | int] = []  # of each command the reply, or the place where it will come

    def look_up(self, entries: Sequence[Piped]) -> None:
        """Look the pipeline's commands up, in their order.

        Raises:
            DataError: One can't be encoded.
        """
        for entry in entries:
            if entry.plan.changes is not None:
                entry.plan.changes(entry.words)
            if self._commands.reads and entry.plan.is_cacheable:
                self._read(entry)
            else:
                self._send(entry)

    def dispatched(self, lane: object, *, is_whole: bool) -> None:
        """Note where it is.

        Args:
            lane: The lane.
            is_whole: Whether it is written in one piece; if not, what was to accompany a read may go with another.
        """
        self._source = lane
        for load, *_ in self._loads:
            load.source = lane
            if not is_whole:
                self._commands.cache.drop(load)

    def results(self, replies: Sequence[Any]) -> list[Any]:
        """Keep what was loaded; return the replies to the pipeline's own commands."""
        for load, lens, first, last in self._loads:
            place = first + self._commands.place
            reply = replies[place]
            if type(reply) not in PLAIN:
                self._give_up(load)
                continue
            asides = [*replies[first:place], *replies[place + 1 : last + 1]]
            self._commands.keep(load, copied(reply), asides, lens, self._source, (self._began, self._began))
            tell(self._commands.cache.joined, load, reply)
        return [replies[found] if isinstance(found, int) else found[0] for found in self._results]

    def fail(self, replies: Sequence[Any]) -> tuple[Any, ...]:
        """Keep nothing. Return those of the replies that had come that are to the pipeline's own commands."""
        for load, *_ in self._loads:
            self._give_up(load)
        own: list[Any] = []
        for found in self._results:
            if isinstance(found, int) and found >= len(replies):
                break
            own.append(replies[found] if isinstance(found, int) else found[0])
        return tuple(own)

    def _read(self, entry: Piped) -> None:
        found = self._commands.look_up(entry.plan, entry.words, decode=entry.decode)
        if found.reply is not None:
            self._results.append(found.reply)
        elif found.load is None:
            self._send(entry)
        else:
            first = len(self.sent)
            for words in self._commands.accompanied(entry.words, found.load.keys):
                if words is entry.words:
                    self._send(entry)
                else:
                    self.sent.append(self._make(words))
            self._loads.append((found.load, found.lens, first, len(self.sent) - 1))

    def _send(self, entry: Piped) -> None:
        self._results.append(len(self.sent))
        self.sent.append(entry)

    def _give_up(self, load: Load) -> None:
        self._commands.give_up(load, self._began)
        tell(self._commands.cache.joined, load, NOTHING)
