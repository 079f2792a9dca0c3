"""A log of the commands that took long, as seen from here: what the server's own SLOWLOG can't know."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioredis_kit.hooks import CommandHook
from aioredis_kit.kinds import FLAG, count, seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from aioredis_kit.hooks import Call

__all__ = ["SlowCommand", "SlowCommandLog"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowCommand:
    """One call that took long. It holds no key and no value.

    Attributes:
        operation: The command's name; ``PIPELINE`` or ``MULTI`` for a pipeline or transaction.
        batch_size: How many commands that had; ``None``: it was one command.
        address: Of the server.
        duration: How long it took, in seconds.
        queue_time: How much of it passed before it was written: on waiting for a connection, or behind others.
        server_time: How much of it passed after that: on the network, in the server, behind what was sent before.
        error: What it raised, as the name of the exception's type; ``None``: it did not fail.
    """

    operation: str
    batch_size: int | None
    address: str
    duration: float
    queue_time: float
    server_time: float
    error: str | None

    def __str__(self) -> str:
        what = self.operation if self.batch_size is None else f"{self.operation} of {self.batch_size}"
        how = "took" if self.error is None else f"ended with {self.error} after"
        where = f"{self.queue_time:.3f} before it was written, {self.server_time:.3f} until it ended"
        return f"{what} {how} {self.duration:.3f} s ({where})"


class SlowCommandLog(CommandHook):
    """Keeps, and logs at WARNING, the commands that took long: ``create_client(..., hooks=SlowCommandLog(0.1))``.

    Blocking commands are meant to take long: of these only the time counts that passed before they were written.

    Args:
        threshold: How long a command has to take, in seconds.
        most: How many are kept, the latest.
        is_logged: Whether each is logged too; the fields of ``SlowCommand`` are the record's, with ``redis_`` before
            their names.

    Raises:
        ConfigurationError: A value is of another type or out of range.
    """

    def __init__(self, threshold: float | timedelta = 0.1, *, most: int = 128, is_logged: bool = True) -> None:
        self._threshold: float = seconds().value("threshold", threshold)
        self._entries: deque[SlowCommand] = deque(maxlen=count(1).value("most", most))
        self._is_logged: bool = FLAG.value("is_logged", is_logged)

    def entries(self) -> list[SlowCommand]:
        """Return those that are kept, the latest first."""
        return list(reversed(self._entries))

    def clear(self) -> None:
        """Forget those that are kept."""
        self._entries.clear()

    def after(self, call: Call, noted: Any) -> None:  # noqa: ARG002  # it notes nothing
        """See ``CommandHook``."""
        if call.duration >= self._threshold:
            self._note(call)

    def error(self, call: Call, noted: Any) -> None:  # noqa: ARG002  # it notes nothing
        """See ``CommandHook``."""
        if call.duration >= self._threshold:
            self._note(call)

    def _note(self, call: Call) -> None:
        if call.is_blocking and call.queue_time < self._threshold:
            return
        slow = SlowCommand(
            operation=call.operation,
            batch_size=call.batch_size,
            address=call.origin.address,
            duration=call.duration,
            queue_time=call.queue_time,
            server_time=call.server_time,
            error=None if call.error is None else type(call.error).__name__,
        )
        self._entries.append(slow)
        if self._is_logged:
            fields = {f"redis_{name}": getattr(slow, name) for name in SlowCommand.__slots__}
            logger.warning("%s: %s", slow.address, slow, extra=fields)
