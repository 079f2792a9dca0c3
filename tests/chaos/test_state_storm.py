"""SELECT and AUTH in the middle of a load while connections are killed: no command runs in another state than its own.

Each command carries the database and the user that it was issued for. A user may touch keys of his own only, so that
a command of another user's is refused; each database has its own number in it, so that a misplaced one shows.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from redis.exceptions import NoPermissionError

from aioredis_kit import KitError, create_client

DATABASES = 4
USERS = ("ada", "bob", "eve")
PASSWORD = "s3cret-of-{}"
MOST_RUNNING = 300
"""So many that none waits for as long as ``command_timeout``: behind a change that timed out, and so was not made, the
storm would expect the wrong state."""


async def prepare(admin, url):
    """Make the users, and put the number of each database into it."""
    for user in USERS:
        await admin.acl_setuser(
            user, enabled=True, passwords=[f"+{PASSWORD.format(user)}"], keys=[f"{user}:*"], commands=["+@all"]
        )
    for db in range(DATABASES):
        async with create_client(url, db=db) as filler:
            for user in USERS:
                await filler.set(f"{user}:number", db)
                await filler.rpush(f"{user}:ring", db)


class Storm:
    """Issues commands, each for the state that it is issued in.

    Attributes:
        outcomes: How they ended.
        wrong: What ran in another state.
    """

    def __init__(self, client, rng):
        self.outcomes = Counter()
        self.wrong = []
        self._client = client
        self._rng = rng
        self._db, self._user = 0, USERS[0]
        self._kinds = [self.write, self.write, self.read, self.ask, self.rotate, self.pipe]

    def issue(self, number):
        """Issue one command, or change the state: in this order, whatever the tasks do later."""
        if self._rng.random() < 0.03:
            self._db = self._rng.randrange(DATABASES)
            return self.note("SELECT", self._client.select(self._db))
        if self._rng.random() < 0.02:
            self._user = self._rng.choice(USERS)
            return self.note("AUTH", self._client.auth(PASSWORD.format(self._user), self._user))
        kind = self._rng.choice(self._kinds)
        return self.note(kind.__name__, kind(self._db, self._user, number))

    async def note(self, kind, call):
        """Await a call, and note its outcome."""
        try:
            await call
        except NoPermissionError as error:
            self.wrong.append((kind, str(error)))
        except KitError as error:
            self.outcomes[kind, "unknown" if error.maybe_executed else "not executed"] += 1
        else:
            self.outcomes[kind, "ok"] += 1

    async def write(self, db, user, number):
        await self._client.set(f"{user}:{db}:{number}", 1)

    async def read(self, db, user, _):
        self.compare("read", db, await self._client.get(f"{user}:number"))

    async def ask(self, db, user, _):
        pipeline = self._client.pipeline(transaction=False)
        name, found = await pipeline.acl_whoami().get(f"{user}:number").execute()
        self.compare("ask", user, name)
        self.compare("ask", db, found)

    async def rotate(self, db, user, _):
        self.compare("rotate", db, await self._client.blmove(f"{user}:ring", f"{user}:ring", 5))

    async def pipe(self, db, user, number):
        pipeline = self._client.pipeline(transaction=True)
        found, _ = await pipeline.get(f"{user}:number").set(f"{user}:{db}:{number}:pipe", 1).execute()
        self.compare("pipe", db, found)

    def compare(self, kind, expected, found):
        """Note a reply of another database, or of another user."""
        if found != str(expected):
            self.wrong.append((kind, expected, found))


@pytest.mark.pins("P1", "P4", "case-36")
@pytest.mark.parametrize("connections", [pytest.param(1, marks=pytest.mark.only_long), 3])
async def test_no_command_runs_in_another_state(server, rng, is_long, connections):
    """Nor is one of those sent again that may be."""
    seconds = 60 if is_long else 1.2
    began = time.monotonic()
    numbers = iter(range(10**9))
    killed = 0
    options = {
        "decode_responses": True,
        "command_timeout": 20,
        "reconnect_strategy": 0.001,
        "retry_unanswered": "idempotent",
        "username": USERS[0],
        "password": PASSWORD.format(USERS[0]),
        "connections": connections,
        "max_dedicated_connections": 10,
    }
    async with create_client(server.url) as admin:
        await prepare(admin, server.url)
        async with create_client(server.url, **options) as client:
            storm = Storm(client, rng)
            running = set()
            kill_at = began + 0.1
            while time.monotonic() - began < seconds:
                for _ in range(rng.choice([1, 5, 30]) if len(running) < MOST_RUNNING else 0):
                    running.add(asyncio.create_task(storm.issue(next(numbers))))
                running = {task for task in running if not task.done()}
                await asyncio.sleep(0 if len(running) < MOST_RUNNING else 0.002)  # the pace of the load
                if time.monotonic() > kill_at:
                    kill_at = time.monotonic() + rng.uniform(0.02, 0.2)
                    killed += await admin.client_kill_filter(_type="normal", skipme=True)
            await asyncio.gather(*running)
        for db in range(DATABASES):
            async with create_client(server.url, db=db, decode_responses=True) as reader:
                async for key in reader.scan_iter("*:*:*", count=1000):
                    if key.split(":")[1] != str(db):
                        storm.wrong.append(("key", db, key))
    print(f"connections={connections}, {killed} killed in {time.monotonic() - began:.1f} s: {dict(storm.outcomes)}")
    changes = {outcome: count for outcome, count in storm.outcomes.items() if outcome[0] in ("SELECT", "AUTH")}
    assert set(changes) == {("SELECT", "ok"), ("AUTH", "ok")}
    assert not storm.wrong
    assert killed > 5
    least = 20 if is_long else 5  # a busy machine does less in a second
    assert storm.outcomes["SELECT", "ok"] > least
    assert storm.outcomes["AUTH", "ok"] > least
    assert storm.outcomes["rotate", "ok"] > least
