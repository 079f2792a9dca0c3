"""How much a queue may hold, and what is said of more."""

from __future__ import annotations

from dataclasses import dataclass

from aioredis_kit.exceptions import QueueFullError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a queue may hold, and what it does with more.

    Attributes:
        commands: How many commands may wait and be in flight.
        size: Their size, in bytes.
        raises_when_full: Whether a command beyond that is refused, instead of waiting.
        holds_offline: Whether commands are taken while there is no connection.
    """

    commands: int
    size: int
    raises_when_full: bool = False
    holds_offline: bool = True

    def check_room(self, commands: int, size: int, more: int, more_size: int) -> None:
        """See that something fits. What is alone always does.

        Args:
            commands: How many commands wait and are in flight.
            size: Their size, in bytes.
            more: How many commands there would be more.
            more_size: Their size, in bytes.

        Raises:
            QueueFullError: It does not fit.
        """
        if commands and commands + more > self.commands:
            raise QueueFullError(
                f"{commands} commands wait or are in flight: commands_queue_max_length is "
                f"{self.commands}; send less at once, or set queue_full='wait'",
                limit=self.commands,
            )
        if commands and size + more_size > self.size:
            raise QueueFullError(
                f"{size} bytes wait or are in flight and the command has {more_size}: "
                f"commands_queue_max_bytes is {self.size}; send less at once, or set queue_full='wait'",
                limit=self.size,
            )
