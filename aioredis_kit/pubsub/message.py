"""What a subscriber gets: messages, and gaps where there should have been some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy.subscriptions import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aioredis_kit.options import Options

MessageKind: TypeAlias = Literal["message", "pmessage", "smessage", "gap"]

ChannelName: TypeAlias = "str | bytes | bytearray | memoryview"
"""The name of a channel, pattern or shard channel."""

OVERFLOW: Final = "too slow"
"""The ``reason`` of a gap: the subscriber didn't keep up."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message, or a gap: the place at which messages are missing.

    Attributes:
        kind: ``"message"`` from a channel, ``"pmessage"`` by a pattern, ``"smessage"`` from a shard channel; or
            ``"gap"``, which has neither channel nor data.
        channel: The channel that it was published to; text under ``decode_responses``, else bytes.
        data: What was published; the same.
        pattern: The pattern by which it came, if it did.
        dropped: Of a gap, how many messages are missing; ``None``: nobody knows.
        reason: Of a gap, why: ``"connection lost"``, ``"unsubscribed by the server"`` (which served that shard channel
            no longer), or ``"too slow"``: more messages waited for the subscriber than its limit allows.
    """

    kind: MessageKind
    channel: Any
    data: Any
    pattern: Any = None
    dropped: int | None = 0
    reason: str = ""

    @property
    def is_gap(self) -> bool:
        """Whether messages are missing here."""
        return self.kind == "gap"


class _Draft:
    """What a message is while it is made.

    Assigning to a slot takes a sixth of the time in which a frozen dataclass sets it, and each message has six: making
    one this way takes 0.3 µs instead of 0.9, of less than 2 that a message costs in all.
    """

    __slots__ = ("channel", "data", "dropped", "kind", "pattern", "reason")

    def __init__(self, kind: MessageKind, channel: Any, data: Any, pattern: Any) -> None:
        self.kind = kind
        self.channel = channel
        self.data = data
        self.pattern = pattern
        self.dropped = 0
        self.reason = ""


class Gap:
    """A gap while it may still grow.

    Attributes:
        dropped: How many messages are missing; ``None``: nobody knows.
        reason: See ``Message``.
    """

    __slots__ = ("dropped", "reason")

    def __init__(self, dropped: int | None, reason: str) -> None:
        self.dropped = dropped
        self.reason = reason

    def add(self, more: Gap) -> None:
        """Let another gap, directly behind, be a part of this one."""
        if self.dropped is None or more.dropped is None:
            self.reason = self.reason if self.dropped is None else more.reason
            self.dropped = None
        else:
            self.dropped += more.dropped

    def as_message(self) -> Message:
        """Return what a subscriber is told."""
        return Message("gap", None, None, None, self.dropped, self.reason)


class Wording:
    """How names and data are shown: as text or as bytes.

    Attributes:
        decode: Whether it is text.
        encoding: Which.
        errors: What becomes of bytes that aren't. See ``bytes.decode``.
        text: Makes text of bytes; returns anything else as it is. The identity where bytes are wanted.
        message: Makes what a subscriber is told of a message that was read. Raises ``UnicodeDecodeError`` if that is
            to be text and is not.
    """

    __slots__ = ("decode", "encoding", "errors", "message", "text")

    def __init__(self, options: Options, *, decode: bool) -> None:
        self.encoding = options.encoding
        self.errors = options.encoding_errors
        self.decode = decode
        is_usual = (options.encoding.lower().replace("_", "-"), options.encoding_errors) == ("utf-8", "strict")
        self.text: Callable[[Any], Any] = (_decode_usual if is_usual else self._decode) if decode else _same
        self.message: Callable[[list[Any]], Message] = self._message if decode else _as_message

    def to_bytes(self, name: ChannelName) -> bytes:
        """Return a name as the server knows it.

        Raises:
            ConfigurationError: It is no name.
        """
        if isinstance(name, str):
            return name.encode(self.encoding, self.errors)
        if isinstance(name, bytes | bytearray | memoryview):
            return bytes(name)
        raise ConfigurationError(f"a channel's name must be text or bytes, not {type(name).__name__!r}")

    def all_to_bytes(self, names: ChannelName | Iterable[ChannelName]) -> list[bytes]:
        """Return one name, or several, as the server knows them.

        Raises:
            ConfigurationError: One is no name.
        """
        if isinstance(names, str | bytes | bytearray | memoryview):
            return [self.to_bytes(names)]
        try:
            return [self.to_bytes(name) for name in names]
        except TypeError as error:
            if isinstance(error, ConfigurationError):
                raise
            kind = type(names).__name__
            raise ConfigurationError(f"{kind!r} is neither a channel's name nor a list of them") from error

    def _message(self, push: list[Any]) -> Message:
        text = self.text
        word = push[0]
        if word == b"message":
            draft: Any = _Draft("message", text(push[1]), text(push[2]), None)
        elif word == b"pmessage":
            draft = _Draft("pmessage", text(push[2]), text(push[3]), text(push[1]))
        else:
            draft = _Draft("smessage", text(push[1]), text(push[2]), None)
        draft.__class__ = Message
        return draft  # type: ignore[no-any-return]  # it is one now

    def _decode(self, value: Any) -> Any:
        if type(value) is bytes:
            return value.decode(self.encoding, self.errors)
        if type(value) is list:
            return [self._decode(item) for item in value]
        return value


def _decode_usual(value: Any) -> Any:
    """Do what ``Wording._decode`` does, with the encoding that nearly everybody has."""
    if type(value) is bytes:
        return value.decode()
    if type(value) is list:
        return [_decode_usual(item) for item in value]
    return value


def _as_message(push: list[Any]) -> Message:
    word = push[0]
    if word == b"message":
        draft: Any = _Draft("message", push[1], push[2], None)
    elif word == b"pmessage":
        draft = _Draft("pmessage", push[2], push[3], push[1])
    else:
        draft = _Draft("smessage", push[1], push[2], None)
    draft.__class__ = Message
    return draft  # type: ignore[no-any-return]  # it is one now


def _same(value: Any) -> Any:
    return value


WORDS: Final = {b"message": Kind.CHANNEL, b"pmessage": Kind.PATTERN, b"smessage": Kind.SHARD}
"""Of which kind the topic is by which a message came: its name is the message's second item."""
