"""Large strings, read beside the parser: it looks at every byte of a stream, and copies each several times.

Rules of this file:

1. A string is one for itself, in no array or the like, and it is known where it begins. Who finds one sees to that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from aioredis_kit.wire.attributes import FramingError

if TYPE_CHECKING:
    from re import Match, Pattern

Chunk: TypeAlias = bytes | memoryview
"""What was read at once. A view shows it until the next is read."""

DIGITS: Final = 5
"""How many digits the length of a large string has at least."""
_MOST_DIGITS: Final = 9  # servers have none of more than 512 MB, unless they are told to
_END: Final = b"\r\n"
_LARGE_PART: Final = 4096
"""Parts of so many bytes are joined when all is there: to grow a ``bytearray`` by them takes three times as long."""


def first_line(digits: int) -> Pattern[bytes]:
    """Return what a large string begins with.

    Args:
        digits: How many digits its length has at least.
    """
    return re.compile(rb"\$([1-9][0-9]{%d,%d})\r\n" % (digits - 1, _MOST_DIGITS - 1))


class LargeString:
    """A large string that is being read.

    Args:
        line: Its first line.
    """

    __slots__ = ("_end", "_missing", "_parts")

    def __init__(self, line: Match[bytes]) -> None:
        self._missing = int(line[1])
        self._parts: list[bytearray | Chunk] = []
        self._end = b""

    @property
    def is_whole(self) -> bool:
        """Whether all of it was read."""
        return len(self._end) == len(_END)

    def take(self, data: Chunk, position: int) -> int:
        """Take what belongs to it; return where that ends.

        Args:
            data: What came.
            position: Where it begins or goes on.

        Raises:
            FramingError: It does not end where it says.
        """
        part = data[position : position + self._missing]
        position += len(part)
        self._missing -= len(part)
        if not self._missing:
            end = bytes(data[position : position + len(_END) - len(self._end)])
            position += len(end)
            self._end += end
            if not _END.startswith(self._end):
                raise FramingError("a string that does not end where it says")
        self._add(part)
        return position

    def _add(self, part: Chunk) -> None:
        if self.is_whole:
            self._parts.append(part)  # it is looked at before the next is read
        elif len(part) >= _LARGE_PART:
            self._parts.append(bytes(part))
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += part  # an object for each takes more room than what is in it
        else:
            self._parts.append(bytearray(part))

    def __bytes__(self) -> bytes:
        """Return it, when it is whole."""
        return bytes(self._parts[0]) if len(self._parts) == 1 else b"".join(self._parts)

    def decoded(self, encoding: str, errors: str) -> str | UnicodeDecodeError:
        """Return it as text, when it is whole, or why it can't be decoded.

        Args:
            encoding: The encoding.
            errors: What happens to bytes that are invalid in it, as in ``bytes.decode``.
        """
        try:
            return str(self._parts[0] if len(self._parts) == 1 else bytes(self), encoding, errors)
        except UnicodeDecodeError as error:
            return error
