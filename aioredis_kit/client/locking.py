"""``lock()``: redis-py's lock, without what goes wrong in it.

redis-py's keeps its three scripts on the class, with the first client that ever made a lock: that client is never
collected, and its encoding is everybody's. And nobody releases a lock that was granted to a caller who had gone.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.asyncio.lock import Lock as StockLock
from redis.exceptions import LockNotOwnedError, RedisError

from aioredis_kit.exceptions import ConnectionLostError, KitError
from aioredis_kit.transport.command import NOWHERE, ignore, new_command

if TYPE_CHECKING:
    from aioredis_kit.client.commands import CommandClient


class Lock(StockLock):
    """A lock that all who use the server share. See redis-py.

    Other than redis-py's, it is released when its acquiring is cancelled or ends in an error after the server may have
    granted it, and a lost connection does not leave open whether it was acquired or released. A token of the caller's
    own may be somebody else's as well: a lock that was acquired with such a one is the caller's to release.
    """

    def register_scripts(self) -> None:
        """Make the scripts, for this lock and its client."""
        client: Any = self.redis
        self.lua_release = client.register_script(self.LUA_RELEASE_SCRIPT)
        self.lua_extend = client.register_script(self.LUA_EXTEND_SCRIPT)
        self.lua_reacquire = client.register_script(self.LUA_REACQUIRE_SCRIPT)

    async def acquire(
        self,
        blocking: bool | None = None,  # noqa: FBT001  # as redis-py
        blocking_timeout: float | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """Acquire it; tell whether that succeeded. See redis-py.

        Raises:
            RedisError: It can't be tried.

        Cancellation:
            What the server may have granted is released, unless the token is the caller's.
        """
        own = uuid.uuid4().hex.encode() if token is None else token
        try:
            return bool(await super().acquire(blocking, blocking_timeout, own))
        except (KitError, asyncio.CancelledError) as error:
            if token is None and (not isinstance(error, KitError) or error.maybe_executed):
                self._give_up(own)
            raise

    async def do_acquire(self, token: str | bytes) -> bool:
        """Try once. See redis-py.

        Raises:
            RedisError: It can't be tried.

        Cancellation:
            The server may have granted it.
        """
        try:
            return await super().do_acquire(token)
        except ConnectionLostError as error:
            if not error.maybe_executed:
                raise
            return await super().do_acquire(token) or await self._holds(token)

    async def do_release(self, expected_token: bytes) -> None:
        """Release it. See redis-py.

        Raises:
            LockNotOwnedError: Somebody else has it, or nobody.

        Cancellation:
            It may have been released or not.
        """
        try:
            await super().do_release(expected_token)
        except ConnectionLostError as error:
            if not error.maybe_executed:
                raise
            # If it isn't ours any more, the first attempt has released it.
            with suppress(LockNotOwnedError):
                await super().do_release(expected_token)

    async def _holds(self, token: str | bytes) -> bool:
        client: Any = self.redis
        encode = client.get_encoder().encode
        stored = await client.get(self.name)
        return stored is not None and bool(encode(stored) == encode(token))

    def _give_up(self, token: str | bytes) -> None:
        """Release what may have been acquired. Nobody waits for the reply.

        It is dispatched here and now: so it is behind what acquired it, before what the caller does next, and closing
        the client, which the caller may be about to do, lets it go out.
        """
        client: CommandClient = self.redis  # type: ignore[assignment]  # what made it
        core = client._core  # noqa: SLF001  # of the same family
        if core.loop is None:
            return
        args = ("EVAL", self.LUA_RELEASE_SCRIPT, 1, self.name, token)
        payload = client._encode(args)  # noqa: SLF001  # as above
        command = new_command(core.loop, args, payload, decode=False, options=client._options)  # noqa: SLF001  # as above
        command.add_done_callback(ignore, context=NOWHERE)
        with suppress(RedisError):  # then it ends at its time-out, as if this process had died
            command.dispatch(core.lane)
