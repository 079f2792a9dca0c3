"""Skip RESP3 attributes.

An attribute (``|``) is a map that describes the value after it. hiredis hands it out as if it were a
value of its own, which would shift every later reply by one, so it never gets to see one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

MARK: Final = b"|"

_AGGREGATES: Final = {b"*": 1, b"~": 1, b">": 1, b"%": 2, MARK: 2}
_LINES: Final = frozenset({b"+", b"-", b":", b",", b"#", b"_", b"("})
_STRINGS: Final = frozenset({b"$", b"=", b"!"})


class FramingError(Exception):
    """The bytes are no RESP, so nothing after them can be attributed to a command."""


class AttributeSkipper:
    """Finds the end of one attribute, whose bytes may come in several pieces."""

    __slots__ = ("_line", "_missing", "_string")

    def __init__(self) -> None:
        self._line = b""  # the beginning of a line that is not whole yet
        self._string = 0  # bytes of a string, its CRLF included, that are still to come
        self._missing = 0  # values still to come

    def skip(self, data: bytes, position: int) -> int | None:
        """Return the index just after the attribute, or ``None`` if it goes on in the next piece.

        Raises:
            FramingError: The bytes can't be RESP.
        """
        while True:
            if self._string:
                taken = min(self._string, len(data) - position)
                self._string -= taken
                position += taken
                if self._string:
                    return None
            else:
                newline = data.find(b"\n", position)
                if newline < 0:
                    self._line += data[position:]
                    return None
                self._count((self._line + data[position:newline]).rstrip(b"\r"))
                self._line = b""
                position = newline + 1
            if not (self._missing or self._string):
                return position

    def _count(self, line: bytes) -> None:
        """Take a line: one value fewer is missing, and those inside it more."""
        kind, digits = line[:1], line[1:]
        self._missing -= 1
        if kind in _LINES:
            return
        if kind not in _AGGREGATES and kind not in _STRINGS:
            raise FramingError("a line of no known type in an attribute")
        length = None
        with suppress(ValueError):
            length = int(digits)
        if length is None:  # raised here and not there: the error would carry that one, and its frames
            raise FramingError("a length that is no number")
        if kind in _STRINGS:
            self._string = length + len(b"\r\n") if length >= 0 else 0
        else:
            # An attribute takes nobody's place: the value that it describes still follows.
            self._missing += max(length, 0) * _AGGREGATES[kind] + (kind == MARK)
