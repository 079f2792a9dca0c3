"""What happens to a client's connection, as values that travel upwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from aioredis_kit.exceptions import KitError


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        name: What listeners register for.
    """

    name: ClassVar[str]

    @property
    def arguments(self) -> tuple[object, ...]:
        """What listeners are called with."""
        return ()


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """The socket is open; the handshake begins."""

    name = "connect"


@dataclass(frozen=True, slots=True)
class Ready(Event):
    """The handshake is done: commands are sent.

    Attributes:
        protocol: The protocol agreed on: 2 or 3.
    """

    name = "ready"
    protocol: int


@dataclass(frozen=True, slots=True)
class Reconnecting(Event):
    """The connection was lost, or an attempt failed; the next one follows.

    Attributes:
        retries: How many attempts have failed since the loss.
        delay: How long the client waits before the next attempt, in seconds.
    """

    name = "reconnecting"
    retries: int
    delay: float

    @property
    def arguments(self) -> tuple[object, ...]:
        """The retries and the delay."""
        return self.retries, self.delay


@dataclass(frozen=True, slots=True)
class Renewed(Event):
    """There is a new token; the connections authenticate with it.

    Attributes:
        expires_at: When it ends, in seconds since the epoch.
    """

    name = "credentials-renewed"
    expires_at: float

    @property
    def arguments(self) -> tuple[object, ...]:
        """When it ends."""
        return (self.expires_at,)


@dataclass(frozen=True, slots=True)
class Reauthenticated(Event):
    """A connection has authenticated with a new token.

    Attributes:
        is_same_user: Whether it is still the same user.
    """

    name = "reauthenticated"
    is_same_user: bool = True


@dataclass(frozen=True, slots=True)
class Invalidated(Event):
    """A key has changed that a connection had read, or may have.

    Attributes:
        key: Which; ``None``: all of them may have, because the server's database was emptied or because the connection
            was lost on which it would have been told.
    """

    name = "invalidate"
    key: str | bytes | None

    @property
    def arguments(self) -> tuple[object, ...]:
        """The key."""
        return (self.key,)


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """Something went wrong that no caller is told of otherwise.

    Attributes:
        error: What.
    """

    name = "error"
    error: Exception

    @property
    def arguments(self) -> tuple[object, ...]:
        """The error."""
        return (self.error,)


@dataclass(frozen=True, slots=True)
class Terminated(Event):
    """The reconnect strategy gave up: the client is closed.

    Attributes:
        cause: Why.
    """

    name = "terminated"
    cause: KitError

    @property
    def arguments(self) -> tuple[object, ...]:
        """The cause."""
        return (self.cause,)


@dataclass(frozen=True, slots=True)
class Pinged(Event):
    """A ping was answered.

    Attributes:
        latency: The time from the ping to its answer, in seconds.
    """

    name = "ping-interval"
    latency: float

    @property
    def arguments(self) -> tuple[object, ...]:
        """The latency."""
        return (self.latency,)


@dataclass(frozen=True, slots=True)
class Orphaned(Event):
    """A blocking command got a reply when its caller had gone: an element that was taken from a list, perhaps.

    Attributes:
        command: Its name and arguments.
        reply: What came, before redis-py's response callback.
    """

    name = "reply-orphaned"
    command: tuple[object, ...]
    reply: object

    @property
    def arguments(self) -> tuple[object, ...]:
        """The command and the reply."""
        return self.command, self.reply


@dataclass(frozen=True, slots=True)
class ChannelMoved(Event):
    """The server ended a subscription to a shard channel, as it serves that slot no longer.

    Attributes:
        channel: Which.
    """

    name = "sharded-channel-moved"
    channel: bytes

    @property
    def arguments(self) -> tuple[object, ...]:
        """The channel."""
        return (self.channel,)


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The client was closed on purpose. Nothing follows."""

    name = "end"


EVENT_NAMES = tuple(
    kind.name
    for kind in (
        *(Connected, Ready, Reconnecting, Failed, Terminated, Pinged, Ended),
        *(Renewed, Reauthenticated, Orphaned, ChannelMoved, Invalidated),
    )
)
"""All events that listeners may register for."""
