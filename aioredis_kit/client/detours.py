"""Commands that the shared lane can't carry as it carries others: those that block, and those that change its state."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aioredis_kit.credentials import Credentials
from aioredis_kit.exceptions import (
    ClientClosedError,
    CommandTimeoutError,
    ConfigurationError,
    ConnectionLostError,
    TimeoutDiagnosis,
)
from aioredis_kit.lanes.blocking import INTERRUPTED, BlockingCall
from aioredis_kit.policy.commands import is_repeated_alike, with_block_time
from aioredis_kit.policy.deadlines import timeout_error
from aioredis_kit.policy.retry import delay_after_refusal
from aioredis_kit.transport.command import new_command

if TYPE_CHECKING:
    from aioredis_kit.client.base import ClientCore
    from aioredis_kit.lanes.dedicated import Lease
    from aioredis_kit.lanes.endpoint import Endpoint
    from aioredis_kit.options import CommandOptions
    from aioredis_kit.policy.commands import Arguments, CommandTraits


async def execute_blocking(core: ClientCore, args: Arguments, options: CommandOptions, *, decode: bool) -> Any:
    """Run a blocking command on a dedicated connection; return its reply.

    Args:
        core: The client's core.
        args: The command.
        options: How long connecting, and the answer beyond the block time, may take.
        decode: Whether strings in the reply become ``str``.

    Raises:
        PoolExhaustedError: No connection became free in time.
        CommandTimeoutError: It was not answered in time.
        Exception: What took the reply's place.

    Cancellation:
        It is unblocked in the background, and a reply that comes all the same is reported.
    """
    core.equipment.encoder.encode(args)  # what can't be encoded takes no connection
    endpoint = core.route(args)
    traits = core.equipment.commands.classify(args)
    due = core.due(options)
    desired = await endpoint.desired_behind_fences(due)
    attempt = 0
    while True:
        lease = await endpoint.dedicated.acquire(traits.name, due, desired)
        endpoint.shared.write_now()
        began = core.equipment.clock()
        reply = await block(endpoint, lease, args, traits, options, decode=decode)
        if not isinstance(reply, BaseException):
            return reply
        now = core.equipment.clock()
        command = new_command(asyncio.get_running_loop(), args, b"", decode=decode, options=options)
        if isinstance(reply, ConnectionLostError):
            args_left = with_block_time(traits, args, now - began)
            if not reply.maybe_executed:  # lost in the moment in which it was lent, or between two times of blocking
                if args_left is None:
                    return None
                due += now - began
            elif args_left is None or not is_repeated_alike(traits, args) or not endpoint.may_repeat(command):
                raise reply
            else:
                due = core.due(options)
            args = args_left
        elif now + delay_after_refusal(attempt) >= due or not core.may_go_again(command, reply):  # type: ignore[arg-type]  # not ours, so an Exception
            raise reply
        await asyncio.sleep(delay_after_refusal(attempt))
        attempt += 1


async def block(
    endpoint: Endpoint,
    lease: Lease,
    args: Arguments,
    traits: CommandTraits,
    options: CommandOptions,
    *,
    decode: bool,
    gives_back: bool = True,
) -> Any:
    """Run a command that may block on a lease; return its reply, or the exception that takes the place of one.

    Raises:
        CommandTimeoutError: It was not answered within its block time and ``options.timeout`` more.
        ClientClosedError: The client is being closed, or the session has ended.

    Cancellation:
        As ``execute_blocking``.
    """
    clock = endpoint.clock
    began, sent, turn = clock(), args, lease.turn
    try:
        while True:
            call = _call_on(endpoint, lease, sent, traits, options, decode=decode)
            reply = await _answer(lease, call, traits, _timeout(traits, sent, options))
            if reply is not INTERRUPTED:
                break
            await asyncio.wait((call.ended,))
            if lease.turn != turn:
                raise ClientClosedError("the session has ended")
            left = with_block_time(traits, args, clock() - began)
            if left is None:
                return None  # its time is over as well
            sent = left
    finally:
        if gives_back:
            lease.give_back()
    if not traits.is_readonly and not isinstance(reply, BaseException):
        lease.queue.has_written = True
    return reply


def _timeout(traits: CommandTraits, args: Arguments, options: CommandOptions) -> float | None:
    block_time = traits.block_time(args)
    return None if block_time == 0 or options.timeout is None else (block_time or 0.0) + options.timeout


def _call_on(
    endpoint: Endpoint, lease: Lease, args: Arguments, traits: CommandTraits, options: CommandOptions, *, decode: bool
) -> BlockingCall:
    loop, payload = asyncio.get_running_loop(), endpoint.encode(args)
    command = new_command(loop, args, payload, decode=decode, options=replace(options, timeout=None), deadline=math.inf)
    return BlockingCall(
        endpoint.dedicated,
        lease,
        command,
        endpoint.unblocker,
        takes=traits.is_blocking,
        may_be_interrupted=traits.is_blocking and is_repeated_alike(traits, args),
    )


async def _answer(lease: Lease, call: BlockingCall, traits: CommandTraits, timeout: float | None) -> Any:
    try:
        return await call.wait(timeout)
    except ConnectionLostError as error:
        return error
    except TimeoutError:
        lease.queue.tally.timed_out += 1
        connection, was_sent = lease.queue.connection, call.command.was_sent
        diagnosis = TimeoutDiagnosis(
            timeout=timeout or 0.0,
            queued=0.0 if was_sent else timeout or 0.0,
            in_flight=timeout or 0.0 if was_sent else 0.0,
            unacknowledged_for=None if connection is None else connection.unacknowledged_for(),
            state=lease.link.state.value,
        )
        note = ", its block time included"
        raise timeout_error(traits.name, diagnosis, was_sent=was_sent, note=note) from None


async def execute_fence(core: ClientCore, args: Arguments, options: CommandOptions, *, decode: bool) -> Any:
    """Run ``SELECT`` or ``AUTH`` on all shared connections, between earlier and later commands; return its reply.

    Args:
        core: The client's core.
        args: The command.
        options: How long it may take.
        decode: Whether the reply becomes ``str``.

    Raises:
        ConfigurationError: ``AUTH``, although a credential provider says who to be.
        NotConnectedError: There is no connection, and no offline queue.
        CommandTimeoutError: It was not executed in time, or nobody knows.
        Exception: What took the reply's place.

    Cancellation:
        If it was not yet sent it never is. Otherwise it is carried through.
    """
    changes = _changes(core, args)
    endpoint = core.route(args)
    fence = endpoint.make_fence(args, **changes)
    if (caching := core.caching) is not None:
        caching.suspend()
        fence.outcome.add_done_callback(lambda _: caching.resume(endpoint))
    try:
        async with asyncio.timeout(options.timeout):
            await asyncio.wait((fence.outcome,))
    except (asyncio.CancelledError, TimeoutError) as error:
        fence.withdraw()
        if isinstance(error, asyncio.CancelledError):
            raise
        if fence.was_sent:
            endpoint.shared.probe()
        endpoint.tally.timed_out += 1
        timeout = options.timeout or 0.0
        diagnosis = TimeoutDiagnosis(
            timeout=timeout,
            queued=0.0 if fence.was_sent else timeout,
            in_flight=timeout if fence.was_sent else 0.0,
            state=core.state.value,
        )
        where = "was not answered" if fence.was_sent else "could not be sent, as earlier commands had not ended,"
        raise CommandTimeoutError(
            f"{args[0]!s} {where} within {timeout:g} s", diagnosis=diagnosis, maybe_executed=fence.was_sent
        ) from None
    reply = fence.outcome.result()
    if isinstance(reply, BaseException):
        raise reply
    return reply if decode or not isinstance(reply, str) else reply.encode()


def _changes(core: ClientCore, args: Arguments) -> dict[str, object]:
    """Return what a command changes of what connections are to be."""
    name, *values = (core.equipment.encoder.to_bytes(arg) for arg in args)
    if name.upper() == b"SELECT":
        with suppress(ValueError, IndexError):
            return {"db": int(values[0])}
        return {}  # the server refuses it
    if core.equipment.options.credential_provider is not None:
        raise ConfigurationError(
            "AUTH: the credential_provider says who this client is; use duplicate(username=…, password=…) to be "
            "somebody else"
        )
    texts = None
    with suppress(UnicodeDecodeError):  # an error raised in its handling would carry it, and so the password
        texts = [value.decode(core.equipment.options.encoding) for value in values]
    if texts is None:
        raise ConfigurationError("AUTH: user and password have to be text in the client's encoding")
    match texts:
        case [password]:
            return {"credentials": Credentials(None, password)}
        case [username, password]:
            return {"credentials": Credentials(username, password)}
    return {}
