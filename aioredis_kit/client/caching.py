"""What a client does with its cache: hits without the network, loads shared by all who want the same, own writes.

Rules of this file:

1. Between looking an entry up and beginning its load nothing awaits: whatever changes a key comes before or after
   both.
2. Whoever waits for another's load never gets that one's trouble (cancellation, a deadline): it asks itself then,
   unless what it asks would by then be executed as another user or in another database.
"""

from __future__ import annotations

import asyncio
import math
import types
from asyncio import _get_running_loop  # which raises nothing in a forked child: there is none of this process's
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import DataError, RedisError

from aioredis_kit._redispy import NEVER_DECODE
from aioredis_kit.cache.replies import CONTAINERS, copied
from aioredis_kit.cache.store import NEVER, each_of
from aioredis_kit.client.lenses import NOTHING, tell
from aioredis_kit.client.plans import PLAIN
from aioredis_kit.exceptions import (
    CommandTimeoutError,
    ConfigurationError,
    KitError,
    NotConnectedError,
    TimeoutDiagnosis,
    one_for_each,
)
from aioredis_kit.transport.command import Command, new_command
from aioredis_kit.transport.units import Pair, Unit, new_pair, new_unit
from aioredis_kit.wire.encoder import LARGE, join
from aioredis_kit.wire.inflight import IN_FLIGHT, UNWRITTEN

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Sequence

    from aioredis_kit.cache.store import Keys, Load, Read
    from aioredis_kit.client.commands import CommandClient
    from aioredis_kit.client.lenses import Caching, Lens
    from aioredis_kit.client.plans import Plan

MOST_KEYS: Final = 16
"""Of so many keys it is asked when they end; a command with more is not cached."""
_MOST_FOR_PAIR: Final = LARGE - 64
"""So large may be the text of what is sent as one of many, in bytes; its frame comes to that."""
HITS_IN_A_ROW: Final = 1024
"""After so many hits the event loop has a turn. None of them waits for anything: without it whoever reads until a value
changes would keep the loop from ever hearing of the change."""
_GONE: Final = -2
"""What ``PTTL`` says of a key that does not exist."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found of a read.

    Attributes:
        lens: Through which.
        reply: The reply, if it was.
        load: The load that was begun, if not. Without either it is to be sent as if there were no cache.
    """

    lens: Lens
    reply: tuple[Any] | None = None
    load: Load | None = None


class CachedCommands:
    """Issues the commands of a view: reads are answered from the cache where that is possible.

    Attributes:
        cache: The cache.
        reads: Whether they are.
        ttl: How long replies are kept at most, in seconds; ``None``: as the cache wants it.
        place: Of a read among what is sent for it, from 0.

    Args:
        view: The same view without a cache. It issues what has to be sent.
        caching: The client's part in the cache.
        reads: Whether reads are cached; if not, writes still end what they change.
        ttl: How long replies are kept at most, in seconds; ``None``: as the cache wants it.
    """

    def __init__(self, view: CommandClient, caching: Caching, *, reads: bool, ttl: float | None) -> None:
        self.reads = reads
        self.ttl = ttl
        self._view = view
        self._plans = view._plans  # noqa: SLF001  # it is that view's first stage
        self._by_name = view._by_name  # noqa: SLF001  # as above
        self._encode = view._encode  # noqa: SLF001  # as above
        self._core = view._core  # noqa: SLF001  # as above
        self._clock = view._core.equipment.clock  # noqa: SLF001  # as above
        self._to_bytes = view._core.equipment.encoder.to_bytes  # noqa: SLF001  # as above
        self._options = caching.options
        self._caching = caching
        self.cache = caching.cache
        self._loads = caching.cache.loads
        self._find = caching.cache.entries.get
        self._touch = caching.cache.entries.move_to_end if caching.cache.is_lru else None
        self._asks_ends = caching.options.key_expiry
        self._sends_alone = not self._asks_ends and not caching.is_optin
        self._takes_all = not caching.options.prefixes and caching.options.cacheable is None
        self._opting_in = ("CLIENT", "CACHING", "YES") if caching.is_optin else None
        self.place = 0 if self._opting_in is None else 1  # of a read among what is sent for it
        self._lens = caching.lens(decode=view._decode, ttl=ttl)  # noqa: SLF001  # as above
        self._undecoded = caching.lens(decode=False, ttl=ttl)

    def execute(self, args: tuple[Any, ...], options: dict[str, Any] | None = None) -> Coroutine[Any, Any, Any]:
        """See ``CommandClient.execute_command``."""
        try:
            plan = self._by_name[args[0]]
        except (KeyError, IndexError, TypeError):
            try:
                plan = self._plans.make(args)
            except (DataError, ConfigurationError):
                return self._view._execute(args, options)  # noqa: SLF001  # raises it again, when it is awaited
        if plan.is_cacheable and self.reads:
            return self._read(plan, args, options)
        if plan.changes is not None:
            return self._change(plan, args, options)
        return self._view._execute(args, options)  # noqa: SLF001  # it is that view's first stage

    async def _change(self, plan: Plan, args: tuple[Any, ...], options: dict[str, Any] | None) -> Any:
        """Issue a write. What depends on its keys ends, before and behind it."""
        if _get_running_loop() is not self._core.loop:
            self._core.check_home()  # a stranger does not touch what others are reading on their loop
        position = plan.only_key_at
        if position is not None and position < len(args):
            key = self._to_bytes(args[position])
            invalidate = self.cache.invalidate
            invalidate(key)
            try:
                return await self._view._execute(args, options)  # noqa: SLF001  # it is that view's first stage
            finally:
                invalidate(key)
        plan.changes(args)  # type: ignore[misc]  # there is one
        try:
            return await self._view._execute(args, options)  # noqa: SLF001  # it is that view's first stage
        finally:
            plan.changes(args)  # type: ignore[misc]  # as above

    async def _read(self, plan: Plan, args: tuple[Any, ...], options: dict[str, Any] | None) -> Any:  # noqa: C901, PLR0912  # calls cost
        """Answer a read from the cache, or load it."""
        # The path of every hit: what looks unrolled here was measured.
        lens = self._lens if not options or NEVER_DECODE not in options else self._undecoded
        if _get_running_loop() is not self._core.loop or lens.suffix is None:
            return await self._read_blindly(plan, args, options)
        read: Read | None
        if len(args) == 2 and args[1].__class__ is str:  # see ``_found_by``
            read = (*args, lens.suffix)
        elif (read := self._found_by(args, lens.suffix)) is None:
            return await self._read_blindly(plan, args, options)
        entry, reply = self._find(read), None
        if entry is not None:
            ends_at, reply, is_copied, _, _, _ = entry
            if ends_at == NEVER or ends_at > self._clock():
                self.cache.hits = hits = self.cache.hits + 1
                if self._touch is not None:
                    self._touch(read)
                if is_copied:
                    reply = copied(reply)
                if not hits % HITS_IN_A_ROW:
                    await asyncio.sleep(0)
            else:
                self.cache.expired(read)
                entry = None
        if entry is None:
            load = self._loads.get(read)
            keys = self._keys(plan, args) if load is None else load.keys
            if keys is None:
                return await self._view._execute(args, options)  # noqa: SLF001  # it is that view's first stage
            self.cache.misses += 1
            reply = await (self._load if load is None else self._obtain)(args, read, keys, lens)
        if plan.callback is None:
            return reply
        if options:
            self._view._read_options(options)  # noqa: SLF001  # it is that view's first stage
        response = plan.make(reply, options)
        return await response if type(response) not in PLAIN and isawaitable(response) else response

    def _found_by(self, args: tuple[Any, ...], suffix: bytes) -> Read | None:
        """Return what the reply to a read is found by; ``None`` if it is too large for that.

        That is what is sent; and where the only argument is text, the command itself, which costs half as much. (Other
        arguments may be equal and sent otherwise, as 1 and 1.0 are.) So a key as text and as bytes are two reads.
        """
        if len(args) == 2 and args[1].__class__ is str:
            return (*args, suffix)
        payload = self._encode(args)
        return payload + suffix if isinstance(payload, bytes) else None

    async def _read_blindly(self, plan: Plan, args: tuple[Any, ...], options: dict[str, Any] | None) -> Any:
        """Issue a read for which nothing can be found, or not yet."""
        if self._core.loop is None:
            self._core.admit()
            return await self._read(plan, args, options)
        return await self._view._execute(args, options)  # noqa: SLF001  # it is that view's first stage

    def _keys(self, plan: Plan, args: tuple[Any, ...]) -> Keys | None:
        """Return the keys that a command reads, each once; ``None`` if it is not to be cached."""
        position = plan.only_key_at
        if position is not None:
            if position >= len(args):
                return None
            keys: Keys = self._to_bytes(args[position])
            if len(keys) >= LARGE:
                return None
        else:
            found = self._core.equipment.commands.classify(args).keys(args)
            keys = tuple(dict.fromkeys(map(self._to_bytes, found)))
            if not keys or (self._asks_ends and len(keys) > MOST_KEYS):
                return None
        return keys if self._takes_all or self._takes(args, keys) else None

    def _takes(self, args: tuple[Any, ...], keys: Keys) -> bool:
        """Return whether the options let a read be cached."""
        options = self._options
        return all(map(options.covers, each_of(keys))) and (options.cacheable is None or bool(options.cacheable(args)))

    def look_up(self, plan: Plan, args: tuple[Any, ...], *, decode: bool) -> Look:
        """See what can be done for a read that is one of several.

        Args:
            plan: Its plan.
            args: The command.
            decode: Whether its reply is decoded.
        """
        lens = self._lens if decode is self._lens.decode else self._undecoded
        read = None if lens.suffix is None else self._found_by(args, lens.suffix)
        if read is None:
            return Look(lens)
        entry = self._find(read)
        if entry is not None:
            ends_at, reply, *_ = entry
            if ends_at > self._clock():
                self.cache.hits += 1
                if self._touch is not None:
                    self._touch(read)
                return Look(lens, reply=(copied(reply),))
            self.cache.expired(read)
        keys = self._keys(plan, args)
        if keys is None:
            return Look(lens)
        self.cache.misses += 1
        # Somebody else's load would keep all the others waiting.
        return Look(lens) if read in self._loads else Look(lens, load=self.cache.begin(read, keys))

    # Loads.

    async def _obtain(self, args: tuple[Any, ...], read: Read, keys: Keys, lens: Lens) -> Any:
        """Return the raw reply to a read that another caller has asked for, from that load or one of its own.

        Raises:
            RedisError: As ``CommandClient.execute_command``.
            NotConnectedError: The other caller has gone, and what is sent now would be executed behind a later
                ``SELECT`` or ``AUTH``.

        Cancellation:
            As there. Others who want the same load it themselves.
        """
        deadline = self._core.due(self._view._options)  # noqa: SLF001  # it is that view's first stage
        while True:
            entry = self._find(read)
            if entry is not None:
                ends_at, reply, *_ = entry
                if ends_at > self._clock():
                    return copied(reply)
                self.cache.expired(read)
            load = self._loads.get(read)
            if load is None:
                return await self._load(args, read, keys, lens, deadline)
            if self._caching.is_stuck(load):
                return await self._load_alone(args, lens, deadline)
            reply = await self._join(load, args, deadline)
            if reply is NOTHING:
                if lens.suffix is None or self._found_by(args, lens.suffix) != read:
                    raise self._left_behind(args)
                continue
            if isinstance(reply, Exception):
                raise one_for_each(reply)
            return copied(reply)

    async def _load_alone(self, args: tuple[Any, ...], lens: Lens, deadline: float) -> Any:
        """Send a read whose reply is not kept. See ``_obtain``."""
        core = self._core
        options = self._view._options  # noqa: SLF001  # it is that view's first stage
        loop = core.loop or core.admit()
        payload = self._encode(args)
        command = new_command(loop, args, payload, decode=lens.decode, options=options, deadline=deadline)
        reply = await core.send(command)
        return reply if type(reply) in PLAIN else await core.settle(command, reply)

    @types.coroutine
    def _load(
        self, args: tuple[Any, ...], read: Read, keys: Keys, lens: Lens, deadline: float = 0.0
    ) -> Generator[Any, Any, Any]:
        """Send a read; keep its reply. See ``_obtain``."""
        # The path of every miss: a generator that is its own ``wait``, and unrolled like ``CommandClient._execute``.
        core, cache = self._core, self.cache
        payload: Any = self._encode(args)
        command = self._make(core.loop or core.admit(), args, payload, keys, lens)
        command.deadline = deadline
        load = cache.begin(read, keys)
        began = self._clock()
        try:
            command.lane = lane = core.lane
            (lane.take if self._sends_alone and len(payload) < LARGE else lane.take_large)(command)
            load.source = command.lane
            try:
                if command.state <= IN_FLIGHT:
                    command._asyncio_future_blocking = True  # noqa: SLF001  # as there
                    yield command
            except BaseException as error:  # noqa: BLE001  # raised again there
                command = yield from core.forsake(command, error)
            reply, asides = (command.reply, ()) if self._sends_alone else self._replies(command)
            if type(reply) not in PLAIN:
                cache.drop(load)
                reply = yield from self._settle(command, (args, payload), lens, reply)
            if asides:
                self.keep(load, reply, asides, lens, command.lane, (began, command.written[0]))
            else:
                cache.store(load, reply, command.lane, command.written[0] + lens.ttl, self._clock() - began)
        except BaseException as error:  # whatever it was: raised again
            self.give_up(load, began)
            tell(cache.joined, load, error if _is_refusal(error) else NOTHING)
            raise
        if cache.joined:
            tell(cache.joined, load, reply)
        return copied(reply) if type(reply) in CONTAINERS else reply

    def _replies(self, command: Command) -> tuple[Any, Sequence[Any]]:
        """Return the reply to a read, or the exception that takes its place; and those to what was sent with it."""
        reply = command.reply
        if isinstance(command, Pair) and type(reply) is int:  # when the key ends: -1 where that is never
            return command.read.reply, () if reply == -1 else (reply,)
        if isinstance(reply, KitError | asyncio.CancelledError):
            return reply, ()
        if not isinstance(command, Unit):
            return (command.read.reply, (reply,)) if isinstance(command, Pair) else (reply, ())
        replies = [*command.replies, reply]
        return replies.pop(self.place), replies

    async def _settle(self, command: Command, read: tuple[tuple[Any, ...], bytes], lens: Lens, reply: Any) -> Any:
        """Do what is to be done about what came instead of a reply to a read: see ``Issuer.settle``."""
        due = 0.0 if command.due == math.inf else command.due
        options = self._view._options  # noqa: SLF001  # it is that view's first stage
        alone = new_command(command.loop, *read, decode=lens.decode, options=options, deadline=due)
        alone.lane = command.lane
        return await self._core.settle(alone, reply)

    def _make(
        self,
        loop: asyncio.AbstractEventLoop,
        args: tuple[Any, ...],
        payload: bytes,
        keys: Keys,
        lens: Lens,
    ) -> Command:
        """Return what is sent for a read: it alone, or with the questions when its keys end."""
        if self._sends_alone:
            command: Command = Command()  # what new_command does
            command._loop = loop  # noqa: SLF001  # as there
            command.args = args
            command.payload = payload
            command.decode = lens.decode
            command.options = self._view._options  # noqa: SLF001  # it is that view's first stage
            command.state = UNWRITTEN
            return command
        options = self._view._options  # noqa: SLF001  # as above
        if self._opting_in is None and type(keys) is bytes and len(payload) + len(keys) < _MOST_FOR_PAIR:
            question = ("PTTL", keys)
            sent: Any = self._encode(question)
            return new_pair(loop, args, question, payload + sent, lens.decode, options)
        commands = self.accompanied(args, keys)
        sent = join([payload if each is args else self._encode(each) for each in commands])
        unit = new_unit(loop, commands, sent, [lens.decode] * len(commands), options=options)
        unit.args = args
        return unit

    def accompanied(self, args: tuple[Any, ...], keys: Keys) -> list[tuple[Any, ...]]:
        """Return a read with what is sent before and behind it."""
        commands: list[tuple[Any, ...]] = [] if self._opting_in is None else [self._opting_in]
        commands.append(args)
        if self._asks_ends:
            commands += [("PTTL", key) for key in each_of(keys)]
        return commands

    def keep(
        self,
        load: Load,
        reply: Any,
        asides: Sequence[Any],
        lens: Lens,
        source: object,
        since: tuple[float, float],
    ) -> None:
        """Keep a reply, for as long as its keys are there.

        Args:
            load: Its load.
            reply: The raw reply; nobody may change it any more.
            asides: The replies to what was sent before and behind it.
            lens: Through which it is seen.
            source: The lane that it came on.
            since: When it was issued, and when it was written.
        """
        began, written = since
        ends_at = written + lens.ttl
        for aside in asides[: self.place] if self.place else ():
            if isinstance(aside, Exception):  # the server did not let us opt in
                self.cache.drop(load)
                self._caching.refused("CLIENT CACHING", aside)
        for aside in asides[self.place :] if self.place else asides:
            if type(aside) is not int or (aside == _GONE and reply is not None):
                self.cache.drop(load)  # an error; or it ended in between, and nobody knows what was read
                if isinstance(aside, Exception):
                    self._caching.refused("PTTL", aside)
            elif aside >= 0:
                ends_at = min(ends_at, written + aside / 1000)
        self.cache.store(load, reply, source, ends_at, self._clock() - began)

    def give_up(self, load: Load, began: float) -> None:
        """Note that a load that began then has failed."""
        self.cache.fail(load, load_time=self._clock() - began)

    async def _join(self, load: Load, args: tuple[Any, ...], deadline: float) -> Any:
        """Wait for the load of another caller; return the reply, the error reply, or ``NOTHING`` that could be shared.

        Raises:
            CommandTimeoutError: Time was over before.
        """
        waiter = self._core.loop.create_future()
        self.cache.joined.setdefault(load, {})[waiter] = None
        self.cache.joined_loads += 1
        try:
            async with asyncio.timeout(None if deadline == math.inf else deadline - self._clock()):
                return await waiter
        except TimeoutError:
            timeout = self._view._options.timeout or 0.0  # noqa: SLF001  # it is that view's first stage
            diagnosis = TimeoutDiagnosis(
                timeout=timeout,
                queued=timeout,
                state=self._core.state.value,
            )
            raise CommandTimeoutError(
                f"{args[0]!s} was not answered within {timeout:g} s: it waited for the same command of another caller",
                diagnosis=diagnosis,
            ) from None
        finally:
            if (others := self.cache.joined.get(load)) is not None:  # a load may take long, and many come and go
                others.pop(waiter, None)

    def _left_behind(self, args: tuple[Any, ...]) -> KitError:
        """Return why a read is not sent that has waited for another caller's, whose trouble it can't mend any more."""
        if self._core.loop is None:  # it must not open a client again that was closed behind it
            error: KitError = self._core.closed_error()
            return error
        return NotConnectedError(
            f"{args[0]!s} waited for the same command of another caller, who has gone, and meanwhile a SELECT or AUTH "
            "was issued, behind which it would be executed if it was sent now"
        )


def _is_refusal(error: BaseException) -> bool:
    """Whether the server has said so, and would say it to everybody."""
    return isinstance(error, RedisError | UnicodeDecodeError) and not isinstance(error, KitError)
