"""redis-py's pipelines on our connections.

A pipeline is one unit on the shared lane, or on a connection of its own where it watches keys, or has commands that
change their connection or block it.
"""

from __future__ import annotations

import asyncio
import math
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.asyncio.client import Pipeline as StockPipeline
from redis.exceptions import ResponseError, WatchError

from aioredis_kit._redispy import EMPTY_RESPONSE
from aioredis_kit.client.cached_pipelines import PipedReads
from aioredis_kit.client.plans import PLAIN, refuse_unanswered
from aioredis_kit.client.quick import Quick
from aioredis_kit.exceptions import ConnectionLostError, KitError
from aioredis_kit.pipeline.blocks import refusal_of_all, results_of_block, split
from aioredis_kit.policy.commands import Lane, split_name
from aioredis_kit.policy.retry import delay_after_refusal
from aioredis_kit.policy.secrets import masked, masked_text
from aioredis_kit.transport.command import new_command
from aioredis_kit.transport.units import new_unit
from aioredis_kit.wire.encoder import join

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from aioredis_kit.client.caching import CachedCommands
    from aioredis_kit.client.issuing import Issuer
    from aioredis_kit.client.observed import Observation
    from aioredis_kit.client.plans import Plan, Plans
    from aioredis_kit.options import CommandOptions
    from aioredis_kit.policy.commands import Arguments
    from aioredis_kit.transport.units import Unit
    from aioredis_kit.wire.encoder import Payload

_NOT_WATCHED: Final = "The watch has ended: its connection was lost, or something else on the same session ended it."
_ON_SHARED = frozenset({Lane.SHARED, Lane.EVERY_LINK})


class PipelineClient(Protocol):
    """What a pipeline asks of the client that it was made by: see ``CommandClient``."""

    _by_name: dict[Any, Plan]
    _plans: Plans
    _options: CommandOptions
    _decode: bool
    _encode: Any
    _core: Any
    response_callbacks: Any
    connection_pool: Any
    cached_commands: CachedCommands | None
    observation: Observation | None

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Send one command and return its response."""
        ...

    def script_exists(self, *args: Any) -> Any:
        """See redis-py."""

    def script_load(self, script: Any) -> Any:
        """See redis-py."""

    def _read_options(self, options: dict[str, Any]) -> bool: ...

    def sender(self) -> Any:
        """Return the client of this kind that commands are sent by: itself, or the session that takes them all."""

    def own_session(self) -> Any:
        """Return a client of this kind whose commands have one connection to themselves, for one pipeline."""

    async def end_session(self) -> None:
        """Give up what ``own_session`` returned."""

    async def begin_units(self) -> Issuer:
        """Return what sends the units of a pipeline."""
        ...


class _Entry:
    """One command of a pipeline.

    Attributes:
        args: As it was given.
        options: For its response callback.
        plan: What to do with commands of this name.
        words: What is sent: the name split at its spaces, and the arguments.
        decode: Whether its reply is decoded.
        blocks: Whether it may block.
    """

    __slots__ = ("args", "blocks", "decode", "options", "plan", "words")

    def __init__(
        self, args: tuple[Any, ...], options: dict[str, Any], plan: Plan, words: Arguments, *, decode: bool
    ) -> None:
        self.args = args
        self.options = options
        self.plan = plan
        self.words = words
        self.decode = decode
        self.blocks = False


class Pipeline(Quick, StockPipeline):  # type: ignore[misc]  # redis-py's own mixins disagree about command_info
    """Commands that are sent together.

    Made by ``client.pipeline()``. Used as redis-py's: its command methods note a command and return the pipeline;
    ``execute`` sends them in one piece and returns the list of responses. With ``transaction`` they are a ``MULTI``
    block. After ``watch`` commands are executed at once, on a connection of the pipeline's own, until ``multi``.

    One that has blocking commands, and is no ``MULTI`` block, has a connection of its own too. Each of those is sent
    when all before it was answered, and what follows it when it was: so none is left waiting whose caller has gone.

    An error that ended it as a whole has ``maybe_executed``, and ``replies`` with the raw replies that had come.
    """

    def __init__(self, client: PipelineClient, *, transaction: bool = True, shard_hint: str | None = None) -> None:
        client = self._client = client.sender()
        self._watcher: PipelineClient | None = None  # the session that watches
        # What redis-py's own methods read.
        self.connection_pool = client.connection_pool
        self.connection = None
        self.response_callbacks = client.response_callbacks
        self.is_transaction = transaction
        self.shard_hint = shard_hint
        self.watching = False
        self.command_stack = []
        self.scripts = set()
        self.explicit_transaction = False
        self._watch_mark: object = None  # of when the first key was watched

    def _command(self, args: tuple[Any, ...]) -> Any:
        if self.watching and not self.explicit_transaction:
            return self.immediate_execute_command(*args)
        self.command_stack.append((args, {}))
        return self

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command at once: ``WATCH``, and what follows it up to ``multi``.

        Raises:
            WatchError: The connection was lost, and with it the watch.
            RedisError: As ``execute_command`` of a client.

        Cancellation:
            As a command's.
        """
        if args[0] != "WATCH" and not self.watching:
            return await self._client.execute_command(*args, **options)
        client = self._watcher = self._watcher or self._client.own_session()
        try:
            await self._note_watch(client)
            response = await client.execute_command(*args, **options)
        except ConnectionLostError as error:
            # A session of the pipeline's own is no use any more. On one that is the user's, a first WATCH is a command.
            is_watch_lost = self.watching or client is not self._client
            await self.reset()
            if not is_watch_lost:
                raise
            raise WatchError(f"The connection was lost while keys were watched: {error}") from error
        if args[0] == "WATCH":
            self.watching = True
        elif args[0] in self.UNWATCH_COMMANDS:
            self.watching, self._watcher = False, None
            await client.end_session()
        return response

    async def _note_watch(self, client: PipelineClient) -> None:
        """Note which watch this is, or see that it is still the same.

        Raises:
            WatchError: It is not.
        """
        mark = (await client.begin_units()).watch_mark()
        if not self.watching:
            self._watch_mark = mark
        elif mark != self._watch_mark:
            await self.reset()
            raise WatchError(_NOT_WATCHED)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002  # as redis-py
        """Send all commands, and return their responses in their order. The pipeline is empty afterwards.

        Args:
            raise_on_error: Whether the first refusal is raised, instead of being one of the responses.

        Raises:
            DataError: An argument can't be encoded. Nothing was sent.
            ConfigurationError: A command can't be sent on any connection. Nothing was sent.
            WatchError: A watched key was changed, or the connection was lost before ``EXEC`` was sent.
            ConnectionLostError: The connection was lost in the middle. A pipeline that only reads, and is no
                transaction, is sent again instead.
            CommandTimeoutError: No reply came for ``command_timeout``.
            ResponseError: A command was refused.

        Cancellation:
            If nothing was written yet, nothing ever is. Otherwise the server may still run all of it; the replies are
            read and dropped. A command that blocks is unblocked, and what follows it is not sent.
        """
        if not self.command_stack and not self.watching:
            return []
        observation, results = self._client.observation, self._run_all(raise_on_error=raise_on_error)
        if observation is None or not (hooks := observation.audience()):
            return await results
        is_transaction = self.is_transaction or self.explicit_transaction
        commands, issuer = [args for args, _ in self.command_stack], self._client._core  # noqa: SLF001  # as above
        observed: list[Any] = await observation.watch(
            hooks, observation.batch(issuer, commands, is_transaction=is_transaction), results
        )
        return observed

    async def _run_all(self, *, raise_on_error: bool) -> list[Any]:
        """See ``execute``."""
        try:
            if self.scripts:
                await self.load_scripts()
            return await self._run(self.command_stack, raise_on_error=raise_on_error)
        except ConnectionLostError as error:
            if self.watching and not error.maybe_executed:
                raise WatchError(f"The connection was lost before EXEC was sent: {error}") from error
            raise
        finally:
            await self.reset()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002  # as redis-py
        """Return another pipeline of the same client, which is what redis-py's does."""
        return Pipeline(self._client, transaction=transaction, shard_hint=shard_hint)

    async def reset(self) -> None:  # type: ignore[override]  # as redis-py's
        """Forget all commands, and stop watching.

        Cancellation:
            Safe.
        """
        self.command_stack = []
        self.scripts = set()
        self.watching = False
        self.explicit_transaction = False
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        # Of a session that is the user's, only this pipeline's own watch is ended, not one begun after that.
        if watcher is not self._client or watcher._core.watch_mark() == self._watch_mark:  # noqa: SLF001  # of the same family
            await watcher.end_session()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001  # as redis-py
        """As ``reset``."""
        del close_connection_pool
        await self.reset()

    async def _run(self, stack: Any, *, raise_on_error: bool) -> list[Any]:
        is_block = self.is_transaction or self.explicit_transaction
        entries = self._read(stack, is_block=is_block)
        if not entries and not is_block:
            return []
        changes = [entry for entry in entries if entry.plan.changes is not None]
        if changes:
            self._client._core.check_home()  # noqa: SLF001  # of the same family; a stranger ends nothing of others'
        session = self._watcher
        if self._needs_own(entries, is_block=is_block) and session is None:
            session = self._client.own_session()
        cached = self._client.cached_commands
        try:
            if cached is not None and session is None and not is_block:
                results = await self._send_uncached(cached, entries)
            else:
                self._note_changes(changes)
                results = await self._send(session or self._client, entries, is_block=is_block)
        finally:
            self._note_changes(changes)
            if session not in (None, self._watcher, self._client):  # whose watch would end with it
                await session.end_session()
        if is_block:
            results = self._results_of_block(results, entries)
        if raise_on_error:
            self._raise_first(entries, results, is_block=is_block)
        return await self._respond(entries, results, is_block=is_block)

    # What is sent.

    def _read(self, stack: Any, *, is_block: bool) -> list[_Entry]:
        client = self._client
        by_name, decode = client._by_name, client._decode  # noqa: SLF001  # of the same family
        entries = []
        for args, options in stack:
            try:
                plan = by_name[args[0]]
            except (KeyError, IndexError, TypeError):
                plan = client._plans.make(args)  # noqa: SLF001  # as above
            words = args if plan.prepare is None else split_name(args)
            entry = _Entry(args, options, plan, words, decode=decode)
            if options:
                options.pop("keys", None)
                if not is_block:
                    entry.decode = client._read_options(options)  # noqa: SLF001  # as above
            entries.append(entry)
        return entries

    def _needs_own(self, entries: Sequence[_Entry], *, is_block: bool) -> bool:
        """Return whether it needs a connection of its own; note which commands may block.

        Raises:
            ConfigurationError: A command can't be sent on any connection.
        """
        needs_own = False
        classify = self._client._core.equipment.commands.classify  # noqa: SLF001  # as above
        for entry in entries:
            if entry.plan.prepare is None:
                continue
            traits = classify(entry.words)
            refuse_unanswered(traits)
            entry.blocks = not is_block and traits.block_time(entry.words) is not None
            needs_own |= traits.lane not in _ON_SHARED and not (is_block and traits.is_blocking)
        return needs_own

    def _note_changes(self, entries: Iterable[_Entry]) -> None:
        """End what is cached of the keys that these commands may change."""
        for entry in entries:
            if entry.plan.changes is not None:
                entry.plan.changes(entry.words)

    async def _send_uncached(self, cached: CachedCommands, entries: Sequence[_Entry]) -> list[Any]:
        """Send what is not cached; return all replies."""
        client = self._client
        began = (await client.begin_units()).equipment.clock()  # a stranger is refused before he looks anything up

        def one_more(words: Arguments) -> _Entry:
            name = words[0]
            plan = client._by_name.get(name) or client._plans.make(words)  # noqa: SLF001  # as above
            return _Entry(words, {}, plan, words, decode=client._decode)  # noqa: SLF001  # as above

        reads = PipedReads(cached, one_more, began)
        sent: Any = reads.sent
        try:
            reads.look_up(entries)
            replies = []
            if sent:
                replies = await self._send(client, sent, is_block=False, dispatched=reads.dispatched)
            else:  # whoever reads until something changes would keep the loop from ever hearing of it
                await asyncio.sleep(0)
        except BaseException as error:  # whatever it was: raised again
            own = reads.fail(getattr(error, "replies", ()))
            if isinstance(error, KitError):
                error.replies = own
            raise
        return reads.results(replies)

    async def _send(
        self,
        client: PipelineClient,
        entries: Sequence[_Entry],
        *,
        is_block: bool,
        dispatched: Callable[..., None] | None = None,
    ) -> list[Any]:
        """Send it, again where the server did nothing; return all replies."""
        encode = client._encode  # noqa: SLF001  # as above
        if is_block:
            sent = [entry.words for entry in entries if EMPTY_RESPONSE not in entry.options]
            payloads = [encode(words) for words in (("MULTI",), *sent, ("EXEC",))]
            decode = [client._decode] * len(payloads)  # noqa: SLF001  # as above
        else:
            sent = [entry.words for entry in entries]
            payloads = [encode(words) for words in sent]
            decode = [entry.decode for entry in entries]
        alone = {place for place, entry in enumerate(entries) if entry.blocks}
        core = await client.begin_units()
        if self.watching and core.watch_mark() != self._watch_mark:
            raise WatchError(_NOT_WATCHED)
        options = client._options  # noqa: SLF001  # as above
        due = core.equipment.clock() + (math.inf if options.timeout is None else options.timeout)
        attempt = 0
        while True:
            units = self._make_units(core, sent, payloads, decode, options, alone, is_block=is_block)
            replies = await core.send_units(units, dispatched)
            self._note_obeyed(entries, replies, units[0], is_block=is_block)
            refusal = refusal_of_all(replies, is_block=is_block)
            delay = delay_after_refusal(attempt)
            if refusal is None or not core.may_go_again(units[0], refusal) or self.watching:
                return replies
            lane, holds = units[0].lane, units[0].lane.holds
            if lane.is_held or core.equipment.clock() + delay >= due:
                return replies
            attempt += 1
            await asyncio.sleep(delay)
            if lane.holds != holds:  # behind a SELECT it would go to another database
                return replies

    def _make_units(
        self,
        core: Issuer,
        sent: Sequence[Arguments],
        payloads: list[Payload],
        decode: list[bool],
        options: CommandOptions,
        alone: AbstractSet[int],
        *,
        is_block: bool,
    ) -> list[Unit]:
        loop = core.loop or core.admit()
        limits = core.equipment.options
        count = limits.connections
        places: Iterable[slice] = [slice(None)]
        if not is_block:
            most_commands = -(-limits.commands_queue_max_length // count)
            most_bytes = -(-limits.commands_queue_max_bytes // count)
            places = split(payloads, most_commands=most_commands, most_bytes=most_bytes, alone=alone)
        units: list[Unit] = []
        for place in places:
            unit = new_unit(
                loop,
                sent[place],
                join(payloads[place]),
                decode[place],
                options=options,
                is_transaction=is_block,
                previous=None if not units or {place.start, place.start - 1} & alone else units[-1],
            )
            units.append(unit)
        return units

    # What came back.

    def _note_obeyed(self, entries: Sequence[_Entry], replies: list[Any], unit: Unit, *, is_block: bool) -> None:
        """Tell who wants to know of commands that the server has obeyed."""
        if is_block:
            replies = replies[-1] if isinstance(replies[-1], list) and len(replies[-1]) == len(entries) else []
        for entry, reply in zip(entries, replies, strict=False):
            if entry.plan.succeeded is not None and not isinstance(reply, Exception):
                payload = self._client._encode(entry.words)  # noqa: SLF001  # of the same family
                command = new_command(unit.loop, entry.words, payload, decode=False, options=unit.options)
                command.lane = unit.lane
                entry.plan.succeeded(entry.plan, command)

    def annotate_exception(self, exception: Exception, number: int, command: Iterable[Any]) -> None:
        """Let a refusal say which command it is about, without its secrets. See redis-py."""
        args = tuple(command)
        if (text := masked_text(str(exception), args)) != str(exception):
            exception.args = (text, *exception.args[1:])
        super().annotate_exception(exception, number, masked(args))

    def _results_of_block(self, replies: list[Any], entries: Sequence[_Entry]) -> list[Any]:
        left_out = {
            place: entry.options[EMPTY_RESPONSE]
            for place, entry in enumerate(entries)
            if EMPTY_RESPONSE in entry.options
        }
        sent = [place for place in range(len(entries)) if place not in left_out]
        for place, reply in zip(sent, replies[1:-1], strict=True):
            if isinstance(reply, ResponseError):
                self.annotate_exception(reply, place + 1, entries[place].args)
        results, _ = results_of_block(replies, left_out, len(entries))
        self.watching = False
        return results

    def _raise_first(self, entries: Sequence[_Entry], results: Sequence[Any], *, is_block: bool) -> None:
        for place, result in enumerate(results):
            if type(result) in PLAIN:
                continue
            entry = entries[place]
            if isinstance(result, ResponseError) and not is_block and EMPTY_RESPONSE in entry.options:
                continue
            if isinstance(result, ResponseError):
                self.annotate_exception(result, place + 1, entry.args)
            if isinstance(result, Exception):  # LOADING is no ResponseError
                raise result

    async def _respond(self, entries: Sequence[_Entry], results: Sequence[Any], *, is_block: bool) -> list[Any]:
        """Return the responses that the results make."""
        responses = []
        for entry, result in zip(entries, results, strict=True):
            callback, options = entry.plan.callback, entry.options
            if type(result) not in PLAIN and isinstance(result, Exception):
                is_given = not is_block and EMPTY_RESPONSE in options and isinstance(result, ResponseError)
                responses.append(options[EMPTY_RESPONSE] if is_given else result)
            elif callback is None:
                responses.append(result)
            else:
                if options and not is_block:
                    options.pop(EMPTY_RESPONSE, None)
                response = callback(result, **options) if options else callback(result)
                if type(response) not in PLAIN and isawaitable(response):
                    response = await response
                responses.append(response)
        return responses

    async def load_scripts(self) -> None:
        """See that the server knows all scripts that are about to be run.

        Cancellation:
            Safe.
        """
        scripts = list(self.scripts)
        client = self._watcher or self._client
        known = await client.script_exists(*(script.sha for script in scripts))
        for script, is_known in zip(scripts, known, strict=True):
            if not is_known:
                script.sha = await client.script_load(script.script)
