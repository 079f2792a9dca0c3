"""Bytes in, frames out: hiredis, and what it takes to use it safely.

hiredis does not tell attributes from replies, and after a string that can't be decoded it has consumed
the frame without saying whether that was a push. So both are recognised before hiredis sees them:
attributes are cut out, pushes are read undecoded. Where a mark may stand for one of them the stream is
fed up to that mark. If hiredis then holds no unfinished string or line, the mark is the type of a
frame; otherwise it is text. Pieces without such a mark, nearly all, go straight to the parser.

Rules of this file:

1. The ``str`` objects that name the encoding live as long as the reader: hiredis keeps a bare pointer.
2. Whether strings are decoded may not change within a frame. A reply is read as the oldest slot in
   flight wants it, which stays the oldest until the frame is whole; a push is read undecoded.
3. hiredis makes room for a push, an array or a set at once, for as many elements as its first line says: those lines
   are looked at before, the long ones at least. It would take seconds, and the loop with it, to give up
   the room for a thousand million elements that never come. (It makes none for maps, and lets none be nested deeper
   than 1024.)
4. After any error but a decoding error the stream can't be trusted: no frame is read any more.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import hiredis

from aioredis_kit.wire.attributes import MARK, AttributeSkipper, FramingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NOT_ENOUGH: Final = object()
"""What reading yields when no whole frame is there."""

_PUSH: Final = b">"
_ARRAY: Final = b"*"
_SET: Final = b"~"
_MARKED_LINE: Final = re.compile(rb"\n[|>]")
_LONG_DIGITS: Final = 7
_LONG_ARRAY: Final = re.compile(rb"\*[0-9]{%d}" % _LONG_DIGITS)  # begin with a literal, which is what is fast
_LONG_SET: Final = re.compile(rb"~[0-9]{%d}" % _LONG_DIGITS)
_LONG_PUSH: Final = re.compile(rb">[0-9]{%d}" % _LONG_DIGITS)
_CUT_HEADER: Final = re.compile(rb"[*~>][0-9]*\Z")
_LONG: Final = rb"[*~](?:[0-9]{%d}|[0-9]*\Z)" % _LONG_DIGITS
_MARKED_OR_LONG: Final = re.compile(rb"[|>]|" + _LONG)
_MARKED_OR_LONG_LINE: Final = re.compile(rb"\n(?:[|>]|" + _LONG + rb")")
_LF: Final = ord("\n")
_MOST_IN_A_PUSH: Final = 1024
"""Of how many elements a push may consist; those of servers have a handful."""
_MOST_UNMARKED: Final = 10 ** (_LONG_DIGITS - 1) - 1
"""And of how many where pushes are not marked, so that only long ones are looked at."""
_MOST_DIGITS: Final = len("4294967295")
_LEAST_ELEMENT: Final = len(b"_\r\n")


class TooLargeError(FramingError):
    """A reply says itself that it is larger than it may be."""


class Decoder:
    """Parses the stream of one connection.

    Args:
        encoding: The encoding of text.
        errors: What happens to bytes that are invalid in it, as in ``bytes.decode``.
        error_reply: Makes the exception that stands for an error reply. It must not raise.
        most_bytes: How large a frame may be, in bytes; ``None``: as large as it likes. Here only the numbers of
            elements are compared with that.

    Attributes:
        read: Reads one frame, ``NOT_ENOUGH`` if none is whole. Takes whether its strings are decoded; without an
            argument they are as ``use_text`` said, which costs less.
        has_data: Whether something was fed that no frame and no beginning of a frame was made of yet.
        in_push: Whether the next frame is a push.
        promised: How many elements the long arrays and sets have that have begun. To be set to 0 when a frame is whole.
    """

    __slots__ = (
        *("_begun", "_errors", "_has_text", "_last", "_most_elements", "_names", "_reader", "_skipper"),
        *("has_data", "in_push", "promised", "read"),
    )

    def __init__(
        self,
        encoding: str,
        errors: str,
        error_reply: Callable[[str], Exception],
        *,
        most_bytes: int | None = None,
    ) -> None:
        self._names = (encoding, errors)
        self._errors = _ErrorReplies(error_reply)
        self._reader = hiredis.Reader(
            protocolError=FramingError,
            replyError=self._errors,
            encoding=encoding,
            errors=errors,
            notEnoughData=NOT_ENOUGH,
        )
        self.read: Callable[..., Any] = self._reader.gets
        self._has_text = True
        self.has_data: Callable[[], bool] = self._reader.has_data
        self.in_push = False
        self._skipper: AttributeSkipper | None = None
        self._last = _LF
        self._begun = b""  # a mark and the digits behind it, while more of those may come
        self._most_elements = math.inf if most_bytes is None else most_bytes // _LEAST_ELEMENT
        self.promised: float = 0

    @property
    def errors(self) -> int:
        """How many error replies were read, those within others included."""
        return self._errors.count

    def pieces(self, data: bytes, *, marks_pushes: bool = True) -> Iterable[bytes]:
        """Split what came so that each push begins a piece, and leave attributes out.

        After a piece was fed, all frames must be read before the next one is taken.

        Args:
            data: What came.
            marks_pushes: Whether it has to be told where a push begins: not where everything is read undecoded.

        Raises:
            FramingError: The bytes can't be RESP. Also while iterating.
            TooLargeError: There are more elements than fit into ``most_bytes``. Also while iterating.
        """
        if self._begun:
            self._check_length(self._begun, data, 0)
        may_have_mark = MARK in data or (marks_pushes and _PUSH in data) or self._skipper is not None
        may_be_long = _ARRAY in data or _SET in data or _PUSH in data
        if (may_have_mark and self._is_marked(data)) or (may_be_long and self._is_long(data)):
            return self._pieces(data, marks_pushes=marks_pushes)
        self._last = data[-1]
        return (data,)

    def use_text(self, *, has_text: bool) -> None:
        """Say whether any string may have to be decoded from here on."""
        if has_text is not self._has_text:
            self._has_text = has_text
            self._reader.set_encoding(*(self._names if has_text else (None, None)))

    def feed(self, piece: bytes) -> None:
        """Give one piece to the parser."""
        self._reader.feed(piece)

    def _is_marked(self, data: bytes) -> bool:
        return self._skipper is not None or data.startswith((_PUSH, MARK)) or _MARKED_LINE.search(data) is not None

    def _is_long(self, data: bytes) -> bool:
        if _LONG_ARRAY.search(data) or _LONG_SET.search(data) or _LONG_PUSH.search(data):
            return True
        return data[-1] != _LF and _CUT_HEADER.search(data, max(len(data) - _MOST_DIGITS, 0)) is not None

    def _pieces(self, data: bytes, *, marks_pushes: bool) -> Iterator[bytes]:
        start = 0  # of what was not fed yet
        position = 0  # of what may be a mark
        if self._skipper is not None:
            start = position = self._skip(data, 0)
        while position < len(data):
            if _MARKED_OR_LONG.match(data, position):
                if position > start:
                    yield data[start:position]
                    start = position
                before = data[position - 1] if position else self._last
                if before == _LF and not self.has_data():
                    mark = data[position : position + 1]
                    if mark == MARK:
                        start = position = self._skip(data, position)
                        continue
                    self.in_push = self.in_push or (mark == _PUSH and marks_pushes)
                    self._check_length(mark, data, position + 1)
            match = _MARKED_OR_LONG_LINE.search(data, position)
            position = len(data) if match is None else match.start() + 1
        self._last = data[-1]
        if start < len(data):
            yield data[start:]

    def _check_length(self, begun: bytes, data: bytes, position: int) -> None:
        """Look at the number of elements in the first line of a push, array or set, as far as it has come.

        Args:
            begun: Its mark, and the digits that had come before.
            data: What came.
            position: Where it begins or goes on.

        Raises:
            FramingError: It promises more than a push has.
            TooLargeError: It promises more than a frame may have.
        """
        end = position
        while data[end : end + 1].isdigit():
            end += 1
        mark, digits = begun[:1], (begun[1:] + data[position:end]).lstrip(b"0")
        count = int(digits or b"0") if len(digits) <= _MOST_DIGITS else math.inf
        if mark == _PUSH:
            if count > (_MOST_IN_A_PUSH if self.in_push else _MOST_UNMARKED):
                raise FramingError(f"a push of more than {_MOST_IN_A_PUSH} elements")
        elif len(digits) >= _LONG_DIGITS:
            promised = self.promised + count
            # Twice: a frame that ends in what came may be one as well, and is not told from the one behind it.
            if count > self._most_elements or promised > 2 * self._most_elements:
                raise TooLargeError
            if end < len(data):
                self.promised = promised
        self._begun = b"" if end < len(data) else mark + digits[: _MOST_DIGITS + 1]

    def _skip(self, data: bytes, position: int) -> int:
        """Return the index just after an attribute, or the end where it is not whole yet."""
        self._skipper = self._skipper or AttributeSkipper()
        end = self._skipper.skip(data, position)
        if end is None:
            return len(data)
        self._skipper = None
        return end


class _ErrorReplies:
    """Makes the exceptions that stand for error replies, and counts them. It refers to nothing of its reader."""

    __slots__ = ("_make", "count")

    def __init__(self, make: Callable[[str], Exception]) -> None:
        self._make = make
        self.count = 0

    def __call__(self, text: str) -> Exception:
        self.count += 1
        return self._make(text)
