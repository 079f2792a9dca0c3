"""Telling the hooks of a client about its calls: a stage around all others, which is there only if a hook listens.

Rules of this file:

1. Nothing here changes what a call does. The stage stands between a call and its task, and sees what it waits for: so
   it learns when a command was written, and no other stage has to know of it.
2. A call that no hook wants to be told of goes past the stage, at the cost of asking.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import types
import weakref
from typing import TYPE_CHECKING, Any, Final

from aioredis_kit.client.journal import in_words
from aioredis_kit.hooks import MULTI, OTHER, PIPELINE, Call, CommandHook
from aioredis_kit.lanes.blocking import Outcome
from aioredis_kit.policy.commands import split_name
from aioredis_kit.statistics import Statistics
from aioredis_kit.transport.command import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence

    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.client.issuing import Issuer
    from aioredis_kit.policy.commands import CommandTable

logger = logging.getLogger(__name__)

_MOST_NAMES: Final = 2048


class ClientOrigin:
    """A client as its hooks see it. See ``hooks.Origin``.

    It doesn't keep the client, and it outlives it: what the client has done up to its end stays known.
    """

    def __init__(self, core: ClientCore) -> None:
        self._core = weakref.ref(core)
        options = core.equipment.options
        self.address = str(core.equipment.dialler.address)
        self.host = options.unix_socket_path or options.host
        self.port = None if options.unix_socket_path else options.port
        self.client_name = options.client_name
        self.max_connections = options.connections + options.max_dedicated_connections + 1  # that of the push lane
        self._db = options.db
        self.names = CommandNames(core.equipment.commands)
        self._lock = threading.RLock()  # somebody may ask in another thread while a life ends
        self._past = Statistics()
        self._is_past = True  # there is no life whose numbers aren't in it

    @property
    def is_gone(self) -> bool:
        """See ``hooks.Origin``."""
        return self._core() is None

    @property
    def db(self) -> int:
        """See ``hooks.Origin``."""
        core = self._core()
        if core is not None and (life := core.life) is not None:
            self._db = life.router.route(()).desired.db
        return self._db

    @property
    def peer(self) -> tuple[str, int | None] | None:
        """See ``hooks.Origin``."""
        core = self._core()
        return None if core is None or core.life is None else core.life.router.route(()).shared.peer

    def name_of(self, command: tuple[Any, ...]) -> str:
        """See ``hooks.Origin``."""
        return self.names.name_of(command)

    def forget_names(self) -> None:
        """Look all names up anew: others may be known."""
        self.names.forget()

    def statistics(self) -> Statistics:
        """See ``hooks.Origin``."""
        core = self._core()
        return Statistics() if core is None else core.statistics()

    def totals(self) -> Statistics:
        """See ``hooks.Origin``."""
        with self._lock:
            return self._past if self._is_past else self.statistics().after(self._past)

    def life_began(self) -> None:
        """Count what is done from now on."""
        with self._lock:
            self._is_past = False

    def life_ended(self) -> None:
        """Keep the numbers of a life that is over."""
        with self._lock:
            if not self._is_past:
                self._past, self._is_past = self.statistics().after(self._past), True

    def on(self, event: str, listener: Callable[..., object]) -> None:
        """See ``hooks.Origin``."""
        core = self._core()
        if core is not None:
            core.listeners.add(event, listener, only_once=False)


class CommandNames:
    """Names commands as they may be shown.

    Args:
        commands: What is known about commands.
    """

    def __init__(self, commands: CommandTable) -> None:
        self._commands = commands
        self._known: dict[str, str] = {}  # of those whose first word says all

    def name_of(self, args: tuple[Any, ...]) -> str:
        """Return a command's name, and keep it if it is the same for all of this spelling."""
        if args and args[0].__class__ is str and (known := self._known.get(args[0])) is not None:
            return known
        commands = self._commands
        if not args or not isinstance(args[0], str | bytes) or not args[0].strip():
            return OTHER
        traits = commands.classify(args)
        name = traits.name if traits.is_known else OTHER
        if isinstance(args[0], str) and not commands.depends_on_arguments(args[0]) and split_name(args[:1]) == args[:1]:
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            self._known[args[0]] = name
        return name

    def forget(self) -> None:
        """Look all names up anew: others may be known."""
        self._known.clear()


class Observation:
    """Tells the hooks of one client.

    Args:
        core: The client's core.
        hooks: Those that want to be told of calls.

    Attributes:
        hooks: The same.
    """

    def __init__(self, core: ClientCore, hooks: Sequence[CommandHook]) -> None:
        self._core = core
        self.hooks = hooks
        self._clock = core.equipment.clock
        self._origin = core.origin
        self._name_of = core.origin.names.name_of
        self._are_choosy = any(_is_choosy(hook) for hook in hooks)

    @property
    def only_choosy(self) -> Callable[[], bool] | None:
        """What asks the only hook whether it wants to be told of a call that is made now, if it wants not all."""
        return self.hooks[0].wants_this_call if self._are_choosy and len(self.hooks) == 1 else None

    def audience(self) -> Sequence[CommandHook]:
        """Return the hooks that are to be told of a call that is made now."""
        if not self._are_choosy:
            return self.hooks
        return [hook for hook in self.hooks if self._asks(hook)]

    def _asks(self, hook: CommandHook) -> bool:
        try:
            return hook.wants_this_call()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # somebody else's, and no call is to fail by it
            self.failed(error)
            return False

    def call(self, issuer: Issuer, args: tuple[Any, ...]) -> Call:
        """Return the call of a command that begins now."""
        return Call(self._origin, self._db_of(issuer), self._name_of(args), (args,), self._clock())

    def batch(self, issuer: Issuer, commands: Sequence[tuple[Any, ...]], *, is_transaction: bool) -> Call:
        """Return the call of a pipeline that begins now."""
        operation = MULTI if is_transaction else PIPELINE
        return Call(self._origin, self._db_of(issuer), operation, commands, self._clock())

    def _db_of(self, issuer: Issuer) -> int | None:
        return None if issuer.has_own_db else self._origin.db

    @types.coroutine
    def watch(
        self, hooks: Sequence[CommandHook], call: Call, coroutine: Coroutine[Any, Any, Any]
    ) -> Generator[Any, Any, Any]:
        """Run a call, and tell hooks about it. Returns and raises what it does.

        Cancellation:
            As the call's.
        """
        noted = self._begin(hooks, call)
        command: Command | None = None
        awaited: Any = None
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
            self._end(hooks, noted, call, command)
            return stop.value
        except BaseException as error:  # whatever it was: raised again
            call.error = error
            self._end(hooks, noted, call, command)
            raise
        finally:
            # An exception holds this frame, which is not to hold the exception in turn: that would keep all that is in
            # the frames of its callers.
            del call, noted, command, awaited, resume, value

    def _begin(self, hooks: Sequence[CommandHook], call: Call) -> list[Any]:
        noted = []
        for hook in hooks:
            try:
                noted.append(hook.before(call))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as in _asks
                self.failed(error)
                noted.append(None)
        return noted

    def _end(self, hooks: Sequence[CommandHook], noted: Sequence[Any], call: Call, command: Command | None) -> None:
        call.ended = self._clock()
        if command is not None and command.was_sent:
            call.written = command.written[0]
        for hook, note in zip(hooks, noted, strict=True):
            try:
                if call.error is None:
                    hook.after(call, note)
                else:
                    hook.error(call, note)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as in _asks
                self.failed(error)

    def failed(self, error: BaseException) -> None:
        """Tell of what a hook raised. It says nothing about the client's connections, so only listeners hear of it."""
        life = self._core.life
        if life is None or life.has_ended or life.loop.is_closed():
            logger.warning("a hook failed while the client was not open: %s", in_words(error))
        else:
            self._core.listeners.report(error, life)


class ObservedCommands:
    """Issues the commands of a view as another stage does, and tells the hooks."""

    def __init__(
        self, observation: Observation, issuer: Issuer, execute: Callable[..., Coroutine[Any, Any, Any]]
    ) -> None:
        self._observation = observation
        self._issuer = issuer
        self._only_choosy = observation.only_choosy
        self._execute = execute

    def execute(self, args: tuple[Any, ...], options: dict[str, Any] | None = None) -> Coroutine[Any, Any, Any]:
        """See ``CommandClient.execute_command``."""
        is_wanted = self._only_choosy
        if is_wanted is not None:  # the usual case; what it costs is paid by calls that nobody is told of
            try:
                if not is_wanted():
                    return self._execute(args, options)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as in Observation._asks
                self._observation.failed(error)
                return self._execute(args, options)
            return self._tell(self._observation.hooks, args, options)
        hooks = self._observation.audience()
        return self._tell(hooks, args, options) if hooks else self._execute(args, options)

    async def _tell(self, hooks: Sequence[CommandHook], args: tuple[Any, ...], options: dict[str, Any] | None) -> Any:
        observation = self._observation
        return await observation.watch(hooks, observation.call(self._issuer, args), self._execute(args, options))


def observation_of(core: ClientCore) -> Observation | None:
    """Return what tells a client's hooks of its calls, if one wants to be told."""
    hooks = tuple(hook for hook in core.equipment.options.hooks if hook.wants_calls)
    return Observation(core, hooks) if hooks else None


def _is_choosy(hook: CommandHook) -> bool:
    return getattr(hook.wants_this_call, "__func__", None) is not CommandHook.wants_this_call
