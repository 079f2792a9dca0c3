"""What runs under faults, and what must be true afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from zlib import crc32

from redis.exceptions import RedisError

from aioredis_kit import CacheOptions, KitError
from tests.chaos.harness.world import contradictions, endless
from tests.support.token_load import TokenService

CALLERS = 12


class Workload:
    """Some callers on a client under test.

    Attributes:
        unfit: The faults after which what it counts on is gone.
        bears_loss: Whether it may lose its data: its server may be one without persistence.
    """

    unfit = frozenset({"damage"})
    bears_loss = False

    def __init__(self, world):
        self.world = world

    async def prepare(self):
        """Make the client, and what has to be on the server."""
        self.client = self.world.client(connections=self.world.chance("connections").choice((1, 1, 3)))

    def callers(self):
        """Return the coroutines that run until it is over."""
        return [self.call(number) for number in range(CALLERS)]

    async def call(self, number):
        """Be one caller."""

    async def settle(self):
        """Wait for what is still due when the callers have stopped and all is mended; the clients are still open."""

    async def check(self):
        """Return what must not be."""
        return []

    def forget(self):
        """Forget what is kept for `check`: in a soak nobody asks for it."""

    async def end(self):
        """Give back what `prepare` has taken beside clients, when those are closed."""


class Echoes(Workload):
    """Everybody gets the reply to their own command.

    A token ends with its own checksum, and has nothing inside that could begin a frame: so a reply that is somebody
    else's is told from one that is only damaged. See ``test_corrupted_bytes``.
    """

    unfit = frozenset()
    bears_loss = True

    async def call(self, number):
        rng = self.world.chance("caller", number)
        for count in endless(self.world):
            token = sealed(f"{number:04x}{count:08x}" + "ab" * rng.choice((0, 0, 0, 50, 10_000)))
            call = await self.world.call("echo", lambda token=token: self.client.echo(token))
            if call.succeeded and call.value != token and not (self.world.is_damaged and not is_sealed(call.value)):
                call.name = f"echo of {token[:12]}"
            call.value = None

    async def check(self):
        return [f"{call.name} got another reply" for call in self.world.history if call.name != "echo"]


def sealed(text):
    """Return a text with its checksum."""
    return f"{text}{crc32(text.encode()):08x}"


def is_sealed(reply):
    """Return whether a reply is such a text, and undamaged."""
    return isinstance(reply, str) and reply == sealed(reply[:-8])


class Counters(Workload):
    """Each acknowledged increment is there, none twice; those that are said not to be executed are not."""

    async def call(self, number):
        for _ in endless(self.world):
            await self.world.call(f"incr {number % 4}", lambda: self.client.incr(f"counter:{number % 4}"))

    async def check(self):
        wrong = []
        for number in range(4):
            calls = self.world.of(f"incr {number}")
            value = int(await self.world.admin.get(f"counter:{number}") or 0)
            acknowledged = sum(call.succeeded for call in calls)
            unknown = sum(call.may_be_executed for call in calls)
            if not acknowledged <= value <= acknowledged + unknown:
                wrong.append(f"counter {number} is {value}; acknowledged {acknowledged}, unknown {unknown}")
            values = [call.value for call in calls if call.succeeded]
            if len(set(values)) != len(values):
                wrong.append(f"counter {number}: two callers got the same value")
        return wrong


class Transfers(Workload):
    """Money moves between accounts in transactions; its sum never changes, and each happens once or not at all."""

    ACCOUNTS = 5

    async def prepare(self):
        await super().prepare()
        await self.world.admin.mset({f"account:{number}": 1000 for number in range(self.ACCOUNTS)})

    async def call(self, number):
        rng = self.world.chance("caller", number)
        for count in endless(self.world):
            one, other = rng.sample(range(self.ACCOUNTS), 2)
            name, amount = f"{number}.{count}", rng.randrange(1, 20)
            make = self._with_watch if rng.random() < 0.3 else self._in_a_block
            await self.world.call(f"transfer {name}", lambda: make(name, one, other, amount))  # noqa: B023  # at once

    async def _in_a_block(self, name, one, other, amount):
        pipe = self.client.pipeline()
        pipe.decrby(f"account:{one}", amount).incrby(f"account:{other}", amount).rpush("done", name)
        await pipe.execute()

    async def _with_watch(self, name, one, other, amount):
        async with self.client.pipeline() as pipe:
            await pipe.watch(f"account:{one}")
            balance = int(await pipe.get(f"account:{one}"))
            pipe.multi()
            pipe.set(f"account:{one}", balance - amount).incrby(f"account:{other}", amount).rpush("done", name)
            await pipe.execute()

    async def check(self):
        balances = await self.world.admin.mget(f"account:{number}" for number in range(self.ACCOUNTS))
        done = Counter(await self.world.admin.lrange("done", 0, -1))
        wrong = [] if sum(map(int, balances)) == 1000 * self.ACCOUNTS else [f"the sum has changed: {balances}"]
        wrong += [f"transfer {name} was made {count} times" for name, count in done.items() if count > 1]
        return wrong + contradictions(self.world, "transfer", done)


class Queues(Workload):
    """A list as a queue: each element comes out once, unless nobody knows."""

    async def prepare(self):
        await super().prepare()
        self.orphaned = []
        self.client.on("reply-orphaned", lambda _, reply: self.orphaned.append(reply[1]))

    async def call(self, number):
        rng = self.world.chance("caller", number)
        for count in endless(self.world):
            name = f"{number}.{count}"
            if number % 2:
                await self.world.call(f"push {name}", lambda name=name: self.client.rpush("queue", name))
            elif rng.random() < 0.5:
                await self.world.call("pop", lambda: self.client.lpop("queue"))
            else:
                await self.world.call("blocked pop", lambda: self.client.blpop("queue", timeout=0.2))

    async def settle(self):
        await asyncio.sleep(0.3)  # what is blocked has ended by then

    async def check(self):
        world = self.world
        pops = [call for call in world.history if call.name in ("pop", "blocked pop")]
        values = [call.value[1] if isinstance(call.value, list | tuple) else call.value for call in pops]
        text = [each.decode() if isinstance(each, bytes) else each for each in self.orphaned]
        left = await world.admin.lrange("queue", 0, -1)
        seen = Counter([value for value in values if value is not None] + text + left)
        pushed = {call.name.partition(" ")[2]: call for call in world.history if call.name.startswith("push ")}
        wrong = [f"{name} came out {count} times" for name, count in seen.items() if count > 1]
        wrong += [f"{name} was never pushed" for name in seen if name not in pushed]
        wrong += [each for each in contradictions(world, "push", seen) if "said not to be" in each]
        missing = [name for name, call in pushed.items() if call.succeeded and name not in seen]
        unknown = sum(map(self.is_unknown, pops)) + self.client.statistics().unknown_outcomes
        if len(missing) > unknown:
            wrong.append(f"{len(missing)} elements are missing, and {unknown} pops are of unknown outcome")
        return wrong

    def is_unknown(self, pop):
        """Tell whether an element may be lost with a pop."""
        return pop.may_be_executed

    def forget(self):
        self.orphaned.clear()


class CancelledPops(Queues):
    """As queues, by callers that are cancelled while they are blocked: what comes for them nevertheless is announced."""

    async def call(self, number):
        rng = self.world.chance("caller", number)
        for count in endless(self.world):
            if number % 3 == 0:
                name = f"{number}.{count}"
                await self.world.call(f"push {name}", lambda name=name: self.client.rpush("queue", name))
                await asyncio.sleep(rng.uniform(0, 0.02))  # so that pops find the queue empty
            else:
                await self.world.call("blocked pop", lambda: self._pop_for(rng.uniform(0, 0.03)))

    async def _pop_for(self, seconds):
        async with asyncio.timeout(seconds):
            return await self.client.blpop("queue", timeout=0)

    def is_unknown(self, pop):
        return isinstance(pop.error, KitError) and pop.error.maybe_executed  # of those that go, the client itself tells


class Messages(Workload):
    """Numbered messages: none twice, none out of order, none missing that is not announced as a gap."""

    bears_loss = True

    async def prepare(self):
        await super().prepare()
        self.received = []
        self.published = set()

    def callers(self):
        return [self._publish(), *(self._call_meanwhile() for _ in range(3)), self._receive()]

    async def _call_meanwhile(self):
        for _ in endless(self.world):
            await self.world.call("get", lambda: self.client.get("k"))

    async def _publish(self):
        for number in endless(self.world):
            try:
                delivered = await self.world.admin.publish("news", number)
            except RedisError:
                delivered = 0  # nobody knows; then it may be missing
            if delivered:
                self.published.add(number)
            await asyncio.sleep(0)

    async def _receive(self):
        subscription = self.client.subscribe("news", limit=100_000)
        try:
            async with subscription as messages:
                async for message in messages:
                    self.received.append(None if message.is_gap else int(message.data))
                    if self.world.over and message.data == "-1":
                        break
        except KitError as error:
            self.received.append(f"ended with {error!r}")

    async def settle(self):
        while not self.received or self.received[-1] != -1:
            await self.world.admin.publish("news", -1)
            await asyncio.sleep(0.01)  # between two attempts to be heard

    async def check(self):
        wrong, last, gap = [], -1, True  # what came before it was subscribed is no loss
        for number in self.received:
            if number is None:
                gap = True
            elif isinstance(number, str):
                wrong.append(number)
            elif number >= 0:
                missing = [each for each in range(last + 1, number) if each in self.published]
                if number <= last:
                    wrong.append(f"message {number} came after {last}")
                elif missing and not gap:
                    wrong.append(f"messages {missing[:5]} are missing without a gap")
                last, gap = number, False
        return wrong

    def forget(self):
        self.received.clear()
        self.published.clear()


class Streams(Workload):
    """A consumer group: each entry is there once, goes to one consumer, and stays acknowledged."""

    async def prepare(self):
        await super().prepare()
        await self.world.admin.xgroup_create("stream", "group", id="0", mkstream=True)
        self.got = {}

    async def call(self, number):
        for count in endless(self.world):
            if number % 3:
                name = f"{number}.{count}"
                await self.world.call(f"add {name}", lambda name=name: self.client.xadd("stream", {"n": name}))
            else:
                await self._consume(f"consumer {number}")

    async def _consume(self, consumer):
        call = await self.world.call(
            "blocked read",
            lambda: self.client.xreadgroup("group", consumer, {"stream": ">"}, count=5, block=50),
        )
        for _, entries in call.value or ():
            for identity, _ in entries:
                fates = self.got.setdefault(identity, [])
                fates.append(consumer)
                acknowledged = await self.world.call(
                    "ack", lambda identity=identity: self.client.xack("stream", "group", identity)
                )
                if acknowledged.succeeded:
                    fates.append("acknowledged")

    async def settle(self):
        await asyncio.sleep(0.2)  # what is blocked has ended by then

    async def check(self):
        admin = self.world.admin
        there = Counter(fields["n"] for _, fields in await admin.xrange("stream"))
        wrong = [f"entry {name} is there {count} times" for name, count in there.items() if count > 1]
        wrong += contradictions(self.world, "add", there)
        pending = {each["message_id"] for each in await admin.xpending_range("stream", "group", "-", "+", 100_000)}
        for identity, fates in self.got.items():
            if len([each for each in fates if each != "acknowledged"]) > 1:
                wrong.append(f"{identity} went to several: {fates}")
            if "acknowledged" in fates and identity in pending:
                wrong.append(f"{identity} was acknowledged, and is pending")
        return wrong

    def forget(self):
        self.got.clear()


class CachedReads(Workload):
    """No cached read is older than what its client has been told since the server has lost its data, if it has."""

    KEYS = 20
    bears_loss = True

    async def prepare(self):
        rng = self.world.chance("options")
        cache = CacheOptions(mode=rng.choice(("default", "optin", "broadcast")), max_entries=rng.choice((5, 1000)))
        self.client = self.world.client(client_side_cache=cache, connections=rng.choice((1, 3)))
        self.reader = self.client.with_options(cache=True)
        self.issued = [0] * self.KEYS
        self.told = Counter()
        self.wrong = []

    def callers(self):
        return [*(self._write(number) for number in range(4)), *(self._read(number) for number in range(CALLERS))]

    async def _write(self, writer):
        rng = self.world.chance("writer", writer)
        for _ in endless(self.world):
            losses, number = self.world.losses, rng.randrange(writer, self.KEYS, 4)
            self.issued[number] += 1
            version = self.issued[number]
            try:
                await self.world.admin.set(f"key:{number}", version)
            except RedisError:
                continue
            if await self._is_told():
                self.told[losses, number] = version

    async def _is_told(self):
        """Wait until all that was announced by now has arrived; tell whether that is sure."""
        try:
            async with asyncio.timeout(2):
                await self.client._core.route(()).shared.ask_all(b"PING\r\n")
        except (KitError, TimeoutError):
            return False
        return True

    async def _read(self, reader):
        rng = self.world.chance("reader", reader)
        for _ in endless(self.world):
            losses, number = self.world.losses, rng.randrange(self.KEYS)
            least = self.told[losses, number]
            call = await self.world.call("read", lambda number=number: self.reader.get(f"key:{number}"))
            least = least if losses == self.world.losses else 0
            if call.succeeded and not least <= int(call.value or 0) <= self.issued[number]:
                self.wrong.append(f"key {number} was read as {call.value} when {least} was known")
            await asyncio.sleep(0)

    async def settle(self):
        await self._is_told()
        for number in range(self.KEYS):
            call = await self.world.call("read", lambda number=number: self.reader.get(f"key:{number}"))
            if call.succeeded and call.value != await self.world.admin.get(f"key:{number}"):
                self.wrong.append(f"in the end key {number} is read as {call.value}")

    async def check(self):
        return self.wrong

    def forget(self):
        self.wrong.clear()


class Tokens(Counters):
    """As counters, by clients whose tokens live for half a second, and whose connections end with them."""

    async def prepare(self):
        self.service = TokenService(self.world.admin, 0.6)
        self.client = self.world.client(connections=2, credential_provider=self.service)

    async def end(self):
        await self.service.stop()


class SeveralKinds(Workload):
    """Pipelines, views, SELECT and sessions on one client: everybody gets their own replies, from their own database."""

    bears_loss = True

    async def call(self, number):
        rng = self.world.chance("caller", number)
        for count in endless(self.world):
            key, value = f"kind:{number}", f"{number}:{count}"
            if rng.random() < 0.5:
                call = await self.world.call("pipeline", lambda: self._piped(key, value))  # noqa: B023  # at once
            else:
                call = await self.world.call("session", lambda: self._in_a_session(key, value, rng.randrange(3)))  # noqa: B023  # at once
            if call.succeeded and call.value != value:
                call.name = f"{call.name} of {value} got {call.value}"

    async def _piped(self, key, value):
        pipe = self.client.pipeline(transaction=False)
        *_, found = await pipe.set(key, value).echo(value).get(key).execute()
        return found

    async def _in_a_session(self, key, value, db):
        async with self.client.dedicated() as session:
            await session.select(db)
            await session.set(key, value)
            return await session.get(key)

    async def check(self):
        return [call.name for call in self.world.history if call.name not in ("pipeline", "session")]


WORKLOADS = {
    each.__name__: each
    for each in (
        Echoes,
        Counters,
        Transfers,
        Queues,
        CancelledPops,
        Messages,
        Streams,
        CachedReads,
        Tokens,
        SeveralKinds,
    )
}
