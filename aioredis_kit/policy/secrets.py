"""Which arguments of a command are secrets: they are shown to nobody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aioredis_kit.policy.commands import split_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aioredis_kit.policy.commands import Argument, Arguments

MASK: Final = "***"
_TELLING: Final = 8
"""So many characters of a secret are too many to be shown: a long one may be cut off where it is quoted."""
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_SECRET_SETTINGS: Final = (
    *("requirepass", "masterauth", "primaryauth"),
    *("tls-key-file-pass", "tls-client-key-file-pass"),
)
_SENTINELS_SETTINGS: Final = ("auth-pass", "sentinel-pass")


def masked(args: Arguments) -> Arguments:
    """Return a command as it may be shown.

    Args:
        args: The command; its name may be one argument, or one for each word.
    """
    words = split_name(args)
    if not words:
        return words
    texts = [_text(word) for word in words]
    secret = set(_secret_places(texts))
    return tuple(MASK if place in secret else word for place, word in enumerate(words)) if secret else args


def masked_text(text: str, args: Arguments) -> str:
    """Return what a server says of a command as it may be shown: some say the arguments again.

    Args:
        text: What it says.
        args: The command.
    """
    shown = masked(args)
    if shown is args:
        return text
    secrets = {_text(word).strip("<>#!") for word, other in zip(split_name(args), shown, strict=True) if other is MASK}
    return text if not any(secret and secret[:_TELLING] in text for secret in secrets) else MASK


def masked_line(line: bytes) -> bytes:
    """Return a line of ``MONITOR`` as it may be shown.

    Args:
        line: When, where and by whom, and the command: each word of it in quotes.
    """
    start = line.find(b'] "') + 2  # the address, a path perhaps, may have quotes of its own
    words = _QUOTED.findall(line, start)
    shown = masked(tuple(words))
    if all(one is other for one, other in zip(words, shown, strict=True)):
        return line
    return line[:start] + b" ".join(b'"%s"' % (word.encode() if isinstance(word, str) else word) for word in shown)


def _secret_places(words: Sequence[str]) -> Iterator[int]:
    name, count = words[0].upper(), len(words)
    second = words[1].upper() if count > 1 else ""
    if name == "AUTH":
        yield from range(1 if count == 2 else 2, count)
    elif name == "HELLO":
        for place in (place for place, word in enumerate(words) if word.upper() == "AUTH"):
            is_user_missing = words[place + 2 : place + 3] in ([], ["SETNAME"])
            yield place + (1 if is_user_missing else 2)
    elif name == "MIGRATE":
        yield from (place + 1 for place, word in enumerate(words) if word.upper() == "AUTH")
        yield from (place + 2 for place, word in enumerate(words) if word.upper() == "AUTH2")
    elif (name, second) == ("CONFIG", "SET"):
        yield from (place + 1 for place in range(2, count, 2) if words[place].lower() in _SECRET_SETTINGS)
    elif (name, second) == ("ACL", "SETUSER"):
        yield from (place for place in range(3, count) if words[place][:1] in "><#!")
    elif (name, second) == ("SENTINEL", "SET") or (name, second) == ("SENTINEL", "CONFIG"):
        yield from (place + 1 for place in range(3, count, 2) if words[place].lower() in _SENTINELS_SETTINGS)


def _text(word: Argument) -> str:
    if isinstance(word, str):
        return word
    if isinstance(word, bytes | bytearray | memoryview):
        return bytes(word).decode("utf-8", "replace")
    return str(word)
