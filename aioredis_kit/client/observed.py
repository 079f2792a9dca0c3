"""Telling the hooks of a client about its calls: a stage around all others, which is there only if a hook listens.

Rules of this file:

1. Nothing here changes what a call does. The stage stands between a call and its task, and sees what it waits for: so
   it learns when a command was written, and no other stage has to know of it.
"""

from __future__ import annotations

import logging
import types
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.events import Failed
from aioredis_kit.hooks import MULTI, PIPELINE, Call, CommandHook
from aioredis_kit.lanes.blocking import Outcome
from aioredis_kit.policy.commands import split_name
from aioredis_kit.transport.command import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.statistics import Statistics

logger = logging.getLogger(__name__)

OTHER: Final = "_OTHER"
"""The operation of a command that isn't known."""
_MOST_NAMES: Final = 2048


class ClientOrigin:
    """A client as its hooks see it. See ``hooks.Origin``."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core
        options = core.equipment.options
        self.address = str(core.equipment.dialler.address)
        self.host = options.unix_socket_path or options.host
        self.port = None if options.unix_socket_path else options.port
        self.client_name = options.client_name

    @property
    def db(self) -> int:
        """See ``hooks.Origin``."""
        life = self._core.life
        return self._core.equipment.options.db if life is None else life.router.route(()).desired.db

    def statistics(self) -> Statistics:
        """See ``hooks.Origin``."""
        return self._core.statistics()

    def on(self, event: str, listener: Callable[..., object]) -> None:
        """See ``hooks.Origin``."""
        self._core.listeners.add(event, listener, only_once=False)


class Observation:
    """Tells the hooks of one client.

    Args:
        core: The client's core.
        hooks: Those that want to be told of calls.
    """

    def __init__(self, core: ClientCore, hooks: Sequence[CommandHook]) -> None:
        self._core = core
        self._hooks = hooks
        self._clock = core.equipment.clock
        self._origin = core.origin
        self._operations: dict[Any, str] = {}

    def call(self, args: tuple[Any, ...]) -> Call:
        """Return the call of a command that begins now."""
        operation = self._operations.get(args[0]) if args and args[0].__class__ is str else None
        return Call(self._origin, operation or self._operation(args), (args,), self._clock())

    def batch(self, commands: Sequence[tuple[Any, ...]], *, is_transaction: bool) -> Call:
        """Return the call of a pipeline that begins now."""
        return Call(self._origin, MULTI if is_transaction else PIPELINE, commands, self._clock())

    def forget_names(self) -> None:
        """Look all operations up anew: others may be known."""
        self._operations.clear()

    @types.coroutine
    def watch(self, call: Call, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Run a call, and tell the hooks about it. Returns and raises what it does.

        Cancellation:
            As the call's.
        """
        hooks = self._hooks
        noted = [self._tell(hook.before, call) for hook in hooks]
        command: Command | None = None
        resume: Callable[[Any], Any] = coroutine.send
        value: Any = None
        try:
            while True:
                awaited = resume(value)
                if isinstance(awaited, Command):
                    command = awaited
                elif isinstance(awaited, Outcome):
                    command, call.is_blocking = awaited.command, True
                try:
                    value = yield awaited
                    resume = coroutine.send
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001  # what the task throws is for the call to see
                    resume, value = coroutine.throw, error
        except StopIteration as stop:
            call.response = stop.value
            self._end(call, command)
            for hook, note in zip(hooks, noted, strict=True):
                self._tell(hook.after, call, note)
            return stop.value
        except BaseException as error:  # whatever it was: raised again
            call.error = error
            self._end(call, command)
            for hook, note in zip(hooks, noted, strict=True):
                self._tell(hook.error, call, note)
            raise

    def _end(self, call: Call, command: Command | None) -> None:
        call.ended = self._clock()
        if command is not None and command.was_sent:
            call.written = command.written[0]

    def _tell(self, told: Callable[..., Any], *args: Any) -> Any:
        try:
            return told(*args)
        except Exception as error:  # somebody else's, and no call is to fail by it
            life = self._core.life
            if life is None:
                logger.warning("a hook failed before the client was opened", exc_info=error)
            else:
                life.happened(Failed(error))
            return None

    def _operation(self, args: tuple[Any, ...]) -> str:
        """Return a command's name as it may be shown, and keep it if it is the same for all of this spelling."""
        commands = self._core.equipment.commands
        if not args or not isinstance(args[0], str | bytes) or not args[0].strip():
            return OTHER
        traits = commands.classify(args)
        operation = traits.name if traits.is_known else OTHER
        if isinstance(args[0], str) and not commands.depends_on_arguments(args[0]) and split_name(args[:1]) == args[:1]:
            if len(self._operations) >= _MOST_NAMES:
                self._operations.clear()
            self._operations[args[0]] = operation
        return operation


class ObservedCommands:
    """Issues the commands of a view as another stage does, and tells the hooks."""

    def __init__(self, observation: Observation, execute: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self._observation = observation
        self._execute = execute

    async def execute(self, args: tuple[Any, ...], options: dict[str, Any] | None = None) -> Any:
        """See ``CommandClient.execute_command``."""
        observation = self._observation
        return await observation.watch(observation.call(args), self._execute(args, options))


def observation_of(core: ClientCore) -> Observation | None:
    """Return what tells a client's hooks of its calls, if one wants to be told."""
    hooks = [hook for hook in core.equipment.options.hooks if _wants_calls(hook)]
    return Observation(core, hooks) if hooks else None


def _wants_calls(hook: CommandHook) -> bool:
    return any(getattr(type(hook), name) is not getattr(CommandHook, name) for name in ("before", "after", "error"))
