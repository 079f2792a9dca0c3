"""Which channels are to be subscribed, and which are: decisions about the subscriptions of one connection.

Each channel, pattern and shard channel is a topic. A topic is wanted while it has consumers. What was asked of the
server is confirmed in the order in which it was asked; where what is confirmed last isn't what is wanted, that is
drift, and it is asked again.

Rules of this file:

1. What it returns is to be sent in the same turn, in that order; it counts as asked.
2. Names are bytes, as the server sends them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

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


CONFIRMATIONS = {
    word.encode(): (kind, is_on)
    for kind in Kind
    for word, is_on in ((kind.subscribe.lower(), True), (kind.unsubscribe.lower(), False))
}
"""What the first word of a confirmation says: of which kind the topic is, and whether it is subscribed now."""


@dataclass(slots=True)
class Topic(Generic[ConsumerT]):
    """A channel, pattern or shard channel that somebody wants, or that the server was asked about.

    Attributes:
        consumers: Who wants it.
        pending: How many commands about it were sent on this connection and not yet confirmed.
        is_asked: Whether the last of those subscribes.
        is_confirmed: Whether it is subscribed on this connection, as far as that was told.
    """

    consumers: tuple[ConsumerT, ...] = ()
    pending: int = 0
    is_asked: bool = False
    is_confirmed: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be subscribed."""
        return bool(self.consumers)

    def ask(self) -> None:
        """Note that the server is being asked for what is wanted."""
        self.is_asked = self.is_wanted
        self.pending += 1


@dataclass(frozen=True, slots=True)
class Request:
    """A command to send.

    Attributes:
        kind: Of which kind the topics are.
        is_on: Whether they are to be subscribed.
        names: The topics.
    """

    kind: Kind
    is_on: bool
    names: tuple[bytes, ...]

    @property
    def command(self) -> tuple[str | bytes, ...]:
        """Its name and arguments."""
        return (self.kind.subscribe if self.is_on else self.kind.unsubscribe, *self.names)


@dataclass(slots=True)
class Subscriptions(Generic[ConsumerT]):
    """All topics of one client.

    Attributes:
        topics: By kind and name.
    """

    topics: dict[Kind, dict[bytes, Topic[ConsumerT]]] = field(default_factory=lambda: {kind: {} for kind in Kind})

    def __bool__(self) -> bool:
        return any(topic.is_wanted for _, _, topic in self._all())

    def add(self, kind: Kind, names: Iterable[bytes], consumer: ConsumerT) -> Request | None:
        """Let a consumer want topics; return what has to be sent for those that nobody wanted before."""
        fresh = []
        for name in dict.fromkeys(names):
            topic = self.topics[kind].setdefault(name, Topic())
            if consumer not in topic.consumers:
                topic.consumers = (*topic.consumers, consumer)
            if not topic.is_asked:
                topic.ask()
                fresh.append(name)
        return Request(kind, True, tuple(fresh)) if fresh else None  # noqa: FBT003  # it subscribes

    def remove(self, kind: Kind, names: Iterable[bytes], consumer: ConsumerT) -> Request | None:
        """Let a consumer want topics no longer; return what has to be sent for those that nobody wants any more."""
        stale = []
        for name in names:
            topic = self.topics[kind].get(name)
            if topic is None or consumer not in topic.consumers:
                continue
            topic.consumers = tuple(each for each in topic.consumers if each is not consumer)
            if not topic.is_wanted:
                if topic.is_asked:
                    topic.ask()
                    stale.append(name)
                else:
                    self._forget(kind, name)
        return Request(kind, False, tuple(stale)) if stale else None  # noqa: FBT003  # it unsubscribes

    def confirmed(self, kind: Kind, name: bytes, *, is_on: bool) -> Request | None:
        """Take a confirmation; return what has to be sent if it shows drift."""
        topic = self.topics[kind].get(name)
        if topic is None:  # the server's own idea
            return None if not is_on else Request(kind, False, (name,))  # noqa: FBT003  # it unsubscribes
        topic.pending = max(topic.pending - 1, 0)
        if topic.pending:
            return None
        return self._settle(kind, name, topic, is_on=is_on)

    def refused(self, request: Request) -> None:
        """Note that the server refused a command."""
        for name in request.names:
            topic = self.topics[request.kind].get(name)
            if topic is not None:
                topic.pending = max(topic.pending - 1, 0)
                if not topic.pending:
                    topic.is_asked = topic.is_confirmed
                    if not topic.is_wanted and not topic.is_asked:
                        self._forget(request.kind, name)

    def checked(self) -> list[Request]:
        """Look at everything, all that was sent having been confirmed by now; return what mends the drift."""
        drifted: dict[tuple[Kind, bool], list[bytes]] = {}
        for kind, name, topic in list(self._all()):
            topic.pending = 0
            if topic.is_confirmed is not topic.is_wanted:
                topic.ask()
                drifted.setdefault((kind, topic.is_wanted), []).append(name)
            elif not topic.is_wanted:
                self._forget(kind, name)
        return _requests(drifted)

    def connected(self) -> list[Request]:
        """Begin on a new connection, on which nothing is subscribed; return what has to be sent."""
        wanted: dict[tuple[Kind, bool], list[bytes]] = {}
        for kind, name, topic in list(self._all()):
            topic.pending, topic.is_asked, topic.is_confirmed = 0, False, False
            if topic.is_wanted:
                topic.ask()
                wanted.setdefault((kind, True), []).append(name)
            else:
                self._forget(kind, name)
        return _requests(wanted)

    def disconnected(self) -> set[ConsumerT]:
        """End a connection; return the consumers that miss messages from now on."""
        missing = {
            consumer
            for _, _, topic in self._all()
            if topic.is_confirmed or topic.pending
            for consumer in topic.consumers
        }
        for _, _, topic in self._all():
            topic.pending, topic.is_confirmed = 0, False
        return missing

    def consumers(self) -> set[ConsumerT]:
        """Return everybody who wants anything."""
        return {consumer for _, _, topic in self._all() for consumer in topic.consumers}

    def _settle(self, kind: Kind, name: bytes, topic: Topic[ConsumerT], *, is_on: bool) -> Request | None:
        topic.is_asked = topic.is_confirmed = is_on
        if is_on is topic.is_wanted:
            if not is_on:
                self._forget(kind, name)
            return None
        topic.ask()
        return Request(kind, topic.is_wanted, (name,))

    def _forget(self, kind: Kind, name: bytes) -> None:
        del self.topics[kind][name]

    def _all(self) -> Iterator[tuple[Kind, bytes, Topic[ConsumerT]]]:
        for kind, topics in self.topics.items():
            for name, topic in topics.items():
                yield kind, name, topic


def _requests(by_command: dict[tuple[Kind, bool], list[bytes]]) -> list[Request]:
    return [Request(kind, is_on, tuple(names)) for (kind, is_on), names in by_command.items()]
