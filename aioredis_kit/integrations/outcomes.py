"""What telemetry says of how a call ended, and what a batch is called: words from bounded sets, with nothing secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError, ResponseError

from aioredis_kit.exceptions import KitError
from aioredis_kit.hooks import OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aioredis_kit.hooks import Call, Origin

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{1,31}")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{40}")
_FUNCTION: Final = re.compile(r"\w{1,64}", re.ASCII)
_OF_A_PIPELINE: Final = " of pipeline caused error: "  # what redis-py writes before the error's arguments
_MOST_CODES: Final = 64
_PROCEDURES: Final = {"EVALSHA": _DIGEST, "EVALSHA_RO": _DIGEST, "FCALL": _FUNCTION, "FCALL_RO": _FUNCTION}


class ErrorWords:
    """Says what an error was, in few words.

    Scripts may begin their error replies with any word, so only so many are told apart.
    """

    def __init__(self) -> None:
        self._codes: set[str] = set()

    def status_code(self, error: BaseException) -> str | None:
        """Return the word with which the server began an error reply, such as ``WRONGTYPE``; ``None``: it is none."""
        if not isinstance(error, RedisError) or isinstance(error, KitError):
            return None
        code = getattr(error, "status_code", None)
        if code is None and isinstance(error, ResponseError):  # redis-py takes no other words away than those it knows
            code = str(error).rpartition(_OF_A_PIPELINE)[2].lstrip("('\"").partition(" ")[0]
        if not isinstance(code, str):
            return None
        if code not in self._codes:
            if len(self._codes) >= _MOST_CODES or not _CODE.fullmatch(code):
                return OTHER
            self._codes.add(code)
        return code

    def error_type(self, error: BaseException) -> str:
        """Return the word of an error reply, or the name of the exception's type."""
        return self.status_code(error) or type(error).__qualname__


def operation_of(call: Call) -> str:
    """Return what the conventions call an operation.

    Of a pipeline or transaction that is the name of its only command, or ``PIPELINE GET`` if all are the same.
    """
    if call.batch_size is None:
        return call.operation
    name_of = call.origin.name_of
    names = iter(call.commands)
    name = name_of(next(names, ()))
    if call.batch_size == 1:
        return name
    if not call.batch_size or name == OTHER or any(name_of(each) != name for each in names):
        return call.operation
    return f"{call.operation} {name}"


def procedure_of(call: Call) -> str | None:
    """Return the digest of the script, or the name of the function, that a command calls."""
    form = _PROCEDURES.get(call.operation)
    if form is None or len(call.commands[0]) < 2:
        return None
    name = call.commands[0][1]
    if isinstance(name, bytes):
        name = name.decode("ascii", "replace")
    return name if isinstance(name, str) and form.fullmatch(name) else None


def without_arguments(origin: Origin, commands: Sequence[tuple[object, ...]], *, most: int = 1024) -> str:
    """Return commands as one would type them, with ``?`` for each argument. It is cut after so many characters."""
    text = ""
    for command in commands:
        name = origin.name_of(command)
        # A sub-command is a word of the name, if it was given as an argument.
        count = max(len(command) - (1 if " " in str(command[0]) else name.count(" ") + 1), 0)
        text += ("; " if text else "") + name + " ?" * min(count, most)
        if len(text) > most:
            return text[:most] + "…"
    return text
