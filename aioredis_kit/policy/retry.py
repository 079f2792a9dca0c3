"""Which commands are sent again, and when.

Three things may have happened to a command that has no proper reply: it was never handed to the transport (it
simply goes out later); the server said that it did nothing (again, whatever the command); or nobody knows (again
only if its repetition does no harm and the caller allows it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aioredis_kit.policy.commands import Arguments, CommandTraits

NOTHING_DONE: Final = frozenset({"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"})
"""Error codes with which a server says that it did nothing, and may do it later."""

FIRST_DELAY: Final = 0.025
LONGEST_DELAY: Final = 0.5


def may_repeat(args: Arguments, traits: CommandTraits, allowed: str) -> bool:
    """Tell whether a command may be sent again whose reply was lost.

    Args:
        args: The command.
        traits: What the command table knows about it.
        allowed: The option ``retry_unanswered``.
    """
    if allowed == "never":
        return False
    return traits.is_readonly or (allowed == "idempotent" and traits.is_idempotent(args))


def delay_after_refusal(attempt: int) -> float:
    """Return how long to wait before a refused command is sent again, in seconds.

    Args:
        attempt: How many times it was refused, less one.
    """
    return min(FIRST_DELAY * 2.0 ** min(attempt, 10), LONGEST_DELAY)
