"""How the values of options are read.

Rules of this file:

1. A kind accepts what it returns, so reading twice is harmless.
2. An error shows a wrong value only if it is a number and the kind isn't secret: text may be a password that
   went astray. It has no context either, for the same reason.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST: Final = 1e9
"""The longest duration, in seconds: some thirty years."""
_SOCKET_PATH_MOST: Final = 107  # sun_path of Linux, without the final zero byte
_DEFAULT_KEEP_ALIVE: Final = (30.0, 5.0, 3)
# The numbers are those of ssl.TLSVersion, which is an IntEnum: its members are found by them.
_TLS_VERSIONS: Final = {"TLSv1.2": "TLSv1.2", "TLSv1.3": "TLSv1.3", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What values an option takes.

    Attributes:
        expected: Completes the sentence "must be …".
        read: Makes the option's value of the given one, or raises.
        parse: Makes a value to be given of text, in a URL say; ``None``: the option can't be said as text.
        is_secret: Whether a value must not be shown, not even a wrong one.
        spelled: Completes the same sentence about text, if ``expected`` doesn't.
    """

    expected: str
    read: Callable[[Any], Any]
    parse: Callable[[str], object] | None = None
    is_secret: bool = False
    spelled: str = ""

    def value(self, name: str, given: object) -> Any:
        """Return the option's value.

        Raises:
            ConfigurationError: The given one is of another type or out of range.
        """
        return self._attempt(self.read, name, given, self.expected)

    def parsed(self, name: str, text: str) -> object:
        """Return the value that text stands for.

        Raises:
            ConfigurationError: It stands for none.
        """
        if self.parse is None:
            raise ConfigurationError(f"{name} can't be said as text: pass it as an argument")
        return self._attempt(self.parse, name, text, self.spelled or self.expected)

    def _attempt(self, read: Callable[[Any], Any], name: str, given: object, expected: str) -> Any:
        try:
            return read(given)
        except (TypeError, ValueError, LookupError, ArithmeticError):
            # Raised below rather than here: the error would carry this one, which may quote the value.
            pass
        raise ConfigurationError(f"{name} must be {expected}, not {self._shown(given)}")

    def _shown(self, value: object) -> str:
        if isinstance(value, str):
            return "the given text"
        if value is None or (isinstance(value, bool | int | float | timedelta) and not self.is_secret):
            return repr(value) if not isinstance(value, int) or value.bit_length() < 64 else "a number as large"
        return f"a value of type {type(value).__name__}"


def reads(kind: Kind, meaning: str = "") -> dict[str, object]:
    """Return the metadata of a dataclass's field that is an option."""
    return {"kind": kind, "meaning": meaning}


def kinds_of(options: type[Any]) -> dict[str, Kind]:
    """Return the kinds of a dataclass's options, by their names."""
    return {each.name: each.metadata["kind"] for each in fields(options) if "kind" in each.metadata}


def read_fields(options: Any, prefix: str = "") -> None:
    """Read all options of a frozen dataclass that is being made.

    Raises:
        ConfigurationError: One is of another type or out of range.
    """
    for name, kind in kinds_of(type(options)).items():
        object.__setattr__(options, name, kind.value(prefix + name, getattr(options, name)))


def to_seconds(duration: object) -> float:
    """Return a duration in seconds.

    Raises:
        TypeError: It is neither a number nor a ``timedelta``; ``True`` is no number.
        ValueError: It is negative, NaN, infinite or longer than thirty years.
    """
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"a duration is a number of seconds or a timedelta, not {type(duration).__name__}")
    if not 0 <= seconds <= _LONGEST:
        raise ValueError(f"a duration is from 0 to {_LONGEST:g} seconds, not {seconds!r}")
    return float(seconds)


def optional(kind: Kind) -> Kind:
    """Return the kind that takes ``None`` too, also as the text "none" where other text would be no value."""
    read, parse = kind.read, kind.parse
    if parse is not None and parse is not str:
        parse = _or_none(parse)
    return Kind(
        f"{kind.expected}, or None", lambda given: None if given is None else read(given), parse, kind.is_secret
    )


def _or_none(parse: Callable[[str], object]) -> Callable[[str], object]:
    return lambda text: None if text.lower() == "none" else parse(text)


def seconds(*, least: float = 0.0, most: float = _LONGEST) -> Kind:
    """Return the kind of durations within limits, never zero."""

    def read(given: object) -> float:
        value = to_seconds(given)
        if value == 0 or not least <= value <= most:
            raise ValueError
        return value

    limits = f"from {least:g} to {most:g}" if least else "greater than 0"
    return Kind(f"a finite number of seconds (or a timedelta) {limits}", read, _parse_number)


def count(least: int, most: int = sys.maxsize) -> Kind:
    """Return the kind of whole numbers within limits."""

    def read(given: object) -> int:
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError
        if not least <= given <= most:
            raise ValueError
        return int(given)

    limits = f"of at least {least}" if most == sys.maxsize else f"from {least} to {most}"
    return Kind(f"a whole number {limits}", read, _parse_whole_number)


def one_of(*choices: str | int) -> Kind:
    """Return the kind of a choice among a few values."""

    def read(given: object) -> str | int:
        for choice in choices:
            if given == choice and isinstance(given, type(choice)) and not isinstance(given, bool):
                return choice
        raise ValueError

    by_text = {str(choice): choice for choice in choices}
    return Kind(" or ".join(map(repr, choices)), read, by_text.__getitem__)


def _parse_number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", text):
        raise ValueError
    return float(text)


def _parse_whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError
    return int(text)


def _parse_flag(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


def _read_flag(given: object) -> bool:
    if not isinstance(given, bool):
        raise TypeError
    return given


def _read_text(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    given.encode()  # raises for a lone surrogate, which can't be sent
    return given


def _read_label(given: object) -> str:
    text = _read_text(given)
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError
    return text


def _read_host(given: object) -> str:
    text = _read_text(given)
    # A connection string or a URL that went astray is no name: it has a password, and names are shown.
    if not re.fullmatch(r"[^\s/@?#\[\],;=&\x00-\x1f\x7f]{1,255}", text) or text.count(":") == 1:
        raise ValueError
    text.encode("idna")  # as the resolver does: raises for an empty or overlong label
    return text


def _read_path(given: Any) -> str:
    path = os.fspath(given)
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError
    return path


def _read_socket_path(given: Any) -> str:
    path = _read_path(given)
    if len(os.fsencode(path)) > _SOCKET_PATH_MOST:
        raise ValueError
    return path


def _read_certificates(given: object) -> str | bytes:
    if not isinstance(given, str | bytes) or not given:
        raise TypeError
    return given


def _read_encoding(given: Any) -> str:
    # Raises if Python doesn't know it, or if it isn't one for text. Names of commands are sent in it too.
    if _ASCII.decode("ascii").encode(given) != _ASCII:
        raise ValueError
    return str(given)


def _read_encoding_errors(given: Any) -> str:
    codecs.lookup_error(given)
    return str(given)


def _read_interval(given: object) -> float | None:
    return None if given is None else to_seconds(given) or None


def _read_keep_alive(given: Any) -> tuple[float, float, int] | None:
    if given is None or given is False:
        return None
    idle, interval, probes = _DEFAULT_KEEP_ALIVE if given is True else given
    return _PROBE_SECONDS.read(idle), _PROBE_SECONDS.read(interval), _PROBES.read(probes)


def _read_keep_alive_constants(given: Any) -> tuple[float, float, int] | None:
    # Whoever wrote this mapping took its keys from that module; it is not for this floor to load it.
    socket = sys.modules["socket"]
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    keys = (idle, getattr(socket, "TCP_KEEPINTVL", None), getattr(socket, "TCP_KEEPCNT", None))
    if not set(given) <= set(keys):
        raise LookupError
    return _read_keep_alive([given.get(key, default) for key, default in zip(keys, _DEFAULT_KEEP_ALIVE, strict=True)])


def _read_provider(given: object) -> object:
    # A class is callable too, but what it returns is a provider, not credentials.
    if isinstance(given, type) or not callable(getattr(given, "get_credentials", given)):
        raise TypeError
    return given


def _read_strategy(given: object) -> object:
    if given is None or given is False:
        return given
    if isinstance(given, tuple):
        wait, stop = given
        return _read_function(wait), _read_function(stop)
    return _read_function(given) if callable(given) else to_seconds(given)


def _read_function(given: object) -> object:
    # A class is callable too: wait_fixed where wait_fixed(1) was meant.
    if isinstance(given, type) or not callable(given):
        raise TypeError
    return given


_ASCII: Final = bytes(range(128))
_FLAG_SPELLED: Final = "true or false (or yes and no, 1 and 0)"
_PROBE_SECONDS: Final = seconds(least=1, most=32767)  # as Linux limits TCP_KEEPIDLE and TCP_KEEPINTVL
_PROBES: Final = count(1, 127)  # as Linux limits TCP_KEEPCNT

FLAG: Final = Kind("True or False", _read_flag, _parse_flag, spelled=_FLAG_SPELLED)
OPPOSITE: Final = Kind("True or False", _read_flag, lambda text: not _parse_flag(text), spelled=_FLAG_SPELLED)
"""A flag that text elsewhere says the opposite of."""
TEXT: Final = Kind("text", _read_text, str)
SECRET: Final = Kind("text", _read_text, str, is_secret=True)
LABEL: Final = Kind("printable ASCII without spaces, and not empty", _read_label, str)
HOST: Final = Kind("a host name, or an IP address without brackets (a URL is given as url)", _read_host, str)
PATH: Final = Kind("the path of a file or folder", _read_path, str)
SOCKET_PATH: Final = Kind(f"a path of 1 to {_SOCKET_PATH_MOST} bytes", _read_socket_path, str)
CERTIFICATES: Final = Kind("certificates: PEM as text or DER as bytes", _read_certificates)
TLS_VERSION: Final = Kind("'TLSv1.2' or 'TLSv1.3'", _TLS_VERSIONS.__getitem__, str)
ENCODING: Final = Kind("the name of a text encoding that extends ASCII, such as 'utf-8'", _read_encoding, str)
ENCODING_ERRORS: Final = Kind("the name of an error handler, such as 'strict'", _read_encoding_errors, str)
INTERVAL: Final = Kind(
    "a finite number of seconds (or a timedelta), where 0 and None are off", _read_interval, _or_none(_parse_number)
)
KEEP_ALIVE: Final = Kind(
    "(seconds of silence, seconds between probes, probes), each at least 1, or True or False",
    _read_keep_alive,
    _parse_flag,
    spelled=_FLAG_SPELLED,
)
KEEP_ALIVE_CONSTANTS: Final = Kind(
    "a mapping of TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT to numbers of at least 1; "
    "keep_alive=(idle, interval, probes) says the same",
    _read_keep_alive_constants,
)
PROVIDER: Final = Kind(
    "an object with get_credentials(), or a function, that returns Credentials or (username, password)",
    _read_provider,
    is_secret=True,
)
STRATEGY: Final = Kind(
    "False, seconds, a timedelta, a function of (retries, cause), a tenacity wait, or a tuple of a tenacity "
    "wait and a tenacity stop",
    _read_strategy,
)
