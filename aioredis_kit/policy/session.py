"""What a session's commands have done to its connection: decisions about sharing it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aioredis_kit.policy.commands import Lane

if TYPE_CHECKING:
    from aioredis_kit.policy.commands import CommandTraits

_NOTHING_LASTING = frozenset({"WAIT", "WAITAOF", "UNWATCH"})

# Of the rest RESET undoes these, in every server that has it. What it undoes besides differs: Redis 7.0 leaves
# CLIENT NO-EVICT on, and nobody's forgets a CLIENT SETINFO.
_UNDONE_BY_RESET = frozenset(
    {"SELECT", "AUTH", "HELLO", "RESET", "CLIENT SETNAME", "CLIENT TRACKING", "CLIENT CACHING"}
    | {"READONLY", "READWRITE", "ASKING"}
)
_CHANGES_USER = frozenset({"AUTH", "HELLO", "RESET"})
_CHANGES_DB = frozenset({"SELECT", "RESET"})
_ENDS_TRANSACTION = frozenset({"EXEC", "DISCARD", "RESET"})
_ENDS_WATCH = _ENDS_TRANSACTION | {"UNWATCH"}


@dataclass(slots=True)
class SessionState:
    """The state of one session's connection.

    Attributes:
        is_in_transaction: Whether ``MULTI`` was sent, and its end was not yet answered.
        is_watching: Whether keys are, or may be, watched.
        is_changed: Whether anything else was done that lasts.
        is_beyond_reset: Whether ``RESET`` may leave something of that.
        has_own_user: Whether it may have authenticated as somebody of its user's choice.
        has_own_db: Whether it may be in another database than the client's.
        ended_watches: How many commands were sent that end whatever is watched.
    """

    is_in_transaction: bool = False
    is_watching: bool = False
    is_changed: bool = False
    is_beyond_reset: bool = False
    has_own_user: bool = False
    has_own_db: bool = False
    ended_watches: int = 0

    @property
    def is_dirty(self) -> bool:
        """Whether the next user would notice."""
        return self.is_in_transaction or self.is_watching or self.is_changed

    def issued(self, traits: CommandTraits) -> None:
        """Note that a command is about to be sent."""
        if traits.name in _ENDS_WATCH:
            self.ended_watches += 1
        self.has_own_user |= traits.name in _CHANGES_USER
        self.has_own_db |= traits.name in _CHANGES_DB
        match traits.name:
            case "MULTI":
                self.is_in_transaction = True
            case "WATCH":
                self.is_watching = True
            case "EXEC" | "DISCARD":
                pass
            case name if traits.lane is not Lane.SHARED and not traits.is_blocking and name not in _NOTHING_LASTING:
                self.is_changed = True
                self.is_beyond_reset |= name not in _UNDONE_BY_RESET

    def answered(self, traits: CommandTraits, *, is_refused: bool = False) -> None:
        """Note that the server has answered a command.

        Args:
            traits: The command's.
            is_refused: Whether it answered that it did not execute it. A transaction whose end was refused, for want of
                the right to, goes on; which refusal means that there was none is not guessed.
        """
        if is_refused and traits.name in _ENDS_WATCH:
            self.is_changed = True
        if traits.name in _ENDS_TRANSACTION:
            self.is_in_transaction = False
        if traits.name in _ENDS_WATCH:
            self.is_watching = False
