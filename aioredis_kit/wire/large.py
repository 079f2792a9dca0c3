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

    __slots__ = ("_content", "_end", "_missing", "_read")

    def __init__(self, line: Match[bytes]) -> None:
        self._missing = int(line[1])
        self._read = bytearray()  # grows with what comes: a length is easily claimed
        self._content: bytearray | Chunk = self._read
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
        if self.is_whole and not self._read:
            self._content = part  # all came at once, and is taken before the next is read
        else:
            self._read += part
        return position

    def __bytes__(self) -> bytes:
        """Return it, when it is whole."""
        return bytes(self._content)

    def decoded(self, encoding: str, errors: str) -> str | UnicodeDecodeError:
        """Return it as text, when it is whole, or why it can't be decoded.

        Args:
            encoding: The encoding.
            errors: What happens to bytes that are invalid in it, as in ``bytes.decode``.
        """
        try:
            return str(self._content, encoding, errors)
        except UnicodeDecodeError as error:
            return error
