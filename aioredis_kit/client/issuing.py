"""What becomes of a command between its dispatch and its response, whichever lane it is on.

The client's core issues commands on the shared lane, a session on its own connection. Everything else is the same.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from aioredis_kit.exceptions import KitError, ReplyProtocolError
from aioredis_kit.policy.retry import delay_after_refusal
from aioredis_kit.transport.command import Command, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aioredis_kit.client.plans import Plans
    from aioredis_kit.lanes.equipment import Equipment
    from aioredis_kit.options import CommandOptions
    from aioredis_kit.transport.command import Taker
    from aioredis_kit.transport.units import Unit

CommandT = TypeVar("CommandT", bound=Command)


class Issuer(ABC):
    """Issues commands.

    Attributes:
        equipment: What connections are made of.
        loop: The loop on which commands may be issued now; ``None`` while there is none.
        lane: Takes commands, while ``loop`` is set.
        has_own_db: Whether its connection may be in another database than the client's. Only a session's ever is.
    """

    equipment: Equipment
    loop: asyncio.AbstractEventLoop | None
    lane: Taker
    has_own_db: bool = False

    @abstractmethod
    def admit(self) -> asyncio.AbstractEventLoop:
        """Let a command in that found no loop, or say why not. Returns its loop.

        Raises:
            ClientClosedError: No command is taken any more.
            RuntimeError: It belongs to another loop, thread or process.
        """

    @abstractmethod
    def add_view(self, plans: Plans, options: CommandOptions) -> None:
        """Keep the plans of a view in step with what is negotiated, and its time-out in mind."""

    @abstractmethod
    def check_home(self) -> None:
        """See that it is used where it lives.

        Raises:
            RuntimeError: It belongs to another loop, thread or process.
        """

    @abstractmethod
    def may_go_again(self, command: Command, refusal: Exception) -> bool:
        """Take an error reply into account; return whether the command may go out again because of it."""

    def watch_mark(self) -> object:
        """Return what stays the same for as long as what is watched now is watched. Only on a session anything is."""
        return None

    def dispatch_anew(self, command: CommandT, error: RuntimeError) -> CommandT:
        """Dispatch a command on the running loop, if that of the client was closed under it.

        Raises:
            RuntimeError: The client belongs to another loop, thread or process.
        """
        self.check_home()
        if self.loop is not None:
            raise error
        anew: CommandT = command.again(self.admit())  # type: ignore[assignment]  # of its own kind
        anew.dispatch(self.lane)
        return anew

    async def forsake(self, command: CommandT, error: BaseException) -> CommandT:
        """Note that a command is awaited no longer, because awaiting it raised.

        If that was because the client's loop had been closed in the middle of a turn, do what ``dispatch_anew`` does,
        and return the command that was answered.

        Raises:
            RuntimeError: The client belongs to another loop, thread or process.
            BaseException: What awaiting it raised.

        Cancellation:
            As for a command.
        """
        anew: Any = command.again(asyncio.get_running_loop()) if isinstance(error, RuntimeError) else None
        command.abandon()
        if anew is not None:
            self.check_home()
            if self.loop is None:
                self.admit()
                anew.reply = await self.send(anew)
                return anew  # type: ignore[no-any-return]  # of the same kind
        raise error

    async def send(self, command: Command) -> Any:
        """Dispatch a command; return its reply, or the exception that takes the place of one.

        Raises:
            KitError: It wasn't taken.

        Cancellation:
            As for a command.
        """
        command.dispatch(self.lane)
        try:
            await wait(command)
        except BaseException as error:  # noqa: BLE001  # raised again there
            command = await self.forsake(command, error)
        return command.reply

    async def send_units(self, units: Sequence[Unit], dispatched: Callable[..., None] | None = None) -> list[Any]:
        """Dispatch the units of a pipeline, one behind the other; return the replies to all commands.

        Refusals are among the replies.

        Args:
            units: The units.
            dispatched: Called with the lane that took them, before anything can be answered; and with ``is_whole``,
                whether they are one.

        Raises:
            KitError: What ended it. Its ``replies`` are those that had come.

        Cancellation:
            If nothing was written yet, nothing ever is.
        """
        replies: list[Any] = []
        taken: list[Unit] = []  # what a lane has refused is none of its queue's
        try:
            for unit in units:
                unit.dispatch(units[0].lane if unit.previous is not None else self.lane)
                taken.append(unit)
            if dispatched is not None:
                dispatched(units[0].lane, is_whole=len(units) == 1)
            for unit in units:
                await _collect(unit, replies)
        except BaseException as error:  # whatever it was: raised again
            for unit in taken:
                if unit.is_awaited:
                    unit.abandon()
            if isinstance(error, KitError):
                error.replies = tuple(replies)
                error.maybe_executed = error.maybe_executed or bool(replies)
            elif isinstance(error, RuntimeError):
                self.check_home()
            raise
        return replies

    async def settle(self, command: Command, reply: Any) -> Any:
        """Raise what a command got instead of a reply, or send it again where the server did nothing.

        Raises:
            BaseException: What took the reply's place.

        Cancellation:
            As for a command.
        """
        command.reply = None  # an exception holds its caller's frames, and the command may stay in a queue
        if not isinstance(reply, BaseException):
            error = ReplyProtocolError("a push came where a reply was due", maybe_executed=True)
            command.lane.drop(error)
            raise error
        attempt = 0
        lane, holds = command.lane, command.lane.holds
        while isinstance(reply, BaseException):
            refusal = reply
            if (
                isinstance(refusal, KitError)
                or not isinstance(refusal, Exception)
                or not self.may_go_again(command, refusal)
            ):
                raise refusal
            delay = delay_after_refusal(attempt)
            attempt += 1
            if self.loop is None or lane.is_held or self.equipment.clock() + delay >= command.due:
                raise refusal
            await asyncio.sleep(delay)
            if self.loop is None:
                raise refusal
            if lane.holds != holds:  # behind a SELECT it would go to another database
                raise refusal
            lane.tally.reissued += 1
            command = command.again(self.loop)
            try:
                reply = await self.send(command)
            except KitError as error:  # it was not taken
                raise refusal from error
            if isinstance(reply, KitError) and not reply.maybe_executed:
                raise refusal
        return reply


async def _collect(unit: Unit, replies: list[Any]) -> None:
    """Wait for a unit, and add the replies to all its commands."""
    await wait(unit)
    replies += unit.replies
    if isinstance(unit.reply, KitError | asyncio.CancelledError):
        raise unit.reply
    replies.append(unit.reply)
