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
   are looked at before, the long ones at least, and wherever they are, as it does not look whether a string ends where
   it says. It would take seconds, and the loop with it, to give up the room for a thousand million elements that never
   come. (It makes none for maps, and lets none be nested deeper than 1024.)
4. A large string is read beside hiredis, if it is no element: no array may be open. hiredis does not say whether one
   is. But a read that yields no frame, though there was something to read, leaves one open, and nothing else does. So
   who reads asks ``has_data`` before each read, and sets ``is_open`` after such a one.
5. After any error but a decoding error the stream can't be trusted: no frame is read any more.
"""

from __future__ import annotations

import math
import re
from heapq import merge
from typing import TYPE_CHECKING, Any, Final

import hiredis

from aioredis_kit.wire.attributes import MARK, AttributeSkipper, FramingError
from aioredis_kit.wire.large import DIGITS, LargeString, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aioredis_kit.wire.large import Chunk

NOT_ENOUGH: Final = object()
"""What reading yields when no whole frame is there."""

_PUSH: Final = b">"
_ARRAY: Final = b"*"
_SET: Final = b"~"
_MARKED_LINE: Final = re.compile(rb"\n[|>]")
_LONG_DIGITS: Final = 7
_LONG_ARRAY, _LONG_SET, _LONG_PUSH = (  # each begins with a literal, which is what is fast
    re.compile(rb"%b[0-9]{%d,}+(?:\r|\Z)" % (re.escape(mark), _LONG_DIGITS)) for mark in (_ARRAY, _SET, _PUSH)
)
_DIGITS: Final = re.compile(rb"[0-9]*+")
_CUT_HEADER: Final = re.compile(rb"[*~>][0-9]*\Z")
_LF: Final = ord("\n")
_MOST_IN_A_PUSH: Final = 1024
"""Of how many elements a push may consist; those of servers have a handful."""
_MOST_UNMARKED: Final = 10 ** (_LONG_DIGITS - 1) - 1
"""And of how many where pushes are not marked, so that only long ones are looked at."""
_LEAST_READ: Final = 512
"""How many bytes have to come at once that a large string is looked for: fewer than a packet from another machine has,
and more than most replies that come alone."""
_WITHOUT_A_LINE: Final = 4096
"""So much without a line that begins a string, in bytes, is taken for the middle of a large one."""
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
            elements, and the lengths of large strings, are compared with that.
        large_digits: How many digits the length of a large string has at least.

    Attributes:
        read: Reads one frame, ``NOT_ENOUGH`` if none is whole. Takes whether its strings are decoded; without an
            argument they are as ``use_text`` said, which costs less.
        has_data: Whether something was fed that no frame and no beginning of a frame was made of yet.
        in_push: Whether the next frame is a push.
        is_open: Whether a frame has begun that is not whole: the last read yielded ``NOT_ENOUGH``. Set by who reads.
        large: The large string that is being read, if one is.
    """

    __slots__ = (
        *("_begun", "_errors", "_has_text", "_large_line", "_last", "_least_read", "_most_bytes", "_most_elements"),
        *("_names", "_next_line", "_promised", "_reader", "_skipper", "_without_a_line"),
        *("has_data", "in_push", "is_open", "large", "read"),
    )

    def __init__(
        self,
        encoding: str,
        errors: str,
        error_reply: Callable[[str], Exception],
        *,
        most_bytes: int | None = None,
        large_digits: int = DIGITS,
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
        self.is_open = False
        self._skipper: AttributeSkipper | None = None
        self._last = _LF
        self._begun = b""  # a mark and the digits behind it, while more of those may come
        self._most_bytes = math.inf if most_bytes is None else most_bytes
        self._most_elements = self._most_bytes // _LEAST_ELEMENT
        self._promised: float = 0  # elements of the long arrays and sets that have begun since a frame became whole
        self.large: LargeString | None = None
        self._large_line = first_line(large_digits)
        self._next_line = re.compile(rb"\n" + self._large_line.pattern)
        self._least_read = min(10 ** (large_digits - 1), _LEAST_READ)
        self._without_a_line = min(10 ** (large_digits - 1), _WITHOUT_A_LINE)

    @property
    def errors(self) -> int:
        """How many error replies were read, those within others included."""
        return self._errors.count

    def note_frames(self) -> None:
        """Note that a frame became whole by what came last."""
        self._promised = 0

    def pieces(self, data: Chunk, *, marks_pushes: bool = True) -> Iterable[bytes | LargeString]:
        """Split what came so that each push begins a piece, leave attributes out, and read large strings.

        After a piece was fed, all frames must be read before the next one is taken. A large string is a frame.

        Args:
            data: What came.
            marks_pushes: Whether it has to be told where a push begins: not where everything is read undecoded.

        Raises:
            FramingError: The bytes can't be RESP. Also while iterating.
            TooLargeError: There are more elements than fit into ``most_bytes``. Also while iterating.
        """
        if self.large is not None or (len(data) >= self._least_read and self._has_large(data)):
            return self._pieces_with_large(data, marks_pushes=marks_pushes)
        return self._small_pieces(data if isinstance(data, bytes) else data.tobytes(), marks_pushes=marks_pushes)

    def _has_large(self, data: Chunk) -> bool:
        """Whether what came begins with a large string, or seems to begin in the middle of one that hiredis has.

        It gets one whose first line came in two parts; others may follow that.
        """
        if self.is_open:
            return len(data) > self._without_a_line and b"\n$" not in bytes(data[: self._without_a_line])
        return self._is_between_frames() and self._large_line.match(data) is not None

    def _is_between_frames(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self.is_open and self._skipper is None

    def _pieces_with_large(self, data: Chunk, *, marks_pushes: bool) -> Iterator[bytes | LargeString]:
        """Split what begins with a large string, or goes on with one, be it hiredis's."""
        position = 0
        while position < len(data):
            if self.large is None:
                line = self._large_line.match(data, position)
                if line is None or not self._is_between_frames():
                    is_in_an_array = self.is_open and position > 0
                    next_line = None if is_in_an_array else self._next_line.search(data, position)
                    end = len(data) if next_line is None else next_line.start() + 1
                    yield from self._small_pieces(bytes(data[position:end]), marks_pushes=marks_pushes)
                    position = end
                    continue
                if int(line[1]) > self._most_bytes:
                    raise TooLargeError
                self.large, position = LargeString(line), line.end()
            position = self.large.take(data, position)
            if self.large.is_whole:
                large, self.large = self.large, None
                self._last = _LF
                yield large

    def _small_pieces(self, data: bytes, *, marks_pushes: bool) -> Iterable[bytes]:
        """See ``pieces``. Large strings stay where they are."""
        if self._begun:
            self._check_length(self._begun, data, 0)
        may_have_mark = MARK in data or (marks_pushes and _PUSH in data) or self._skipper is not None
        may_be_long = _ARRAY in data or _SET in data or _PUSH in data
        long = _long_headers(data) if may_be_long and _is_long(data) else ()
        if long or (may_have_mark and self._is_marked(data)):
            return self._pieces(data, long, marks_pushes=marks_pushes)
        self._last = data[-1]
        return (data,)

    def use_text(self, *, has_text: bool) -> None:
        """Say whether any string may have to be decoded from here on."""
        if has_text is not self._has_text:
            self._has_text = has_text
            self._reader.set_encoding(*(self._names if has_text else (None, None)))

    def feed(self, piece: bytes) -> None:
        """Give one piece to the parser. All of it is to be read before the next."""
        self.is_open = False
        self._reader.feed(piece)

    def text_of(self, string: LargeString) -> str | UnicodeDecodeError:
        """Return a large string decoded, or why it can't be."""
        return string.decoded(*self._names)

    def _is_marked(self, data: bytes) -> bool:
        return self._skipper is not None or data.startswith((_PUSH, MARK)) or _MARKED_LINE.search(data) is not None

    def _pieces(self, data: bytes, long: Sequence[int], *, marks_pushes: bool) -> Iterator[bytes]:
        start = 0 if self._skipper is None else self._skip(data, 0)  # of what was not fed yet
        for position in _places(data, long, is_behind_a_line=self._last == _LF):
            if position < start:
                continue
            if position > start:
                yield data[start:position]
                start = position
            if self.has_data():  # the beginning of a string or line: this is more of it
                continue
            mark = data[position : position + 1]
            if mark == MARK:
                start = self._skip(data, position)
                continue
            if (data[position - 1] if position else self._last) == _LF:
                self.in_push = self.in_push or (mark == _PUSH and marks_pushes)
            else:
                # The first of a line, or a frame behind a string that does not end where it says: then the parser takes
                # it at once, and nothing is left.
                yield mark
                start += 1
                if self.has_data():
                    continue
            self._check_length(mark, data, position + 1)
        self._last = data[-1]
        if start < len(data):
            yield data[start:]

    def _check_length(self, begun: bytes, data: bytes, position: int) -> None:
        """Look at the number of elements in the first line of a push, array or set, once its end is there.

        If anything but a line end stands behind the digits, hiredis makes room for nothing.

        Args:
            begun: Its mark, and the digits that had come before.
            data: What came.
            position: Where it begins or goes on.

        Raises:
            FramingError: It promises more than a push has.
            TooLargeError: It promises more than a frame may have.
        """
        end = _DIGITS.match(data, position).end()  # type: ignore[union-attr]  # it matches anything
        mark, digits = begun[:1], (begun[1:] + data[position:end]).lstrip(b"0")
        self._begun = b"" if end < len(data) else mark + digits[: _MOST_DIGITS + 1]
        if data[end : end + 1] != b"\r":
            return
        count = int(digits or b"0") if len(digits) <= _MOST_DIGITS else math.inf
        if mark == _PUSH:
            if count > (_MOST_IN_A_PUSH if self.in_push else _MOST_UNMARKED):
                raise FramingError(f"a push of more than {_MOST_IN_A_PUSH} elements")
        elif len(digits) >= _LONG_DIGITS:
            self._promised += count
            # Twice: a frame that ends in what came may be one as well, and is not told from the one behind it.
            if count > self._most_elements or self._promised > 2 * self._most_elements:
                raise TooLargeError

    def _skip(self, data: bytes, position: int) -> int:
        """Return the index just after an attribute, or the end where it is not whole yet."""
        self._skipper = self._skipper or AttributeSkipper()
        end = self._skipper.skip(data, position)
        if end is None:
            return len(data)
        self._skipper = None
        return end


def _places(data: bytes, long: Sequence[int], *, is_behind_a_line: bool) -> Iterator[int]:
    """Return where frames may begin that are looked at before hiredis sees them, in ascending order, some twice.

    Those are attributes and pushes, behind line ends; and long arrays, sets and pushes, wherever.
    """
    first = (0,) if is_behind_a_line and data.startswith((_PUSH, MARK)) else ()
    marked = (match.start() + 1 for match in _MARKED_LINE.finditer(data))
    return merge(first, marked, long)


def _is_long(data: bytes) -> bool:
    """Whether a long array, set or push may begin. Most often not, and that is to be known soon."""
    return bool(
        _LONG_ARRAY.search(data)
        or _LONG_SET.search(data)
        or _LONG_PUSH.search(data)
        or (data[-1] != _LF and _cut_header(data))
    )


def _long_headers(data: bytes) -> list[int]:
    """Return where long arrays, sets and pushes may begin, in ascending order; and what may become one."""
    found = [match.start() for header in (_LONG_ARRAY, _LONG_SET, _LONG_PUSH) for match in header.finditer(data)]
    cut = _cut_header(data)
    return sorted(found if cut is None else [*found, cut.start()])


def _cut_header(data: bytes) -> re.Match[bytes] | None:
    """Return the mark and the digits that what came ends with, if it does."""
    return _CUT_HEADER.search(data, max(len(data) - _MOST_DIGITS, 0))


class _ErrorReplies:
    """Makes the exceptions that stand for error replies, and counts them. It refers to nothing of its reader."""

    __slots__ = ("_make", "count")

    def __init__(self, make: Callable[[str], Exception]) -> None:
        self._make = make
        self.count = 0

    def __call__(self, text: str) -> Exception:
        self.count += 1
        return self._make(text)
