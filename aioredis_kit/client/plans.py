"""What is known in advance of each command name that a client uses.

A plan is made when a name is first used, in the spelling in which it was used, so that every further command finds
with one look-up what it needs: its response callback, and whether anything about it is out of the ordinary.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from redis.exceptions import DataError

from aioredis_kit._redispy import EMPTY_RESPONSE, made_of_ok, response_callbacks
from aioredis_kit.exceptions import ConfigurationError
from aioredis_kit.policy.commands import Lane, split_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aioredis_kit.policy.commands import Argument, Arguments, CommandTable, CommandTraits
    from aioredis_kit.transport.command import Command

Callback: TypeAlias = Callable[..., Any]
"""Makes the response of a reply: a function or coroutine function of redis-py's, or of the user's."""

Prepare: TypeAlias = "Callable[[Arguments], tuple[Arguments, Lane | None]]"

PLAIN: Final = frozenset({bytes, str, int, list, dict, float, bool, type(None)})
"""What replies are made of. Anything else takes the place of a reply: an exception."""
_MOST_PLANS: Final = 2048
"""How many names are remembered; then all are forgotten. A name is text from the caller, so it needs a limit."""

_OWN_CONNECTION: Final = (
    "changes or speaks about the connection that it is sent on: use a session, async with client.dedicated() as "
    "session, or a pipeline"
)
_NO_REPLY: Final[Mapping[str, str]] = {
    # Nowhere: nobody could tell which replies, or how many, belong to whom.
    **dict.fromkeys(
        ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"),
        "is answered by pushes: use subscribe() or pubsub(), which also subscribe again after a lost connection",
    ),
    **dict.fromkeys(("SYNC", "PSYNC", "REPLCONF"), "makes a replica of the connection, which no client can be"),
    "MONITOR": "is answered without end: use monitor()",
    "CLIENT REPLY": "makes the server leave replies out, so that the next ones would reach the wrong callers",
}


def refuse_unanswered(traits: CommandTraits) -> None:
    """Refuse what can't be sent on any connection, as its replies can't be attributed.

    Raises:
        ConfigurationError: It is such a command.
    """
    if (reason := _NO_REPLY.get(traits.name)) is not None:
        raise ConfigurationError(f"{traits.name} {reason}")


class Plan:
    """What to do with one spelling of a command's name.

    Attributes:
        key: The name as response callbacks know it.
        callback: Makes the response of a reply; ``None`` returns it as it is.
        prepare: Changes or refuses the command before it is encoded, where that is called for. Returns it, and the
            lane that it takes if that is not simply the one that its issuer has.
        succeeded: Told of the command after the server obeyed, where somebody wants to know.
        is_plain: Whether the reply is the response and nobody wants to know.
        response_to_ok: What the callback makes of the reply ``OK``, the most frequent one, if it always makes the same
            of it and nobody wants to know; else ``None``.
        is_cacheable: Whether replies may be kept until a key changes. Only known where there is a cache.
        only_key_at: Where its only key is, if it always has just one in the same place, and changes no other. As above.
        changes: Called with the command when it is issued and when it has ended, where that may change what is cached.
    """

    __slots__ = (
        "callback",
        "changes",
        "is_cacheable",
        "is_plain",
        "key",
        "only_key_at",
        "prepare",
        "response_to_ok",
        "succeeded",
    )

    def __init__(
        self,
        key: Any,
        callback: Callback | None,
        prepare: Prepare | None,
        succeeded: Callable[[Plan, Command], None] | None,
    ) -> None:
        self.key = key
        self.callback = callback
        self.prepare = prepare
        self.succeeded = succeeded
        self.is_cacheable = False
        self.only_key_at: int | None = None
        self.changes: Callable[[Arguments], None] | None = None
        self._note_what_is_known()

    def respond(self, command: Command, options: dict[str, Any] | None) -> Any:
        """Return the response that the reply of a command makes; it may be awaitable.

        Args:
            command: The command, answered.
            options: For the callback.
        """
        if self.succeeded is not None:
            self.succeeded(self, command)
        return self.make(command.reply, options)

    def make(self, reply: Any, options: dict[str, Any] | None) -> Any:
        """Return the response that a reply makes; it may be awaitable."""
        if self.callback is None:
            return reply
        if not options:
            return self.callback(reply)
        options.pop(EMPTY_RESPONSE, None)
        return self.callback(reply, **options)

    def take(self, callback: Callback | None) -> None:
        """Use another callback."""
        self.callback = callback
        self._note_what_is_known()

    def stop_telling(self) -> None:
        """Tell nobody any more that the server obeyed."""
        self.succeeded = None
        self._note_what_is_known()

    def _note_what_is_known(self) -> None:
        self.is_plain = self.callback is None and self.succeeded is None
        self.response_to_ok: bool | None = None
        if self.succeeded is None and self.callback is not None:
            self.response_to_ok = made_of_ok(self.callback)


class Plans:
    """The plans of one view, by the name as it was spelled.

    Args:
        commands: The command table.
        named: Told that ``CLIENT SETNAME`` was obeyed.
        protocol: What the user asked for.
        legacy_responses: redis-py's option.
        is_session: Whether the commands have a connection to themselves, so that they may change its state.
        changed: Told of each key that a command may change, or of ``None`` for any; ``None``: nobody wants to know.

    Attributes:
        by_name: The plans.
        callbacks: The response callbacks. Changing them changes the plans.
    """

    def __init__(
        self,
        commands: CommandTable,
        named: Callable[[Command], None],
        *,
        protocol: int | None,
        legacy_responses: bool,
        is_session: bool = False,
        changed: Callable[[Argument | None], None] | None = None,
    ) -> None:
        self.changed_key = changed
        self.by_name: dict[Any, Plan] = {}
        self._commands = commands
        self._named = named
        self._protocol = protocol
        self._legacy_responses = legacy_responses
        self._is_session = is_session
        self._is_fallback = False
        self.callbacks = ResponseCallbacks(self, response_callbacks(protocol, legacy_responses=legacy_responses))

    def copy(self, *, is_session: bool | None = None) -> Plans:
        """Return plans for another view, or for a session, with a copy of the callbacks."""
        other = Plans(
            self._commands,
            self._named,
            protocol=self._protocol,
            legacy_responses=self._legacy_responses,
            is_session=self._is_session if is_session is None else is_session,
            changed=self.changed_key,
        )
        other._is_fallback = self._is_fallback  # its own kind
        other.callbacks = ResponseCallbacks(other, self.callbacks)
        other.callbacks.own = dict(self.callbacks.own)
        return other

    def negotiated(self, protocol: int) -> None:
        """Use the callbacks for the protocol that the server speaks, if that isn't the one asked for."""
        is_fallback = protocol == 2 and self._protocol is None  # the version
        if is_fallback is not self._is_fallback:
            self._is_fallback = is_fallback
            wanted = 2 if is_fallback else self._protocol
            self.callbacks.replace_stock(response_callbacks(wanted, legacy_responses=self._legacy_responses))

    def make(self, args: tuple[Any, ...]) -> Plan:
        """Make the plan for a command whose name has none yet, and keep it.

        Raises:
            DataError: There is no name, or none that can be one.
        """
        if not args or not isinstance(args[0], str | bytes) or not args[0].strip():
            raise DataError("a command needs a name: the first argument must be str or bytes, and not empty")
        name = args[0]
        traits = self._commands.classify(args)
        prepare: Prepare | None = None
        varies = self._commands.depends_on_arguments(name)
        if varies or traits.name in _NO_REPLY or (traits.lane is Lane.SESSION_ONLY and not self._is_session):
            prepare = self._prepare_each
        elif (detour := self._detour(traits)) is not None or split_name((name,)) != (name,):
            prepare = lambda args: (split_name(args), detour)  # noqa: E731  # one of two, and short
        succeeded = self._obeyed if varies or not traits.is_readonly else None
        key: Any = name.upper()
        plan = Plan(key, self.callbacks.get(key), prepare, succeeded)
        if self.changed_key is not None:
            self._note_keys(plan, traits, is_always=not varies and prepare is None)
        if len(self.by_name) >= _MOST_PLANS:
            self.by_name.clear()
        self.by_name[name] = plan
        return plan

    def changed(self, key: str) -> None:
        """Take over a callback that was set or removed."""
        for plan in self.by_name.values():
            if plan.key == key:
                plan.take(self.callbacks.get(key))

    def changes_of(self, args: tuple[Any, ...]) -> Callable[[Arguments], None] | None:
        """Return the ``changes`` of a command's plan.

        Raises:
            DataError: As ``make``.
        """
        if self.changed_key is None:
            return None
        try:
            return self.by_name[args[0]].changes
        except (KeyError, IndexError, TypeError):
            return self.make(args).changes

    def _note_keys(self, plan: Plan, traits: CommandTraits, *, is_always: bool) -> None:
        """Note what a command has to do with a cache.

        Args:
            plan: Its plan.
            traits: Its traits.
            is_always: Whether all commands of this name have those, and the name is one argument.
        """
        changed = self.changed_key
        assert changed is not None  # noqa: S101  # else nobody asks
        plan.is_cacheable = traits.is_cacheable and is_always
        position = traits.only_key_at
        if is_always and not traits.may_change_anything:
            plan.only_key_at = position
        if not is_always:
            plan.changes = self._note_changes
        elif traits.is_readonly:
            return
        elif traits.may_change_anything or position is None:
            plan.changes = self._note_changes if traits.has_keys or traits.may_change_anything else None
        else:
            plan.changes = lambda args: changed(args[position]) if position < len(args) else None

    def _note_changes(self, args: Arguments) -> None:
        """Tell which keys a command may change."""
        changed, traits = self.changed_key, self._commands.classify(args)
        assert changed is not None  # noqa: S101  # else nobody asks
        keys = traits.changed_keys(args)
        for key in (None,) if keys is None else keys:
            changed(key)

    def _prepare_each(self, args: Arguments) -> tuple[Arguments, Lane | None]:
        return split_name(args), self._detour(self._commands.classify(args))

    def _detour(self, traits: CommandTraits) -> Lane | None:
        """Return the lane that a command takes, if that is not simply the one that its issuer has.

        Raises:
            ConfigurationError: There is none for it.
        """
        if traits.lane in (Lane.SHARED, Lane.EVERY_LINK) and not self._is_session:
            return None
        if traits.lane is Lane.SHARED:
            return None
        refuse_unanswered(traits)
        if traits.lane is Lane.SESSION_ONLY and not self._is_session:
            raise ConfigurationError(f"{traits.name} {_OWN_CONNECTION}")
        return traits.lane

    def _obeyed(self, plan: Plan, command: Command) -> None:
        """Note that the server obeyed a command that is, or may be, no read."""
        traits = self._commands.classify(command.args)
        if traits.lane is Lane.EVERY_LINK:
            self._named(command)
        elif not traits.is_readonly:
            command.lane.has_written = True
            if plan.prepare is None:
                plan.stop_telling()  # once is enough


class ResponseCallbacks(MutableMapping[str, Callback]):
    """Response callbacks by command name in any case, as redis-py's dictionary of them. Keeps the plans in step.

    Attributes:
        own: What the user set, by name.
    """

    def __init__(self, plans: Plans, stock: Mapping[str, Callback]) -> None:
        self.own: dict[str, Callback] = {}
        self._plans = plans
        self._all = {command.upper(): callback for command, callback in stock.items()}

    def replace_stock(self, stock: Mapping[str, Callback]) -> None:
        """Use other callbacks than before, except where the user set one."""
        self._all = {command.upper(): callback for command, callback in stock.items()} | self.own
        for plan in self._plans.by_name.values():
            plan.take(self.get(plan.key))

    def __getitem__(self, command: Any) -> Callback:
        # A name that is bytes has no callback, as in redis-py.
        return self._all[command.upper()]

    def __setitem__(self, command: str, callback: Callback) -> None:
        self._all[command.upper()] = self.own[command.upper()] = callback
        self._plans.changed(command.upper())

    def __delitem__(self, command: str) -> None:
        del self._all[command.upper()]
        self.own.pop(command.upper(), None)
        self._plans.changed(command.upper())

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
