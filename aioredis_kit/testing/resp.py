"""RESP for tests: frames as plain functions, and a parser of commands as they trickle in.

A builder takes frames, not values: ``array(bulk("a"), integer(1))``. What is sent is what is
written in the test; nothing guesses how a Python value should look on the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CommandParser",
    "array",
    "bulk",
    "command",
    "error",
    "integer",
    "mapping",
    "null",
    "push",
    "simple",
]


def simple(text: str) -> bytes:
    """Return a simple string: ``+OK``."""
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """Return an error reply; *text* starts with its code: ``ERR unknown command``."""
    return b"-%b\r\n" % text.encode()


def integer(number: int) -> bytes:
    """Return an integer: ``:1``."""
    return b":%d\r\n" % number


def bulk(value: bytes | str | None) -> bytes:
    """Return a bulk string; ``None`` is RESP2's nil."""
    if value is None:
        return b"$-1\r\n"
    payload = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%b\r\n" % (len(payload), payload)


def null() -> bytes:
    """Return RESP3's null."""
    return b"_\r\n"


def array(*frames: bytes) -> bytes:
    """Return an array of *frames*."""
    return b"*%d\r\n%b" % (len(frames), b"".join(frames))


def mapping(frames: Mapping[bytes, bytes]) -> bytes:
    """Return a RESP3 map; keys and values are frames."""
    body = b"".join(key + value for key, value in frames.items())
    return b"%%%d\r\n%b" % (len(frames), body)


def push(kind: str, *frames: bytes) -> bytes:
    """Return a RESP3 push of *kind* (``"invalidate"``, ``"message"``) that carries *frames*."""
    return b">%d\r\n%b%b" % (len(frames) + 1, bulk(kind), b"".join(frames))


def command(*words: bytes | str | int) -> bytes:
    """Return a command as a client writes it: an array of bulk strings."""
    return array(*(bulk(str(word) if isinstance(word, int) else word) for word in words))


class CommandParser:
    """Cut a client's bytes into commands, however they were split on the way.

    Lifecycle: one per connection, fed with every chunk in order.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._words: list[bytes] = []
        self._missing_words = 0
        self._bulk_length: int | None = None

    def feed(self, chunk: bytes) -> list[list[bytes]]:
        """Take the next bytes and return the commands that they complete.

        Args:
            chunk: What one read of the socket returned.

        Returns:
            Each command as its words, the name first. Empty if none is complete yet.

        Raises:
            ValueError: These bytes aren't an array of bulk strings.
        """
        self._buffer += chunk
        commands = []
        while self._take_part():
            if self._words and not self._missing_words:
                commands.append(self._words)
                self._words = []
        return commands

    @property
    def is_between_commands(self) -> bool:
        """Whether every byte fed so far belongs to a complete command."""
        return not (self._buffer or self._missing_words)

    def _take_part(self) -> bool:
        """Take one header or one bulk string; False if it isn't there yet."""
        if self._bulk_length is not None:
            return self._take_payload(self._bulk_length)
        if self._missing_words:
            length = self._take_header(b"$")
            self._bulk_length = length
        else:
            length = self._take_header(b"*")
            self._missing_words = length or 0
        return length is not None

    def _take_header(self, marker: bytes) -> int | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        if not line.startswith(marker) or not line[1:].isdigit():
            raise ValueError(f"expected {marker.decode()!r} and a length, got {line[:80]!r}")
        del self._buffer[: end + 2]
        return int(line[1:])

    def _take_payload(self, length: int) -> bool:
        if len(self._buffer) < length + 2:
            return False
        if self._buffer[length : length + 2] != b"\r\n":
            raise ValueError(f"a bulk string of {length} bytes doesn't end with CRLF")
        self._words.append(bytes(self._buffer[:length]))
        del self._buffer[: length + 2]
        self._bulk_length = None
        self._missing_words -= 1
        return True
