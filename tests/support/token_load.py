"""Tokens that really end, and a client that does all at once that it can do, while they do.

The service lets each token be a user of the server's own, and at its end removes that user, which closes all connections
that still are that user, as Azure does with those whose token has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter

from redis.exceptions import ResponseError, WatchError

from aioredis_kit import ConnectionLostError, Credentials, KitError
from tests.support.identity import jwt

CALLERS = 100


class TokenService:
    """Issues tokens, and ends them.

    Attributes:
        life: How long they live, in seconds.
        issued: How many there were.
        ended: How many of them have ended.
        killed: How many connections were still using one when it ended.
    """

    def __init__(self, admin, life, *, saves=False):
        self.life = life
        self.issued = 0
        self.ended = 0
        self.killed = 0
        self._admin = admin
        self._saves = saves  # to the server's ACL file, so that the users are there when it is started again
        self._ending = set()

    async def __call__(self):
        """The provider, in the simplest form."""
        user = f"token{self.issued + 1}"
        password = await self.issue(user, f"s3cret-{user}")
        return Credentials(user, password, expires_at=time.time() + self.life)

    async def issue_jwt(self, number):
        """What a token endpoint issues."""
        user = f"oid{number}"
        return await self.issue(user, jwt(oid=user, exp=time.time() + self.life))

    async def issue(self, user, password):
        """Let a token be valid for a while."""
        self.issued += 1
        ends_at = time.monotonic() + self.life
        await self._surely(
            lambda: self._admin.acl_setuser(
                user, enabled=True, passwords=[f"+{password}"], keys=["*"], channels=["*"], commands=["+@all"]
            )
        )
        ending = asyncio.create_task(self._end(user, ends_at))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return password

    async def _end(self, user, ends_at):
        await asyncio.sleep(ends_at - time.monotonic())
        connections = await self._surely(self._admin.client_list)
        self.killed += sum(each["user"] == user for each in connections)
        await self._surely(lambda: self._admin.acl_deluser(user))
        self.ended += 1

    async def _surely(self, ask):
        """Ask the server for something that does no harm if done twice, whatever happens to it meanwhile."""
        while True:
            with contextlib.suppress(ConnectionLostError, ResponseError):  # as BUSY
                answer = await ask()
                if self._saves:
                    await self._admin.acl_save()
                return answer
            await asyncio.sleep(0.01)  # between two attempts

    async def stop(self):
        """Leave the rest as it is."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)


class Load:
    """All that a client does at once, and what came of it.

    Callers that count up, each one a counter of its own; a blocking pop; a session that watches; and a subscription.

    Attributes:
        outcomes: How commands and transactions ended. Those that failed by their error and whether they may have been
            executed.
        counts: How many increments of each caller were acknowledged.
        unknown: How many of each caller may have been executed.
        popped: The elements that a blocking pop got.
        lost_pops: How many pops may have taken an element that nobody got.
        received: The messages of a subscription.
        gaps: How many of them were announced as missing.
    """

    def __init__(self, client):
        self.outcomes = Counter()
        self.counts = [0] * CALLERS
        self.unknown = [0] * CALLERS
        self.popped = []
        self.lost_pops = 0
        self.received = []
        self.gaps = 0
        self._client = client
        self._is_over = False
        self._tasks = []

    @property
    def failures(self):
        """How many commands and transactions failed."""
        return self.outcomes.total() - self.outcomes["ok"] - self.outcomes["transactions"]

    def start(self):
        """Begin."""
        works = [self._call(number) for number in range(CALLERS)]
        works += [self._pop(), self._watch(), self._receive()]
        self._tasks = [asyncio.create_task(work) for work in works]

    async def stop(self, unblock):
        """End all, the pop by an element."""
        self._is_over = True
        await unblock()
        *working, receiving = self._tasks
        await asyncio.gather(*working)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)

    def check_counters(self, counters):
        """All that was acknowledged is there, and nothing is but what may have been executed."""
        assert len(counters) == CALLERS
        for counter, count, unknown in zip(map(int, counters), self.counts, self.unknown, strict=True):
            assert count <= counter <= count + unknown

    def _note(self, error):
        self.outcomes[type(error).__name__, getattr(error, "maybe_executed", None)] += 1

    async def _call(self, number):
        while not self._is_over:
            try:
                await self._client.incr(f"counter:{number}")
            except KitError as error:
                self._note(error)
                self.unknown[number] += error.maybe_executed
            else:
                self.outcomes["ok"] += 1
                self.counts[number] += 1

    async def _pop(self):
        while not self._is_over:
            try:
                element = await self._client.blpop("queue", timeout=30)
            except KitError as error:
                self._note(error)
                self.lost_pops += error.maybe_executed
            else:
                if element is not None:
                    self.popped.append(element[1])

    async def _watch(self):
        while not self._is_over:
            try:
                async with self._client.dedicated() as session:
                    await self._transact(session)
            except (KitError, WatchError) as error:
                self._note(error)

    async def _transact(self, session):
        while not self._is_over:
            async with session.pipeline() as pipe:
                await pipe.watch("watched")
                await asyncio.sleep(0.05)  # so that renewals fall between WATCH and EXEC
                pipe.multi()
                await pipe.incr("watched").execute()
            self.outcomes["transactions"] += 1

    async def _receive(self):
        async with self._client.subscribe("news") as messages:
            async for message in messages:
                if message.is_gap:
                    self.gaps += 1
                else:
                    self.received.append(message.data)


class Feed:
    """Publishes numbered messages and pushes numbered elements for a load, at a pace.

    Attributes:
        delivered: How many messages went to the subscription.
        published: How many there were.
        pushed: How many elements there were.
    """

    def __init__(self, admin):
        self.delivered = 0
        self.published = 0
        self.pushed = 0
        self._admin = admin

    async def go_on_while(self, condition, *, at_most=30.0):
        """Go on while a condition holds."""
        begin = time.monotonic()
        while condition():
            assert time.monotonic() - begin < at_most, f"it still held after {at_most} s"
            self.delivered += await self._admin.publish("news", self.published)
            self.published += 1
            await self._admin.rpush("queue", self.pushed)
            self.pushed += 1
            await asyncio.sleep(0.01)  # the pace

    async def go_on_for(self, seconds):
        """Go on for a while."""
        end = time.monotonic() + seconds
        await self.go_on_while(lambda: time.monotonic() < end, at_most=seconds + 30)
