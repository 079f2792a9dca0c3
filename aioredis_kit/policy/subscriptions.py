"""Which channels are to be subscribed, and which are: decisions about the subscriptions of one connection.

Each channel, pattern and shard channel is a topic. A topic is wanted while it has consumers. What was asked of the
server is confirmed in the order in which it was asked; where what is confirmed last isn't what is wanted, that is
drift, and it is asked again.

Rules of this file:

1. A request that it returns is to be sent in the same turn, in that order; it counts as asked.
2. Each request is followed on the wire by something that is answered even if the request was not: what was not
   confirmed by then never will be.
3. A consumer gets messages of a topic only while all that was asked about it is confirmed. What still comes by an
   earlier subscription was meant for others: behind it there may be a hole that nobody announces.
4. Names are bytes, as the server sends them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ConsumerT = TypeVar("ConsumerT")


class Kind(enum.Enum):
    """What a topic is. The value begins the names of its commands and messages."""

    CHANNEL = ""
    PATTERN = "p"
    SHARD = "s"

    @property
    def subscribe(self) -> str:
        """The command that subscribes."""
        return f"{self.value}subscribe".upper()

    @property
    def unsubscribe(self) -> str:
        """The command that unsubscribes."""
        return f"{self.value}unsubscribe".upper()


CONFIRMATIONS: Final = {
    word.encode(): (kind, is_on)
    for kind in Kind
    for word, is_on in ((kind.subscribe.lower(), True), (kind.unsubscribe.lower(), False))
}
"""What the first word of a confirmation says: of which kind the topic is, and whether it is subscribed now."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A command to send. Two are never the same, even if they say the same.

    Attributes:
        kind: Of which kind the topics are.
        is_on: Whether they are to be subscribed.
        names: The topics.
        is_repair: Whether it was asked before, in vain. It is not asked again at once.
    """

    kind: Kind
    is_on: bool
    names: tuple[bytes, ...]
    is_repair: bool = False

    @property
    def command(self) -> tuple[str | bytes, ...]:
        """Its name and arguments."""
        return (self.word, *self.names)

    @property
    def word(self) -> str:
        """Its name."""
        return self.kind.subscribe if self.is_on else self.kind.unsubscribe


@dataclass(slots=True)
class Topic(Generic[ConsumerT]):
    """A channel, pattern or shard channel that somebody wants, or that the server was asked about.

    Attributes:
        consumers: Who wants it, in the order of their coming.
        asked: The requests about it that were sent on this connection and are not confirmed yet, the oldest first.
        is_confirmed: Whether it is subscribed on this connection, as far as that was told.
        audience: Who gets its messages now. ``None``: ask ``gather``.
    """

    consumers: dict[ConsumerT, None] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    is_confirmed: bool = False
    audience: tuple[ConsumerT, ...] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be subscribed."""
        return bool(self.consumers)

    @property
    def is_asked(self) -> bool:
        """Whether it will be subscribed when all that was sent is confirmed."""
        return self.asked[-1].is_on if self.asked else self.is_confirmed

    @property
    def is_live(self) -> bool:
        """Whether it is subscribed, and nothing is under way that may change that."""
        return self.is_confirmed and not self.asked

    @property
    def has_drifted(self) -> bool:
        """Whether it isn't what it should be, and nothing is under way to change that."""
        return not self.asked and self.is_confirmed is not self.is_wanted

    def gather(self) -> tuple[ConsumerT, ...]:
        """Return who gets its messages now, and remember that until something changes."""
        self.audience = tuple(self.consumers) if self.is_live else ()
        return self.audience


@dataclass(frozen=True, slots=True)
class Change:
    """What a confirmation means.

    Attributes:
        request: What has to be sent because of it.
        is_subscribed: Whether the topic has become live.
        is_unasked: Whether the server ended a subscription that is wanted.
    """

    request: Request | None = None
    is_subscribed: bool = False
    is_unasked: bool = False


_NOTHING: Final = Change()


@dataclass(slots=True)
class Subscriptions(Generic[ConsumerT]):
    """All topics of one client.

    Attributes:
        topics: By kind and name.
        is_connected: Whether there is a connection. Without one nothing is asked.
    """

    topics: dict[Kind, dict[bytes, Topic[ConsumerT]]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    is_connected: bool = False

    def __bool__(self) -> bool:
        return any(topic.is_wanted for _, _, topic in self._all())

    @property
    def has_any(self) -> bool:
        """Whether anybody wants any topic."""
        return any(topic.is_wanted for topics in self.topics.values() for topic in topics.values())

    def has(self, kind: Kind, name: bytes, consumer: ConsumerT) -> bool:
        """Whether a consumer wants a topic."""
        topic = self.topics[kind].get(name)
        return topic is not None and consumer in topic.consumers

    def is_live(self, kind: Kind, name: bytes) -> bool:
        """Whether a topic is subscribed, and nothing is under way that may change that."""
        topic = self.topics[kind].get(name)
        return topic is not None and topic.is_live

    def add(self, kind: Kind, names: Iterable[bytes], consumer: ConsumerT) -> Request | None:
        """Let a consumer want topics; return what has to be sent for those that nobody wanted before."""
        fresh = []
        for name in names:
            topic = self.topics[kind].setdefault(name, Topic())
            topic.consumers[consumer] = None
            topic.audience = None
            if not topic.is_asked:
                fresh.append(name)
        return self._ask(kind, dict.fromkeys(fresh), is_on=True)  # a name given twice is asked for once

    def remove(self, kind: Kind, names: Iterable[bytes], consumer: ConsumerT) -> Request | None:
        """Let a consumer want topics no longer; return what has to be sent for those that nobody wants any more."""
        stale = []
        for name in names:
            topic = self.topics[kind].get(name)
            if topic is None or consumer not in topic.consumers:
                continue
            del topic.consumers[consumer]
            topic.audience = None
            if topic.is_wanted:
                continue
            if topic.is_asked:
                stale.append(name)
            elif not topic.asked:
                self._forget(kind, name)
        return self._ask(kind, stale, is_on=False)

    def confirmed(self, kind: Kind, name: bytes, *, is_on: bool) -> Change:
        """Take a confirmation."""
        topic = self.topics[kind].get(name)
        if topic is None:  # the server's own idea
            if not is_on:
                return _NOTHING
            topic = self.topics[kind][name] = Topic()
        was_live = topic.is_live
        is_answer = bool(topic.asked) and topic.asked[0].is_on is is_on
        if is_answer:
            topic.asked.pop(0)
        topic.is_confirmed, topic.audience = is_on, None
        if topic.asked:
            return _NOTHING
        if is_on is not topic.is_wanted:
            request = self._ask(kind, (name,), is_on=topic.is_wanted)
            return Change(request, is_unasked=topic.is_wanted and was_live)
        if not is_on:
            self._forget(kind, name)
            return _NOTHING
        return Change(is_subscribed=not was_live)

    def refused(self, request: Request) -> list[Request]:
        """Note that the server refused a request; return what has to be sent because of it.

        One name that is refused spoils a request with many: those are asked for one by one. One that was asked for
        alone is left to ``checked``.
        """
        drifted = self._close(request)
        if len(request.names) == 1:
            return []
        return [self._asked(request.kind, (name,), is_on=is_on) for name, is_on in drifted]

    def unanswered(self, request: Request) -> list[Request]:
        """Note that the answer to a request would have come by now; return what has to be sent where it didn't."""
        drifted = self._close(request)
        if request.is_repair:
            return []
        return [
            self._asked(request.kind, names, is_on=wanted, is_repair=True)
            for wanted in (True, False)
            if (names := tuple(name for name, is_on in drifted if is_on is wanted))
        ]

    def checked(self) -> list[Request]:
        """Look at everything; return what mends the drift."""
        drifted: dict[tuple[Kind, bool], list[bytes]] = {}
        if self.is_connected:
            for kind, name, topic in self._all():
                if topic.has_drifted:
                    drifted.setdefault((kind, topic.is_wanted), []).append(name)
        return [
            self._asked(kind, tuple(names), is_on=is_on, is_repair=True) for (kind, is_on), names in drifted.items()
        ]

    def connected(self) -> list[Request]:
        """Begin on a new connection, on which nothing is subscribed; return what has to be sent."""
        self.is_connected = True
        self._reset()
        return [self._asked(kind, tuple(topics), is_on=True) for kind, topics in self.topics.items() if topics]

    def disconnected(self) -> list[ConsumerT]:
        """End a connection; return the consumers that miss messages from now on."""
        missing = {consumer: None for _, _, topic in self._all() for consumer in topic.gather()}
        self.is_connected = False
        self._reset()
        return list(missing)

    def consumers(self) -> list[ConsumerT]:
        """Return everybody who wants anything."""
        return list({consumer: None for _, _, topic in self._all() for consumer in topic.consumers})

    def clear(self) -> None:
        """Let nobody want anything any more. What is subscribed on the connection is left to its end."""
        for topics in self.topics.values():
            topics.clear()

    def _ask(self, kind: Kind, names: Iterable[bytes], *, is_on: bool) -> Request | None:
        names = tuple(names)
        return self._asked(kind, names, is_on=is_on) if names and self.is_connected else None

    def _asked(self, kind: Kind, names: tuple[bytes, ...], *, is_on: bool, is_repair: bool = False) -> Request:
        request = Request(kind, is_on, names, is_repair)
        for name in names:
            topic = self.topics[kind][name]
            topic.asked.append(request)
            topic.audience = None
        return request

    def _close(self, request: Request) -> list[tuple[bytes, bool]]:
        """Expect no confirmation of a request any more; return what has drifted, and whether it is wanted."""
        drifted = []
        for name in request.names:
            topic = self.topics[request.kind].get(name)
            if topic is None or request not in topic.asked:
                continue
            del topic.asked[: topic.asked.index(request) + 1]
            topic.audience = None
            if topic.has_drifted:
                drifted.append((name, topic.is_wanted))
            elif not topic.asked and not topic.is_wanted:
                self._forget(request.kind, name)
        return drifted

    def _reset(self) -> None:
        """Forget what was asked and confirmed, and the topics that nobody wants."""
        for kind, name, topic in list(self._all()):
            topic.asked.clear()
            topic.is_confirmed, topic.audience = False, None
            if not topic.is_wanted:
                self._forget(kind, name)

    def _forget(self, kind: Kind, name: bytes) -> None:
        del self.topics[kind][name]

    def _all(self) -> Iterator[tuple[Kind, bytes, Topic[ConsumerT]]]:
        for kind, topics in self.topics.items():
            for name, topic in topics.items():
                yield kind, name, topic
