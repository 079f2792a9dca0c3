"""Turn a command into the bytes that carry it.

Three ways, the fastest that fits:

- One or two short texts or byte strings behind the name, as most commands have: joined from a beginning for each name,
  and lines with lengths. Checking what hiredis may be given and packing it takes 0.2 µs more, of some 2.5 that a
  command costs in all.
- hiredis packs what it is known to pack correctly: short ``str``, ``bytes``, ``int`` and ``float``.
- All else is checked and written here: hiredis refuses ``bytearray`` and subclasses of ``int``, knows UTF-8 only, and
  packs strided memoryviews wrong.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from hiredis import pack_command
from redis.exceptions import DataError

Argument: TypeAlias = str | bytes | bytearray | memoryview | int | float
"""What a command may be made of."""

Payload: TypeAlias = bytes | list[bytes | memoryview]
"""An encoded command: one piece, or several where copying a large value would cost more."""

LARGE = 16 * 1024
"""From this size on, in bytes, a value is written as it is instead of being copied into the payload.

Measured: packing 1 MB costs 70 µs, handing on a reference 2.5 µs; below some 16 KB the one copy is
cheaper than the pieces.
"""


_MOST_NAMES: Final = 2048
_LENGTHS: Final = tuple(b"%d\r\n" % length for length in range(1024))
"""The lines that tell the lengths of short arguments."""
_SHORT: Final = len(_LENGTHS)
_LEAST, _MOST = -(2**63), 2**63 - 1  # hiredis crashes on numbers of thousands of digits


class Encoder:
    """Encodes commands with one character encoding.

    Args:
        encoding: The encoding of ``str`` arguments.
        errors: What happens to characters that it lacks, as in ``str.encode``.
    """

    __slots__ = ("_encoding", "_errors", "_is_utf8", "_with_one", "_with_two", "encode")

    def __init__(self, encoding: str = "utf-8", errors: str = "strict") -> None:
        self._encoding = encoding
        self._errors = errors
        self._with_one: dict[Argument, bytes] = {}  # beginnings by name, up to the first argument's length
        self._with_two: dict[Argument, bytes] = {}
        self._is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
        self.encode = self._encode if self._is_utf8 else self._encode_checked

    def _encode(self, args: tuple[Argument, ...]) -> Payload:  # noqa: C901, PLR0912  # calls cost
        """Encode one command, its name first.

        Raises:
            DataError: An argument is of no type that Redis can store, or can't be encoded.
        """
        try:
            if len(args) == 2:
                name, key = args
                if type(key) is str:
                    key = key.encode()
                if type(key) is bytes and len(key) < _SHORT:
                    return b"".join((self._with_one[name], _LENGTHS[len(key)], key, b"\r\n"))
            elif len(args) == 3:
                name, key, value = args
                if type(key) is str:
                    key = key.encode()
                if type(value) is str:
                    value = value.encode()
                if type(key) is bytes and type(value) is bytes and len(key) < _SHORT and len(value) < _SHORT:
                    head, key_length, value_length = self._with_two[name], _LENGTHS[len(key)], _LENGTHS[len(value)]
                    return b"".join((head, key_length, key, b"\r\n$", value_length, value, b"\r\n"))
            if _is_packed_right(args):
                return pack_command(args)  # type: ignore[arg-type,no-any-return]  # its stub knows but one argument
        except UnicodeEncodeError:
            pass
        except (KeyError, TypeError):  # a name that is new, or can't be remembered
            if isinstance(args[0], str | bytes):
                self._remember(args[0])
                return self._encode(args)
        return self._encode_checked(args)

    def _remember(self, name: str | bytes) -> None:
        """Prepare for commands of this name, in this spelling, with one argument and with two."""
        if len(self._with_one) >= _MOST_NAMES:
            self._with_one.clear()
            self._with_two.clear()
        word = self._to_bytes(name, 0)
        rest = b"$%d\r\n%b\r\n$" % (len(word), word)
        self._with_one[name] = b"*2\r\n" + rest
        self._with_two[name] = b"*3\r\n" + rest

    def _encode_checked(self, args: tuple[Argument, ...]) -> Payload:
        values = [self._to_bytes(arg, position) for position, arg in enumerate(args)]
        pieces: list[bytes | memoryview] = []
        small = bytearray(b"*%d\r\n" % len(values))
        for value in values:
            small += b"$%d\r\n" % len(value)
            if len(value) >= LARGE:
                pieces.append(bytes(small))
                pieces.append(value)
                small = bytearray()
            else:
                small += value
            small += b"\r\n"
        if not pieces:
            return bytes(small)
        pieces.append(bytes(small))
        return pieces

    def to_bytes(self, arg: Argument) -> bytes:
        """Return one argument as it is sent.

        Raises:
            DataError: As ``encode``.
        """
        kind = type(arg)
        if kind is bytes:
            return arg  # type: ignore[return-value]  # as just asked
        if kind is str and self._is_utf8:
            try:
                return arg.encode()  # type: ignore[union-attr]  # as above
            except UnicodeEncodeError:
                pass
        return self._to_bytes(arg, 1)

    def _to_bytes(self, arg: Argument, position: int) -> bytes:
        if isinstance(arg, str):
            return self._text_to_bytes(arg, position)
        if isinstance(arg, bytes):
            return arg
        if isinstance(arg, bytearray | memoryview):
            # A copy: the caller may change the buffer before the command leaves.
            return bytes(arg)
        if isinstance(arg, bool) or not isinstance(arg, int | float):
            raise DataError(
                f"argument {position} is of type {type(arg).__name__!r}: Redis stores bytes; "
                "convert it to bytes, str, int or float first"
            )
        # Through the plain type: the repr of an enum member or a NumPy number isn't the number.
        plain = int(arg) if isinstance(arg, int) else float(arg)
        try:
            return repr(plain).encode()
        except ValueError as error:  # more digits than Python converts
            raise DataError(f"argument {position} can't be written as text: {error}") from None

    def _text_to_bytes(self, text: str, position: int) -> bytes:
        try:
            return str.encode(text, self._encoding, self._errors)
        except UnicodeEncodeError as error:
            # Raised below rather than here: the error would carry this one, which has the text, a password perhaps.
            reason, place = error.reason, error.start
        raise DataError(f"argument {position} can't be encoded as {self._encoding}: {reason} at position {place}")


def _is_packed_right(args: tuple[Argument, ...]) -> bool:
    """Whether hiredis encodes these as it should, and none is large."""
    for arg in args:
        kind = type(arg)
        if kind is str or kind is bytes:
            if len(arg) >= LARGE:  # type: ignore[arg-type]  # as just asked
                return False
        elif kind is not float and (kind is not int or not _LEAST <= arg <= _MOST):  # type: ignore[operator]  # an int
            return False
    return True


def is_large(payload: Payload) -> bool:
    """Whether an encoded command is larger than most: in pieces, or made of many arguments."""
    return isinstance(payload, list) or len(payload) >= LARGE


def size_of(payload: Payload) -> int:
    """Return the number of bytes of an encoded command."""
    return len(payload) if isinstance(payload, bytes) else sum(map(len, payload))


def join(payloads: list[Payload]) -> Payload:
    """Make one payload of several; large values stay pieces of their own."""
    if len(payloads) == 1:
        return payloads[0]
    try:
        return b"".join(payloads)  # type: ignore[arg-type]  # raises if one of them is in pieces
    except TypeError:
        pieces: list[bytes | memoryview] = []
        for payload in payloads:
            if isinstance(payload, bytes):
                pieces.append(payload)
            else:
                pieces.extend(payload)
        return pieces
