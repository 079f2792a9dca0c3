"""Look at a server and the way to it, step by step, within a time: the shell around ``findings``."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aioredis_kit.cli.doctor import network, questions
from aioredis_kit.cli.doctor.facts import Facts, Greeting
from aioredis_kit.client.create import client_of
from aioredis_kit.client.equip import equip
from aioredis_kit.exceptions import HandshakeError

if TYPE_CHECKING:
    from aioredis_kit.cli.doctor.facts import Encryption
    from aioredis_kit.client.client import RedisClient
    from aioredis_kit.config import ClientConfiguration
    from aioredis_kit.options import Options

__all__ = ["Examination"]

_MOST_OF_A_STEP: Final = 0.4
"""Which part of the time that is left one step may take: later ones, and second looks, need some."""
_PINGING: Final = 2.0
"""How long pings may take together, in seconds."""


class Examination:
    """One look at a server.

    Lifecycle: made outside of any event loop; ``run`` once. What was seen until then can be had at any time.

    Args:
        configuration: What the client is to be.
        timeout: How long it may take, in seconds. What was not reached by then is missing.

    Attributes:
        facts: What has been seen so far.

    Raises:
        ConfigurationError: The TLS options name a file that can't be read, or the like.
    """

    def __init__(self, configuration: ClientConfiguration, *, timeout: float) -> None:
        self._begin = time.monotonic()
        self._timeout = timeout
        self._options = options = configuration.options
        self._dialler = equip(options).dialler
        self.facts = Facts(
            options=options,
            explanation=configuration.explain(),
            address=str(self._dialler.address),
            now=time.time(),
            timeout=timeout,
        )

    async def run(self) -> None:
        """Go as far as possible within the time.

        Cancellation:
            Safe. All sockets are closed, and what was seen is kept.
        """
        try:
            async with asyncio.timeout(self._timeout):
                if await self._reach() and await self._secure():
                    await self._speak()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self.facts = replace(self.facts, is_interrupted=True)
            raise
        finally:
            self.facts = replace(self.facts, seconds=self._elapsed)

    @property
    def _elapsed(self) -> float:
        """How long it has taken so far, in seconds."""
        return time.monotonic() - self._begin

    def _share(self) -> float:
        """Return how long the next step may take, in seconds."""
        return max((self._timeout - self._elapsed) * _MOST_OF_A_STEP, 0.01)

    def _attempt(self) -> float:
        """The same for what the client itself allows no more than an attempt to connect."""
        return min(self._share(), self._options.connect_timeout)

    async def _reach(self) -> bool:
        """Open sockets; return whether that can be done."""
        addresses: tuple[str, ...] = ()
        if self._dialler.address.path is None:
            found = await network.look_up(self._dialler, timeout=self._attempt())
            self.facts = replace(self.facts, look_up=found)
            addresses = found.addresses
            if not addresses:
                return False
        dials = await network.dial_each(self._dialler, addresses, timeout=self._attempt())
        self.facts = replace(self.facts, dials=dials)
        return any(not dial.error for dial in dials)

    async def _secure(self) -> bool:
        if self._dialler.tls is None:
            return True
        seen: Encryption = await network.encrypt(self._dialler, timeout=self._attempt())
        self.facts = replace(self.facts, encryption=seen)
        if seen.error:
            self.facts = replace(self.facts, encryption=await network.look_closer(self._dialler, seen))
        return not seen.error

    async def _speak(self) -> None:
        """Connect with a client, and ask the server."""
        options = questions.patient(self._options, timeout=self._attempt())
        client = client_of(options)
        try:
            greeting = await questions.greet(client, timeout=self._share())
            self.facts = replace(self.facts, greeting=greeting)
            if greeting.is_ready:
                await self._ask(client, options)
            else:
                await self._look_closer(greeting)
        finally:
            await client.close()

    async def _look_closer(self, greeting: Greeting) -> None:
        """Find out whether a server that says nothing, or hangs up, waits for TLS."""
        is_told = greeting.not_serving or isinstance(greeting.error, HandshakeError)
        if is_told or self._dialler.tls is not None or self._dialler.address.path is not None:
            return
        is_tls = await network.speaks_tls(self._dialler)
        self.facts = replace(self.facts, greeting=replace(greeting, is_tls=is_tls))

    async def _ask(self, client: RedisClient, options: Options) -> None:
        known = await questions.introduce(client)
        if self.facts.greeting is not None:
            self.facts = replace(self.facts, greeting=replace(self.facts.greeting, protocol=known.protocol))
        self.facts = replace(self.facts, server=await questions.survey(client, known.said))
        self.facts = replace(self.facts, rights=await questions.ask_rights(client, options))
        latency = await questions.time_pings(client, timeout=min(self._share(), _PINGING))
        self.facts = replace(self.facts, latency=latency)
        features = await questions.try_tracking(options, known.protocol)
        self.facts = replace(self.facts, features=replace(features, announces_maintenance=known.announces_maintenance))
