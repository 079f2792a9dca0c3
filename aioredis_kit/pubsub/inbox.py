"""What waits for one ``pubsub()`` object: messages, and confirmations as if it had a connection of its own."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.policy.subscriptions import CONFIRMATIONS, Kind
from aioredis_kit.pubsub.mailbox import Mailbox
from aioredis_kit.pubsub.message import WORDS, Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aioredis_kit.lanes.push import PushLane
    from aioredis_kit.pubsub.mailbox import Limits

ERROR: Final = b"error"
"""The first word of what is to be raised: this very object."""
_UNSUBSCRIBE: Final = {kind: kind.unsubscribe.lower().encode() for kind in Kind}
_SUBSCRIBE: Final = {kind: kind.subscribe.lower().encode() for kind in Kind}


class Inbox(Mailbox):
    """What waits for one ``PubSub``: also the confirmations, as redis-py shows them.

    Args:
        lane: The push lane that it subscribes on.
        note_dropped: Told of each confirmation that nobody will take. Only referred to weakly, as the lane refers to
            this.

    Attributes:
        lane: The same.
        wanted: The topics.
        live: Those that are subscribed.
        was_told: Whether somebody was told that it has ended.
    """

    __slots__ = ("_note_dropped", "lane", "live", "wanted", "was_told")

    def __init__(self, lane: PushLane, limits: Limits, note_dropped: Callable[[Any], None]) -> None:
        super().__init__(limits)
        self.lane = lane
        self.wanted: dict[Kind, dict[bytes, None]] = {kind: {} for kind in Kind}
        self.live: dict[Kind, set[bytes]] = {kind: set() for kind in Kind}
        self.was_told = False
        self.overflowed = self.leave
        self._note_dropped = weakref.WeakMethod(note_dropped)

    async def subscribe(self, names: Mapping[Kind, Iterable[bytes]], *, timeout: float | None) -> None:
        """Subscribe, and wait for the confirmations.

        Raises:
            KitError: As ``PushLane.subscribe``.
            ResponseError: The server refused it.

        Cancellation:
            Safe. Only what was subscribed before still is.
        """
        topics = [(kind, name) for kind, group in names.items() for name in group]
        for kind, name in topics:
            self.wanted[kind][name] = None
        try:
            await self.lane.subscribe(names, self, timeout=timeout)
        except BaseException:  # refused, late or cancelled: the caller has subscribed to nothing
            gone = {(kind, name) for kind, name in topics if not self.lane.has(kind, name, self)}
            for kind, name in gone:
                self.wanted[kind].pop(name, None)
                self.live[kind].discard(name)
            self._withdraw(gone)
            raise

    def unsubscribe(self, kind: Kind, names: Iterable[bytes]) -> None:
        """Unsubscribe, and confirm that. Without a name there is one confirmation that names none."""
        names = list(names)
        self.lane.unsubscribe({kind: names}, self)
        for name in names or (None,):
            if name is not None:
                self.wanted[kind].pop(name, None)
                self.live[kind].discard(name)
            self.put([_UNSUBSCRIBE[kind], name, self._count(kind)])

    def leave(self) -> None:
        """Unsubscribe from everything."""
        self.lane.unsubscribe(self.wanted, self)

    def abandoned(self) -> None:
        """Nobody will take anything any more; told in whatever thread."""
        if not self.lane.loop.is_closed():
            self.lane.loop.call_soon_threadsafe(self.leave)

    def subscribed(self, kind: Kind, name: bytes) -> None:
        """See ``Consumer``."""
        self.live[kind].add(name)
        self.put([_SUBSCRIBE[kind], name, self._count(kind)])

    def missed(self, reason: str, topic: tuple[Kind, bytes] | None = None) -> None:
        """See ``Consumer``."""
        for kind, names in self.live.items():
            if topic is None:
                names.clear()
            elif topic[0] is kind:
                names.discard(topic[1])
        super().missed(reason)

    def note_pong(self, reply: Any) -> None:
        """Take the reply to a ``PING``."""
        if isinstance(reply, Exception):
            self.put([ERROR, reply, None])
        elif isinstance(reply, list):
            self.put(reply)
        else:
            self.put([b"pong", b"" if reply == b"PONG" else reply])

    def _withdraw(self, topics: set[tuple[Kind, bytes]]) -> None:
        """Drop what came by topics since they were last not subscribed."""
        kept = []
        for item in reversed(self.items):
            if not isinstance(item, Gap) and (kind := WORDS.get(item[0])) is not None:
                if (kind, item[1]) in topics:
                    continue
            elif not isinstance(item, Gap) and (what := CONFIRMATIONS.get(item[0])) is not None:
                kind, is_on = what
                if (kind, item[1]) in topics:
                    if is_on:
                        continue
                    topics.discard((kind, item[1]))
            kept.append(item)
        self.items.clear()
        self.items.extend(reversed(kept))

    def _count(self, kind: Kind) -> int:
        """Return the number that confirmations of a kind tell."""
        if kind is Kind.SHARD:
            return len(self.live[kind])
        return len(self.live[Kind.CHANNEL]) + len(self.live[Kind.PATTERN])

    def _discard(self, item: Any) -> None:
        note_dropped = self._note_dropped()
        if note_dropped is not None:
            note_dropped(item)


class LaneView:
    """What code that peeks finds as a ``PubSub``'s connection."""

    def __init__(self, lane: PushLane) -> None:
        self._lane = lane

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection. If not, there will be."""
        return self._lane.is_ready
